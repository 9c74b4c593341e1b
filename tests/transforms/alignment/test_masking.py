from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from hemitwin.transforms import (
    Scan,
    background_value,
    brain_mask,
    dark_layer,
    is_skull_stripped,
    load_scan,
)

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


def z_scored(brain: np.ndarray) -> np.ndarray:
    inside = brain != 0
    return ((brain - brain[inside].mean()) / brain[inside].std()).astype(np.float32)


@pytest.mark.parametrize("background", [-1000.0, -1.0, 10.0, 0.0, "noise"])
@pytest.mark.parametrize("unit", [np.array, z_scored])
def test_a_brain_on_any_one_value_is_stripped(head_grid, background, unit):
    data, affine = head_grid
    noise = 1e-6 * np.random.default_rng(0).standard_normal(data.shape)
    around = noise if background == "noise" else background
    scan = Scan(np.where(data != 0, unit(data), around).astype(np.float32), affine)
    assert background_value(scan.data) == pytest.approx(
        0 if background == "noise" else background, abs=1e-5
    )
    assert is_skull_stripped(scan)
    found = brain_mask(scan)
    assert (found != (data != 0)).mean() < 1e-3


def test_what_interpolation_leaves_around_a_brain_is_background(head_grid):
    data, affine = head_grid
    ringing = ndimage.affine_transform(data, np.eye(3), [0.5] * 3, order=3, output=np.float32)
    assert (ringing != 0).mean() > 0.8
    scan = Scan(ringing, affine)
    assert is_skull_stripped(scan)
    near = ndimage.distance_transform_edt(data == 0) < 7
    assert not (brain_mask(scan) & ~near).any()


def test_faces_of_many_values_have_no_background():
    noise = np.random.default_rng(0).random((20, 20, 20))
    assert background_value(noise) is None
    assert not is_skull_stripped(Scan(noise.astype(np.float32), np.diag([5.0, 5, 5, 1])))


@pytest.mark.parametrize("contrast", [np.array, lambda brain: np.where(brain > 0, 1.6 - brain, 0)])
def test_a_small_head_is_no_brain_though_air_and_bone_are_zero(head_grid, contrast):
    data, affine = head_grid
    small = np.diag([0.75, 0.75, 0.75, 1.0]) @ affine
    head = make_head(contrast(data), affine, air=0.0).data
    head = Scan(np.where(head > 15, head, 0).astype(np.float32), small)
    litres = (head.data != 0).sum() * abs(np.linalg.det(small[:3, :3])) / 1e6
    assert litres < 2.5
    assert dark_layer(head, head.data != 0) > 0.1
    assert not is_skull_stripped(head)
    brain = Scan(contrast(data).astype(np.float32), affine)
    assert dark_layer(brain, data != 0) <= 0.0
    assert is_skull_stripped(brain)


@pytest.mark.parametrize("offset", [-50.0, 1000.0])
def test_a_head_is_masked_alike_wherever_its_unit_has_its_zero(head_grid, offset):
    head = make_head(*head_grid, air=0.02)
    moved = replace(head, data=head.data / 3 + np.float32(offset))
    np.testing.assert_array_equal(brain_mask(moved), brain_mask(head))


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


def test_specks_are_no_brain():
    specks = 0.1 * np.random.default_rng(0).random((60, 60, 60)).astype(np.float32)
    specks[::8, ::8, ::8] = 1
    with pytest.raises(ValueError, match="brain that parts from the scalp"):
        brain_mask(Scan(specks, np.diag([3.0, 3, 3, 1])))


@pytest.mark.data
def test_a_real_whole_head_is_masked(data_folder):  # noqa: ARG001  # marks it as a data test
    if not WHOLE_HEAD.is_file():
        pytest.skip(f"{WHOLE_HEAD} is not installed (Debian package mricron-data)")
    scan = load_scan(WHOLE_HEAD)
    assert not is_skull_stripped(scan)
    true = load_scan(WHOLE_HEAD.with_name("ch2bet.nii.gz")).data > 0
    mask = brain_mask(scan)
    assert 2 * (mask & true).sum() / (mask.sum() + true.sum()) > 0.92
