"""What training is fed: the same for the same seed, and alike in both halves."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from hemitwin.models import EncoderConfig
from hemitwin.pipeline.cohort.brains import Brain
from hemitwin.pipeline.cohort.config import DataConfig
from hemitwin.pipeline.cohort.split import Split
from hemitwin.pipeline.stage.bids import Case
from hemitwin.pipeline.stage.errors import UserError
from hemitwin.pipeline.stage.settings import validated
from hemitwin.pipeline.training.compared import split_brain
from hemitwin.pipeline.training.config import EvaluationConfig, RunConfig, TrainingConfig
from hemitwin.pipeline.training.data import BatchSampler, TrainingData
from hemitwin.pipeline.training.sources import halves
from hemitwin.pipeline.training.sources.brain_transforms import (
    entries_of,
    halves_transforms,
    seeds_of,
    transformed,
)
from hemitwin.pipeline.training.sources.halves import (
    HalvesValidation,
    LesionedHalves,
    validation_pairs,
)
from hemitwin.pipeline.training.sources.pairs import LesionSource, in_either_half, pairs_of
from hemitwin.pipeline.training.sources.whole_brains import BrainSets
from hemitwin.transforms import AugmentationConfig, LesionConfig, LesionSpec

LESIONS = LesionConfig(volume_mm3=(8000.0, 16000.0))
SYMMETRIC = AugmentationConfig(rotation_deg=10.0, shift_mm=6.0, scaling=0.1, bias_field=0.3)
EVERYTHING = SYMMETRIC.model_copy(update={"noise": 0.05})
NOISE = AugmentationConfig(noise=0.02)


def make_brain(number, tmp_path):
    """A brain of 8 mm voxels that equals its mirror image."""
    shape = (20, 24, 18)
    x, y, z = (axis - (n - 1) / 2 for axis, n in zip(np.indices(shape), shape, strict=True))
    mask = (x / 8.5) ** 2 + (y / 10) ** 2 + (z / 7.5) ** 2 < 1
    half = 0.5 + 0.2 * np.random.default_rng(number).random((10, 24, 18))
    values = np.where(mask, np.concatenate((half, half[::-1])), 0).astype(np.float32)
    affine = np.diag([8.0, 8, 8, 1])
    affine[:3, 3] = -8.0 * (np.array(shape) - 1) / 2
    case = Case(f"sub-{number:02d}", f"sub-{number:02d}", tmp_path / "a.nii.gz")
    return Brain(torch.from_numpy(values)[None], mask, affine, 2, 0.75, case)


def run_config(tmp_path, **training):
    return RunConfig(
        data=DataConfig(prepared=tmp_path, resolution_mm=8.0),
        encoder=EncoderConfig(name="resnet18", width=8, blocks=(1, 1), stem_stride=1),
        lesions=LESIONS,
        training=TrainingConfig(batch_subjects=2, **training),
        evaluation=EvaluationConfig(lesions_per_subject=2),
    )


def data_of(config, train, validation=()):
    source = LesionSource(LESIONS)
    checked = HalvesValidation(validation_pairs(config, validation, source), Split({}, 0))
    return TrainingData(config, LesionedHalves(config, train, source), checked.batches)


def batches(config, brains, epoch):
    loader = data_of(config, brains).train_dataloader()
    assert isinstance(loader.sampler, BatchSampler)
    loader.sampler.set_epoch(epoch)
    return list(loader)


@pytest.fixture
def brains(tmp_path):
    return tuple(make_brain(number, tmp_path) for number in range(4))


def test_a_sample_without_augmentation_is_what_the_functions_make_of_its_specs(tmp_path, brains):
    config = run_config(tmp_path, intensity_jitter=0.0, lesions_per_side=2)
    brain, source = brains[1], LesionSource(LESIONS)
    found = LesionedHalves(config, brains, source)[[(2, 1)]]
    healthy = split_brain(brain, brain.volume)
    assert torch.equal(found.images[0], healthy.left)
    assert torch.equal(found.images[1], healthy.right)
    assert found.items.item.tolist() == [0, 1, 0, 1, 0, 1]
    assert found.items.lesioned.tolist() == [False, False, True, True, True, True]
    assert found.lesions is not None
    for row, side in enumerate(("L", "R", "L", "R"), start=2):
        chain = halves_transforms(config, source).lesioned[side]
        seed = seeds_of(0, 2, 1, count=5)[row - 1]
        made = transformed(chain, entries_of(brain), case="sub-01", seed=seed)
        (content,) = json.loads(str(made["image_lesion_specs"]))
        spec = LesionSpec(**content)
        assert spec.native_mm3_per_mm3 == brain.native_mm3_per_mm3
        volume, mask = source.inject(brain, spec)
        pair, where = split_brain(brain, volume), in_either_half(mask, brain.affine)
        assert torch.equal(found.images[row], pair.left if side == "L" else pair.right)
        assert torch.equal(found.lesions[row] > 0, where)
        assert set(found.lesions[row].unique().tolist()) == {0, 1}


@pytest.mark.parametrize("augmentation", [AugmentationConfig(), EVERYTHING], ids=["off", "on"])
def test_a_sample_is_a_function_of_seed_and_epoch(tmp_path, brains, augmentation):
    config = run_config(tmp_path, augmentation=augmentation)
    first = batches(config, brains, epoch=1)
    again = batches(config, brains, epoch=1)
    later = batches(config, brains, epoch=2)
    assert all(torch.equal(a.images, b.images) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0].images, later[0].images)
    other = config.model_copy(update={"seed": 1})
    assert not torch.equal(first[0].images, batches(other, brains, epoch=1)[0].images)


def test_healthy_halves_of_a_symmetric_brain_stay_alike_and_lesioned_ones_do_not(tmp_path, brains):
    for batch in batches(run_config(tmp_path, augmentation=SYMMETRIC), brains, epoch=3):
        for subject in batch.items.group.unique():
            own = batch.images[batch.items.group == subject]
            # Left, right, then lesioned left and right: the same change went to all of them.
            torch.testing.assert_close(own[0], own[1], atol=1e-5, rtol=0)
            assert float((own[2] - own[0]).abs().max()) > 0.5
            assert float((own[3] - own[1]).abs().max()) > 0.5


def correlation(one, other, inside):
    return float(np.corrcoef(one[inside].numpy(), other[inside].numpy())[0, 1])


def test_each_half_has_noise_of_its_own_and_keeps_it_with_a_lesion(tmp_path, brains):
    plain, noisy = (
        torch.cat([batch.images for batch in batches(config, brains, epoch=3)])
        for config in (run_config(tmp_path), run_config(tmp_path, augmentation=NOISE))
    )
    for first in range(0, len(plain), 4):
        left, right, lesioned = (noisy[first + k] - plain[first + k] for k in range(3))
        inside = plain[first] != 0
        assert abs(correlation(left, right, inside)) < 0.15
        assert correlation(left, lesioned, inside) > 0.7


def test_each_brain_of_a_set_has_noise_of_its_own(tmp_path, brains):
    same = [replace(brains[0], case=brain.case) for brain in brains]
    names = [brain.case.name for brain in brains]
    pairs = pd.DataFrame({"case": names[::2], "partner_case": names[1::2], "label": "same"})
    plain, noisy = (
        BrainSets(one, same, pairs=pairs, families={})[[(0, 0), (0, 1)]]
        for one in (
            run_config(tmp_path, intensity_jitter=0.0),
            run_config(tmp_path, intensity_jitter=0.0, augmentation=NOISE),
        )
    )
    noise, inside = noisy.images - plain.images, plain.images[0] != 0
    for one, other in ((0, 1), (0, 2), (2, 3)):
        for there in (noise[other], noise[other].flip(1)):
            assert abs(correlation(noise[one], there, inside)) < 0.15
    assert abs(correlation(noise[0], noise[0].flip(1), inside)) < 0.15


def test_augmentation_changes_training_and_leaves_validation_alone(tmp_path, brains):
    plain, changed = (
        data_of(run_config(tmp_path, augmentation=one), brains[:2], brains[2:])
        for one in (AugmentationConfig(), EVERYTHING)
    )
    for one, other in zip(plain.val_dataloader(), changed.val_dataloader(), strict=True):
        assert torch.equal(one.left, other.left)
    first, second = next(iter(plain.train_dataloader())), next(iter(changed.train_dataloader()))
    assert not torch.equal(first.images, second.images)


def test_validation_pairs_are_the_same_whether_kept_or_made_again(tmp_path, brains, monkeypatch):
    made = []
    monkeypatch.setattr(halves, "_KEPT_SUBJECTS", 1)
    monkeypatch.setattr(
        halves, "pairs_of", lambda brain, *more: made.append(brain) or pairs_of(brain, *more)
    )
    pairs = validation_pairs(run_config(tmp_path), brains[2:], LesionSource(LESIONS))
    first, second = list(pairs), pairs[:]
    assert [brain.subject for brain in made] == ["sub-02", "sub-03", "sub-03"]
    for one, other in zip(first, second, strict=True):
        assert [pair.spec for pair in one] == [pair.spec for pair in other]
        assert [pair.lesioned for pair in one] == [False, True, True]
        assert all(torch.equal(a.left, b.left) for a, b in zip(one, other, strict=True))


def test_a_scored_pair_says_where_it_was_changed_whichever_side(brains):
    source = LesionSource(LESIONS)
    rng = np.random.default_rng(0)
    specs = [source.sample(brains[0], rng, "L"), source.sample(brains[0], rng, "R")]
    healthy, *lesioned = pairs_of(brains[0], specs, source)
    assert healthy.changed is None
    for pair in lesioned:
        assert pair.changed is not None
        assert pair.changed.shape == pair.left.shape[1:]
        change = (pair.left - pair.right)[0].abs()  # the brain is its own mirror image
        assert pair.changed.flatten()[change.argmax()]
        assert change[pair.changed].mean() > 5 * change[~pair.changed].mean()


def test_augmentation_is_off_unless_it_is_set_and_its_keys_are_checked(tmp_path):
    config = run_config(tmp_path)
    assert config.training.augmentation == AugmentationConfig()
    values = {"augmentation": {"rotation": 5}}
    with pytest.raises(UserError, match=r"augmentation\.rotation.*did you mean 'rotation_deg'"):
        validated(TrainingConfig, values, "example")
