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


@given(st.floats(0.5, 20), st.sampled_from(["axial", "coronal", "sagittal"]))
def test_every_position_cuts_the_mask(step_mm, plane):
    mask = np.zeros(VOLUME.shape, dtype=bool)
    mask[1:3, 1:4, 2:5] = True
    positions = slice_positions(mask, AFFINE, plane, step_mm)
    assert list(positions) == sorted(set(positions))
    assert all(slice_volume(mask, AFFINE, plane, p).any() for p in positions)


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
