from pathlib import Path

import numpy as np
import pytest

from hemitwin.transforms import Scan, brain_mask, is_skull_stripped, load_scan

WHOLE_HEAD = Path("/usr/share/mricron/templates/ch2.nii.gz")  # Debian package mricron-data


def make_head(brain: np.ndarray, affine: np.ndarray, *, air: float) -> Scan:
    """Put a dark skull, a bright scalp and a neck with its stalk around a brain."""
    index = np.indices(brain.shape).reshape(3, -1)
    x, y, z = (affine[:3, :3] @ index + affine[:3, 3:]).reshape(3, *brain.shape)
    radius = np.sqrt((x / 65) ** 2 + (y / 80) ** 2 + (z / 60) ** 2)
    head = np.where(brain > 0, brain + 0.3, np.where(radius < 1.15, 0.1, 0))
    head = np.where((radius >= 1.15) & (radius < 1.3), 1.3, head)
    neck = (np.hypot(x, y) < 45) & (z < 0) & (radius >= 1.15)
    stalk = (np.hypot(x, y) < 8) & (z < -55) & (brain == 0)
    head = np.where(neck | stalk, 0.9, head)
    return Scan((100 * np.where(head > 0, head, air)).astype(np.float32), affine)


@pytest.fixture
def head_grid(brain):
    data, affine = brain
    padded = np.pad(data, 6)
    larger = affine.copy()
    larger[:3, 3] -= 6 * np.diag(affine)[:3]
    return padded, larger


def test_a_brain_on_zeros_is_stripped_and_a_head_is_not(head_grid):
    data, affine = head_grid
    assert is_skull_stripped(Scan(data, affine))
    assert not is_skull_stripped(make_head(data, affine, air=0.0))
    assert not is_skull_stripped(make_head(data, affine, air=0.02))


def test_a_stripped_scans_mask_is_its_support_without_holes_and_crumbs(head_grid):
    data, affine = head_grid
    damaged = data.copy()
    centre = tuple(n // 2 for n in data.shape)
    damaged[centre] = 0
    damaged[1, 1, 1] = 5
    np.testing.assert_array_equal(brain_mask(Scan(damaged, affine)), data != 0)


@pytest.mark.parametrize("air", [0.0, 0.02])
def test_a_brain_is_found_inside_its_head(head_grid, air):
    data, affine = head_grid
    mask = brain_mask(make_head(data, affine, air=air))
    true = data > 0
    assert 2 * (mask & true).sum() / (mask.sum() + true.sum()) > 0.93


def test_a_volume_without_a_brain_is_refused():
    noise = np.random.default_rng(0).random((30, 30, 30)).astype(np.float32) + 1
    with pytest.raises(ValueError, match="brain that parts from the scalp"):
        brain_mask(Scan(noise, np.diag([5.0, 5, 5, 1])))


@pytest.mark.data
def test_a_real_whole_head_is_masked(data_folder):  # noqa: ARG001  # marks it as a data test
    if not WHOLE_HEAD.is_file():
        pytest.skip(f"{WHOLE_HEAD} is not installed (Debian package mricron-data)")
    scan = load_scan(WHOLE_HEAD)
    assert not is_skull_stripped(scan)
    true = load_scan(WHOLE_HEAD.with_name("ch2bet.nii.gz")).data > 0
    mask = brain_mask(scan)
    assert 2 * (mask & true).sum() / (mask.sum() + true.sum()) > 0.92
