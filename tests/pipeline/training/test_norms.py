"""Norms for the brains that they are made of, and whole pairs of halves that see them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from hemitwin.models import (
    EncoderConfig,
    HeadConfig,
    InputConfig,
    Items,
    LossConfig,
    PooledEncoder,
)
from hemitwin.models.config import ObjectiveName
from hemitwin.pipeline.cohort.config import DataConfig
from hemitwin.pipeline.training.config import RunConfig, TrainingConfig
from hemitwin.pipeline.training.norms import TrainingNorms, norm_images, training_channels
from hemitwin.pipeline.training.sources.halves import LesionedHalves
from hemitwin.pipeline.training.sources.pairs import (
    LesionSource,
    draw_lesions,
    join,
)
from hemitwin.pipeline.training.task import SiameseTask
from hemitwin.transforms import LesionConfig
from hemitwin.transforms.lesions.spec import LesionRole
from tests.pipeline.training.test_data import make_brain

LESIONS = LesionConfig(volume_mm3=(8000.0, 16000.0))
CPU = torch.device("cpu")
SEEN = InputConfig(packing=2, other=True, difference=True)


def run_config(tmp_path, seen=SEEN, **training):
    return RunConfig(
        data=DataConfig(prepared=tmp_path, resolution_mm=8.0),
        input=seen,
        encoder=EncoderConfig(name="unet_encoder", width=4, levels=2),
        head=HeadConfig(name="decoder", decoder_width=4),
        loss=LossConfig(objective="map"),
        lesions=LESIONS,
        training=TrainingConfig(batch_subjects=2, **training),
    )


def uneven(number, tmp_path):
    """A brain whose halves differ, each in its own way."""
    brain = make_brain(number, tmp_path)
    rng = np.random.default_rng(100 + number)
    change = torch.from_numpy(rng.normal(1, 0.05, brain.mask.shape).astype(np.float32))
    return replace(brain, volume=brain.volume * change)


@pytest.fixture
def brains(tmp_path):
    return tuple(uneven(number, tmp_path) for number in range(10))


def norms_of(config, brains):
    subjects = [brain.subject for brain in brains]
    return TrainingNorms.fit(config, norm_images(config, brains, CPU), subjects)


def test_a_training_brain_is_seen_by_norms_that_it_is_no_part_of(tmp_path, brains):
    config = run_config(tmp_path)
    norms = norms_of(config, brains)
    task = SiameseTask(config, steps=1, norms=norms)
    batch = LesionedHalves(config, brains, LesionSource(LESIONS))[[(0, 6), (0, 1), (0, 3)]]
    found = training_channels(task.network, batch, norms)
    count = len(batch.images) // 2
    for row in range(count):
        number = int(batch.items.group[row])
        others = [brain for k, brain in enumerate(brains) if k % 5 != number % 5]
        assert len(others) == 8
        own = norms_of(config, others).whole
        seen = replace(task.network.seen, reference=own.reference, normative=own.normative)
        expected = seen.of_pair(*batch.images[row::count].split(1))
        torch.testing.assert_close(found[row::count], expected)
        by_all = task.network.seen.of_pair(*batch.images[row::count].split(1))
        assert not torch.allclose(found[row::count], by_all, atol=0.05)


def test_norms_of_others_are_wider_than_those_that_a_brain_is_part_of(tmp_path, brains):
    config = run_config(tmp_path, InputConfig(difference=True))
    norms = norms_of(config, brains)
    task = SiameseTask(config, steps=1, norms=norms)
    batch = LesionedHalves(config, brains, LesionSource(LESIONS))[[(0, k) for k in range(10)]]
    healthy = torch.arange(0, len(batch.images) // 2, 3)  # of each brain the pair without a lesion
    crossed = training_channels(task.network, batch, norms)[healthy]
    by_all = training_channels(task.network, batch, TrainingNorms(norms.whole))[healthy]
    fine = slice(4, 5)  # z values as fine as they are, with the modes
    assert crossed[:, fine].std() > 1.1 * by_all[:, fine].std()


def test_both_scans_of_a_subject_are_left_out_together(tmp_path, brains):
    config = run_config(tmp_path)
    subjects = [brain.subject for brain in brains]
    subjects[7] = subjects[0]
    images = list(norm_images(config, brains, CPU))
    part_of = TrainingNorms.fit(config, images, subjects).part_of
    assert part_of is not None
    assert part_of[7] == part_of[0]
    assert len(part_of.unique()) == 5


def test_of_two_subjects_none_is_left_out(tmp_path, brains):
    config = run_config(tmp_path)
    assert norms_of(config, brains[:2]).part_of is None
    three = norms_of(config, brains[:3]).part_of
    assert three is not None
    assert three.tolist() == [0, 1, 2]


def test_networks_that_see_no_norms_need_no_parts(tmp_path, brains):
    config = run_config(tmp_path, InputConfig())
    data = config.volumes.model_copy(update={"reference": False})
    norms = norms_of(config.model_copy(update={"data": data}), brains)
    assert norms.part_of is None
    assert norms.whole.reference is None
    assert norms.whole.normative is not None


def test_whole_pairs_are_one_without_lesions_and_others_with_several(tmp_path, brains):
    config = run_config(tmp_path, lesions_per_side=8, lesions_per_pair=4)
    source = LesionSource(LesionConfig(volume_mm3=(4000.0, 8000.0)))
    batch = LesionedHalves(config, brains, source)[[(0, 3)]]
    assert len(batch.images) == 2 + 2 * 2 * 8
    assert batch.lesions is not None
    assert batch.lesions.dtype == torch.uint8
    assert batch.paired
    assert not batch.lesions[::17].any()
    assert batch.items.item.tolist() == [0] * 17 + [1] * 17
    assert set(batch.items.group.tolist()) == {3}
    counts = [len(batch.lesions[k::17].unique()) - 1 for k in range(1, 17)]
    assert set(counts) <= {1, 2, 3, 4}
    assert 1 in counts
    assert max(counts) > 2
    for k in range(1, 17):
        left, right = batch.lesions[k::17] > 0
        assert not (left & right).any()  # no two in mirrored places
        changed = batch.images[k::17, 0] != batch.images[::17, 0]
        assert changed[batch.lesions[k::17] > 0].any()
        lesioned = [bool(left.any()), bool(right.any())]
        assert batch.items.lesioned[k::17].tolist() == lesioned
        assert lesioned[(k - 1) % 2]  # first on the left in every second pair


@pytest.mark.parametrize("role", ["control", "sham"])
def test_controls_and_shams_are_no_lesions(tmp_path, brains, role):
    lesions = LESIONS.model_copy(update={"roles": {role: 1.0}})
    config = run_config(tmp_path, lesions_per_side=2, lesions_per_pair=3)
    batch = LesionedHalves(config, brains, LesionSource(lesions))[[(0, 0)]]
    assert batch.lesions is not None
    assert not batch.lesions.any()
    assert not batch.items.lesioned.any()
    assert all(not torch.equal(batch.images[k], batch.images[0]) for k in range(1, 5))


def test_what_a_run_is_judged_by_is_lesions_alone(brains):
    roles: dict[LesionRole, float] = {"lesion": 1.0, "control": 8.0, "sham": 8.0}
    source = LesionSource(LESIONS.model_copy(update={"roles": roles}))
    drawn = draw_lesions(brains, source, per_subject=4, seed=0)
    assert {spec.role for specs in drawn.values() for spec in specs} == {"lesion"}
    assert drawn == draw_lesions(brains, LesionSource(LESIONS), per_subject=4, seed=0)


def test_controls_and_shams_are_for_maps_beside_lesions(tmp_path):
    roles: dict[LesionRole, float] = {"lesion": 1.0, "sham": 1.0}
    content = run_config(tmp_path).model_dump()
    content["lesions"] = LESIONS.model_copy(update={"roles": roles}).model_dump()
    assert RunConfig(**content).lesions.roles == roles
    content["lesions"]["roles"] = {"sham": 1.0}
    with pytest.raises(ValidationError, match="must have a share of lesions"):
        RunConfig(**content)
    content["lesions"]["roles"] = roles
    content |= {"loss": {"objective": "triplet"}, "head": {"name": "distance"}}
    with pytest.raises(ValidationError, match="lesions alone where"):
        RunConfig(**content)


def test_pairs_stay_pairs_in_a_joined_batch(tmp_path, brains):
    drawn = LesionedHalves(run_config(tmp_path), brains, LesionSource(LESIONS))
    parts = [drawn[[(0, k)]] for k in (0, 1)]
    batch = join(parts)
    assert batch.paired
    assert batch.items.item.tolist() == [0] * 6 + [1] * 6
    assert batch.items.group.tolist() == [0] * 3 + [1] * 3 + [0] * 3 + [1] * 3
    whole = torch.cat([part.images[:3] for part in parts])
    assert torch.equal(batch.images[:6], whole)


def test_the_pairs_of_two_processes_stay_pairs_when_they_are_gathered(tmp_path, brains):
    config = run_config(tmp_path)
    task = SiameseTask(config, steps=1, norms=norms_of(config, brains))
    drawn = LesionedHalves(config, brains, LesionSource(LESIONS))
    parts = [drawn[[(0, k)]] for k in (0, 1)]
    found = task._relations(Items.join([part.items for part in parts]), parts[0])
    pairs = (found.positive | found.negative).nonzero().tolist()
    own = [(k, k + 3) for k in (0, 1, 2, 6, 7, 8)]
    assert sorted(map(tuple, pairs)) == sorted([*own, *((b, a) for a, b in own)])
    assert found.positive.sum() == 4  # of each subject one pair has no lesion


HEADS: dict[ObjectiveName, HeadConfig] = {
    "map": HeadConfig(name="decoder", decoder_width=4),
    "triplet": HeadConfig(name="distance"),
    "bce": HeadConfig(name="joint"),
}


@pytest.mark.parametrize("objective", HEADS)
def test_every_objective_learns_from_whole_pairs(tmp_path, brains, objective):
    config = run_config(tmp_path)
    update = {"loss": LossConfig(objective=objective), "head": HEADS[objective]}
    config = config.model_copy(update=update)
    norms = norms_of(config, brains)
    task = SiameseTask(config, steps=1, norms=norms)
    task.log_dict = lambda *_, **__: None
    batch = LesionedHalves(config, brains, LesionSource(LESIONS))[[(0, 0), (0, 1)]]
    assert batch.paired
    loss = task.training_step(batch, 0)["loss"]
    loss.backward()
    assert torch.isfinite(loss)
    assert isinstance(task.network.encoder, PooledEncoder)
    for one in task.network.encoder.trunk.parameters():
        assert one.grad is not None
        assert float(one.grad.abs().sum()) > 0
