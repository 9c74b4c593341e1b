"""Pairs of brains from the table of families to the figures of verification."""

import json
import shutil
import stat
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from hemitwin.atlases import TEMPLATE_SPACE, save_volume
from hemitwin.pipeline.cli.main import main
from hemitwin.pipeline.cohort.brain_pairs import read_brain_pairs, write_brain_pairs
from hemitwin.pipeline.cohort.brains import load_brains
from hemitwin.pipeline.evaluation.brain_evaluation import evaluate_brains
from hemitwin.pipeline.evaluation.compare import compare
from hemitwin.pipeline.evaluation.evaluate import evaluate
from hemitwin.pipeline.evaluation.halves_evaluation import evaluate_halves
from hemitwin.pipeline.explanation.explain import explain, explain_two
from hemitwin.pipeline.explanation.request import MapRequest
from hemitwin.pipeline.regions.parcellate import parcellate
from hemitwin.pipeline.stage.bids import sidecar_of
from hemitwin.pipeline.stage.errors import UserError
from hemitwin.pipeline.stage.json_files import read_json, write_json
from hemitwin.pipeline.stage.settings import validated
from hemitwin.pipeline.training.compared import BRAINS
from hemitwin.pipeline.training.config import RunConfig
from hemitwin.pipeline.training.runs import load_run, write_config
from hemitwin.pipeline.training.setup import plan_volumes
from hemitwin.pipeline.training.sources.whole_brains import BrainSets, _sets_of
from hemitwin.pipeline.training.train import train
from hemitwin.transforms import load_scan

pytestmark = pytest.mark.xdist_group("path")

PAIRS = 7


@pytest.fixture(scope="module")
def twins(prepared, tmp_path_factory):
    """Fourteen brains, two a family: twins are one synthetic brain with noise of their own."""
    folder = tmp_path_factory.mktemp("twins")
    rng = np.random.default_rng(0)
    people, families = (
        ["participant_id\tsex"],
        ["Subject,Family_ID,ZygosityGT,Mother_ID,Father_ID"],
    )
    for number in range(2 * PAIRS):
        source = f"sub-{number // 2 + 1:02d}"
        name = f"sub-t{number:02d}"
        tail = f"space-{TEMPLATE_SPACE}_desc-prepared_T1w"
        given = prepared.derivatives / source / "anat" / f"{source}_{tail}"
        anat = folder / "derivatives" / name / "anat"
        anat.mkdir(parents=True)
        scan = load_scan(given.with_suffix(".nii.gz"))
        noise = rng.normal(1, 0.02, scan.data.shape).astype(np.float32)
        save_volume(anat / f"{name}_{tail}.nii.gz", scan.data * noise, scan.affine, space="x")
        shutil.copy(given.with_suffix(".json"), anat / f"{name}_{tail}.json")
        people.append(f"{name}\tF")
        families.append(f"t{number:02d},f{number // 2},MZ,m{number // 2},d{number // 2}")
    (folder / "participants.tsv").write_text("\n".join(people) + "\n")
    (folder / "families.csv").write_text("\n".join(families) + "\n")
    return folder


@pytest.fixture(scope="module")
def config(twins, prepared):
    content = prepared.config.model_dump()
    content["data"] = {
        "prepared": twins / "derivatives",
        "resolution_mm": 8.0,
        "participants": twins / "participants.tsv",
    }
    content["split"] = {"families": twins / "families.csv", "validation": 2, "test": 2}
    content |= {"pairs": {"match": ["sex"], "negatives": 1}, "loss": {"objective": "ntxent"}}
    content["head"] = {}
    return validated(RunConfig, content, "test")


@pytest.fixture(scope="module")
def run(config, tmp_path_factory):
    return train(config, tmp_path_factory.mktemp("runs") / "twins")


def test_the_config_of_brains_has_negatives_of_its_own(config):
    assert config.loss.negatives == "subject"
    content = config.model_dump() | {"loss": {"negatives": "lesion"}}
    with pytest.raises(UserError, match="must be subject or relative for pairs of brains"):
        validated(RunConfig, content, "test")
    content = config.model_dump() | {"loss": {"objective": "map", "negatives": "subject"}}
    with pytest.raises(UserError, match="map needs lesions"):
        validated(RunConfig, content | {"head": {}}, "test")


def test_a_batch_holds_whole_brains_of_whole_sets(config):
    plan = plan_volumes(config)
    brains = plan.fold("train")
    table = pd.DataFrame(
        {
            "case": [brains[0].case.name, brains[2].case.name],
            "partner_case": [brains[1].case.name, brains[3].case.name],
            "label": "same",
        }
    )
    drawn = BrainSets(config, brains, pairs=table, families={})
    assert len(drawn) == 2
    batch = drawn[[(0, 0), (0, 1)]]
    assert batch.images.shape[2:] == brains[0].volume.shape[1:]
    assert sorted(batch.items.group.tolist()) == [0, 0, 1, 1]
    assert sorted(batch.items.item.tolist()) == [0, 1, 2, 3]
    again = drawn[[(0, 0), (0, 1)]]
    assert torch.equal(again.images, batch.images)


def test_scans_of_one_person_make_one_set(config):
    brains = load_brains(config.data, pairing="brains")[:4]
    names = [brain.case.name for brain in brains]
    table = pd.DataFrame(
        {
            "case": [names[0], names[1], names[2]],
            "partner_case": [names[1], names[2], names[3]],
            "label": ["same", "same", "different"],
        }
    )
    assert _sets_of(table, brains) == [(0, 1, 2)]


def test_local_patterns_are_those_of_the_training_fold(config, tmp_path):
    content = config.model_dump() | {"encoder": {"name": "local", "cell_voxels": 3}}
    content["training"] |= {"epochs": 1, "learning_rate": 1e-9, "weight_decay": 0}
    run = train(validated(RunConfig, content, "test"), tmp_path / "run")
    brains = plan_volumes(run.config).fold("train")
    with torch.no_grad():
        images = torch.stack([BRAINS.images(brain)[0] for brain in brains])
        found = run.network.embed(images.to(run.network.device)).cpu()
    assert float(found.mean(0).abs().max()) < 0.01
    squares = found.square().mean(0)
    # Patterns that are rounding are left out: no spread at all.
    assert float(torch.minimum(squares, (squares - 1).abs()).max()) < 0.01
    assert float(squares.mean()) > 0.5


def test_one_set_is_too_few_to_learn_from(config):
    brains = load_brains(config.data, pairing="brains")
    names = [brain.case.name for brain in brains]
    table = pd.DataFrame({"case": names[:1], "partner_case": names[1:2], "label": "same"})
    with pytest.raises(UserError, match="at least two sets"):
        BrainSets(config, brains, pairs=table, families={})


def test_verification_and_identification_have_figures_and_baselines(run):
    result = evaluate_brains(load_run(run.folder))
    assert {"distance", "deviation_unlikeness", "tissue_volumes"} <= set(result.auc)
    assert result.pairs["deviation_unlikeness"].between(0, 2).all()
    assert {"f1", "eer", "accuracy"} <= set(result.figures)
    assert 0 <= result.identification[1].value <= 1
    written = json.loads((run.folder / "evaluation.json").read_text())
    assert written["pairs"] == {"same": 2, "different": 2}
    # Twins that differ by little noise are told from strangers.
    assert result.auc["distance"].value == 1


def test_runs_on_brains_are_compared_by_families_and_no_result_names_anybody(run, tmp_path):
    result = evaluate_brains(run)
    other = tmp_path / "longer"
    shutil.copytree(run.folder, other)
    training = run.config.training.model_copy(update={"epochs": 9})
    write_config(other, run.config.model_copy(update={"training": training}))
    table = read_brain_pairs(run.folder / "evaluation_pairs.private.tsv")
    write_brain_pairs(
        other / "evaluation_pairs.private.tsv",
        table.assign(distance=lambda one: one["distance"].max() + 1 - one["distance"]),
    )
    draws = run.config.evaluation.bootstrap
    found = compare([run.folder, other], tmp_path / "out", draws=draws)
    first, second = found.rows
    for name, figure in result.figures.items():
        assert str(first.figures[name]) == str(figure)
    assert (first.pairs, first.subjects) == (4, 4)
    assert second.settings == {"training.epochs": 9}
    assert second.calls is not None
    assert second.calls.only_first_right > second.calls.only_second_right
    written = [path.read_bytes() for path in (tmp_path / "out").iterdir()]
    assert not any(b"sub-" in content for content in written)
    write_brain_pairs(other / "evaluation_pairs.private.tsv", table[:3])
    with pytest.raises(UserError, match="must hold the pairs that were evaluated"):
        compare([run.folder, other], tmp_path / "out")
    written_down = read_json(other / "evaluation.json")
    kept = table[:3]["label"].value_counts()
    pairs = {label: int(kept.get(label, 0)) for label in ("same", "different")}
    write_json(other / "evaluation.json", {**written_down, "pairs": pairs})
    with pytest.raises(UserError, match="have other pairs; give both the same seed, tables"):
        compare([run.folder, other], tmp_path / "out")
    (other / "evaluation_pairs.private.tsv").unlink()
    with pytest.raises(UserError, match=r"must hold evaluation_pairs\.private"):
        compare([run.folder, other], tmp_path / "out")


def test_no_shareable_file_names_relatives(run):
    evaluate_brains(run)
    private = {path for path in run.folder.iterdir() if "private" in path.name}
    assert {path.name for path in private} >= {
        "evaluation_pairs.private.tsv",
        "validation_pairs.private.tsv",
    }
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in private)
    shared = pd.read_csv(run.folder / "evaluation_pairs.tsv", sep="\t")
    assert not {"subject", "partner", "case", "age_difference"} & set(shared)
    assert not (run.folder / "validation_pairs.tsv").exists()


def test_the_verb_evaluates_brains_and_hemispheres_alike(run, capfd):
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", str(run.folder)])
    assert ended.value.code == 0
    printed = capfd.readouterr().out
    assert "rank-1 identification" in printed
    assert "AUC, tissue_volumes" in printed
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", str(run.folder), "--simulated", str(run.folder)])
    assert ended.value.code == 2
    told = " ".join(capfd.readouterr().err.split())
    assert "--simulated must stand with a run on hemispheres" in told
    halves = replace(run, config=run.config.model_copy(update={"pairs": None}))
    with pytest.raises(UserError, match="has no pairs"):
        evaluate_brains(halves)


def test_volumes_of_several_grids_are_refused(config, twins, tmp_path):
    folder = tmp_path / "derivatives"
    shutil.copytree(twins / "derivatives", folder)
    path = next(folder.glob("sub-t00/anat/*.nii.gz"))
    scan = load_scan(path)
    save_volume(path, scan.data[:, :-2], scan.affine, space="x")
    data = config.data.model_copy(update={"prepared": folder})
    with pytest.raises(UserError, match="must lie on one grid"):
        plan_volumes(config.model_copy(update={"data": data}))


def test_brains_are_not_scored_as_hemispheres(run):
    with pytest.raises(UserError, match="must be a run on hemispheres"):
        evaluate_halves(run)
    with pytest.raises(UserError, match="--simulated must stand with a run on hemispheres"):
        evaluate(run, simulated=run.folder)
    assert evaluate(run).to_rows() == evaluate_brains(run).to_rows()


def test_two_brains_are_explained_each_on_its_own_volume(run, twins, cache):
    derivatives = twins / "derivatives"
    outcome = explain_two(run, derivatives, ("sub-t00", "t01"))
    assert not outcome.failures
    one, other = outcome.results
    assert one.score == other.score
    assert one.score == pytest.approx(_distance(run, derivatives, "sub-t00", "sub-t01"), abs=1e-5)
    sidecar = read_json(sidecar_of(one.relevance))
    assert sidecar["ComparedWith"] == "sub-t01"
    total = sum(load_scan(each.relevance).data.sum(dtype=np.float64) for each in (one, other))
    assert total == pytest.approx(sidecar["LedgerOfPair"]["input"], rel=1e-4, abs=1e-6)
    (table,) = parcellate(derivatives, cache=cache, labels=("t00",), desc="lrppair").results
    assert sidecar["Ledger"] == sidecar["LedgerLeft"]
    assert table.table["sum"].sum() == pytest.approx(one.score / 2, rel=1e-3, abs=1e-6)
    assert explain_two(run, derivatives, ("sub-t00", "t01")).results == outcome.results


@pytest.mark.slow
def test_whole_brains_go_to_the_networks_device_too(run, twins, elsewhere):
    found = elsewhere(run, twins / "derivatives", twins=("sub-t00", "sub-t01"))
    assert {"evaluate", "explain", "relate", "training"} == set(found["convolutions"])
    for name, (there, here) in found["convolutions"].items():
        assert there > here == 0, name
        assert found["apart"][name] < 1e-4, name


def _distance(run, derivatives, *names):
    config = run.config.data.model_copy(update={"prepared": derivatives})
    brains = {brain.case.name: brain for brain in load_brains(config, pairing="brains")}
    with torch.no_grad():
        sides = [BRAINS.images(brains[name])[0][None].to(run.network.device) for name in names]
        return float(run.network(*sides).distance)


def test_two_brains_must_be_there_and_be_one_scan_each(run, twins):
    with pytest.raises(UserError, match="sub-nobody is not"):
        explain_two(run, twins / "derivatives", ("sub-t00", "sub-nobody"))
    with pytest.raises(UserError, match="add --pair SUB1 SUB2"):
        explain(run, twins / "derivatives")
    with pytest.raises(UserError, match="leave --lesion-seed out"):
        explain_two(run, twins / "derivatives", ("t00", "t01"), request=MapRequest(lesion_seed=1))
