"""From a configuration to what training needs: cases and folds, then data and validation."""

from collections.abc import Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch.utils.data import Dataset

from hemitwin._shapes import Volume
from hemitwin.models import (
    LocalEncoder,
    LocalEncoderConfig,
    Reference,
    SiameseNetwork,
    count_parameters,
)
from hemitwin.pipeline.cohort.brain_pairs import People
from hemitwin.pipeline.cohort.brains import Brain, load_brains, require_excluded
from hemitwin.pipeline.cohort.demographics import read_demographics
from hemitwin.pipeline.cohort.families import kinship_of
from hemitwin.pipeline.cohort.leakage import refuse_copies
from hemitwin.pipeline.cohort.split import Split, draw_split
from hemitwin.pipeline.stage.errors import UserError
from hemitwin.pipeline.training.compared import HALVES
from hemitwin.pipeline.training.config import RunConfig
from hemitwin.pipeline.training.data import TrainingData, Validation
from hemitwin.pipeline.training.device import chosen_device
from hemitwin.pipeline.training.halves import HalvesValidation, LesionedHalves, validation_pairs
from hemitwin.pipeline.training.pairs import TrainingBatch
from hemitwin.pipeline.training.runs import lesion_source
from hemitwin.pipeline.training.task import SiameseTask
from hemitwin.pipeline.training.whole_brains import BrainSets, BrainsValidation, pairs_of_fold

__all__ = ["TrainingPlan", "TrainingSetup", "people_of", "plan_training", "set_up"]


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
        size = config.compared.images(self.brains[0])[0].shape[1:]
        return (
            f"{config.encoder.name} with {config.head.name} head and {config.loss.objective} "
            f"objective, {count_parameters(network):,} parameters, "
            f"{config.compared.word} of {' x '.join(str(one) for one in size)} voxels; "
            f"cases: {', '.join(counts)}; "
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
    brains = load_brains(config.data, pairing=config.compared.pairing)
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
class TrainingSetup:
    """What a training needs, made of its plan.

    Parameters
    ----------
    config : RunConfig
        The settings.
    data : TrainingData
        Training and validation batches.
    validation : Validation
        What the training is checked on.
    reference : Reference or None
        Of the training fold, where the network sees deviations from it.
    local : LocalEncoder or None
        Patterns of the training fold, where the configuration asks for them.
    """

    config: RunConfig
    data: TrainingData
    validation: Validation
    reference: Reference | None
    local: LocalEncoder | None

    def task(self, steps: int) -> SiameseTask:
        """Return the Lightning module of a training of so many optimizer steps."""
        return SiameseTask(
            self.config,
            steps=steps,
            reference=self.reference,
            local=deepcopy(self.local),
            scores=self.validation.epoch_scores(),
        )


def set_up(plan: TrainingPlan, device: torch.device | None = None) -> TrainingSetup:
    """Make what a plan's training needs; the reference is taken on the device."""
    config, place = plan.config, chosen_device(device)
    drawn, validation = _halves(plan) if config.compared is HALVES else _brains(plan)
    reference = _reference(config, _images(plan), place)
    return TrainingSetup(
        config,
        TrainingData(config, drawn, validation.batches),
        validation,
        reference,
        _local_patterns(config, reference, _images(plan), place),
    )


def _images(plan: TrainingPlan) -> Iterator[Volume]:
    """Give the images of the training fold as they are."""
    for brain in plan.fold("train"):
        yield from plan.config.compared.images(brain)


def _halves(plan: TrainingPlan) -> tuple[Dataset[TrainingBatch], Validation]:
    config, source = plan.config, lesion_source(plan.config)
    pairs = validation_pairs(config, plan.fold("validation"), source)
    drawn = LesionedHalves(config, plan.fold("train"), source)
    return drawn, HalvesValidation(pairs, plan.split)


def _brains(plan: TrainingPlan) -> tuple[Dataset[TrainingBatch], Validation]:
    config, validation = plan.config, plan.fold("validation")
    learnt, checked = (
        pairs_of_fold(config, plan.fold(fold), plan.people, plan.split, fold)
        for fold in ("train", "validation")
    )
    families = plan.people.kinship.groups(plan.subjects)
    drawn = BrainSets(config, plan.fold("train"), pairs=learnt, families=families)
    return drawn, BrainsValidation(validation, checked, plan.people.demographics)


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
