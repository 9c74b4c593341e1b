"""What training does with a brain, in loaders of MONAI's and by itself."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from monai.data.dataloader import DataLoader
from monai.data.dataset import Dataset
from monai.transforms.intensity.dictionary import RandGaussianSmoothd
from monai.transforms.spatial.dictionary import Orientationd

from hemitwin.pipeline.stage.errors import UserError
from hemitwin.pipeline.training.config import TrainingConfig
from hemitwin.pipeline.training.sources.brain_transforms import (
    brains_transforms,
    entries_of,
    halves_transforms,
    seeds_of,
    transformed,
)
from hemitwin.pipeline.training.sources.halves import LesionedHalves
from hemitwin.pipeline.training.sources.pairs import LesionSource
from hemitwin.transforms import GuardedCompose
from tests.pipeline.training.test_data import EVERYTHING, LESIONS, make_brain, run_config

PAGE = Path(__file__).parents[4] / "docs" / "architecture.md"


@pytest.fixture
def brains(tmp_path):
    return tuple(make_brain(number, tmp_path) for number in range(4))


@pytest.mark.parametrize("debug", ["true", "false"])
def test_a_brain_without_room_for_a_lesion_is_named(tmp_path, brains, monkeypatch, debug):
    monkeypatch.setenv("MONAI_DEBUG", debug)
    small = np.zeros_like(brains[0].mask)
    small[4:6, 10:14, 8:10] = small[14:16, 10:14, 8:10] = True
    tight = replace(brains[0], volume=brains[0].volume * torch.from_numpy(small), mask=small)
    drawn = LesionedHalves(run_config(tmp_path), (tight,), LesionSource(LESIONS))
    with pytest.raises(
        UserError, match="sub-00: a lesion must have 80% of its shape in the brain"
    ):
        drawn[[(0, 0)]]


def whole_chain(config, *more):
    steps = halves_transforms(config, LesionSource(LESIONS))
    return GuardedCompose([*steps.augmentation.transforms, *steps.lesioned["L"].transforms, *more])


def loaded(config, brains, *more, seed=0, workers=0):
    """Batches of a plain MONAI loader over the training's transforms."""
    torch.manual_seed(seed)
    chain = whole_chain(config, *more).set_random_state(seed=seed)
    dataset = Dataset([entries_of(brain) for brain in brains], chain)
    return list(DataLoader(dataset, batch_size=2, num_workers=workers))


@pytest.mark.parametrize("workers", [0, 2])
def test_the_transforms_are_repeatable_in_a_plain_monai_loader(tmp_path, brains, workers):
    several = TrainingConfig(augmentation=EVERYTHING, lesions_per_pair=3)
    config = run_config(tmp_path).model_copy(update={"training": several})
    first, again, other = (
        loaded(config, brains, seed=seed, workers=workers) for seed in (0, 0, 1)
    )
    assert [batch["image_left"].shape for batch in first] == [(2, 1, 10, 24, 18)] * 2
    assert all(batch["image_lesions_left"].flatten(1).any(dim=1).all() for batch in first)
    specs = [one for batch in first for one in batch["image_lesion_specs"]]
    assert len({len(json.loads(one)) for one in specs}) > 1  # lists of several lengths in a batch
    assert len(set(specs)) == len(brains)
    for one, same in zip(first, again, strict=True):
        assert one["image_lesion_specs"] == same["image_lesion_specs"]
        assert torch.equal(one["image_left"], same["image_left"])
        assert torch.equal(one["image_right"], same["image_right"])
    assert not torch.equal(first[0]["image_left"], other[0]["image_left"])


def test_workers_do_not_draw_alike(tmp_path, brains):
    same = [replace(brains[0], case=brain.case) for brain in brains]
    drawn = loaded(run_config(tmp_path), same, workers=2)
    assert len({spec for batch in drawn for spec in batch["image_lesion_specs"]}) == 4


def test_a_monai_transform_can_follow_the_trainings(tmp_path, brains):
    config = run_config(tmp_path)
    smooth = RandGaussianSmoothd(("image_left", "image_right"), prob=1.0)
    plain, smoothed = (loaded(config, brains, *more, seed=4)[0] for more in ((), (smooth,)))
    assert plain["image_lesion_specs"] == smoothed["image_lesion_specs"]
    for name in ("image_left", "image_right"):
        assert smoothed[name].std() < plain[name].std()
    chain = whole_chain(config, Orientationd("image_right", "RAS", labels=None))
    with pytest.raises(ValueError, match="Orientationd, left 'image_right' in contradiction"):
        chain(entries_of(brains[0]))  # it would undo the mirror


def test_brains_transforms_are_repeatable_in_a_plain_monai_loader(tmp_path, brains):
    made = []
    for seed in (0, 0, 1):
        chain = brains_transforms(run_config(tmp_path, augmentation=EVERYTHING))
        torch.manual_seed(seed)
        dataset = Dataset([entries_of(brain) for brain in brains], chain)
        made.append(next(iter(DataLoader(dataset, batch_size=4)))["image"])
    assert made[0].shape == (4, 1, 20, 24, 18)
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])


def test_what_is_no_fault_of_a_brain_stays_what_it_is(tmp_path, brains):
    chain = brains_transforms(run_config(tmp_path))
    entries = {**entries_of(brains[0]), "image": brains[0].volume}
    with pytest.raises(RuntimeError, match="RandAugmentBraind") as caught:
        transformed(chain, entries, case="sub-00", seed=0)
    assert isinstance(caught.value.__cause__, TypeError)


def test_seeds_are_small_and_of_all_numbers_and_of_how_many_there_are():
    rows = [(0, 3, 1), (0, 3, 1, 0), (0, 3, 2), (1, 3, 1), (0, 4, 1)]
    drawn = [seed for row in rows for seed in seeds_of(*row, count=3)]
    assert len(set(drawn)) == 15
    assert all(0 <= seed < 2**32 for seed in drawn)
    assert seeds_of(0, 3, 1, count=5)[:3] == drawn[:3]


def test_the_entries_of_a_brain_are_the_brain(brains):
    entries: Any = entries_of(brains[0])
    assert torch.equal(entries["image"].as_tensor(), brains[0].volume)
    np.testing.assert_array_equal(entries["mask"][0].numpy(), brains[0].mask)
    for name in ("image", "mask"):
        np.testing.assert_array_equal(entries[name].affine, brains[0].affine)


def test_what_the_page_shows_runs(prepared, tmp_path, monkeypatch):
    section = PAGE.read_text(encoding="utf-8").split("## The training's transforms")[1]
    shown = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert shown is not None
    content = prepared.config.model_dump(mode="json", exclude_none=True)
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(shown[1], names)  # noqa: S102 - our own page
    batch = names["batch"]
    assert isinstance(batch, dict)
    assert batch["image_left"].shape == batch["image_right"].shape
    assert batch["image_lesions_left"].any()
