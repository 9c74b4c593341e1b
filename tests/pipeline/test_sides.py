"""A side that is a guess is said to be one everywhere, and a corrected header is noticed."""

import re
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from nibabel.cifti2.cifti2 import Cifti2Image
from nibabel.cifti2.cifti2_axes import (
    BrainModelAxis,
    LabelAxis,
    ParcelsAxis,
    ScalarAxis,
    SeriesAxis,
)
from nibabel.nifti1 import Nifti1Image

import hemitwin
from hemitwin.atlases import (
    DataFile,
    load_atlas,
    load_dense_scalars,
    relevance_palette,
    save_dense_scalar,
)
from hemitwin.pipeline.cli.main import main
from hemitwin.pipeline.cohort.brains import find_prepared, load_brains
from hemitwin.pipeline.explanation.explain import explain
from hemitwin.pipeline.exports.config import ExportConfig
from hemitwin.pipeline.exports.material import ExportMaterial
from hemitwin.pipeline.exports.shared_atlas import SharedAtlas
from hemitwin.pipeline.group.rank import RankConfig, rank
from hemitwin.pipeline.preparation.native_space import NativeSpace
from hemitwin.pipeline.preparation.prepare import PrepareConfig, prepare
from hemitwin.pipeline.preparation.quality import QUALITY_TABLE, flagged_cases
from hemitwin.pipeline.preparation.scan_list import find_listed_scans
from hemitwin.pipeline.preparation.sources import SourceConfig
from hemitwin.pipeline.regions.atlas import _require_stated_side
from hemitwin.pipeline.regions.parcellate import parcellate
from hemitwin.pipeline.regions.tabulate import tabulate
from hemitwin.pipeline.simulation.lesion_set import EvaluationSetConfig, simulate_lesions
from hemitwin.pipeline.stage.bids import sidecar_of
from hemitwin.pipeline.stage.errors import CaseError, UserError
from hemitwin.pipeline.stage.json_files import digest_file, read_json, write_json
from hemitwin.pipeline.stage.names import relevance_path
from hemitwin.transforms import load_labels, load_scan

pytestmark = pytest.mark.xdist_group("path")

GUESS = "header sets neither sform nor qform: which side is left is a guess"
CONFIG = PrepareConfig(resolution_mm=4.0)


def strip_forms(source: Path, target: Path | None = None) -> Path:
    """Write a volume again with a header that says nothing of its place."""
    image = Nifti1Image.from_filename(source)
    bare = Nifti1Image(np.asarray(image.dataobj), None)
    bare.header.set_zooms(image.header.get_zooms())
    bare.set_sform(None, 0)
    bare.set_qform(None, 0)
    target = target or source
    target.parent.mkdir(parents=True, exist_ok=True)
    bare.to_filename(target)
    return target


@pytest.fixture
def placeless(prepared, tmp_path):
    """One scan in BIDS whose header says nothing of its place."""
    scan = prepared.bids / "sub-01/anat/sub-01_T1w.nii.gz"
    strip_forms(scan, tmp_path / "bids/sub-01/anat/sub-01_T1w.nii.gz")
    return tmp_path / "bids"


@pytest.fixture
def guessed(prepared, tmp_path):
    """The derivatives of the small cohort, as if the first scan's side had been a guess."""
    shutil.copytree(prepared.derivatives, tmp_path / "derivatives")
    sidecar = next((tmp_path / "derivatives/sub-01/anat").glob("*_desc-prepared_T1w.json"))
    write_json(sidecar, read_json(sidecar) | {"HeaderNotes": [GUESS]})
    return tmp_path / "derivatives"


def test_a_guess_is_flagged_in_sidecar_table_and_log(placeless, tmp_path, caplog):
    (one,) = prepare(placeless, tmp_path / "out", config=CONFIG).results
    content = read_json(sidecar_of(one.volume))
    assert content["HeaderNotes"] == [GUESS]
    assert GUESS in content["Flags"]
    table = pd.read_csv(tmp_path / "out" / QUALITY_TABLE, sep="\t", keep_default_na=False)
    assert GUESS in table["flags"][0]
    assert f"sub-01 is flagged: {GUESS}" in caplog.text
    assert GUESS in flagged_cases(tmp_path / "out")["sub-01"]


def test_a_stage_says_once_that_it_works_on_a_guess(guessed, prepared, caplog):
    for _ in range(2):
        find_prepared(guessed)
        find_prepared(guessed, labels=("01",))
    said = [one.getMessage() for one in caplog.records if "a guess" in one.getMessage()]
    assert len(said) == 1
    assert said[0].startswith(f"sub-01: the scan's {GUESS}, so that left and right may be exchang")
    caplog.clear()
    load_brains(prepared.config.data.model_copy(update={"prepared": guessed}))
    said = [one.getMessage() for one in caplog.records if "a guess" in one.getMessage()]
    assert len(said) == 1
    assert said[0].startswith(f"sub-01 takes part although prepare flagged it ({GUESS}")


def test_maps_and_tables_say_that_their_sides_are_a_guess(guessed, run, cache):
    assert not explain(run, guessed, labels=("01", "02"), cache=cache).failures
    assert not parcellate(guessed, cache=cache, labels=("01", "02")).failures
    for label, guess in (("01", True), ("02", False)):
        sidecars = [
            *guessed.glob(f"sub-{label}/anat/*_desc-lrp_relevance.json"),
            *guessed.glob(f"sub-{label}/anat/*_desc-lrppairs_relevance.json"),
        ]
        assert len(sidecars) == 3  # the map, its regions and their pairs
        assert {read_json(path)["SideIsGuess"] for path in sidecars} == {guess}
    maps = sorted(guessed.glob("sub-0[12]/anat/*_desc-lrp_relevance.nii.gz"))
    for number, guess in enumerate((True, False)):
        tabulate(maps[number:], guessed / "maps.tsv")
        assert read_json(guessed / "maps.json")["SideIsGuess"] is guess
    found = rank(guessed, labels=("01", "02"), config=RankConfig(draws=100, null_draws=0))
    assert read_json(found.path.with_suffix(".json"))["SidesGuessed"] == 1


def test_exports_and_simulated_volumes_say_it_too(guessed, tmp_path):
    (case,) = find_prepared(guessed, labels=("01",))
    told = ExportMaterial.sidecar(_material(case, guessed), "x")
    assert told["SideIsGuess"] is True
    config = EvaluationSetConfig(
        lesions_per_subject=0, controls_per_subject=0, shams_per_subject=0
    )
    simulate_lesions(guessed, tmp_path / "set", config=config, labels=("01",))
    (sidecar,) = (tmp_path / "set").glob("sub-01/anat/*_desc-healthy_T1w.json")
    assert read_json(sidecar)["SideIsGuess"] is True


def _material(case, derivatives):
    image = DataFile(derivatives / "x.surf.gii", "L")
    return ExportMaterial(
        case,
        derivatives,
        "lrp",
        load_scan(case.scan),
        NativeSpace.of(case, "export"),
        relevance_palette(np.ones(2)),
        SharedAtlas((), (image, image)),
        ExportConfig(),
    )


@pytest.mark.parametrize("alignment", ["acpc", "similarity"])
def test_a_scan_that_is_taken_as_aligned_must_say_where_it_lies(placeless, tmp_path, alignment):
    sources = SourceConfig(alignment=alignment)
    (one,) = prepare(placeless, tmp_path / "out", config=CONFIG, sources=sources).failures
    assert f"taken as aligned ({alignment}) must say where it lies" in one.reason
    assert "set its sform" in one.reason


def test_a_scan_without_a_side_takes_no_transform(placeless, tmp_path):
    (tmp_path / "a.txt").write_text("#Insight Transform File V1.0\n")
    scan = placeless / "sub-01/anat/sub-01_T1w.nii.gz"
    (tmp_path / "list.tsv").write_text(
        f"subject\tscan\ttransform\talignment\nA1\t{scan}\ta.txt\tnative\n"
    )
    (one,) = prepare(tmp_path / "list.tsv", tmp_path / "out", config=CONFIG).failures
    assert "taken as aligned (with a transform) must say where it lies" in one.reason


def test_surfaces_over_a_scan_without_a_side_are_refused(guessed):
    first, second = find_prepared(guessed, labels=("01", "02"))
    with pytest.raises(CaseError, match="surfaces and their scan must lie in one space, but"):
        _require_stated_side(first, NativeSpace.of(first, "atlas"))
    _require_stated_side(second, NativeSpace.of(second, "atlas"))


def write_pair(source: Path, path: Path, flip: np.ndarray) -> None:
    scan = load_scan(source)
    pair = nib.Nifti1Pair(scan.data, None)
    pair.set_sform(flip @ scan.affine, 1)
    pair.set_qform(flip @ scan.affine, 1)
    pair.to_filename(path)


def test_a_side_that_is_corrected_in_the_header_of_a_pair_is_noticed(prepared, tmp_path):
    source = prepared.derivatives / (
        "sub-01/anat/sub-01_space-MNI152NLin2009aSym_desc-prepared_T1w.nii.gz"
    )
    write_pair(source, tmp_path / "a.img", np.eye(4))
    (tmp_path / "list.tsv").write_text("subject\tscan\nA1\ta.img\n")
    settings = {"config": CONFIG, "sources": SourceConfig(alignment="similarity")}
    (first,) = prepare(tmp_path / "list.tsv", tmp_path / "out", **settings).results
    before = load_scan(first.volume).data
    assert prepare(tmp_path / "list.tsv", tmp_path / "out", **settings).results[0].skipped
    image = (tmp_path / "a.img").read_bytes()
    write_pair(source, tmp_path / "a.img", np.diag([-1.0, 1, 1, 1]))
    assert (tmp_path / "a.img").read_bytes() == image  # the header alone is another one
    (second,) = prepare(tmp_path / "list.tsv", tmp_path / "out", **settings).results
    assert not second.skipped
    after = load_scan(second.volume).data
    mirrored, same = (np.corrcoef(after.ravel(), one.ravel())[0, 1] for one in
                      (before[::-1], before))  # fmt: skip
    assert mirrored > 0.99
    assert mirrored > same
    (tmp_path / "a.hdr").unlink()
    (failure,) = prepare(tmp_path / "list.tsv", tmp_path / "out", **settings).failures
    assert f"expected {tmp_path / 'a.hdr'}" in failure.reason


def test_a_pair_that_is_listed_by_both_its_files_is_listed_twice(tmp_path):
    (tmp_path / "list.tsv").write_text("subject\tscan\nA1\ta.img\nA2\ta.hdr\n")
    with pytest.raises(UserError, match="must list each scan once"):
        find_listed_scans(tmp_path / "list.tsv")


# ---------------------------------------------------------------- the verbs themselves


@pytest.fixture
def ended(capfd, caplog):
    """Run a verb; give its exit code and what it said on standard error or logged."""

    def run(*words):
        with pytest.raises(SystemExit) as stop:
            main([str(word) for word in words])
        said = f"{capfd.readouterr().err} {caplog.text}"
        caplog.clear()
        assert "Traceback" not in said
        return stop.value.code, " ".join(said.split())

    return run


@pytest.fixture
def bare(tmp_path):
    """A map whose header says nothing of its place, with a table of names."""
    data = np.zeros((6, 6, 6), np.float32)
    data[1:3] = 1
    (tmp_path / "names.tsv").write_text("index\tname\n1\tL_a\n")
    Nifti1Image(data, np.eye(4)).to_filename(tmp_path / "stated.nii.gz")
    return strip_forms(tmp_path / "stated.nii.gz", tmp_path / "bare.nii.gz")


def test_the_verbs_refuse_maps_labels_and_atlases_of_no_place(bare, tmp_path, ended):
    stated, names = tmp_path / "stated.nii.gz", tmp_path / "names.tsv"
    atlas = ("--atlas", bare, "--atlas-table", names, "--atlas-space", "MNI152NLin2009aSym")
    for words, what in (
        (("tabulate", bare, "-o", tmp_path / "t.tsv"), "map"),
        (("tabulate", stated, "--dseg", bare, "--dseg-table", names, "-o", "t.tsv"), "label"),
        (("tabulate", stated, "-o", tmp_path / "t.tsv", *atlas), "label volume"),
        (("parcellate", tmp_path, *atlas), "label volume"),
        (("atlas", tmp_path, *atlas), "label volume"),
    ):
        code, said = ended(*words)
        assert code == 2, words
        assert said.startswith(f"error: a {what}"), said
        assert f"must lie in a stated space; {bare}: {GUESS}; set its sform" in said
    assert not list(tmp_path.glob("t.*"))


PARCELS = ParcelsAxis.from_brain_models(
    [("a", BrainModelAxis.from_surface(np.arange(3), 9, "CORTEX_LEFT"))]
)
PLACES = BrainModelAxis.from_surface(np.arange(3), 9, "CORTEX_LEFT")
CIFTI = {
    "x.dtseries.nii": (SeriesAxis(0, 1, 1), PLACES),
    "x.ptseries.nii": (SeriesAxis(0, 1, 1), PARCELS),
    "x.pscalar.nii": (ScalarAxis(["a"]), PARCELS),
    "x.pconn.nii": (PARCELS, PARCELS),
}


@pytest.mark.parametrize("name", CIFTI)
def test_cifti_files_that_are_no_dense_maps_get_one_line(name, bare, ended):
    axes, tmp_path = CIFTI[name], bare.parent
    path = tmp_path / name
    Cifti2Image(np.ones(tuple(map(len, axes))), axes).to_filename(path)
    code, said = ended("tabulate", path, "-o", tmp_path / "t.tsv")
    assert code == 2
    assert f"error: a map must be a volume; {path} is a CIFTI file" in said
    stated = tmp_path / "stated.nii.gz"
    code, said = ended("tabulate", stated, "-o", tmp_path / "t.tsv", "--atlas", path)
    assert code == 2
    assert f"error: a label volume must be a volume; {path} is a CIFTI file" in said
    renamed = path.rename(tmp_path / "x.dscalar.nii")
    code, said = ended("tabulate", renamed, "-o", tmp_path / "t.tsv")
    assert code == 2
    assert "must hold maps over the 91282 grayordinates" in said


def test_prepare_refuses_an_analyze_scan_and_a_mirrored_mask(prepared, tmp_path, ended):
    whole = prepared.bids / "sub-01/anat/sub-01_T1w.nii.gz"
    scan = load_scan(whole)
    nib.AnalyzeImage(scan.data, np.diag([4.0, 4, 4, 1])).to_filename(tmp_path / "a.img")
    strip_forms(whole, tmp_path / "bare.nii.gz")
    rows = (("A", "a.img", ""), ("B", whole, "bare.nii.gz"), ("C", "bare.nii.gz", whole))
    lines = ["subject\tscan\tmask", *("\t".join(map(str, row)) for row in rows)]
    (tmp_path / "list.tsv").write_text("\n".join(lines))
    words = ("prepare", tmp_path / "list.tsv", tmp_path / "out", "participant")
    code, said = ended(*words, "--resolution-mm", "4")
    assert code == 1
    assert "a.img is in Analyze format, which says nothing of it; convert it to NIfTI" in said
    assert f"a mask must lie in a stated space; {tmp_path / 'bare.nii.gz'}: {GUESS}" in said
    assert f"the header of {tmp_path / 'bare.nii.gz'} does not say which side is left" in said
    assert not list((tmp_path / "out").glob("sub-*"))


def test_later_stages_refuse_volumes_that_lost_their_place(guessed, run, tmp_path, ended):
    volumes = sorted(guessed.glob("sub-0[12]/anat/*_desc-prepared_T1w.nii.gz"))
    (case,) = find_prepared(guessed, labels=("01",))
    path = strip_forms(volumes[0], relevance_path(case, guessed, "lrp"))
    audit = {"Digest": digest_file(path), "Ledger": {}, "ExplainedScore": 0.0}
    write_json(sidecar_of(path), audit)
    label = ("--participant-label", "01")
    place = f"a volume must lie in a stated space; {path}: {GUESS}; set its sform"
    for verb in ("parcellate", "export"):
        code, said = ended(verb, guessed, *label)
        assert code == 1
        assert place in said
    masks = tmp_path / "masks"
    strip_forms(volumes[1], masks / "sub-02_label-lesion_mask.nii.gz")
    code, said = ended("atlas", guessed, "--lesion-masks", masks, "--participant-label", "02")
    assert code == 1
    assert "a mask must lie in a stated space" in said
    strip_forms(volumes[1])
    label = ("--participant-label", "02")
    for words in (
        ("explain", run.folder, guessed, *label),
        ("atlas", guessed, *label),
        ("simulate", "lesions", guessed, tmp_path / "set", *label),
    ):
        code, said = ended(*words)
        assert code == 1, said
        assert f"a volume must lie in a stated space; {volumes[1]}: {GUESS}" in said


# ---------------------------------------------------------------- CIFTI, and no other reader


def dense_labels(path: Path, affine: np.ndarray, exponent: int = -3) -> Path:
    """Two structures of one voxel each, 20 mm left and right of the middle."""
    mask = np.zeros((5, 1, 1), bool)
    names = ("THALAMUS_LEFT", "THALAMUS_RIGHT")
    places = []
    for name, index in zip(names, (0, 4), strict=True):
        mask[:] = False
        mask[index] = True
        places.append(BrainModelAxis.from_mask(mask, name=name, affine=affine))
    table = {0: ("???", (0, 0, 0, 0)), 1: ("L_a", (1, 0, 0, 1)), 2: ("R_a", (0, 1, 0, 1))}
    axes = (LabelAxis(["a"], [table]), sum(places[1:], start=places[0]))
    image = Cifti2Image(np.array([[1, 2]], np.float32), axes)
    matrix = image.header.get_index_map(1).volume.transformation_matrix_voxel_indices_ijk_to_xyz
    matrix.meter_exponent = exponent
    image.to_filename(path)
    return path


def test_the_voxels_of_a_dense_atlas_must_lie_on_their_side(tmp_path):
    affine = np.diag([10.0, 10, 10, 1])
    affine[0, 3] = -20
    for exponent, scale in ((-3, 1.0), (0, 1e-3)):
        stored = np.diag([scale] * 3 + [1]) @ affine
        path = dense_labels(tmp_path / "a.dlabel.nii", stored, exponent)
        found = load_atlas([path], read_labels=load_labels)
        assert found.voxels is not None
        np.testing.assert_allclose(found.voxels.affine, affine)
    mirrored = np.diag([-1.0, 1, 1, 1]) @ affine
    path = dense_labels(tmp_path / "b.dlabel.nii", mirrored)
    with pytest.raises(ValueError, match=r"THALAMUS_LEFT lies at x = 20 mm, where left is below"):
        load_atlas([path], read_labels=load_labels)


@pytest.mark.parametrize(
    ("value", "said"), [(np.inf, "map 0 of .* is infinite"), (np.nan, "is NaN everywhere")]
)
def test_dense_maps_without_values_are_refused(tmp_path, value, said):
    save_dense_scalar(tmp_path / "a.dscalar.nii", np.ones(91282), name="a")
    image = Cifti2Image.from_filename(tmp_path / "a.dscalar.nii")
    spoilt = np.full((1, 91282), value, np.float32)
    Cifti2Image(spoilt, image.header).to_filename(tmp_path / "a.dscalar.nii")
    with pytest.raises(ValueError, match=said):
        load_dense_scalars(tmp_path / "a.dscalar.nii")


PLACERS = {
    "transforms/loading.py": "the reader",
    "transforms/nifti_header.py": "of the reader",
    "transforms/volume_files.py": "of the reader",
    "transforms/alignment/deformation_files.py": "writes",
    "transforms/alignment/itk_affine.py": "a transform between two spaces, not an image",
    "transforms/alignment/registration.py": "images in memory",
    "transforms/alignment/deformation.py": "images in memory",
    "atlases/grayordinates.py": "a file that is installed with this package",
    "atlases/formats/nifti.py": "writes",
    "atlases/templates.py": "of a package's own image",
    "atlases/world.py": "says in a message where an affine is found",
    "pipeline/exports/group_scene.py": "of a template in memory",
}
"""Files that name an image's class or its affine, and why they may."""


def test_no_other_code_takes_a_place_from_a_header():
    reads = re.compile(
        r"Nifti1Image|MGHImage|nib\.load|sitk\.|_[sq]form\b|get_best_affine|get_vox2ras"
        r"|\bimage\.affine|GetDirection|LoadImage"
    )
    folder = Path(hemitwin.__file__).parent
    found = {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*.py")
        if reads.search(path.read_text(encoding="utf-8"))
    }
    assert found == set(PLACERS)
