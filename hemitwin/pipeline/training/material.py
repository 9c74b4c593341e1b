"""What training will work on, before it begins: cases, folds, relatives."""

from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool

from hemitwin._shapes import Volume
from hemitwin.atlases import save_table
from hemitwin.models import (
    LocalEncoder,
    LocalEncoderConfig,
    Reference,
    SiameseNetwork,
    count_parameters,
)
from hemitwin.pipeline.cohort.brain_pairs import People, write_brain_pairs
from hemitwin.pipeline.cohort.brains import Brain, load_brains, require_excluded
from hemitwin.pipeline.cohort.demographics import read_demographics
from hemitwin.pipeline.cohort.families import kinship_of
from hemitwin.pipeline.cohort.leakage import refuse_copies
from hemitwin.pipeline.cohort.split import Split, draw_split
from hemitwin.pipeline.stage.errors import UserError
from hemitwin.pipeline.training.brain_data import (
    BrainSetData,
    IndexedPairs,
    pairs_of_fold,
    standard_brain,
)
from hemitwin.pipeline.training.brain_task import BrainTask
from hemitwin.pipeline.training.compared import split_brain
from hemitwin.pipeline.training.config import RunConfig
from hemitwin.pipeline.training.data import HemisphereData
from hemitwin.pipeline.training.device import chosen_device
from hemitwin.pipeline.training.runs import lesion_source
from hemitwin.pipeline.training.scoring import embed_brains, score_brain_pairs, score_pairs
from hemitwin.pipeline.training.task import SiameseTask

__all__ = [
    "VALIDATION_DIGEST",
    "VALIDATION_PAIRS",
    "TrainingMaterial",
    "TrainingPlan",
    "material_of",
    "people_of",
    "plan_training",
]

VALIDATION_PAIRS = "validation_pairs.tsv"
"""Scored pairs of validation in the run folder; for brains a private file, not this one."""

VALIDATION_DIGEST = "validation_pairs_sha256"
"""What a run's summary calls the digest of that table."""

_PRIVATE_PAIRS = "validation_pairs.private.tsv"


@dataclass(frozen=True, eq=False)
class TrainingPlan:
    """What training will work on, before it begins.

    Parameters
    ----------
    config : RunConfig
        The settings.
    split : Split
        Subjects by fold.
    brains : tuple of Brain
        All cases, loaded.
    people : People
        Relatives, age and sex, as far as the tables know them.
    """

    config: RunConfig
    split: Split
    brains: tuple[Brain, ...]
    people: People

    def fold(self, name: str) -> tuple[Brain, ...]:
        """Return the cases of one fold."""
        return tuple(brain for brain in self.brains if self.split.folds[brain.subject] == name)

    @property
    def subjects(self) -> tuple[str, ...]:
        """Everybody who has a fold, sorted."""
        return tuple(sorted(self.split.folds))

    def describe(self, network: SiameseNetwork) -> str:
        """Say in one line what will happen."""
        config = self.config
        counts = [f"{len(self.fold(name))} {name}" for name in ("train", "validation", "test")]
        width, *rest = self.brains[0].volume.shape[1:]
        size = [width // 2, *rest] if config.pairs is None else [width, *rest]
        return (
            f"{config.encoder.name} with {config.head.name} head and {config.loss.objective} "
            f"objective, {count_parameters(network):,} parameters, "
            f"{'halves' if config.pairs is None else 'brains'} of "
            f"{' x '.join(str(one) for one in size)} voxels; cases: {', '.join(counts)}; "
            f"{config.training.epochs} epochs"
        )


def people_of(config: RunConfig, subjects: tuple[str, ...]) -> People:
    """Read what the run's tables say of its subjects; see `kinship_of`."""
    tables = [path for path in (config.data.participants, config.split.families) if path]
    kinship = kinship_of(subjects, config.data.participants, config.split.families)
    return People(kinship, read_demographics(*tables))


def plan_training(config: RunConfig) -> TrainingPlan:
    """Load the cohort and draw its folds.

    Raises
    ------
    UserError
        There is no prepared volume, nobody has a name that is to be left out, the volumes differ
        in shape, there are too few groups for the folds, or one volume has two names.
    """
    require_excluded(config.data)
    brains = load_brains(config.data, pairing="hemispheres" if config.pairs is None else "brains")
    shapes = {tuple(brain.volume.shape) for brain in brains}
    if len(shapes) > 1:
        msg = (
            f"all volumes of a run must lie on one grid, got shapes {sorted(shapes)}; prepare "
            f"them with one --resolution-mm"
        )
        raise UserError(msg)
    subjects = sorted({brain.subject for brain in brains})
    split = draw_split(
        subjects,
        config.split,
        participants=config.data.participants,
        seed=config.evaluation_seed,
    )
    refuse_copies([brain.case for brain in brains], split)
    return TrainingPlan(config, split, brains, people_of(config, tuple(subjects)))


@dataclass(frozen=True, eq=False)
class TrainingMaterial:
    """Data, task and validation of one training.

    Parameters
    ----------
    data : HemisphereData or BrainSetData
        Training and validation batches.
    make_task : callable
        From the number of optimizer steps to the Lightning module.
    score_validation : callable
        From the trained network to the table of scored validation pairs.
    labels : callable
        From that table to the label of each pair: a lesion, or two that are not one set.
    write : callable
        Writes that table into a run folder.
    """

    data: HemisphereData | BrainSetData
    make_task: Callable[[int], SiameseTask]
    score_validation: Callable[[SiameseNetwork], pd.DataFrame]
    labels: Callable[[pd.DataFrame], Bool[np.ndarray, " n"]]
    write: Callable[[Path, pd.DataFrame], object]


def material_of(plan: TrainingPlan, device: torch.device | None = None) -> TrainingMaterial:
    """Return what the plan's task needs; the reference is taken on the device."""
    make = _halves if plan.config.pairs is None else _brains
    return make(plan, chosen_device(device))


def _halves(plan: TrainingPlan, device: torch.device) -> TrainingMaterial:
    config = plan.config
    data = HemisphereData(
        config, plan.fold("train"), plan.fold("validation"), lesion_source(config)
    )

    def score(network: SiameseNetwork) -> pd.DataFrame:
        return score_pairs(network, data.validation_pairs, split=plan.split, fold="validation")

    def images() -> Iterator[Volume]:
        for brain in plan.fold("train"):
            pair = split_brain(brain, brain.volume)
            yield from (pair.left, pair.right)

    reference = _reference(config, images(), device)
    local = _local_patterns(config, reference, images(), device)
    return TrainingMaterial(
        data,
        lambda steps: SiameseTask(config, steps=steps, reference=reference, local=deepcopy(local)),
        score,
        lambda table: table["lesioned"].to_numpy(bool),
        lambda folder, table: save_table(folder / VALIDATION_PAIRS, table),
    )


def _brains(plan: TrainingPlan, device: torch.device) -> TrainingMaterial:
    config = plan.config
    validation = plan.fold("validation")
    learnt, checked = (
        pairs_of_fold(config, plan.fold(fold), plan.people, plan.split, fold)
        for fold in ("train", "validation")
    )
    data = BrainSetData(
        config,
        plan.fold("train"),
        validation,
        pairs=learnt,
        families=plan.people.kinship.groups(plan.subjects),
    )
    pairs = IndexedPairs.of(checked, validation)

    def score(network: SiameseNetwork) -> pd.DataFrame:
        return score_brain_pairs(
            network,
            validation,
            embed_brains(network, validation),
            pairs=checked,
            demographics=plan.people.demographics,
        )

    reference = _reference(config, map(standard_brain, plan.fold("train")), device)
    local = _local_patterns(config, reference, map(standard_brain, plan.fold("train")), device)
    return TrainingMaterial(
        data,
        lambda steps: BrainTask(
            config, steps=steps, pairs=pairs, reference=reference, local=deepcopy(local)
        ),
        score,
        lambda table: (table["label"] == "different").to_numpy(),
        lambda folder, table: write_brain_pairs(folder / _PRIVATE_PAIRS, table),
    )


def _reference(
    config: RunConfig, images: Iterable[Volume], device: torch.device
) -> Reference | None:
    """Take the reference of the training fold alone, unchanged by augmentation."""
    if not config.data.reference:
        return None
    data = config.data
    seen = (image.to(device) for image in images)
    return Reference.fit(seen, smooth_voxels=data.reference_mm / data.resolution_mm)


def _local_patterns(
    config: RunConfig,
    reference: Reference | None,
    images: Iterable[Volume],
    device: torch.device,
) -> LocalEncoder | None:
    """Take the local patterns of the training fold alone, unchanged by augmentation."""
    if not isinstance(config.encoder, LocalEncoderConfig):
        return None
    if reference is not None:
        images = (reference(image[None].to(device))[0].cpu() for image in images)
    # On the CPU: all images at once are more than a GPU may hold.
    return LocalEncoder.fit(images, config.encoder)
