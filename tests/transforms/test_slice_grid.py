import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hemitwin.transforms import Scan, SliceGrid, resample, slice_volume

PLANES = ("axial", "coronal", "sagittal")


def brain(seed=0, spacing_mm=2.0):
    """Smooth values on a grid that is even about x = 0."""
    rng = np.random.default_rng(seed)
    shape = (12, 14, 10)
    affine = np.diag([spacing_mm] * 3 + [1.0])
    affine[:3, 3] = -spacing_mm * 5.5, -16.0, -9.0
    return Scan(rng.random(shape, dtype=np.float32), affine)


def centre_of(scan):
    middle = scan.affine @ [*((np.array(scan.data.shape) - 1) / 2), 1]
    return tuple(middle[:3].tolist())


def shape_of(scan, plane):
    x, y, z = scan.data.shape
    return {"axial": (y, x), "coronal": (z, x), "sagittal": (z, y)}[plane]


@pytest.mark.parametrize("plane", PLANES)
def test_on_the_volumes_own_grid_a_slice_is_the_volumes(plane):
    scan = brain()
    grid = SliceGrid(plane, shape_of(scan, plane), 2.0, centre_of(scan))
    for position in (1.0, 1.9):
        expected = slice_volume(scan.data, scan.affine, plane, position).astype(np.float32)
        np.testing.assert_array_equal(grid.sample(scan, position), expected)


@pytest.mark.parametrize("plane", PLANES)
def test_more_pixels_add_zeros_about_the_middle_and_fewer_cut_them_off(plane):
    scan = brain()
    rows, columns = shape_of(scan, plane)
    whole = slice_volume(scan.data, scan.affine, plane, 1.0)
    wide = SliceGrid(plane, (rows + 4, columns + 6), 2.0, centre_of(scan)).sample(scan, 1.0)
    np.testing.assert_array_equal(wide, np.pad(whole, [(2, 2), (3, 3)]))
    narrow = SliceGrid(plane, (rows - 4, columns - 6), 2.0, centre_of(scan)).sample(scan, 1.0)
    np.testing.assert_array_equal(narrow, whole[2:-2, 3:-3])


@pytest.mark.parametrize("plane", PLANES)
@given(pixel_mm=st.floats(0.7, 5), position=st.floats(-6, 6))
def test_a_slice_is_what_resampling_the_volume_gives(plane, pixel_mm, position):
    scan = brain()
    grid = SliceGrid(plane, (6, 8), pixel_mm, (0.0, -3.0, 0.0))
    if pixel_mm <= 2:  # with larger pixels a volume is smoothed along the normal, too
        shape = [1, 1, 1]
        axes = {"axial": (0, 1), "coronal": (0, 2), "sagittal": (1, 2)}[plane]
        shape[axes[0]], shape[axes[1]] = 8, 6
        slab = resample(scan, (shape[0], shape[1], shape[2]), grid.affine(position), np.eye(4))
        expected = slab.reshape(8, 6).T[::-1]
        np.testing.assert_allclose(grid.sample(scan, position), expected, atol=2e-3)
    np.testing.assert_array_equal(
        grid.sample(scan, position, np.eye(4)).shape, grid.sample(scan, position).shape
    )


@given(st.floats(0.7, 6), st.integers(2, 9), st.sampled_from(["axial", "coronal"]))
def test_halves_of_a_symmetric_volume_are_the_same(pixel_mm, half, plane):
    scan = brain()
    scan = Scan(np.maximum(scan.data, scan.data[::-1]), scan.affine)
    picture = SliceGrid(plane, (8, 2 * half), pixel_mm, (0.0, -3.0, 0.0)).sample(scan, 1.0)
    np.testing.assert_allclose(picture, picture[:, ::-1], rtol=1e-6)
    if pixel_mm <= 2:  # of two voxels each: no smoothing, whose sums are rounded
        np.testing.assert_array_equal(picture, picture[:, ::-1])


def test_a_scan_is_sampled_through_its_transform():
    scan = brain(spacing_mm=1.0)
    angle = 0.2
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    turn[:3, 3] = 0.4, -9.5, -4.5
    found = SliceGrid("axial", (4, 4), 1.0, (0.0, 0.0, 0.0)).sample(scan, 1.0, turn)
    for row in range(4):
        for column in range(4):
            point = turn @ [column - 1.5, 1.5 - row, 1.0, 1.0]
            index = np.linalg.inv(scan.affine) @ point
            low = np.floor(index[:3]).astype(int)
            rest = index[:3] - low
            expected = 0.0
            for corner in np.ndindex(2, 2, 2):
                weight = np.prod(np.where(corner, rest, 1 - rest))
                expected += weight * scan.data[tuple(low + corner)]
            assert found[row, column] == pytest.approx(expected, abs=1e-4)


def test_a_position_outside_the_volume_is_refused():
    scan = brain()
    with pytest.raises(ValueError, match="must lie within -9 to 9 mm, got 40"):
        SliceGrid("axial", (4, 4), 1.0, (0.0, 0.0, 0.0)).sample(scan, 40.0)


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("pixel_mm", [0.9, 3.0])
def test_what_is_known_is_interpolated_without_the_background(plane, pixel_mm):
    scan = brain(spacing_mm=1.5)
    data = scan.data.copy()
    data[:, :, :4] = -7.0
    holed = Scan(data, scan.affine)
    turn = np.eye(4)
    turn[:3, 3] = 0.3, -9.0, -4.0
    turn[:2, :2] = [[0.9, -0.1], [0.1, 0.9]]
    grid = SliceGrid(plane, (8, 10), pixel_mm, (0.0, 0.0, 0.0))
    within = np.random.default_rng(0).random((8, 10)) < 0.8
    values, share = grid.sample_known(holed, 1.0, turn, background=-7.0, within=within)
    turned = Scan(np.asfortranarray(data), scan.affine)  # the order in memory changes nothing
    again = grid.sample_known(turned, 1.0, turn, background=-7.0, within=within)
    np.testing.assert_allclose(again, (values, share), atol=1e-5)
    known = Scan((data != -7).astype(np.float32), scan.affine)
    np.testing.assert_allclose(share, within * grid.sample(known, 1.0, turn), atol=2e-3)
    filled = Scan(np.where(data == -7, 0, data).astype(np.float32), scan.affine)
    np.testing.assert_allclose(values * share, within * grid.sample(filled, 1.0, turn), atol=3e-3)
    assert (values[share > 0.01] >= data[data != -7].min() - 1e-4).all()  # never as dark as -7
    assert 0.3 < share.max() < 1.001


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("position", [1.0, 1.9])
def test_a_volume_and_where_it_is_above_0_are_sampled_alike(plane, position):
    scan = brain()
    scan.data[scan.data < 0.5] = 0
    above = Scan((scan.data > 0).astype(np.float32), scan.affine)
    grid = SliceGrid(plane, (9, 8), 3.1, centre_of(scan))
    values, share = grid.sample_above(scan, position)
    np.testing.assert_array_equal(values, grid.sample(scan, position))
    np.testing.assert_array_equal(share, grid.sample(above, position))
    np.testing.assert_array_equal(grid.share_above(scan, position), share)
