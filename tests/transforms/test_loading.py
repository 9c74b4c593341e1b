import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from hemitwin.transforms import load_scan, voxel_sizes

RAMP = np.arange(60, dtype=np.float32).reshape(3, 4, 5)


@pytest.mark.parametrize("codes", ["RAS", "LAS", "LPI", "PIR", "SLA", "IPL"])
def test_every_orientation_keeps_each_voxel_at_its_place(write_nifti, codes):
    base = np.array([[2.0, 0, 0, -7], [0, 3, 0, 5], [0, 0, 4, 1], [0, 0, 0, 1]])
    change = nib.orientations.ornt_transform(
        nib.orientations.io_orientation(base), nib.orientations.axcodes2ornt(codes)
    )
    image = nib.Nifti1Image(RAMP, base).as_reoriented(change.tolist())
    scan = load_scan(write_nifti(np.asarray(image.dataobj), image.affine))
    np.testing.assert_array_equal(scan.data, RAMP)
    np.testing.assert_allclose(scan.affine, base)
    assert scan.data.dtype == np.float32


def test_an_oblique_affine_stays_in_the_affine(write_nifti):
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(0.2), -np.sin(0.2)], [np.sin(0.2), np.cos(0.2)]]
    scan = load_scan(write_nifti(RAMP, turn))
    np.testing.assert_array_equal(scan.data, RAMP)
    np.testing.assert_allclose(scan.affine, turn, atol=1e-6)


def test_a_qform_alone_is_used(tmp_path):
    image = nib.Nifti1Image(RAMP, None)
    image.set_qform(np.diag([-2.0, 2, 2, 1]), code=1)
    image.set_sform(None, code=0)
    nib.save(image, tmp_path / "q.nii")
    scan = load_scan(tmp_path / "q.nii")
    np.testing.assert_array_equal(scan.data, RAMP[::-1])
    assert voxel_sizes(scan.affine) == pytest.approx((2, 2, 2))


def test_a_scaled_integer_image_is_unscaled(tmp_path):
    image = nib.Nifti1Image(RAMP.astype(np.int16), np.eye(4))
    image.header.set_slope_inter(0.5, 10)
    nib.save(image, tmp_path / "i.nii.gz")
    stored = nib.Nifti1Image.from_filename(tmp_path / "i.nii.gz").get_fdata()
    np.testing.assert_allclose(load_scan(tmp_path / "i.nii.gz").data, stored, rtol=1e-6)


def test_a_trailing_singleton_axis_is_dropped(write_nifti):
    assert load_scan(write_nifti(RAMP[..., None], np.eye(4))).data.shape == (3, 4, 5)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (np.stack([RAMP, RAMP], axis=-1), r"one 3D volume; .* extract one volume"),
        (RAMP[0], r"one 3D volume"),
        (np.zeros_like(RAMP), r"show something; every voxel of .* is 0"),
        (np.ones_like(RAMP), r"show something; every voxel of .* is 1"),
        (np.where(RAMP == 7, np.nan, RAMP), r"finite; .* has 1 NaN or infinite"),
        (np.where(RAMP == 7, np.inf, RAMP), r"finite; .* has 1 NaN or infinite"),
        (RAMP.astype(np.float64) * 1e300, r"finite"),
        (RAMP.astype(np.complex64), r"real numbers; .* complex64"),
        (RAMP[:1], r"2 voxels or more on each axis"),
    ],
    ids=["4D", "2D", "zero", "constant", "nan", "inf", "too large", "complex", "flat"],
)
def test_a_volume_that_is_no_scan_is_refused_with_its_reason(write_nifti, data, reason):
    with pytest.raises(ValueError, match=reason):
        load_scan(write_nifti(data, np.eye(4)))


@pytest.mark.parametrize(
    "affine",
    [np.diag([1.0, 1, 0, 1]), np.diag([1.0, 1, np.nan, 1]), np.array(
        [[1.0, 1, 0, 0], [0, 1e-4, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])],
    ids=["singular", "nan", "degenerate"],
)  # fmt: skip
def test_an_unusable_affine_is_refused(tmp_path, affine):
    image = nib.Nifti1Image(RAMP, None)
    header = image.header
    header["sform_code"] = 1
    header["srow_x"], header["srow_y"], header["srow_z"] = affine[:3]
    (tmp_path / "bad.nii").write_bytes(header.binaryblock + b"\0" * 4 + RAMP.tobytes(order="F"))
    with pytest.raises(ValueError, match="affine must be invertible"):
        load_scan(tmp_path / "bad.nii")


@pytest.mark.parametrize("kept", [0.3, 0.9, 0.99])
def test_a_truncated_file_is_refused(write_nifti, kept):
    noise = np.random.default_rng(0).standard_normal((20, 20, 20)).astype(np.float32)
    path = write_nifti(noise, np.eye(4))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(ValueError, match="whole, readable image"):
        load_scan(path)


def test_a_truncated_uncompressed_file_is_refused(write_nifti):
    path = write_nifti(RAMP, np.eye(4), "scan.nii")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match="whole, readable image"):
        load_scan(path)


def test_bytes_damaged_inside_are_refused(write_nifti):
    noise = np.random.default_rng(0).standard_normal((20, 20, 20)).astype(np.float32)
    path = write_nifti(noise, np.eye(4))
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2 : len(damaged) // 2 + 8] = b"\xff" * 8
    path.write_bytes(bytes(damaged))
    with pytest.raises(ValueError, match="whole, readable image"):
        load_scan(path)


CONTENTS = {"empty": b"", "text": b"not an image", "short gzip": gzip.compress(b"short", mtime=0)}


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_a_file_that_is_no_image_is_refused(tmp_path, content):
    path = tmp_path / "no.nii.gz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="whole, readable image"):
        load_scan(path)


def test_a_missing_file_is_named():
    with pytest.raises(FileNotFoundError, match=r"no file .*nowhere\.nii\.gz; check"):
        load_scan(Path("nowhere.nii.gz"))
