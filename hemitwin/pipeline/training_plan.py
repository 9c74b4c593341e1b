"""What training will work on, before it begins: cases, folds, relatives."""

from dataclasses import dataclass

from hemitwin.models import SiameseNetwork, count_parameters
from hemitwin.pipeline.cohort.brain_pairs import People
from hemitwin.pipeline.cohort.brains import Brain, load_brains, require_excluded
from hemitwin.pipeline.cohort.demographics import read_demographics
from hemitwin.pipeline.cohort.families import kinship_of
from hemitwin.pipeline.cohort.leakage import refuse_copies
from hemitwin.pipeline.cohort.split import Split, draw_split
from hemitwin.pipeline.config import RunConfig
from hemitwin.pipeline.stage.errors import UserError

__all__ = ["TrainingPlan", "people_of", "plan_training"]


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
