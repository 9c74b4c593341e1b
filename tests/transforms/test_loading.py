import gzip
import logging
from itertools import permutations, product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.cifti2.cifti2 import Cifti2Image
from nibabel.cifti2.cifti2_axes import BrainModelAxis, SeriesAxis
from scipy.spatial.transform import Rotation

from hemitwin.transforms import (
    Scan,
    guessed_side,
    load_geometry,
    load_labels,
    load_mask,
    load_scan,
    load_series,
    load_volume,
    volume_members,
    voxel_sizes,
)
from hemitwin.transforms.loading import load_vectors
from hemitwin.transforms.unpacking import unpack

RAMP = np.arange(60, dtype=np.float32).reshape(3, 4, 5)


AXIS_ORDERS = [
    np.array([np.eye(3)[axis] * sign for axis, sign in zip(order, signs, strict=True)]).T
    for order in permutations(range(3))
    for signs in product((1, -1), repeat=3)
]
"""The 48 ways to lay a grid's axes along the world's; half of them are left-handed."""


def _places_mm(shape: tuple[int, ...], affine: np.ndarray) -> np.ndarray:
    index = np.indices(shape).reshape(3, -1)
    return (affine[:3, :3] @ index + affine[:3, 3:]).reshape(3, *shape)


def _value_at(places_mm: np.ndarray) -> np.ndarray:
    """A different value everywhere: what is read back tells where it was stored."""
    return (np.array([1.0, 37.0, 1009.0]) @ places_mm.reshape(3, -1)).reshape(places_mm.shape[1:])


def _store(path: Path, order: np.ndarray, ras: np.ndarray, shape: tuple[int, ...]) -> Path:
    """Store the volume that lies at `ras` with its axes taken in another order."""
    ras_from_stored = np.eye(4)
    ras_from_stored[:3, :3] = order
    ras_from_stored[:3, 3] = np.where(order.sum(axis=1) < 0, np.array(shape) - 1, 0)
    affine = ras @ ras_from_stored
    stored_shape = np.abs(order.T @ np.array(shape)).astype(int)
    data = _value_at(_places_mm(tuple(stored_shape), affine))
    nib.save(nib.Nifti1Image(data.astype(np.float32), affine), path)
    return path


@settings(max_examples=4)
@given(
    turns_deg=st.tuples(*[st.floats(-25, 25)] * 3),
    sizes_mm=st.tuples(*[st.floats(0.5, 4)] * 3),
    shape=st.tuples(*[st.integers(2, 5)] * 3),
)
def test_every_axis_order_loads_to_the_same_ras_volume(
    tmp_path_factory, turns_deg, sizes_mm, shape
):
    path = tmp_path_factory.getbasetemp() / "order.nii"
    ras = np.eye(4)
    turn = Rotation.from_euler("xyz", turns_deg, degrees=True).as_matrix()
    ras[:3, :3] = turn * sizes_mm
    ras[:3, 3] = -90.5, 12.0, 33.0
    assert sum(np.linalg.det(order) < 0 for order in AXIS_ORDERS) == 24  # left-handed ones
    expected = _value_at(_places_mm(shape, ras))
    for order in AXIS_ORDERS:
        scan = load_scan(_store(path, order, ras, shape))
        np.testing.assert_allclose(scan.affine, ras, atol=1e-4)
        np.testing.assert_allclose(scan.data, expected, rtol=1e-5, atol=0.05)
        stored = load_scan(path, as_stored=True)
        np.testing.assert_array_equal(stored.data, scan.data)
        np.testing.assert_array_equal(stored.affine, scan.affine)
        first = int(np.flatnonzero(order[:, 0])[0])  # the world's axis of the file's fastest one
        assert stored.data.strides[first] == stored.data.itemsize
        for other in (load_volume, load_mask):
            np.testing.assert_array_equal(other(path).data, scan.data)
            np.testing.assert_array_equal(other(path).affine, scan.affine)
        volumes, affine = load_series(path)
        np.testing.assert_array_equal(volumes, scan.data[None])
        np.testing.assert_array_equal(affine, scan.affine)
        np.testing.assert_allclose(
            scan.data, _value_at(_places_mm(scan.data.shape, scan.affine)), rtol=1e-5, atol=0.2
        )


def test_a_qform_alone_is_used(tmp_path):
    image = nib.Nifti1Image(RAMP, None)
    image.set_qform(np.diag([-2.0, 2, 2, 1]), code=1)
    image.set_sform(None, code=0)
    nib.save(image, tmp_path / "q.nii")
    scan = load_scan(tmp_path / "q.nii")
    np.testing.assert_array_equal(scan.data, RAMP[::-1])
    assert voxel_sizes(scan.affine) == pytest.approx((2, 2, 2))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
@pytest.mark.parametrize(
    ("slope", "inter", "slope_taken", "inter_taken"),
    [(1, 0, 1, 0), (0.5, 10, 0.5, 10), (-2, 1, -2, 1), (0, 7, 1, 0), (np.nan, np.nan, 1, 0)],
    ids=["one", "scaled", "negative", "zero", "nan"],
)
def test_stored_numbers_are_scaled_as_the_header_says(
    tmp_path, dtype, slope, inter, slope_taken, inter_taken
):
    header = nib.Nifti1Image(RAMP.astype(dtype), np.eye(4)).header
    header["scl_slope"], header["scl_inter"], header["vox_offset"] = slope, inter, 352
    header["magic"] = b"n+1"
    stored = header.binaryblock + b"\0" * 4 + RAMP.astype(dtype).tobytes(order="F")
    (tmp_path / "i.nii.gz").write_bytes(gzip.compress(stored))
    loaded = load_scan(tmp_path / "i.nii.gz").data
    np.testing.assert_allclose(loaded, RAMP * slope_taken + inter_taken, rtol=1e-6)


def test_a_scaling_that_is_no_number_is_refused(tmp_path):
    header = nib.Nifti1Image(RAMP, np.eye(4)).header
    header["scl_slope"], header["scl_inter"], header["magic"] = 2, np.inf, b"n+1"
    header["vox_offset"] = 352
    (tmp_path / "i.nii").write_bytes(header.binaryblock + b"\0" * 4 + RAMP.tobytes(order="F"))
    with pytest.raises(ValueError, match=r"readable image; .*i\.nii is not .*intercept"):
        load_scan(tmp_path / "i.nii")


def _without_forms(path: Path, data: np.ndarray = RAMP) -> Path:
    image = nib.Nifti1Image(data, np.eye(4))
    image.set_sform(None, code=0)
    image.set_qform(None, code=0)
    nib.save(image, path)
    return path


def _with_forms(path: Path, sform: np.ndarray, qform: np.ndarray, *, units: str = "mm") -> Path:
    image = nib.Nifti1Image(RAMP, None)
    image.header.set_xyzt_units(units)
    image.set_sform(sform, code=2)
    image.set_qform(qform, code=1)
    nib.save(image, path)
    return path


def test_forms_that_differ_are_measured_the_sform_used_and_said_so(tmp_path, caplog):
    moved = np.eye(4)
    moved[0, 3] = 7.5
    with caplog.at_level(logging.WARNING):
        scan = load_scan(_with_forms(tmp_path / "two.nii.gz", moved, np.eye(4)))
    np.testing.assert_allclose(scan.affine, moved)
    assert scan.notes == ("sform and qform differ by up to 7.5 mm in this volume: sform used",)
    assert "two.nii.gz: sform and qform differ" in caplog.text
    moved[0, 3] = 0.9
    assert load_scan(_with_forms(tmp_path / "near.nii.gz", moved, np.eye(4))).notes == ()


def test_forms_that_disagree_about_the_side_are_refused(tmp_path):
    path = _with_forms(tmp_path / "side.nii", np.diag([-1.0, 1, 1, 1]), np.eye(4))
    with pytest.raises(ValueError, match=r"agree on which side is left; in .*side\.nii one is"):
        load_scan(path)


def test_a_header_without_orientation_is_noted(tmp_path):
    scan = load_scan(_without_forms(tmp_path / "none.nii"))
    assert "which side is left is a guess" in scan.notes[0]
    assert scan.side_is_guess
    assert guessed_side(scan.notes) == scan.notes[0]
    stated = load_scan(_with_forms(tmp_path / "s.nii", np.eye(4), np.eye(4), units="unknown"))
    assert not stated.side_is_guess


STRICT = [load_volume, load_mask, load_series, load_labels, load_vectors, load_geometry]


@pytest.mark.parametrize("load", STRICT)
def test_what_must_lie_in_a_stated_space_is_refused_where_its_header_states_none(load, tmp_path):
    data = np.zeros((3, 4, 5, 1, 3), np.float32) if load is load_vectors else RAMP
    path = _without_forms(tmp_path / "none.nii", data)
    with pytest.raises(ValueError, match=r"none\.nii: .* is a guess; set its sform, .* fslcpgeom"):
        load(path)


def test_a_mask_shares_its_scans_guess_on_the_same_grid_alone(tmp_path):
    scan = load_scan(_without_forms(tmp_path / "scan.nii"))
    mask = _without_forms(tmp_path / "mask.nii", (RAMP > 30).astype(np.uint8))
    np.testing.assert_array_equal(load_mask(mask, beside=scan).data, scan.data > 30)
    for other in (
        _without_forms(tmp_path / "smaller.nii", RAMP[:, :, :4]),
        _with_forms(tmp_path / "stated.nii", np.eye(4), np.eye(4)),
    ):
        with pytest.raises(ValueError, match=r"lie in one space; the header of .*scan\.nii does"):
            load_mask(other, beside=scan)
    stated = load_scan(_with_forms(tmp_path / "s.nii", np.eye(4), np.eye(4)))
    with pytest.raises(ValueError, match="is a guess"):
        load_mask(mask, beside=stated)


def test_a_mask_may_be_empty_or_full_and_nan_is_outside(write_nifti):
    for value in (0, 1, np.nan):
        data = np.full((3, 4, 5), value, np.float32)
        found = load_mask(write_nifti(data, np.eye(4))).data
        np.testing.assert_array_equal(found, np.nan_to_num(data))
    with pytest.raises(ValueError, match="a mask must be finite"):
        load_mask(write_nifti(np.where(RAMP > 3, np.inf, 0), np.eye(4)))


def test_a_series_keeps_the_order_of_its_maps_and_nan_is_no_value(write_nifti):
    maps = np.stack([RAMP, np.zeros_like(RAMP), np.where(RAMP > 7, np.nan, RAMP)], axis=-1)
    volumes, affine = load_series(write_nifti(maps, np.diag([-1.0, 1, 1, 1])))
    np.testing.assert_array_equal(volumes, np.moveaxis(maps, -1, 0)[:, ::-1])
    np.testing.assert_array_equal(affine @ [2, 0, 0, 1], [0, 0, 0, 1])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (np.full_like(RAMP, np.nan), r"must hold a value; every voxel of .*scan\.nii\.gz is NaN"),
        (np.stack([RAMP, RAMP * np.nan], axis=-1), r"every voxel of volume 1 of .* is NaN"),
        (
            np.where(RAMP == 7, np.inf, RAMP),
            r"has 1 infinite voxels; set them to NaN",
        ),
        (RAMP.astype(np.float64) * 1e300, r"has 59 infinite voxels"),
        (RAMP.astype(np.complex64), r"real numbers; .* complex64"),
        (np.stack([RAMP[..., None]] * 2, axis=-1), r"must be 3D or 4D; .* \(3, 4, 5, 1, 2\)"),
    ],
    ids=["no value", "one of no value", "infinite", "too large", "complex", "5D"],
)
def test_a_map_that_is_none_is_refused_with_its_reason(write_nifti, data, reason):
    with pytest.raises(ValueError, match=reason):
        load_series(write_nifti(data, np.eye(4)))


def test_labels_beyond_32_bits_are_refused(write_nifti):
    with pytest.raises(ValueError, match=r"32 bits, got up to 3000000000\.0; renumber"):
        load_labels(write_nifti(np.where(RAMP > 7, 3e9, 0), np.eye(4)))
    with pytest.raises(ValueError, match="label volume must hold real numbers"):
        load_labels(write_nifti(RAMP.astype(np.complex64), np.eye(4)))


def test_a_grid_is_given_in_the_order_of_the_file(write_nifti):
    affine = np.array([[0, -2.0, 0, 5], [3, 0, 0, 6], [0, 0, 4, 7], [0, 0, 0, 1]])
    shape, found = load_geometry(write_nifti(RAMP, affine))
    assert shape == (3, 4, 5)
    np.testing.assert_array_equal(found, affine)


def test_a_field_without_three_numbers_a_voxel_is_refused(write_nifti):
    with pytest.raises(ValueError, match="vectors of three numbers"):
        load_vectors(write_nifti(RAMP, np.eye(4)))


@pytest.mark.parametrize(
    ("name", "members"),
    [
        ("a.nii", ("a.nii",)),
        ("a.nii.gz", ("a.nii.gz",)),
        ("a.mgz", ("a.mgz",)),
        ("sub-01.v2.hdr", ("sub-01.v2.hdr", "sub-01.v2.img")),
        ("a.img", ("a.hdr", "a.img")),
        ("a.hdr.gz", ("a.hdr.gz", "a.img.gz")),
        ("a.img.gz", ("a.hdr.gz", "a.img.gz")),
        ("A.IMG", ("A.HDR", "A.IMG")),
        ("list.txt", ("list.txt",)),
    ],
)
def test_a_volumes_files_are_known_by_either_name(name, members):
    assert volume_members(Path("folder") / name) == tuple(Path("folder") / one for one in members)


def test_a_pair_without_its_other_file_is_refused_by_that_files_name(tmp_path):
    nib.save(nib.Nifti1Pair(RAMP, np.eye(4)), tmp_path / "a.img")
    (tmp_path / "a.hdr").unlink()
    with pytest.raises(FileNotFoundError, match=r"no file .*a\.hdr"):
        load_scan(tmp_path / "a.img")


def test_damage_in_a_packed_pair_is_noticed(tmp_path):
    nib.save(nib.Nifti1Pair(RAMP, np.eye(4)), tmp_path / "a.img.gz")
    whole = (tmp_path / "a.img.gz").read_bytes()
    # The checksum stands in the last eight bytes, behind all that nibabel reads.
    (tmp_path / "a.img.gz").write_bytes(whole[:-8] + bytes(4) + whole[-4:])
    with pytest.raises(ValueError, match="whole, readable image"):
        load_scan(tmp_path / "a.hdr.gz")


def test_a_cifti_file_is_no_volume(tmp_path):
    places = BrainModelAxis.from_surface(np.arange(4), 4, "CORTEX_LEFT")
    axes = (SeriesAxis(0, 1, 3), places)
    for name in ("a.dtseries.nii", "a.nii"):
        Cifti2Image(np.ones((3, 4)), axes).to_filename(tmp_path / name)
        with pytest.raises(ValueError, match=r"is a CIFTI file, .*; give a \.dscalar\.nii"):
            load_series(tmp_path / name)


@pytest.mark.parametrize(
    ("unit", "stored_mm", "loaded_mm", "note"),
    [
        ("meter", 0.001, 1.0, "header in metres: converted"),
        ("micron", 1200.0, 1.2, "header in micrometres: converted"),
        ("meter", 1.5, 1.5, "says metres, but its numbers are a head's in millimetres"),
        ("micron", 2.0, 2.0, "says micrometres, but its numbers"),
        ("unknown", 0.9, 0.9, None),
        ("mm", 0.9, 0.9, None),
    ],
)
def test_units_are_converted_or_seen_to_be_wrong(tmp_path, unit, stored_mm, loaded_mm, note):
    affine = np.diag([stored_mm] * 3 + [1.0])
    affine[:3, 3] = -10 * stored_mm
    scan = load_scan(_with_forms(tmp_path / "u.nii", affine, affine, units=unit))
    assert voxel_sizes(scan.affine) == pytest.approx((loaded_mm,) * 3, rel=1e-6)
    assert scan.affine[0, 3] == pytest.approx(-10 * loaded_mm, rel=1e-6)
    assert scan.notes == () if note is None else note in scan.notes[0]


@pytest.mark.parametrize(
    ("unit", "size"), [("mm", 0.001), ("mm", 25.0), ("unknown", 0.05), ("meter", 60.0)]
)
def test_voxels_that_no_head_has_are_refused(tmp_path, unit, size):
    affine = np.diag([size] * 3 + [1.0])
    path = _with_forms(tmp_path / "u.nii", affine, affine, units=unit)
    with pytest.raises(ValueError, match=r"0\.1 to 20 mm; .*u\.nii has .* correct the unit"):
        load_scan(path)


def test_a_small_file_that_declares_a_huge_volume_is_refused_unread(tmp_path):
    header = nib.Nifti1Image(RAMP, np.eye(4)).header
    header.set_data_shape((2000, 2000, 2000))
    header["magic"], header["vox_offset"] = b"n+1", 352
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(header.binaryblock + b"\0" * 1000))
    with pytest.raises(ValueError, match=r"at most 2147483648 bytes .* declares 32000000000"):
        load_scan(tmp_path / "b.nii.gz")
    with pytest.raises(ValueError, match=r"at most 100 bytes of voxels; .* declares 240"):
        load_scan(_with_forms(tmp_path / "s.nii", np.eye(4), np.eye(4)), ceiling_bytes=100)


def test_a_bomb_is_unpacked_no_further_than_its_header_allows(write_nifti):
    path = write_nifti(RAMP, np.eye(4))
    path.write_bytes(path.read_bytes() + gzip.compress(b"\0" * 40_000_000))
    with pytest.raises(ValueError, match=r"unpack to what its header declares, 240 bytes"):
        load_scan(path)


def test_a_header_that_hides_a_bomb_before_the_voxels_is_refused(tmp_path):
    header = nib.Nifti1Image(RAMP, np.eye(4)).header
    header["magic"], header["vox_offset"] = b"n+1", 2.0**30
    (tmp_path / "e.nii.gz").write_bytes(gzip.compress(header.binaryblock + b"\1\0\0\0"))
    with pytest.raises(ValueError, match=r"voxels must begin within 16777216 bytes"):
        load_scan(tmp_path / "e.nii.gz")


def test_several_members_and_trailing_zeros_are_one_stream(tmp_path):
    path = tmp_path / "members.gz"
    path.write_bytes(gzip.compress(b"a" * 3_000_000) + gzip.compress(b"b") + b"\0" * 512)
    assert unpack(path, 3_000_001) == b"a" * 3_000_000 + b"b"


def test_a_link_to_a_scan_is_followed(write_nifti, tmp_path):
    (tmp_path / "link.nii.gz").symlink_to(write_nifti(RAMP, np.eye(4)))
    scan = load_scan(tmp_path / "link.nii.gz")
    assert isinstance(scan, Scan)
    np.testing.assert_array_equal(scan.data, RAMP)


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


def test_a_damaged_nifti_2_header_is_refused(tmp_path):
    nib.save(nib.Nifti2Image(RAMP, np.eye(4)), tmp_path / "two.nii")
    content = bytearray((tmp_path / "two.nii").read_bytes())
    content[8] = 0  # behind the magic string: what tells a file that was sent as text
    (tmp_path / "two.nii").write_bytes(bytes(content))
    with pytest.raises(ValueError, match="whole, readable image"):
        load_scan(tmp_path / "two.nii")


def test_a_missing_file_is_named():
    with pytest.raises(FileNotFoundError, match=r"no file .*nowhere\.nii\.gz; check"):
        load_scan(Path("nowhere.nii.gz"))
