import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hemitwin.transforms import mirror_affine, slice_positions, slice_volume

AFFINE = np.array([[2.0, 0, 0, -5], [0, 3, 0, -10], [0, 0, 4, 1], [0, 0, 0, 1]])
VOLUME = np.arange(4 * 5 * 6).reshape(4, 5, 6)


@pytest.mark.parametrize(
    ("plane", "position_mm", "corner"),
    [
        ("axial", 9.0, (0, 4, 2)),  # top left: left, anterior
        ("coronal", -4.0, (0, 2, 5)),  # top left: left, superior
        ("sagittal", -1.0, (2, 0, 5)),  # top left: posterior, superior
    ],
)
def test_slices_stand_upright(plane, position_mm, corner):
    picture = slice_volume(VOLUME, AFFINE, plane, position_mm)
    assert picture[0, 0] == VOLUME[corner]


def test_each_plane_has_rows_and_columns_of_its_axes():
    shapes = {
        p: slice_volume(VOLUME, AFFINE, p, 1.0).shape for p in ("axial", "coronal", "sagittal")
    }
    assert shapes == {"axial": (5, 4), "coronal": (6, 4), "sagittal": (6, 5)}


@given(st.integers(0, 5))
def test_positions_lead_to_their_slices(index):
    expected = VOLUME[:, ::-1, index].T
    np.testing.assert_array_equal(slice_volume(VOLUME, AFFINE, "axial", 1 + 4.0 * index), expected)


def test_a_mirrored_half_is_shown_as_stored():
    mirrored = slice_volume(VOLUME[::-1], mirror_affine(AFFINE, 4), "axial", 1.0)
    np.testing.assert_array_equal(mirrored, slice_volume(VOLUME, AFFINE, "axial", 1.0)[:, ::-1])


PLANES = ("axial", "coronal", "sagittal")


def even_grid(spacing_mm: float, half: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """A symmetric volume on a grid whose mid-plane lies between two voxels."""
    shape = (2 * half, 9, 10)
    affine = np.diag([spacing_mm] * 3 + [1.0])
    affine[:3, 3] = -spacing_mm * (half - 0.5), -11.0, -7.5
    values = np.random.default_rng(half).random(shape, dtype=np.float32) + 0.1
    return np.maximum(values, values[::-1]), affine


@given(st.floats(0.5, 20), st.sampled_from(PLANES))
def test_every_position_cuts_the_mask(step_mm, plane):
    mask = np.zeros((8, 5, 6), dtype=bool)
    mask[1:5, 1:4, 2:5] = True
    affine = np.diag([2.0, 3.0, 4.0, 1.0])
    affine[:3, 3] = -7, -10, 1
    positions = slice_positions(mask, affine, plane, step_mm)
    assert list(positions) == sorted(set(positions))
    assert all(slice_volume(mask, affine, plane, p).max() >= 0.5 for p in positions)


@given(st.floats(0.5, 20), st.sampled_from(PLANES), st.data())
def test_positions_are_fixed_in_millimetres_whatever_the_brain_and_the_grid(step_mm, plane, data):
    first = 0.5 if plane == "sagittal" else 0.0
    found = []
    for spacing_mm in (1.0, 2.0, 3.0):
        volume, affine = even_grid(spacing_mm)
        low = data.draw(st.integers(1, 5))
        mask = np.zeros(volume.shape, dtype=bool)
        mask[low:-1, low:8, low:8] = True
        found.append(slice_positions(mask, affine, plane, step_mm))
        numbers = np.array(found[-1]) / step_mm - first
        np.testing.assert_allclose(numbers, np.round(numbers), atol=1e-9)
        # Nothing is left out between the first and the last.
        assert len(found[-1]) in {0, round(np.ptp(numbers)) + 1 if len(numbers) else 0}


@given(st.floats(0.5, 9), st.sampled_from([1.0, 1.5, 2.0, 3.0]))
def test_a_sagittal_slice_and_its_mirror_are_the_same_on_a_symmetric_volume(step_mm, spacing_mm):
    volume, affine = even_grid(spacing_mm)
    positions = slice_positions(volume > 0, affine, "sagittal", step_mm)
    assert [-p for p in reversed(positions)] == list(positions)
    assert 0.0 not in positions
    for position in positions:
        left = slice_volume(volume, affine, "sagittal", -position)
        np.testing.assert_array_equal(left, slice_volume(volume, affine, "sagittal", position))


def test_half_way_between_two_voxels_a_slice_is_their_mean_on_either_side():
    volume, affine = even_grid(2.0)
    for side in (-1, 1):
        planes = [slice_volume(volume, affine, "sagittal", side * x) for x in (3.0, 5.0)]
        between = slice_volume(volume, affine, "sagittal", side * 4.0)
        np.testing.assert_allclose(between, (planes[0] + planes[1]) / 2, rtol=1e-6)
        assert between.dtype == volume.dtype


def test_a_sagittal_position_is_there_with_its_mirror_or_not_at_all():
    volume, affine = even_grid(2.0)
    mask = np.ones(volume.shape, dtype=bool)
    mask[:4] = False  # the left half ends at -3 mm, the right one at 11
    assert slice_positions(mask, affine, "sagittal", 4.0) == (-2.0, 2.0)


def test_an_empty_mask_has_no_positions():
    assert slice_positions(np.zeros((3, 3, 3), dtype=bool), AFFINE, "axial", 4.0) == ()


def test_impossible_slices_are_refused():
    with pytest.raises(ValueError, match="must lie within 1 to 21 mm, got 40"):
        slice_volume(VOLUME, AFFINE, "axial", 40.0)
    with pytest.raises(ValueError, match="step between slices must be positive"):
        slice_positions(VOLUME > 0, AFFINE, "axial", 0.0)
    turned = AFFINE.copy()
    turned[0, 1] = 0.3
    with pytest.raises(ValueError, match="must run along RAS axes"):
        slice_volume(VOLUME, turned, "axial", 1.0)
