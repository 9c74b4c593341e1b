"""A subject's own regions: where they lie, how they are judged, and who uses them."""

import shutil
from dataclasses import replace

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from hemitwin.atlases import Atlas, hcpmmp_atlas, hcpmmp_regions, load_surface, regions_of_table
from hemitwin.pipeline.cli.main import main
from hemitwin.pipeline.cohort.brains import find_prepared
from hemitwin.pipeline.explanation.explain import explain
from hemitwin.pipeline.exports.export import export
from hemitwin.pipeline.regions.atlas import build_atlases
from hemitwin.pipeline.regions.atlas_files import own_atlas, own_deformation
from hemitwin.pipeline.regions.finder import AtlasRequest
from hemitwin.pipeline.regions.hidden_lesions import MaskSource
from hemitwin.pipeline.regions.parcellate import parcellate
from hemitwin.pipeline.regions.surface_set import native_surfaces
from hemitwin.pipeline.stage.bids import sidecar_of
from hemitwin.pipeline.stage.errors import UserError
from hemitwin.pipeline.stage.json_files import read_json
from hemitwin.pipeline.stage.names import deformation_path, fit_table_path
from hemitwin.transforms import load_scan

pytestmark = [pytest.mark.xdist_group("path"), pytest.mark.slow]


@pytest.fixture(scope="module")
def walked(prepared, tmp_path_factory):
    """A copy of the prepared people: own regions change what other stages do."""
    root = tmp_path_factory.mktemp("atlas")
    shutil.copytree(prepared.bids, root / "bids")
    shutil.copytree(prepared.derivatives, root / "derivatives")
    return replace(prepared, bids=root / "bids", derivatives=root / "derivatives")


@pytest.fixture(scope="module")
def built(walked):
    outcome = build_atlases(walked.derivatives, labels=("01",))
    assert not outcome.failures
    return outcome.results[0]


def test_the_regions_lie_on_the_scans_own_grid(built, walked):
    scan = load_scan(walked.bids / "sub-01/anat/sub-01_T1w.nii.gz")
    labels = load_scan(built.native)
    assert labels.data.shape == scan.data.shape
    np.testing.assert_allclose(labels.affine, scan.affine, atol=1e-4)
    inside = scan.data[labels.data > 0]
    assert (inside != 0).mean() > 0.97


def test_left_really_is_left(built):
    labels = load_scan(built.native)
    index = {region.name: region.index for region in hcpmmp_regions()}
    centre = {}
    for name in ("L_V1", "R_V1", "L_4", "R_4"):
        voxels = np.argwhere(labels.data == index[name])
        centre[name] = labels.affine[:3, :3] @ voxels.mean(axis=0) + labels.affine[:3, 3]
    assert centre["L_V1"][0] < centre["R_V1"][0]
    assert centre["L_4"][0] < centre["R_4"][0]
    assert centre["L_V1"][1] < centre["L_4"][1]  # the occipital pole lies behind


def test_figures_say_how_well_they_fit(built):
    fit = built.quality
    assert fit.folded_share == 0
    assert fit.least_jacobian > 0
    assert fit.grey_matter_overlap >= fit.overlap_before - 0.02
    assert fit.correlation_of_sides > 0.9
    counts = np.bincount(load_scan(built.native).data.astype(int).ravel(), minlength=380)
    small = {region.name for region in hcpmmp_regions() if counts[region.index] < 10}
    assert set(fit.small) == small
    assert read_json(sidecar_of(built.native))["Quality"] == fit.to_dict()


def test_what_is_done_is_not_done_again(built, walked):
    before = built.native.stat().st_mtime_ns
    again = build_atlases(walked.derivatives, labels=("01",)).results[0]
    assert again == built
    assert built.native.stat().st_mtime_ns == before


def test_another_atlas_takes_the_same_deformation(built, walked):
    field = deformation_path(built.case, walked.derivatives)
    stamp = field.stat().st_mtime_ns
    own = hcpmmp_atlas()
    cortex = {
        side: np.where(labels > 0, 1 + (side == "R"), 0).astype(np.int32)
        for side, labels in own.cortex.items()
    }
    table = pd.DataFrame({"index": [1, 2], "name": ["L_cortex", "R_cortex"]})
    sides = Atlas("sides", regions_of_table(table), cortex)
    request = AtlasRequest(sides)
    one = build_atlases(walked.derivatives, labels=("01",), request=request).results[0]
    assert field.stat().st_mtime_ns == stamp
    assert "atlas-sides" in one.native.name
    areas, halves = load_scan(built.native).data, load_scan(one.native).data
    cortical = (areas > 0) & (areas <= 360)
    # Structures win over cortex in the one, and there are none in the other.
    np.testing.assert_array_equal(halves[cortical], np.where(areas[cortical] <= 180, 1, 2))
    again = own_atlas(one.case, walked.derivatives, "sides")
    assert again is not None
    assert again.regions == sides.regions
    clash = Atlas("sides", own.regions, own.cortex)
    with pytest.raises(UserError, match="another name"):
        build_atlases(walked.derivatives, labels=("01",), request=AtlasRequest(clash))


def test_the_table_of_fit_names_thin_regions(built, walked):
    table = pd.read_csv(fit_table_path(built.case, walked.derivatives), sep="\t")
    assert tuple(table["name"][table["few"]]) == built.quality.small
    labels = load_scan(built.native)
    counts = np.bincount(labels.data.astype(int).ravel(), minlength=380)
    np.testing.assert_array_equal(table["n_voxels"], counts[1:])
    size = abs(np.linalg.det(labels.affine[:3, :3]))
    np.testing.assert_allclose(table["volume_mm3"], counts[1:] * size, rtol=1e-5)
    assert table["grey_share"].dropna().between(0, 1).all()


def test_the_groups_surfaces_lie_over_the_scan(built, walked):
    (case,) = find_prepared(walked.derivatives, labels=("01",))
    surfaces = native_surfaces(case, walked.derivatives)
    assert len(surfaces) == 6
    labels = load_scan(built.native)
    for path, side in surfaces:
        vertices = load_surface(path, side).vertices
        voxels = np.linalg.inv(labels.affine) @ np.c_[vertices, np.ones(len(vertices))].T
        assert (voxels[:3].min(axis=1) > -1).all()
        assert (voxels[:3].max(axis=1) < labels.data.shape).all()


def test_surfaces_that_are_missing_are_written_again(built, walked):
    (case,) = find_prepared(walked.derivatives, labels=("01",))
    lost, _ = native_surfaces(case, walked.derivatives)[0]
    content = lost.read_bytes()
    lost.unlink()
    assert native_surfaces(case, walked.derivatives) == ()
    assert not build_atlases(walked.derivatives, labels=("01",)).failures
    assert lost.read_bytes() == content
    assert built.native.is_file()


@pytest.mark.usefixtures("built")
def test_a_lesion_mask_is_read_and_named(walked, tmp_path):
    own = shutil.copytree(walked.bids.parent, tmp_path / "own")  # the other tests have no mask
    derivatives, masks = own / "derivatives", tmp_path / "masks"
    masks.mkdir()
    scan = nib.Nifti1Image.from_filename(own / "bids/sub-01/anat/sub-01_T1w.nii.gz")
    mask = np.zeros(scan.shape, np.uint8)
    mask[tuple(slice(size // 3, size // 2) for size in scan.shape)] = 1
    nib.save(nib.Nifti1Image(mask, scan.affine), masks / "sub-01_label-L_mask.nii.gz")
    masked = AtlasRequest(hidden=MaskSource(masks))
    outcome = build_atlases(derivatives, labels=("01",), request=masked)
    sidecar = read_json(sidecar_of(outcome.results[0].native))
    assert sidecar["LesionMask"] == "sub-01_label-L_mask.nii.gz"
    nib.save(nib.Nifti1Image(mask, scan.affine), masks / "sub-01_desc-two_mask.nii.gz")
    failed = build_atlases(derivatives, labels=("01",), request=masked).failures
    assert "one lesion mask must fit the scan" in failed[0].reason
    # The atlas that was made with the other mask goes with no other deformation.
    case = outcome.results[0].case
    assert own_deformation(case, derivatives) is not None
    for path in masks.glob("*_mask.nii.gz"):
        path.unlink()
    inside = (np.asarray(scan.dataobj) != 0).astype(np.uint8)
    nib.save(nib.Nifti1Image(inside, scan.affine), masks / "sub-01_desc-brain_mask.nii.gz")
    nib.save(nib.Nifti1Image(inside, scan.affine), masks / "sub-01_label-L_mask.nii.gz")
    failed = build_atlases(derivatives, labels=("01",), request=masked).failures
    assert "leave half of it, sub-01_label-L_mask.nii.gz covers" in failed[0].reason
    other = masks / "sub-01_space-MNI152NLin6Asym_mask.nii.gz"
    nib.save(nib.Nifti1Image(mask, scan.affine), other)
    failed = build_atlases(derivatives, labels=("01",), request=masked).failures
    assert "is in MNI152NLin6Asym; resample it" in failed[0].reason


@pytest.mark.usefixtures("built")
def test_other_volumes_keep_the_templates_regions(walked):
    first, second = find_prepared(walked.derivatives)[:2]
    assert own_atlas(first, walked.derivatives) is not None
    assert own_atlas(second, walked.derivatives) is None


@pytest.mark.usefixtures("built")
def test_regions_of_a_volume_that_was_prepared_anew_are_not_taken(walked):
    case = find_prepared(walked.derivatives, labels=("01",))[0]
    volume = case.scan.read_bytes()
    case.scan.write_bytes(volume + b"other")
    assert own_atlas(case, walked.derivatives) is None
    assert native_surfaces(case, walked.derivatives) == ()
    assert own_deformation(case, walked.derivatives) is None
    case.scan.write_bytes(volume)
    assert own_atlas(case, walked.derivatives) is not None
    assert own_deformation(case, walked.derivatives) is not None


def test_bad_requests_are_refused(walked, tmp_path):
    for request, told in (
        (AtlasRequest(hidden=MaskSource(tmp_path / "none")), "masks must be in a folder"),
        (AtlasRequest(hidden=MaskSource(tmp_path, tmp_path)), "from one source"),
        (AtlasRequest(surfaces=tmp_path / "none"), "surfaces must be in a folder"),
        (AtlasRequest(annotation="aparc"), "must come with its surfaces"),
    ):
        with pytest.raises(UserError, match=told):
            build_atlases(walked.derivatives, request=request)


@pytest.mark.usefixtures("built")
def test_the_verb_prints_the_figures(walked, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["atlas", str(walked.derivatives), "--participant-label", "01"])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    assert "sub-01" in out
    assert "1 done, 0 failed" in out


def test_tables_and_exports_take_the_subjects_own_regions(built, walked, run, cache):
    for label in ("01", "02"):
        explain(run, walked.derivatives, labels=(label,))
    own, other = parcellate(walked.derivatives, cache=cache, labels=("01", "02")).results
    assert "diffeomorphic" in read_json(own.path.with_suffix(".json"))["Regions"]
    assert "not deformed" in read_json(other.path.with_suffix(".json"))["Regions"]
    pairs = other.path.with_name(other.path.name.replace("desc-lrp_", "desc-lrppairs_"))
    assert "not deformed" in read_json(pairs.with_suffix(".json"))["Regions"]
    assert own.table["sum"].sum() == pytest.approx(score_of(own), rel=1e-6)
    before = built.native.read_bytes()
    files = export(walked.derivatives, cache=cache, labels=("01",)).results[0].files
    assert built.native.read_bytes() == before
    assert sum(path.name.endswith("pial.surf.gii") for path in files) == 2


def score_of(table):
    """Return the score that the table's rows add up to."""
    return read_json(table.path.with_suffix(".json"))["ExplainedScore"]["value"]
