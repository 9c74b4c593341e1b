"""Augmentation favours no side, loses none, and is decided by its seed alone."""

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data.meta_obj import set_track_meta
from monai.data.meta_tensor import MetaTensor
from pydantic import ValidationError

from hemitwin.transforms import (
    AugmentationConfig,
    Comparison,
    RandAugmentBraind,
    RandElastic,
    split_hemispheres,
)

SYMMETRIC = AugmentationConfig(rotation_deg=15.0, shift_mm=6.0, scaling=0.1, bias_field=0.3)
EVERYTHING = SYMMETRIC.model_copy(update={"noise": 0.1})
NOISE = AugmentationConfig(noise=0.1)
EACH = [
    AugmentationConfig(rotation_deg=15.0),
    AugmentationConfig(shift_mm=6.0),
    AugmentationConfig(scaling=0.1),
    AugmentationConfig(bias_field=0.3),
    SYMMETRIC,
]
NAMES = ["rotation", "shift", "scaling", "bias_field", "all_of_them"]


def augmentation(config=EVERYTHING, comparison: Comparison = "hemispheres", **more) -> Any:
    return RandAugmentBraind("image", config, voxel_mm=4.0, comparison=comparison, **more)


def entries(volume, mask, **more) -> Any:
    affine = np.diag([4.0, 4, 4, 1])
    affine[0, 3] = -4.0 * (volume.shape[1] - 1) / 2
    image = MetaTensor(volume, affine=torch.from_numpy(affine))
    return {"image": image, "mask": torch.from_numpy(mask)[None], **more}


def seeded(change, seed) -> Any:
    change.set_random_state(seed=seed)
    return change


def applied(change, volume, mask, seed):
    """The changed volume and its mask, without metadata."""
    made = seeded(change, seed)(entries(volume, mask))
    return made["image"].as_tensor(), made["mask"][0].numpy()


def make_brain(seed=0, width=20):
    """An asymmetric brain; its right side is brighter by far than any augmentation."""
    shape = (width, 24, 22)
    x, y, z = (axis - (n - 1) / 2 for axis, n in zip(np.indices(shape), shape, strict=True))
    mask = (x / (0.42 * width)) ** 2 + (y / 10) ** 2 + (z / 9) ** 2 < 1
    values = 0.2 + 0.1 * np.random.default_rng(seed).random(shape) + 0.7 * (x > 0)
    return torch.from_numpy(np.where(mask, values, 0).astype(np.float32))[None], mask


@pytest.mark.parametrize("config", EACH, ids=NAMES)
@settings(max_examples=8)
@given(seed=st.integers(0, 10_000), width=st.sampled_from([19, 20]))
def test_motion_and_gain_commute_with_mirroring(config, seed, width):
    volume, mask = make_brain(width=width)
    change = augmentation(config)
    one, inside = applied(change, volume, mask, seed)
    other, there = applied(change, volume.flip(1), mask[::-1].copy(), seed)
    torch.testing.assert_close(one.flip(1), other, atol=1e-6, rtol=0)
    np.testing.assert_array_equal(inside[::-1], there)
    assert not torch.equal(one, volume)


@settings(max_examples=15)
@given(seed=st.integers(0, 10_000))
def test_the_halves_of_a_symmetric_brain_stay_alike_but_for_noise(seed):
    volume, mask = make_brain()
    symmetric = (volume + volume.flip(1)) / 2
    affine = np.diag([4.0, 4, 4, 1])
    affine[0, 3] = -4.0 * (volume.shape[1] - 1) / 2
    changed, _ = applied(augmentation(SYMMETRIC), symmetric, mask, seed)
    pair = split_hemispheres(changed, affine)
    torch.testing.assert_close(pair.left, pair.right, atol=1e-6, rtol=0)


def noise_of(seed, width=20):
    """What noise adds to a brain that is bright enough not to be cut off at 0, and where."""
    volume, mask = make_brain(width=width)
    bright = volume + torch.from_numpy(mask)
    changed, inside = applied(augmentation(NOISE), bright, mask, seed)
    np.testing.assert_array_equal(inside, mask)
    return (changed - bright)[0].numpy(), mask


@pytest.mark.parametrize("width", [19, 20])
def test_noise_of_left_and_mirrored_right_is_uncorrelated_and_equally_strong(width):
    ratios = []
    for seed in range(20):
        noise, mask = noise_of(seed, width)
        half = width // 2
        left, right = noise[:half][mask[:half]], noise[::-1][:half][mask[:half]]
        # About 2,800 voxels: chance stays below 4 / sqrt(2800).
        assert abs(np.corrcoef(left, right)[0, 1]) < 0.08
        ratios.append(left.std() / right.std())
    assert np.mean(ratios) == pytest.approx(1, abs=0.03)


def test_noise_of_neighbouring_seeds_is_uncorrelated():
    one, mask = noise_of(310)
    other, _ = noise_of(311)
    for two in (other, other[::-1]):
        assert abs(np.corrcoef(one[mask], two[mask])[0, 1]) < 0.06


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000))
def test_no_brain_is_ever_mirrored_unless_that_is_asked_for(seed):
    volume, mask = make_brain()
    changed, _ = applied(augmentation(), volume, mask, seed)
    half = volume.shape[1] // 2
    assert changed[:, half:].mean() > 1.5 * changed[:, :half].mean()


def test_a_flip_that_is_asked_for_exchanges_the_halves_in_half_of_the_draws():
    volume, mask = make_brain()
    affine = np.diag([4.0, 4, 4, 1])
    affine[0, 3] = -4.0 * (volume.shape[1] - 1) / 2
    given_pair = split_hemispheres(volume, affine)
    flip = augmentation(AugmentationConfig(flip_left_right=True))
    count = 0
    for seed in range(60):
        changed, inside = applied(flip, volume, mask, seed)
        if torch.equal(changed, volume):
            continue
        count += 1
        pair = split_hemispheres(changed, affine)
        assert torch.equal(pair.left, given_pair.right)
        assert torch.equal(pair.right, given_pair.left)
        np.testing.assert_array_equal(inside, mask[::-1])
    assert 15 < count < 45


def test_a_flip_is_refused_where_the_task_is_not_invariant_to_it():
    config = AugmentationConfig(flip_left_right=True)
    with pytest.raises(ValueError, match=r"false where brains are compared.*belongs to what they"):
        augmentation(config, comparison="brains")
    augmentation(EVERYTHING, comparison="brains")


def test_the_seed_decides_and_nothing_else_does():
    volume, mask = make_brain()
    one, again = augmentation(gamma_sd=0.1), augmentation(gamma_sd=0.1)
    first, _ = applied(one, volume, mask, 31)
    np.random.default_rng(5).random(3)
    torch.rand(7)
    applied(again, volume, mask, 999)
    assert torch.equal(applied(again, volume, mask, 31)[0], first)
    for seed in (30, 32, 131):
        assert not torch.equal(applied(one, volume, mask, seed)[0], first)
    # Without a new seed each call goes on where the last one ended.
    assert not torch.equal(again(entries(volume, mask))["image"].as_tensor(), first)


def test_two_transforms_do_not_share_their_state():
    volume, mask = make_brain()
    one, other = augmentation(), augmentation()
    one.set_random_state(seed=0)
    before = other.R.get_state(legacy=False)
    applied(one, volume, mask, 0)
    np.testing.assert_equal(other.R.get_state(legacy=False), before)


def test_what_one_change_draws_depends_on_no_others_strength():
    volume, mask = make_brain()
    bright = volume + torch.from_numpy(mask)
    gain = AugmentationConfig(bias_field=0.3)
    alone, _ = applied(augmentation(gain), bright, mask, 5)
    noisy, _ = applied(augmentation(gain.model_copy(update={"noise": 1e-4})), bright, mask, 5)
    assert not torch.equal(alone, noisy)
    torch.testing.assert_close(alone, noisy, atol=1e-3, rtol=0)


def test_one_gamma_changes_the_whole_brain_and_keeps_its_order():
    volume, mask = make_brain()
    change = augmentation(AugmentationConfig(), gamma_sd=0.3)
    logs = []
    for seed in range(40):
        changed, inside = applied(change, volume, mask, seed)
        np.testing.assert_array_equal(inside, mask)
        darkest = volume == volume[volume > 0].min()
        gamma = (changed[darkest].log() / volume[darkest].log()).item()
        torch.testing.assert_close(changed, volume**gamma)
        logs.append(np.log(gamma))
    assert np.std(logs) == pytest.approx(0.3, rel=0.4)
    assert abs(np.mean(logs)) < 0.15


def test_volumes_of_one_brain_are_changed_together_but_for_noise():
    volume, mask = make_brain()
    both = entries(volume, mask, other=MetaTensor(torch.cat((volume, 2 * volume))))
    change = RandAugmentBraind(
        ("image", "other"), SYMMETRIC, voxel_mm=4.0, comparison="hemispheres"
    )
    made = seeded(change, 3)(both)
    assert (made["image"].shape, made["other"].shape) == (volume.shape, (2, *volume.shape[1:]))
    assert torch.equal(made["image"].as_tensor(), made["other"].as_tensor()[:1])
    torch.testing.assert_close(made["other"][1].as_tensor(), 2 * made["image"][0].as_tensor())
    noisy = RandAugmentBraind(("image", "other"), NOISE, voxel_mm=4.0, comparison="hemispheres")
    made = seeded(noisy, 3)(both)
    one, two = (
        (made[key].as_tensor()[0] - volume[0])[volume[0] > 0.5] for key in ("image", "other")
    )
    assert abs(np.corrcoef(one, two)[0, 1]) < 0.1


def height(part):
    """Mean position along z, in voxels from the grid's centre."""
    weights = torch.arange(part.shape[-1]) - (part.shape[-1] - 1) / 2
    return float((part.sum(dim=(0, 1, 2)) * weights).sum() / part.sum())


@pytest.mark.parametrize(
    ("config", "measure"),
    [
        (EACH[0], lambda brain: height(brain[:, :, 18:])),
        (EACH[1], height),
        (EACH[2], lambda brain: float((brain > 0).sum()) - float((make_brain()[0] > 0).sum())),
    ],
    ids=NAMES[:3],
)
def test_motions_go_both_ways(config, measure):
    volume, mask = make_brain()
    change = augmentation(config)
    figures = [measure(applied(change, volume, mask, seed)[0]) for seed in range(24)]
    assert 5 <= sum(figure > 0 for figure in figures) <= 19


def test_nothing_is_changed_where_nothing_is_asked_for():
    volume, mask = make_brain()
    same, inside = applied(augmentation(AugmentationConfig()), volume, mask, 0)
    assert torch.equal(same, volume)
    np.testing.assert_array_equal(inside, mask)


@pytest.mark.parametrize("track", [True, False], ids=["tracking", "not_tracking"])
def test_inputs_are_left_and_outputs_are_clean(track):
    volume, mask = make_brain()
    kept, inside_before = volume.clone(), mask.copy()
    set_track_meta(track)
    try:
        changed, inside = applied(augmentation(), volume, mask, 4)
    finally:
        set_track_meta(True)
    assert torch.equal(volume, kept)
    np.testing.assert_array_equal(mask, inside_before)
    assert (changed.dtype, changed.shape) == (torch.float32, volume.shape)
    assert (changed[0].numpy()[~inside] == 0).all()
    assert float(changed.min()) >= 0
    # The edge keeps the brain's values: half background would halve them.
    motion = augmentation(AugmentationConfig(rotation_deg=15.0, shift_mm=6.0))
    moved, there = applied(motion, volume, mask, 4)
    assert float(moved[0].numpy()[there].min()) > 0.19


@pytest.mark.parametrize(
    "values", [{"rotation_deg": -1.0}, {"scaling": 0.5}, {"noise": -0.1}, {"flips": True}]
)
def test_impossible_settings_are_refused(values):
    with pytest.raises(ValidationError, match=next(iter(values))):
        AugmentationConfig(**values)


def bent(shared_mm, own_mm, volume, seed=0):
    bend = RandElastic(shared_mm, own_mm, voxel_mm=4.0, prob=1.0)
    bend.set_random_state(seed=seed)
    return bend(volume)


@pytest.mark.parametrize("width", [19, 20])
def test_shared_bends_commute_with_mirroring_and_own_ones_do_not(width):
    volume, _ = make_brain(width=width)
    shared, mirrored = (bent(6.0, 0.0, one) for one in (volume, volume.flip(1)))
    torch.testing.assert_close(shared.flip(1), mirrored, atol=1e-5, rtol=0)
    own, mirrored = (bent(0.0, 6.0, one) for one in (volume, volume.flip(1)))
    assert (own.flip(1) - mirrored).abs().max() > 0.05


def test_own_bends_make_a_symmetric_brain_asymmetric_by_shape_alone():
    volume, _ = make_brain()
    half = volume[:, :10]
    whole = torch.cat((half, half.flip(1)), dim=1)
    found = bent(0.0, 6.0, whole)
    assert (found - found.flip(1)).abs().max() > 0.05
    assert found.max() <= whole.max()
    assert found.min() >= 0


def test_bends_stay_on_their_side_and_are_as_large_as_said():
    places = torch.stack(
        torch.meshgrid(*(torch.arange(n).float() for n in (40, 48, 44)), indexing="ij")
    )
    moved = torch.stack([bent(0.0, 6.0, places, seed=seed) - places for seed in range(12)])
    inner = moved[:, :, 6:-6, 6:-6, 6:-6] * 4.0
    centre = moved[:, 0, 19:21, 6:-6, 6:-6] * 4.0
    assert centre.abs().max() < 4.0  # 2 mm from the mid-plane a tenth of the displacement is left
    assert 1.0 < inner[:, 1:].std() < 6.0


def test_some_brains_are_left_as_they_are():
    volume, _ = make_brain()
    bend = RandElastic(6.0, 3.0, voxel_mm=4.0)
    bend.set_random_state(seed=0)
    kept = [torch.equal(bend(volume), volume) for _ in range(100)]
    assert 5 < sum(kept) < 40


def test_the_mask_is_bent_with_the_brain():
    volume, mask = make_brain()
    config = AugmentationConfig(elastic_mm=6.0, own_elastic_mm=3.0)
    found = [applied(augmentation(config), volume, mask, seed) for seed in range(6)]
    assert any((inside != mask).any() for _, inside in found)
    for one, inside in found:
        np.testing.assert_array_equal(one[0].numpy() > 0, inside)


def test_bends_of_each_half_are_refused_where_brains_are_compared():
    config = AugmentationConfig(own_elastic_mm=1.0)
    with pytest.raises(ValueError, match=r"own_elastic_mm must be 0 .* got 1.0"):
        augmentation(config, "brains")


def test_entries_keep_their_metadata_and_the_others_stay():
    volume, mask = make_brain()
    given = entries(volume, mask, subject="sub-01")
    given["image"].meta["scanner"] = "A"
    made = augmentation()(given)
    assert made["subject"] == "sub-01"
    assert made["image"].meta["scanner"] == "A"
    torch.testing.assert_close(made["image"].affine, given["image"].affine)
    assert made["mask"].shape == (1, *mask.shape)
    assert made["mask"].dtype == torch.bool


def test_what_is_no_brain_is_refused():
    volume, mask = make_brain()
    given = entries(volume, mask)
    with pytest.raises(TypeError, match="'image' must be a MetaTensor with an affine, got Tensor"):
        augmentation()({**given, "image": volume})
    with pytest.raises(KeyError, match="mask must be an entry 'mask', got \\['image'\\]; add it"):
        augmentation()({"image": given["image"]})
    for wrong in (given["mask"].float(), given["mask"][:, :4], given["mask"][0], 3):
        with pytest.raises(ValueError, match=r"'mask' must be a bool tensor of shape \(1, 20, 24"):
            augmentation()({**given, "mask": wrong})
    with pytest.raises(ValueError, match=r"image must not be below 0, got -.*robust_scale"):
        augmentation()({**given, "image": given["image"] - 0.5})
    both = RandAugmentBraind(("image", "other"), NOISE, voxel_mm=4.0, comparison="brains")
    with pytest.raises(ValueError, match="volumes of one brain must lie on one grid"):
        both({**given, "other": given["image"][:, :4]})
    with pytest.raises(ValueError, match=r"gamma_sd must be 0 or more, got -0\.1"):
        augmentation(gamma_sd=-0.1)


def test_another_mask_can_be_named():
    volume, mask = make_brain()
    change = augmentation(AugmentationConfig(shift_mm=8.0), mask_key="brain")
    given = entries(volume, mask)
    made = change.set_random_state(seed=1)({"image": given["image"], "brain": given["mask"]})
    assert not torch.equal(made["brain"], given["mask"])


def test_a_pickled_transform_draws_as_it_would_have():
    volume, mask = make_brain()
    change = augmentation(gamma_sd=0.1).set_random_state(seed=5)
    copy = pickle.loads(pickle.dumps(change))  # noqa: S301  # our own bytes
    one, other = (each(entries(volume, mask))["image"].as_tensor() for each in (change, copy))
    assert torch.equal(one, other)
