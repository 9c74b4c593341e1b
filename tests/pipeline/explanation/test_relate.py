"""Which region is matched with which: matrices of prepared cases, and their files."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from nibabel.cifti2.cifti2 import Cifti2Image
from torch.nn import functional as F

from hemitwin.atlases import hcpmmp_regions, hcpmmp_volume
from hemitwin.interpret import RESIDUES
from hemitwin.models import SiameseNetwork, build_encoder
from hemitwin.pipeline.cli.main import main
from hemitwin.pipeline.cohort.brains import find_prepared
from hemitwin.pipeline.cohort.config import BrainPairsConfig
from hemitwin.pipeline.explanation import relate as stage
from hemitwin.pipeline.explanation.directions import Directions
from hemitwin.pipeline.explanation.explain import explain
from hemitwin.pipeline.explanation.paired_regions import PairedRegions
from hemitwin.pipeline.explanation.relate import relate, relate_two
from hemitwin.pipeline.exports.export import export
from hemitwin.pipeline.stage.errors import UserError
from hemitwin.pipeline.stage.json_files import read_json

pytestmark = [pytest.mark.xdist_group("path"), pytest.mark.slow]

COUNT = len(RESIDUES)


def _brain(run, prepared, label):
    (case,) = find_prepared(prepared.derivatives, labels=(label,))
    return run.load_brain(case)


def _cosine(run, images):
    with torch.inference_mode():
        embeddings = run.network.embed(torch.stack(images).to(run.network.device)).double()
    return float(F.cosine_similarity(*embeddings.split(1)))


def _matrix(one):
    return one.table.set_index("region").to_numpy()


def _connectivity(one):
    return Cifti2Image.from_filename(one.path.with_suffix(".pconn.nii")).get_fdata().T


@pytest.fixture(scope="module")
def related(run, prepared, cache):
    outcome = relate(run, prepared.derivatives, cache=cache, labels=("p01",))
    assert not outcome.failures
    return outcome.results[0]


@pytest.fixture(scope="module")
def brains_run(run):
    """A network of chance on whole brains: what is shared out need not be learnt."""
    encoder = run.config.encoder.model_copy(update={"embedding_dim": 8, "width": 4})
    network = SiameseNetwork(build_encoder(encoder, torch.Generator().manual_seed(1))).eval()
    changes = {"pairs": BrainPairsConfig(), "encoder": encoder}
    return replace(run, network=network, config=run.config.model_copy(update=changes))


@pytest.fixture(scope="module")
def two(brains_run, prepared, cache):
    """The matrix of two brains, and of the same two exchanged."""
    names = ("sub-01", "02")
    outcomes = [
        relate_two(brains_run, prepared.derivatives, order, cache=cache)
        for order in (names, names[::-1])
    ]
    assert not any(outcome.failures for outcome in outcomes)
    return [outcome.results[0] for outcome in outcomes]


def test_the_matrix_sums_to_the_similarity_of_the_halves(related, run, prepared):
    similarity = _cosine(run, run.config.compared.images(_brain(run, prepared, "p01")))
    assert related.similarity == pytest.approx(similarity, rel=1e-4)
    assert _matrix(related).sum() == pytest.approx(similarity, rel=1e-3)
    assert related.neglected == pytest.approx(0, abs=1e-4)


def test_rows_are_left_regions_and_columns_their_partners(related):
    regions = {region.name: region for region in hcpmmp_regions()}
    rows = related.table["region"].tolist()
    columns = related.table.columns.tolist()
    assert columns[0] == "region"
    assert rows[-COUNT:] == columns[-COUNT:] == ["unassigned", "bias"]
    assert rows[:-COUNT] == [
        *(name for name, region in regions.items() if region.hemisphere == "L"),
        "brainStem",
    ]
    for row, column in zip(rows[:-COUNT], columns[1:-COUNT], strict=True):
        assert column == (regions[row].partner or row)


def test_each_half_is_labelled_by_its_own_regions(run, prepared, cache):
    brain = _brain(run, prepared, "01")
    found = PairedRegions.of(run, brain, cache)
    atlas = hcpmmp_volume(brain.mask.shape, brain.affine, cache_dir=cache)
    half = brain.mask.shape[0] // 2
    for value, row, column in zip(found.values, found.rows, found.columns, strict=True):
        left, right = atlas.labels == row.index, atlas.labels == column.index
        np.testing.assert_array_equal(found.labels_left == value, left[:half])
        np.testing.assert_array_equal(found.labels_right == value, right[::-1][:half])
    assert set(np.unique(found.labels_right)) <= {0, *found.values}


def test_the_sidecar_says_what_was_done(related, run):
    sidecar = read_json(related.path.with_suffix(".json"))
    assert sidecar["Sum"] == pytest.approx(sidecar["Similarity"], rel=1e-3)
    assert sidecar["Directions"] == run.config.encoder.embedding_dim
    assert sidecar["LedgerError"] <= 1e-4
    assert sidecar["ComparedWith"] is None
    assert sidecar["ModelSHA256"] == run.weights_digest
    assert sidecar["SplitsHash"] == run.split.hash
    assert sidecar["Folds"] == {"sub-p01": "none: not seen in training"}
    assert "without unassigned and bias" in sidecar["Connectivity"]
    block = _matrix(related)[:-COUNT, :-COUNT]
    assert sidecar["Diagonal"] * sidecar["Sum"] == pytest.approx(np.trace(block))
    assert sidecar["Regions"] * sidecar["Sum"] == pytest.approx(block.sum())


def test_the_largest_pairs_are_named(related):
    block = related.table.set_index("region").iloc[:-COUNT, :-COUNT]
    (row, column, value), *rest = related.top_pairs(3)
    assert value == block.to_numpy().max() == block.loc[row, column]
    assert len(rest) == 2
    assert value >= rest[0][2] >= rest[1][2]


def test_the_connectivity_file_holds_the_block_and_its_transpose(related):
    names = [region.name for region in hcpmmp_regions()]
    rows = [names.index(name) for name in related.table["region"][:-COUNT]]
    columns = [names.index(name) for name in related.table.columns[1:-COUNT]]
    whole, block = _connectivity(related), _matrix(related)[:-COUNT, :-COUNT]
    np.testing.assert_allclose(whole[np.ix_(rows, columns)], block, rtol=1e-6)
    np.testing.assert_array_equal(whole, whole.T)
    within = [k for k, name in enumerate(names) if name.startswith("L_")]
    assert not whole[np.ix_(within, within)].any()


def test_what_is_done_is_not_done_again(related, run, prepared, cache):
    files = [related.path.with_suffix(end) for end in (".tsv", ".json", ".pconn.nii")]
    stamps = [path.stat().st_mtime_ns for path in files]
    again = relate(run, prepared.derivatives, cache=cache, labels=("sub-p01",)).results[0]
    assert [path.stat().st_mtime_ns for path in files] == stamps
    pd.testing.assert_frame_equal(again.table, related.table)
    assert replace(again, table=related.table).__dict__ == related.__dict__


@pytest.mark.parametrize("ending", [".tsv", ".pconn.nii"])
def test_a_damaged_file_is_mended(run, prepared, cache, ending):
    words = {"cache": cache, "labels": ("04",), "directions": 1}
    file = relate(run, prepared.derivatives, **words).results[0].path.with_suffix(ending)
    content = file.read_bytes()
    file.write_bytes(b"damaged")
    relate(run, prepared.derivatives, **words)
    assert file.read_bytes() == content


def test_few_directions_state_what_they_neglect(run, prepared, cache):
    outcome = relate(run, prepared.derivatives, cache=cache, labels=("01",), directions=4)
    (one,) = outcome.results
    sidecar = read_json(one.path.with_suffix(".json"))
    assert sidecar["Directions"] == 4
    brains = len(run.split.subjects("train"))
    assert f"embeddings of {brains} brains of the training fold" in sidecar["DirectionsFrom"]
    assert sidecar["Neglected"] == one.neglected != 0
    assert abs(one.neglected) < 0.5
    total = (1 - one.neglected) * one.similarity
    assert _matrix(one).sum() == pytest.approx(total, rel=1e-6)
    # The directions are part of what decides the result: other ones make another.
    stamp = one.path.stat().st_mtime_ns
    relate(run, prepared.derivatives, cache=cache, labels=("01",), directions=5)
    assert one.path.stat().st_mtime_ns > stamp


def test_directions_are_those_of_the_training_fold_alone(run, prepared):
    chosen = Directions.of(run, prepared.derivatives, 3)
    assert {case.subject for case in chosen.cases} == set(run.split.subjects("train"))
    rows = chosen.vectors
    torch.testing.assert_close(rows @ rows.T, torch.eye(3, dtype=rows.dtype))
    with torch.inference_mode():
        images = torch.stack(run.config.compared.images(run.load_brain(chosen.cases[0])))
        seen = run.network.embed(images.to(run.network.device)).cpu()
    assert float((F.normalize(seen.double()) @ rows.T).square().sum(1).min()) > 0.9


@pytest.mark.parametrize("count", [0, 9, 1000])
def test_more_directions_than_training_embeddings_are_refused(run, prepared, cache, count):
    with pytest.raises(UserError, match=f"directions must be from 1 .* got {count} with 8 emb"):
        relate(run, prepared.derivatives, cache=cache, directions=count)


def test_an_open_ledger_is_a_failure_and_leaves_nothing(run, prepared, cache, monkeypatch):
    monkeypatch.setattr(stage, "_LARGEST_ERROR", -1.0)
    outcome = relate(run, prepared.derivatives, cache=cache, labels=("03",), directions=1)
    assert "every ledger must close" in outcome.failures[0].reason
    assert not list(prepared.derivatives.glob("sub-03/anat/*_relmat*"))


def test_two_brains_have_all_regions_on_both_sides(two, brains_run, prepared):
    one = two[0]
    names = [region.name for region in hcpmmp_regions()]
    assert one.table["region"].tolist() == [*names, *RESIDUES]
    assert one.table.columns.tolist() == ["region", *names, *RESIDUES]
    images = [
        image
        for label in ("01", "02")
        for image in brains_run.config.compared.images(_brain(brains_run, prepared, label))
    ]
    assert _matrix(one).sum() == pytest.approx(_cosine(brains_run, images), rel=1e-3)
    np.testing.assert_allclose(_connectivity(one), _matrix(one)[:-COUNT, :-COUNT], rtol=1e-6)
    assert "desc-bilrppair_relmat" in one.path.name
    sidecar = read_json(one.path.with_suffix(".json"))
    assert sidecar["ComparedWith"] == "sub-02"
    assert sidecar["Connectivity"].endswith("without unassigned and bias")
    assert list(sidecar["Folds"]) == ["sub-01", "sub-02"]


def test_exchanged_brains_transpose_the_matrix(two):
    there, back = two
    assert (there.case.name, back.case.name) == ("sub-01", "sub-02")
    largest = np.abs(_matrix(there)).max()
    np.testing.assert_allclose(_matrix(back).T, _matrix(there), atol=1e-5 * largest)
    assert back.similarity == pytest.approx(there.similarity, rel=1e-6)
    assert back.diagonal == pytest.approx(there.diagonal, rel=1e-4)


def test_the_wrong_kind_of_run_is_refused(run, brains_run, prepared, cache):
    with pytest.raises(UserError, match="compares brains; add --pair SUB1 SUB2"):
        relate(brains_run, prepared.derivatives, cache=cache)
    with pytest.raises(UserError, match="--pair must be given with a run on pairs of brains"):
        relate_two(run, prepared.derivatives, ("01", "02"), cache=cache)
    data = brains_run.config.data.model_copy(update={"space": "MNI152NLin6Asym"})
    elsewhere = replace(brains_run, config=brains_run.config.model_copy(update={"data": data}))
    with pytest.raises(UserError, match=r"where the atlas is known, but .* MNI152NLin6Asym"):
        relate_two(elsewhere, prepared.derivatives, ("01", "02"), cache=cache)


@pytest.mark.usefixtures("related")
def test_the_verb_prints_a_table(run, prepared, cache, monkeypatch, capfd):
    monkeypatch.setenv("HEMITWIN_CACHE", str(cache))
    words = ["relate", str(run.folder), str(prepared.derivatives), "--participant-label", "p01"]
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 0
    printed = capfd.readouterr().out
    for told in ("hemitwin relate", "sub-p01", "diagonal", "neglected", "1 done, 0 failed"):
        assert told in printed, told
    with pytest.raises(SystemExit) as ended:
        main([*words[:3], "--pair", "01", "02"])
    assert ended.value.code == 2
    assert "pairs of brains" in capfd.readouterr().err


def test_workbench_is_told_of_the_matrix(related, run, prepared, cache):
    derivatives = prepared.derivatives
    assert not explain(run, derivatives, labels=("p01",)).failures
    (exported,) = export(derivatives, cache=cache, labels=("p01",)).results
    name = related.path.with_suffix(".pconn.nii").name
    assert name in {path.name for path in exported.files}
    assert name in exported.spec.read_text("utf-8")
