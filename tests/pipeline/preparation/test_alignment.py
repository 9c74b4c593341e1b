"""Trees as other programs leave them, made from one phantom: what is registered, what is not."""

import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813  # the name its own documentation uses

from hemitwin.atlases import (
    TEMPLATE_SPACE,
    load_fslr_surface,
    load_surface,
    save_surface,
    warp_surface,
)
from hemitwin.pipeline.cli.main import main
from hemitwin.pipeline.preparation.prepare import PrepareConfig, prepare
from hemitwin.pipeline.preparation.sources import SourceConfig
from hemitwin.pipeline.stage.bids import sidecar_of
from hemitwin.pipeline.stage.errors import UserError
from hemitwin.pipeline.stage.json_files import read_json
from hemitwin.transforms import load_scan, read_itk_affine, write_itk_affine

PREPARED = f"space-{TEMPLATE_SPACE}_desc-prepared_T1w"

pytestmark = pytest.mark.xdist_group("path")

CONFIG = PrepareConfig(resolution_mm=4.0)


@pytest.fixture
def phantom(prepared):
    """A scan, and the way from the template to it."""
    anat = prepared.derivatives / "sub-01" / "anat"
    matrix = read_itk_affine(
        anat / f"sub-01_from-T1w_to-{PREPARED.split('_', maxsplit=1)[0][6:]}_mode-image_xfm.txt"
    )
    return load_scan(prepared.bids / "sub-01/anat/sub-01_T1w.nii.gz"), matrix


def _save(path, data, affine):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.ascontiguousarray(data), affine), path)
    return path


def _acpc(scan, matrix):
    """Turn the scan onto the template's axes, its size kept: the affine tells, no voxel moves."""
    scale = np.cbrt(np.linalg.det(matrix[:3, :3]))
    return np.diag([scale, scale, scale, 1.0]) @ np.linalg.inv(matrix) @ scan.affine, scale


def _correlation(one, other):
    return np.corrcoef(one.ravel(), other.ravel())[0, 1]


def test_an_hcp_subject_is_taken_as_it_lies_and_scaled(phantom, prepared, tmp_path):
    affine, scale = _acpc(*phantom)
    _save(tmp_path / "100307/T1w/T1w_acpc_dc_restore_brain.nii.gz", phantom[0].data, affine)
    (one,) = prepare(tmp_path, tmp_path / "out", config=CONFIG).results
    assert one.volume.name == f"sub-100307_{PREPARED}.nii.gz"
    sidecar = read_json(sidecar_of(one.volume))
    assert sidecar["Alignment"]["Taken"] == "acpc"
    assert sidecar["Alignment"]["Registered"] is False
    matrix = np.array(sidecar["NativeFromTemplate"])
    assert np.cbrt(np.linalg.det(matrix)) == pytest.approx(scale, rel=0.03)
    registered = load_scan(prepared.derivatives / f"sub-01/anat/sub-01_{PREPARED}.nii.gz").data
    assert _correlation(load_scan(one.volume).data, registered) > 0.95


def _write_surfaces(folder, scale, shift_mm=0.0):
    """Write the group's surfaces as if they were the subject's own."""
    for side in "LR":
        group = load_fslr_surface(side)
        own = warp_surface(group, np.diag([scale, scale, scale, 1.0]))
        moved = replace(own, vertices=own.vertices + np.float32(shift_mm))
        save_surface(folder / f"100307.{side}.midthickness_MSMAll.32k_fs_LR.surf.gii", moved)


@pytest.mark.slow
def test_an_hcp_subjects_own_surfaces_are_checked_and_noted(phantom, tmp_path, caplog):
    affine, scale = _acpc(*phantom)
    tree = tmp_path / "hcp"
    folder = tree / "100307" / "T1w" / "fsaverage_LR32k"
    folder.mkdir(parents=True)
    _save(tree / "100307/T1w/T1w_acpc_dc_restore_brain.nii.gz", phantom[0].data, affine)

    def noted(out):
        (one,) = prepare(tree, tmp_path / out, config=CONFIG).results
        return one.volume, read_json(sidecar_of(one.volume))["Surfaces"]

    assert noted("none")[1] is None
    _write_surfaces(folder, scale)
    volume, surfaces = noted("good")
    assert sorted(surfaces) == ["L", "R"]
    assert load_surface(volume.parent / surfaces["R"], "R").vertices.shape == (32492, 3)
    _write_surfaces(folder, scale, shift_mm=90.0)
    assert noted("moved")[1] is None
    assert "32492 vertices that lie in the scan" in caplog.text
    left, right = sorted(folder.iterdir())
    left.write_bytes(right.read_bytes())
    assert noted("swapped")[1] is None
    assert "must be of CortexLeft" in caplog.text
    left.write_text("no mesh")
    assert noted("broken")[1] is None
    assert "must be a readable GIFTI file" in caplog.text


def test_normalised_hcp_input_is_refused_for_hemispheres_and_taken_for_brains(
    phantom, tmp_path, capfd
):
    tree = tmp_path / "hcp"
    _save(
        tree / "100307/MNINonLinear/T1w_restore_brain.nii.gz", phantom[0].data, phantom[0].affine
    )
    words = ["prepare", str(tree), str(tmp_path / "out"), "participant", "--resolution-mm", "4"]
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    told = " ".join(capfd.readouterr().err.split())
    assert "MNI152NLin6Asym (an asymmetric template): its own asymmetry would be found" in told
    assert not (tmp_path / "out").exists()
    with pytest.raises(SystemExit) as ended:
        main([*words, "--pairing", "brains"])
    assert ended.value.code == 0
    name = "sub-100307_space-MNI152NLin6Asym_desc-prepared_T1w.json"
    sidecar = read_json(tmp_path / "out/sub-100307/anat" / name)
    assert sidecar["NativeFromTemplate"] == np.eye(4).tolist()
    assert sidecar["Alignment"]["MidplaneRefined"] is False


def test_derivatives_of_a_whole_head_are_masked_by_their_own_mask(phantom, prepared, tmp_path):
    scan, anat = phantom[0], tmp_path / "fmriprep/sub-01/anat"
    affine, _ = _acpc(*phantom)
    brain = scan.data > 0
    head = np.where(brain, scan.data, scan.data.max())  # no threshold would find the brain
    _save(anat / "sub-01_desc-preproc_T1w.nii.gz", head, affine)
    mask = _save(anat / "sub-01_desc-brain_mask.nii.gz", brain.astype("u1"), affine)
    description = {"Name": "x", "DatasetType": "derivative"}
    (tmp_path / "fmriprep/dataset_description.json").write_text(json.dumps(description))
    sources = SourceConfig(alignment="acpc")
    settings = {"config": CONFIG, "sources": sources}
    (one,) = prepare(tmp_path / "fmriprep", tmp_path / "out", **settings).results
    registered = load_scan(prepared.derivatives / f"sub-01/anat/sub-01_{PREPARED}.nii.gz").data
    assert _correlation(load_scan(one.volume).data, registered) > 0.9
    assert read_json(sidecar_of(one.volume))["Alignment"]["Mask"] == mask.name
    (same,) = prepare(tmp_path / "fmriprep", tmp_path / "out", **settings).results
    assert same.skipped
    _save(mask, (brain & (np.arange(scan.data.shape[2]) > 12)).astype("u1"), affine)
    (again,) = prepare(tmp_path / "fmriprep", tmp_path / "out", **settings).results
    assert not again.skipped  # another mask is another result


@pytest.mark.parametrize("suffix", ["txt", "mat"])
def test_a_listed_scan_with_its_transform_is_not_registered_again(
    phantom, prepared, tmp_path, suffix
):
    scan, matrix = phantom
    _save(tmp_path / "a.nii.gz", scan.data, scan.affine)
    write_itk_affine(tmp_path / "a.txt", matrix)
    sitk.WriteTransform(sitk.ReadTransform(tmp_path / "a.txt"), tmp_path / "a.mat")
    table = f"subject,scan,transform,Family_ID,ZygosityGT\nA1,a.nii.gz,a.{suffix},51999_82,MZGEN\n"
    (tmp_path / "list.csv").write_text(table)
    (one,) = prepare(tmp_path / "list.csv", tmp_path / "out", config=CONFIG).results
    sidecar = read_json(sidecar_of(one.volume))
    assert sidecar["Alignment"]["Transform"] == f"a.{suffix}"
    np.testing.assert_allclose(sidecar["NativeFromTemplate"], matrix, atol=0.5)
    registered = load_scan(prepared.derivatives / f"sub-01/anat/sub-01_{PREPARED}.nii.gz").data
    assert _correlation(load_scan(one.volume).data, registered) > 0.99
    written = b"".join(path.read_bytes() for path in (tmp_path / "out").rglob("*.*"))
    assert b"51999" not in written  # restricted columns are not even read
    assert b"MZGEN" not in written


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (np.array([[1, 0.2, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]), "shears"),
        (np.diag([-1.0, 1, 1, 1]), "must keep left and right"),
    ],
    ids=["shear", "mirror"],
)
def test_a_transform_that_shears_or_mirrors_is_refused(phantom, tmp_path, change, reason):
    scan, matrix = phantom
    _save(tmp_path / "a.nii.gz", scan.data, scan.affine)
    write_itk_affine(tmp_path / "a.txt", matrix @ change)
    (tmp_path / "list.tsv").write_text("subject\tscan\ttransform\nA1\ta.nii.gz\ta.txt\n")
    (failure,) = prepare(tmp_path / "list.tsv", tmp_path / "out", config=CONFIG).failures
    assert reason in failure.reason


def test_a_t2w_is_prepared_under_its_own_name(phantom, tmp_path):
    data = np.where(phantom[0].data > 0, 1.3 * phantom[0].data.max() - phantom[0].data, 0)
    _save(tmp_path / "bids/sub-01/anat/sub-01_T2w.nii.gz", data, _acpc(*phantom)[0])
    sources = SourceConfig(modality="T2w", alignment="acpc")
    (one,) = prepare(tmp_path / "bids", tmp_path / "out", config=CONFIG, sources=sources).results
    assert one.volume.name == f"sub-01_{PREPARED[:-3]}T2w.nii.gz"
    assert one.volume.with_name("sub-01_desc-prepared_T2w.png").is_file()


def test_a_modality_that_is_not_there_is_named(phantom, tmp_path):
    _save(tmp_path / "sub-01/anat/sub-01_T1w.nii.gz", phantom[0].data, phantom[0].affine)
    sources = SourceConfig(modality="FLAIR")
    (failure,) = prepare(tmp_path, tmp_path / "out", config=CONFIG, sources=sources).failures
    assert "a FLAIR scan must be there" in failure.reason
    with pytest.raises(UserError, match="--space chooses among derivatives"):
        prepare(tmp_path, tmp_path / "out", sources=SourceConfig(space="MNI152NLin6Sym"))
