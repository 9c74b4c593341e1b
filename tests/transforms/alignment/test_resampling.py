import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from hemitwin.transforms import Scan, midplane_motion, resample, resample_back
from hemitwin.transforms.alignment.resampling import resample_array


def smooth_blob(shape: tuple[int, int, int], affine: np.ndarray) -> np.ndarray:
    index = np.indices(shape).reshape(3, -1)
    world = affine[:3, :3] @ index + affine[:3, 3:]
    squares = ((world - np.array([[4.0], [-3.0], [2.0]])) ** 2).sum(axis=0)
    return np.exp(-squares / (2 * 8.0**2)).reshape(shape).astype(np.float32)


def grid(spacing: float, count: int) -> np.ndarray:
    affine = np.diag([spacing] * 3 + [1.0])
    affine[:3, 3] = -spacing * (count - 1) / 2
    return affine


def test_resampling_onto_its_own_grid_is_identity():
    data = np.random.default_rng(0).standard_normal((5, 6, 7)).astype(np.float32)
    affine = np.diag([2.0, 3, 4, 1])
    for order in (0, 1, 3):
        same = resample(Scan(data, affine), (5, 6, 7), affine, np.eye(4), order=order)
        np.testing.assert_allclose(same, data, atol=1e-5)


def test_linear_resampling_equals_a_loop_over_voxels():
    rng = np.random.default_rng(1)
    data = rng.standard_normal((4, 5, 6)).astype(np.float32)
    voxel_map = np.eye(4)
    voxel_map[:3, 3] = 0.3, 0.6, 0.2
    moved = resample_array(data, voxel_map, (3, 4, 5))
    for i, j, k in np.ndindex(3, 4, 5):
        corner = data[i : i + 2, j : j + 2, k : k + 2].astype(float)
        for weight in (0.3, 0.6, 0.2):
            corner = (1 - weight) * corner[0] + weight * corner[1]
        assert moved[i, j, k] == pytest.approx(corner, abs=1e-5)


@given(st.floats(-10, 10), st.floats(-10, 10), st.floats(-5, 5), st.floats(0.8, 1.2))
def test_a_blob_moves_to_where_the_matrix_says(roll, yaw, shift, scale):
    moving_from_fixed = midplane_motion(roll, yaw, shift) @ np.diag([scale] * 3 + [1.0])
    native, target = grid(1.7, 40), grid(2.0, 34)
    scan = Scan(smooth_blob((40, 40, 40), native), native)
    moved = resample(scan, (34, 34, 34), target, moving_from_fixed)
    peak = np.array(np.unravel_index(moved.argmax(), moved.shape))
    found = (moving_from_fixed @ target @ np.append(peak, 1.0))[:3]
    np.testing.assert_allclose(found, (4, -3, 2), atol=2.5)


def test_fine_detail_is_averaged_and_not_aliased():
    stripes = np.zeros((64, 64, 64), dtype=np.float32)
    stripes[::2] = 1  # at every second voxel plain interpolation would give all ones or zeros
    coarse = resample_array(stripes, np.diag([2.0, 2, 2, 1]), (32, 32, 32))
    inner = coarse[4:-4, 4:-4, 4:-4]
    assert inner.min() > 0.35
    assert inner.max() < 0.65


@pytest.mark.parametrize("spacing", [1.0, 2.0, 5.0])
def test_relevance_keeps_its_sum_on_any_native_grid(spacing):
    template, native = grid(2.0, 40), grid(spacing, int(88 / spacing))
    relevance = smooth_blob((40, 40, 40), template)
    scan = Scan(np.zeros([int(88 / spacing)] * 3, dtype=np.float32), native)
    motion = midplane_motion(5.0, -4.0, 2.0) @ np.diag([0.9, 0.9, 0.9, 1.0])
    back = resample_back(relevance, template, scan, motion, preserve_sum=True)
    assert back.sum() == pytest.approx(relevance.sum(), rel=0.01)
    plain = resample_back(relevance, template, scan, motion)
    assert plain.max() <= relevance.max() + 1e-6


def test_labels_come_back_as_labels():
    labels = np.random.default_rng(2).integers(0, 5, (10, 10, 10)).astype(np.float32)
    scan = Scan(np.zeros((15, 15, 15), dtype=np.float32), grid(1.3, 15))
    back = resample_back(labels, grid(2.0, 10), scan, midplane_motion(7.0, 3.0, 1.0), order=0)
    assert set(np.unique(back)) <= set(range(5))


def test_there_and_back_is_nearly_identity():
    native, template = grid(1.5, 48), grid(1.5, 48)
    data = smooth_blob((48, 48, 48), native)
    motion = midplane_motion(6.0, -8.0, 3.0)
    there = resample(Scan(data, native), (48, 48, 48), template, motion)
    back = resample_back(there, template, Scan(data, native), motion)
    assert np.abs(back - data).max() < 0.03


def test_outside_the_field_of_view_is_zero():
    far = np.eye(4)
    far[0, 3] = 1000
    assert (resample_array(np.ones((4, 4, 4), dtype=np.float32), far, (3, 3, 3)) == 0).all()


def test_inputs_are_left_as_they_are():
    data = smooth_blob((20, 20, 20), grid(1.0, 20))
    kept = data.copy()
    resample_array(data, np.diag([2.0, 2, 2, 1]), (10, 10, 10))
    np.testing.assert_array_equal(data, kept)


@settings(max_examples=25)
@given(
    steps=st.tuples(*[st.sampled_from([-2.3, -1.0, 0.6, 1.0, 1.7, 3.0])] * 3),
    # No shift by less than rounding: at the very edge the two may fall on either side of it.
    shifts=st.tuples(*[st.floats(-8, 20).map(lambda shift: round(shift, 3))] * 3),
    shape=st.tuples(*[st.integers(1, 16)] * 3),
    filled=st.booleans(),
)
def test_axis_by_axis_is_the_same_as_at_once(steps, shifts, shape, filled):
    data = np.random.default_rng(3).standard_normal((12, 13, 11)).astype(np.float32)
    if not filled:
        data[:4], data[:, 9:], data[..., :2] = 0, 0, 0
    target = np.diag([*steps, 1.0])
    target[:3, 3] = shifts
    scan = Scan(data, np.diag([1.5, 2.0, 0.5, 1.0]))
    moved = resample(scan, shape, scan.affine @ target, np.eye(4))
    assert moved.dtype == np.float32
    np.testing.assert_allclose(moved, resample_array(data, target, shape), atol=2e-6)


@settings(max_examples=20)
@given(
    corner=st.tuples(*[st.integers(0, 12)] * 3),
    size=st.tuples(*[st.integers(1, 14)] * 3),
    scale=st.floats(0.4, 4.0),
)
def test_smoothing_the_content_alone_changes_no_bit(corner, size, scale):
    data = np.zeros((24, 22, 20), dtype=np.float32)
    box = tuple(slice(a, a + n) for a, n in zip(corner, size, strict=True))
    data[box] = np.random.default_rng(4).standard_normal(data[box].shape)
    motion = midplane_motion(9.0, 5.0, 1.0) @ np.diag([scale] * 3 + [1.0])
    sigma = np.sqrt(np.maximum(np.linalg.norm(motion[:3, :3], axis=1) ** 2 - 1, 0)) / 2.354820045
    smooth = data
    if sigma.max() > 0.2:
        smooth = ndimage.gaussian_filter(data, sigma, mode="constant", truncate=3.0)
    linear, offset = motion[:3, :3], motion[:3, 3]
    whole = ndimage.affine_transform(smooth, linear, offset, (30, 30, 30), order=1)
    np.testing.assert_array_equal(resample_array(data, motion, (30, 30, 30)), whole)
