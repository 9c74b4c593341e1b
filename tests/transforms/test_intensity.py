from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data.meta_tensor import MetaTensor

from hemitwin.transforms import StandardiseBraind, above_darkest, robust_scale, standardise_images
from hemitwin.transforms.intensity import standardise


def random_brain(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.gamma(3.0, 100.0, (12, 12, 12)).astype(np.float32), rng.random((12, 12, 12)) < 0.6


@given(st.integers(0, 50), st.floats(0.1, 1000), st.floats(-500, 500))
def test_scaling_forgets_the_scanners_unit(seed, gain, offset):
    data, mask = random_brain(seed)
    one = robust_scale(data, mask)
    other = robust_scale((gain * data.astype(np.float64) + offset), mask)
    np.testing.assert_allclose(one, other, atol=2e-4)


@given(st.integers(0, 50))
def test_order_is_kept_and_range_bounded(seed):
    data, mask = random_brain(seed)
    scaled = robust_scale(data, mask)
    assert (np.diff(scaled[mask][np.argsort(data[mask])]) >= -1e-6).all()
    assert scaled[mask].min() > 0
    assert scaled.max() <= 1.25
    assert (scaled[~mask] == 0).all()


def test_percentiles_become_zero_and_one():
    data, mask = random_brain(0)
    scaled = robust_scale(data, mask, low=5.0, high=95.0)
    assert np.percentile(scaled[mask], 95) == pytest.approx(1, abs=0.01)
    assert np.percentile(scaled[mask], 5) == pytest.approx(0, abs=0.01)


def test_impossible_requests_are_refused():
    data, mask = random_brain(0)
    with pytest.raises(
        ValueError, match=r"percentiles must rise within 0 to 100, got 99\.0 and 1\.0"
    ):
        robust_scale(data, mask, low=99.0, high=1.0)
    with pytest.raises(ValueError, match="at least one voxel"):
        robust_scale(data, np.zeros_like(mask))
    with pytest.raises(ValueError, match="intensities must vary"):
        robust_scale(np.ones_like(data), mask)


@given(st.integers(0, 50), st.floats(0.1, 1000), st.floats(-500, 500))
def test_brightness_forgets_where_the_unit_has_its_zero(seed, gain, offset):
    data, mask = random_brain(seed)
    bright = above_darkest(data, mask)
    other = above_darkest(gain * data.astype(np.float64) + offset, mask)
    np.testing.assert_allclose(other, gain * bright, atol=1e-3 * gain)
    assert bright.min() == 0
    assert (bright[~mask] == 0).all()
    assert (np.diff(bright[mask][np.argsort(data[mask])]) >= 0).all()
    np.testing.assert_array_equal(above_darkest(bright, mask), bright)


def test_neither_a_dead_voxel_nor_the_backgrounds_holes_are_a_brains_darkest():
    data, mask = random_brain(0)
    mask[:] = True
    whole = above_darkest(data, mask)
    dead = data.copy()
    dead[0, 0, 0] = -1e4
    assert np.abs((above_darkest(dead, mask) - whole)[1:]).max() < 0.05 * whole.max()
    holed = data.copy()
    holed[:2] = -1000.0
    bright = above_darkest(holed, mask, background=-1000.0)
    assert (bright[:2] == 0).all()
    assert np.abs(bright[2:] - whole[2:]).max() < 0.05 * whole.max()
    assert not above_darkest(data, np.zeros_like(mask)).any()


@given(st.integers(0, 50), st.floats(0.1, 1000), st.floats(-500, 500))
def test_standard_units_forget_gain_and_offset_and_the_background_is_average(seed, gain, offset):
    data, mask = random_brain(seed)
    volume = torch.from_numpy(data)[None]
    one = standardise(volume, mask)
    torch.testing.assert_close(standardise(gain * volume + offset, mask), one, atol=2e-3, rtol=0)
    assert float(one[0][~mask].abs().max()) == 0.0
    assert abs(float(one[0][mask].median())) < 0.05
    assert float(one.abs().max()) <= 4.0


def test_the_dictionary_transform_standardises_each_volume_within_its_mask():
    volume, mask = torch.rand(2, 6, 5, 4), torch.rand(1, 6, 5, 4) > 0.3
    kept = volume.clone()
    one = MetaTensor(volume, affine=2 * torch.eye(4))
    given: Any = {"one": one, "two": one * 3, "brain": mask}
    made: Any = StandardiseBraind(("one", "two"), mask_key="brain")(given)
    for name in ("one", "two"):
        expected = standardise(given[name].as_tensor(), mask[0].numpy())
        assert torch.equal(made[name].as_tensor(), expected)
        assert float(made[name].affine[0, 0]) == 2.0
    assert torch.equal(given["one"].as_tensor(), kept)
    with pytest.raises(KeyError, match="the brain's mask must be an entry 'mask'"):
        StandardiseBraind("one")(given)


def test_a_brain_of_one_value_or_none_is_refused():
    with pytest.raises(ValueError, match="must vary"):
        standardise(torch.ones(1, 4, 4, 4), np.ones((4, 4, 4), dtype=bool))
    with pytest.raises(ValueError, match="at least one voxel"):
        standardise(torch.ones(1, 4, 4, 4), np.zeros((4, 4, 4), dtype=bool))


@given(st.integers(0, 50), st.floats(0.1, 10))
def test_an_images_unit_is_forgotten_and_its_black_stays(seed, gain):
    pixels = torch.rand((2, 3, 8, 8), generator=torch.Generator().manual_seed(seed)) + 0.01
    pixels[:, :, :2] = 0
    one, other = standardise_images(pixels), standardise_images(gain * pixels)
    torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
    assert (one[:, :, :2] == 0).all()
    inside = one[:, :, 2:].flatten(1)
    torch.testing.assert_close(inside.mean(dim=1), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(inside.square().mean(dim=1), torch.ones(2))


def test_an_image_of_one_grey_is_nothing_to_see():
    assert (standardise_images(torch.full((1, 1, 4, 4), 0.5)) == 0).all()
