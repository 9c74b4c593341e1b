"""From a configuration to what training needs: cases and folds, then data and validation."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.utils.data import Dataset

from hemitwin._shapes import Volume
from hemitwin.models import (
    LocalEncoder,
    LocalEncoderConfig,
    Reference,
    SiameseNetwork,
)
from hemitwin.pipeline.cohort.brain_pairs import People
from hemitwin.pipeline.cohort.brains import COMPUTATION as GRID_COMPUTATION
from hemitwin.pipeline.cohort.brains import Brain, find_cases, load_brains, require_excluded
from hemitwin.pipeline.cohort.demographics import read_demographics
from hemitwin.pipeline.cohort.families import kinship_of
from hemitwin.pipeline.cohort.leakage import refuse_copies, write_guards
from hemitwin.pipeline.cohort.split import Split, draw_split
from hemitwin.pipeline.stage.bids import Case
from hemitwin.pipeline.stage.errors import UserError
from hemitwin.pipeline.stage.records import Record
from hemitwin.pipeline.training.compared import HALVES
from hemitwin.pipeline.training.config import RunConfig
from hemitwin.pipeline.training.data import TrainingData, Validation
from hemitwin.pipeline.training.device import chosen_device
from hemitwin.pipeline.training.norms import TrainingNorms, norm_images
from hemitwin.pipeline.training.plan import (
    SHOWN,
    TrainingPlan,
    TrainingSetup,
    described,
    transferred,
)
from hemitwin.pipeline.training.runs import lesion_source, masks_digest
from hemitwin.pipeline.training.sources.halves import (
    HalvesValidation,
    LesionedHalves,
    validation_pairs,
)
from hemitwin.pipeline.training.sources.labelled_images import plan_images
from hemitwin.pipeline.training.sources.pairs import TrainingBatch
from hemitwin.pipeline.training.sources.slice_pairs import plan_slice_pairs
from hemitwin.pipeline.training.sources.whole_brains import (
    BrainSets,
    BrainsValidation,
    pairs_of_fold,
)

__all__ = [
    "VolumePlan",
    "people_of",
    "plan_training",
    "plan_volumes",
    "record_now",
]


@dataclass(frozen=True, eq=False)
class VolumePlan(TrainingPlan):
    """Prepared volumes, whose halves or wholes are compared.

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

    @property
    def record(self) -> Record:
        """What the run is trained on; its settings are in its configuration."""
        return record_of_volumes(self.config, self.split, [brain.case for brain in self.brains])

    def describe(self, network: SiameseNetwork) -> str:
        """Say in one line what will happen."""
        config = self.config
        counts = [f"{len(self.fold(name))} {name}" for name in SHOWN]
        size = config.compared.images(self.brains[0])[0].shape[1:]
        return (
            f"{described(config, network)}, {config.compared.word} of "
            f"{' x '.join(str(one) for one in size)} voxels; "
            f"cases: {', '.join(counts)}; {config.training.epochs} epochs"
        )

    def write_guards(self, folder: Path) -> None:
        """See `hemitwin.pipeline.cohort.leakage.write_guards`."""
        cases = [brain.case for brain in self.brains]
        write_guards(folder, self.split, cases, self.people.kinship.groups(self.subjects))

    def set_up(self, device: torch.device | None = None) -> "TrainingSetup":
        """Make what the training needs; the reference is taken on the device."""
        config, place = self.config, chosen_device(device)
        drawn, validation = _halves(self) if config.compared is HALVES else _brains(self)
        known = self.fold("train")
        norms = TrainingNorms.fit(
            config, norm_images(config, known, place), [brain.subject for brain in known]
        )
        return TrainingSetup(
            config,
            TrainingData(config, drawn, validation.batches),
            validation,
            norms,
            _local_patterns(config, norms.whole.reference, _images(self), place),
        )


def people_of(config: RunConfig, subjects: tuple[str, ...]) -> People:
    """Read what the run's tables say of its subjects; see `kinship_of`."""
    tables = [path for path in (config.volumes.participants, config.split.families) if path]
    kinship = kinship_of(subjects, config.volumes.participants, config.split.families)
    return People(kinship, read_demographics(*tables))


def plan_training(config: RunConfig) -> TrainingPlan:
    """Load what is learnt from, and draw its folds; see the other functions that plan."""
    if config.images is not None:
        return plan_images(config)
    return plan_volumes(config) if config.slice_pairs is None else plan_slice_pairs(config)


def plan_volumes(config: RunConfig) -> VolumePlan:
    """Load the cohort and draw its folds.

    Raises
    ------
    UserError
        There is no prepared volume, nobody has a name that is to be left out, the volumes differ
        in shape, there are too few groups for the folds, or one volume has two names.
    """
    require_excluded(config.volumes)
    brains = load_brains(config.volumes, pairing=config.compared.pairing)
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
        participants=config.volumes.participants,
        seed=config.evaluation_seed,
    )
    refuse_copies([brain.case for brain in brains], split)
    return VolumePlan(config, split, brains, people_of(config, tuple(subjects)))


def record_now(config: RunConfig, split: Split) -> Record | None:
    """Say what a run would be trained on now, for comparison; `None` where the data are away."""
    if config.images is not None:
        return plan_images(config).record if config.images.images.exists() else None
    if config.slice_pairs is not None:
        return plan_slice_pairs(config).record if config.slice_pairs.slices.is_dir() else None
    if not config.volumes.prepared.is_dir():
        return None
    return record_of_volumes(config, split, find_cases(config.volumes))


def record_of_volumes(config: RunConfig, split: Split, cases: Sequence[Case]) -> Record:
    """Say what a run on volumes is trained on; its settings are in its configuration."""
    tables = {"participants": config.volumes.participants, "families": config.split.families}
    inputs = {case.name: case.scan for case in cases}
    inputs |= {name: path for name, path in tables.items() if path is not None}
    inputs |= transferred(config)
    settings = {
        "folds": split.hash,
        "grid": GRID_COMPUTATION,
        "lesion_masks": masks_digest(config),
    }
    return Record("train", computation=1, inputs=inputs, settings=settings)


def _images(plan: VolumePlan) -> Iterator[Volume]:
    """Give the images of the training fold as they are."""
    for brain in plan.fold("train"):
        yield from plan.config.compared.images(brain)


def _halves(plan: VolumePlan) -> tuple[Dataset[TrainingBatch], Validation]:
    config, source = plan.config, lesion_source(plan.config)
    pairs = validation_pairs(config, plan.fold("validation"), source)
    drawn = LesionedHalves(config, plan.fold("train"), source)
    return drawn, HalvesValidation(pairs, plan.split)


def _brains(plan: VolumePlan) -> tuple[Dataset[TrainingBatch], Validation]:
    config, validation = plan.config, plan.fold("validation")
    learnt, checked = (
        pairs_of_fold(config, plan.fold(fold), plan.people, plan.split, fold)
        for fold in ("train", "validation")
    )
    families = plan.people.kinship.groups(plan.subjects)
    drawn = BrainSets(config, plan.fold("train"), pairs=learnt, families=families)
    return drawn, BrainsValidation(validation, checked, plan.people.demographics)


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
