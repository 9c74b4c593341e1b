"""The stages one after another on a small cohort: what each must leave behind."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import yaml

from hemitwin.pipeline.cohort.brains import load_brains
from hemitwin.pipeline.evaluation.halves_evaluation import evaluate_halves
from hemitwin.pipeline.explanation.explain import explain
from hemitwin.pipeline.explanation.request import MapRequest
from hemitwin.pipeline.exports.export import export
from hemitwin.pipeline.preparation.prepare import PrepareConfig, prepare
from hemitwin.pipeline.regions.parcellate import parcellate
from hemitwin.pipeline.stage.errors import UserError
from hemitwin.pipeline.stage.json_files import digest_file, read_json, write_json
from hemitwin.pipeline.stage.names import relevance_path
from hemitwin.pipeline.training.config import load_config
from hemitwin.pipeline.training.runs import load_run
from hemitwin.pipeline.training.setup import plan_volumes
from hemitwin.pipeline.training.train import train
from hemitwin.transforms import load_scan, read_itk_affine

pytestmark = pytest.mark.xdist_group("path")

PREPARED = "sub-01_space-MNI152NLin2009aSym_desc-prepared_T1w"


def _anatomy(walked, subject="sub-01"):
    return walked.derivatives / subject / "anat"


def test_prepared_volumes_share_one_even_grid(prepared):
    volumes = sorted(prepared.derivatives.glob("sub-*/anat/*_desc-prepared_T1w.nii.gz"))
    assert len(volumes) == 9
    scans = [load_scan(path) for path in volumes]
    assert len({scan.data.shape for scan in scans}) == 1
    assert scans[0].data.shape[0] % 2 == 0
    np.testing.assert_allclose(scans[0].affine[0, 3], -(scans[0].data.shape[0] - 1) / 2 * 4.0)


def test_the_sidecar_holds_transform_and_quality(prepared):
    sidecar = read_json(_anatomy(prepared) / f"{PREPARED}.json")
    matrix = np.array(sidecar["NativeFromTemplate"])
    written = read_itk_affine(next(_anatomy(prepared).glob("*_xfm.txt")))
    np.testing.assert_allclose(written, matrix, atol=1e-9)
    assert sidecar["Quality"]["template_similarity"] > 0.5
    assert sidecar["Quality"]["brain_coverage"] > 0.99
    assert (_anatomy(prepared) / "sub-01_desc-prepared_T1w.png").stat().st_size > 5000


def test_preparing_again_skips_what_is_done_and_notices_a_change(prepared):
    config = PrepareConfig(resolution_mm=4.0)
    volume = _anatomy(prepared, "sub-02") / f"{PREPARED.replace('01', '02')}.nii.gz"
    before = digest_file(volume)
    again = prepare(prepared.bids, prepared.derivatives, labels=("02",), config=config)
    assert [one.skipped for one in again.results] == [True]
    volume.write_bytes(b"damaged")
    mended = prepare(prepared.bids, prepared.derivatives, labels=("sub-02",), config=config)
    assert [one.skipped for one in mended.results] == [False]
    assert digest_file(volume) == before


def test_the_run_folder_is_complete(run, prepared):
    names = {path.name for path in run.folder.iterdir()}
    wanted = {"config.yaml", "splits.json", "metrics.csv", "model.safetensors", "run.json"}
    assert wanted | {"curves.png", "checkpoints"} <= names
    assert load_config(run.folder / "config.yaml") == prepared.config
    table = pd.read_csv(run.folder / "metrics.csv")
    assert list(table["epoch"]) == [0, 1]
    assert {"loss", "positive_distance", "negative_distance", "validation_auc"} <= set(table)
    assert run.split.subjects("train")
    assert "sub-p01" not in run.split.folds


def test_a_finished_run_is_returned_and_another_config_is_refused(run, prepared):
    assert train(prepared.config, run.folder).weights_digest == run.weights_digest
    other = prepared.config.model_copy(update={"seed": 9})
    with pytest.raises(UserError, match="choose another folder"):
        train(other, run.folder)


def test_a_run_from_before_a_key_was_there_is_still_that_run(run, prepared, tmp_path):
    older = shutil.copytree(run.folder, tmp_path / "older")
    content = yaml.safe_load((older / "config.yaml").read_text("utf-8"))
    assert content["split"].pop("train_share") == 1.0
    (older / "config.yaml").write_text(yaml.safe_dump(content), "utf-8")
    assert train(prepared.config, older).folder == older


def test_training_again_gives_the_same_weights(run, prepared, tmp_path):
    again = train(prepared.config, tmp_path / "run")
    assert again.weights_digest == run.weights_digest


class _PowerCutError(RuntimeError):
    """Ends training after an epoch."""


def _cut_after_first_epoch(done, total, values):
    assert {"loss", "positive_distance"} <= set(values)
    if done == 1:
        msg = f"after {done} of {total}"
        raise _PowerCutError(msg)


def test_an_interrupted_run_ends_where_an_uninterrupted_one_does(run, prepared, tmp_path):
    with pytest.raises(_PowerCutError, match="after 1 of 2"):
        train(prepared.config, tmp_path / "run", progress=_cut_after_first_epoch)
    assert not (tmp_path / "run" / "run.json").exists()
    resumed = train(prepared.config, tmp_path / "run")
    assert resumed.weights_digest == run.weights_digest
    whole, mended = (pd.read_csv(one.folder / "metrics.csv") for one in (run, resumed))
    pd.testing.assert_frame_equal(mended, whole)


def test_replaced_weights_are_refused(run, tmp_path):
    for name in ("config.yaml", "splits.json", "run.json"):
        (tmp_path / name).write_bytes((run.folder / name).read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"other")
    with pytest.raises(UserError, match="the file that training wrote"):
        load_run(tmp_path)
    with pytest.raises(UserError, match="finish training"):
        load_run(tmp_path / "nowhere")


def test_evaluation_scores_the_test_fold_and_nothing_else(run):
    result = evaluate_halves(run)
    assert set(result.pairs["subject"]) == set(run.split.subjects("test"))
    assert list(result.pairs.groupby("subject")["lesioned"].sum()) == [2, 2]
    written = json.loads((run.folder / "evaluation.json").read_text())
    assert written["auc"]["distance"]["value"] == result.auc["distance"].value
    again = evaluate_halves(run)
    pd.testing.assert_frame_equal(again.pairs, result.pairs)


def test_a_missing_test_subject_is_no_smaller_test(run, prepared, tmp_path):
    kept = run.split.subjects("test")[0]
    source = prepared.derivatives / kept / "anat"
    target = tmp_path / kept / "anat"
    target.mkdir(parents=True)
    for path in source.glob("*prepared_T1w*"):
        (target / path.name).write_bytes(path.read_bytes())
    with pytest.raises(UserError, match=r"another test; .* 'hemitwin explain .* DERIVATIVES'"):
        evaluate_halves(run, prepared=tmp_path)


@pytest.fixture(scope="module")
def explained(run, prepared):
    outcome = explain(run, prepared.derivatives, labels=("p01",))
    assert not outcome.failures
    return outcome.results[0]


def test_a_map_comes_with_its_audit(explained, run):
    sidecar = read_json(explained.relevance.with_name(f"{_stem(explained.relevance)}.json"))
    assert sidecar["Ledger"]["ratio"] == pytest.approx(1.0, abs=1e-4)
    assert sidecar["ModelSHA256"] == run.weights_digest
    assert sidecar["Fold"] == "none: not seen in training"
    total = load_scan(explained.relevance).data.sum(dtype=np.float64)
    assert total == pytest.approx(sidecar["Ledger"]["input"], rel=1e-4, abs=1e-7)


def test_a_map_that_is_done_is_not_computed_again(explained, run, prepared):
    stamp = explained.relevance.stat().st_mtime_ns
    again = explain(run, prepared.derivatives, labels=("p01",)).results[0]
    assert again == explained
    assert explained.relevance.stat().st_mtime_ns == stamp


def test_an_injected_lesion_is_written_beside_its_map(run, prepared):
    one = explain(
        run, prepared.derivatives, labels=("01",), request=MapRequest(lesion_seed=3)
    ).results[0]
    assert "desc-lrplesion" in one.relevance.name
    mask = load_scan(one.relevance.with_name(f"{_stem(one.relevance)[:-10]}_mask.nii.gz"))
    assert 0 < mask.data.mean() < 0.1
    assert {"relevance_mass_accuracy", "pointing_game"} <= set(one.localisation)
    assert relevance_path(one.case, prepared.derivatives, "lrp") != one.relevance


def test_the_region_table_sums_to_the_score(explained, prepared, cache):
    outcome = parcellate(prepared.derivatives, cache=cache, labels=("p01",))
    table = outcome.results[0].table
    assert len(table) == 379 + 3
    assert table["sum"].sum() == pytest.approx(explained.score, rel=1e-3)


def test_a_map_without_its_audit_is_refused(explained, prepared, cache):
    whole = explained.relevance.read_bytes()
    explained.relevance.write_bytes(whole[:-1] + b"x")
    outcome = parcellate(prepared.derivatives, cache=cache, labels=("p01",))
    explained.relevance.write_bytes(whole)
    assert "must be the map that was audited" in outcome.failures[0].reason


@pytest.mark.usefixtures("explained")
def test_every_exported_file_is_there_and_the_sum_is_kept(prepared, cache):
    outcome = export(prepared.derivatives, cache=cache, labels=("p01",))
    assert not outcome.failures
    one = outcome.results[0]
    names = [path.name for path in one.files]
    for ending in (".shape.gii", ".surf.gii", ".dscalar.nii", ".pscalar.nii", ".wb.spec"):
        assert any(name.endswith(ending) for name in names), ending
    assert all(path.is_file() for path in one.files)
    native = next(path for path in one.files if "space-T1w_desc-lrp_relevance" in path.name)
    sums = read_json(native.with_name(f"{_stem(native)}.json"))
    assert sums["SumNative"] == pytest.approx(sums["SumTemplate"], rel=0.05, abs=1e-3)
    assert len(one.scene_names) == 5


def test_asking_for_maps_that_are_not_there_is_refused(prepared, cache):
    with pytest.raises(UserError, match="hemitwin explain"):
        export(prepared.derivatives, cache=cache, labels=("03",))


def test_volumes_for_pairs_of_brains_are_not_split(prepared, tmp_path):
    derivatives = tmp_path / "derivatives"
    anat = derivatives / "sub-01" / "anat"
    shutil.copytree(prepared.derivatives / "sub-01" / "anat", anat)
    sidecar = next(anat.glob("*_desc-prepared_T1w.json"))
    content = read_json(sidecar)
    content["Alignment"]["Pairing"] = "brains"
    write_json(sidecar, content)
    with pytest.raises(UserError, match="--pairing hemispheres"):
        load_brains(prepared.config.data.model_copy(update={"prepared": derivatives}))


def test_a_flagged_scan_takes_part_and_is_named(prepared, tmp_path, caplog):
    derivatives = tmp_path / "derivatives"
    shutil.copytree(prepared.derivatives, derivatives)
    sidecar = next(derivatives.glob("sub-02/anat/*_desc-prepared_T1w.json"))
    content = read_json(sidecar)
    content["Quality"]["brain_coverage"] = 0.5
    write_json(sidecar, content)
    brains = load_brains(prepared.config.data.model_copy(update={"prepared": derivatives}))
    assert "sub-02" in {brain.subject for brain in brains}
    named = [record.getMessage() for record in caplog.records if "flagged" in record.message]
    assert any(text.startswith("sub-02") and "brain_coverage" in text for text in named)


def test_training_on_one_modality_does_not_warn_of_another(prepared, tmp_path, caplog):
    derivatives = tmp_path / "derivatives"
    shutil.copytree(prepared.derivatives, derivatives)
    sidecar = next(derivatives.glob("sub-02/anat/*_desc-prepared_T1w.json"))
    content = read_json(sidecar)
    content["Quality"]["brain_coverage"] = 0.5
    write_json(sidecar.with_name(sidecar.name.replace("T1w", "T2w")), content)
    load_brains(prepared.config.data.model_copy(update={"prepared": derivatives}))
    assert "flagged" not in caplog.text


def test_a_name_to_be_left_out_that_nobody_bears_is_refused_with_the_nearest(prepared):
    def plan(*names):
        data = prepared.config.data.model_copy(update={"exclude": names})
        return plan_volumes(prepared.config.model_copy(update={"data": data}))

    with pytest.raises(UserError, match=r"but sub-po1 \(nearest: sub-p01.*\), sub-zzz is none"):
        plan("po1", "sub-zzz", "sub-02")
    left = {brain.subject for brain in plan("sub-p01", "02").brains}
    assert not left & {"sub-p01", "sub-02"}


def _stem(path):
    return path.name.removesuffix(".nii.gz")
