"""Which volumes a run works on, how its folds are drawn, and which brains are paired."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from hemitwin._frozen import Frozen
from hemitwin._names import TEMPLATE_SPACE
from hemitwin.pipeline.stage.bids import Modality

__all__ = ["BrainPairsConfig", "DataConfig", "Positive", "SplitConfig", "StrangersConfig"]

Positive = Literal["mz", "same"]
"""Which pairs count as the same: identical twins, or two scans of one person."""


class DataConfig(Frozen):
    """Where the volumes come from and at which grid the network sees them."""

    prepared: Path = Field(description="Folder that `hemitwin prepare` wrote.")
    modality: Modality = Field(default="T1w", description="Which of its volumes.")
    resolution_mm: float = Field(
        default=4.0,
        gt=0,
        description="Voxel size the network sees, in mm; a whole multiple of the prepared one.",
    )
    participants: Path | None = Field(
        default=None,
        description="participants.tsv with participant_id; with family_id, mother_id or "
        "father_id, relatives stay on one side of the split.",
    )
    space: str = Field(
        default=TEMPLATE_SPACE,
        description="The space- entity of its volumes; another one for pairs of brains only.",
    )
    reference: bool = Field(
        default=True,
        description="Give the network each voxel's deviation from the training images too, in "
        "their SDs.",
    )
    reference_mm: float = Field(
        default=6.0,
        ge=0,
        description="SD of the smoothing before it: wide for lesions, which lie in no two brains "
        "alike; 0 for twins, who are alike in the fine.",
    )
    exclude: tuple[str, ...] = Field(
        default=(),
        description="Subjects left out of every fold, for example known patients, or single "
        "scans: sub-01_ses-2.",
    )


class SplitConfig(Frozen):
    """How many groups go to each fold; whole numbers are counts, the rest goes to training."""

    validation: float = Field(default=0.2, gt=0, description="Share (below 1) or count.")
    test: float = Field(
        default=0.2, gt=0, description="Share (below 1) or count; with folds, 1 / folds instead."
    )
    train_share: float = Field(
        default=1.0, gt=0, le=1, description="Share of the training groups that are used."
    )
    folds: int | None = Field(
        default=None, ge=2, description="Cross-validation: every group is tested in one of them."
    )
    fold: int = Field(default=0, ge=0, description="Which of the folds is the test, from 0.")
    repeat: int = Field(default=0, ge=0, description="Draw anew from the same seed.")
    seed: int | None = Field(
        default=None,
        ge=0,
        description="Of the folds and of the lesions in validation and test; the run's by "
        "default. Set it to compare runs that differ in their seed on the same pairs.",
    )
    stratify: str | None = Field(
        default=None,
        description="Column of data.participants whose values every fold gets in proportion.",
    )
    leave_out: dict[str, str] | None = Field(
        default=None,
        min_length=1,
        max_length=1,
        description="A column of data.participants and a value, for example {scanner: Trio}: who "
        "has it is the test, and nobody else; validation is drawn from the others.",
    )
    families: Path | None = Field(
        default=None,
        description="Private table of relatives beside data.participants, for example the Human "
        "Connectome Project's restricted CSV.",
    )

    @model_validator(mode="after")
    def _fold_exists(self) -> "SplitConfig":
        if self.fold >= (self.folds or 1):
            msg = f"fold must be below folds ({self.folds}), got {self.fold}; they count from 0"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _test_is_drawn_or_named(self) -> "SplitConfig":
        if self.leave_out is not None and self.folds is not None:
            msg = (
                f"folds must be left out where leave_out names the test, got {self.folds}; "
                f"leave out one of both"
            )
            raise ValueError(msg)
        return self


class StrangersConfig(Frozen):
    """Which pairs of unrelated people stand against a positive pair."""

    negatives: int = Field(
        default=3, ge=1, description="Pairs of unrelated people for each positive pair."
    )
    match: tuple[Literal["sex", "age"], ...] = Field(
        default=("sex", "age"), description="In what a stranger is like the one it stands for."
    )
    caliper_years: float = Field(
        default=2.0,
        ge=0,
        description="Largest difference of age from the one it stands for; twins have none, so "
        "that above 0 age still tells pairs apart: the baseline age_difference says how well.",
    )
    relax_age: bool = Field(
        default=False,
        description="Where nobody is within the caliper, take who is nearest in age.",
    )
    redraw: int = Field(default=0, ge=0, description="Draw other strangers from the same seed.")


class BrainPairsConfig(StrangersConfig):
    """Which pairs of brains count as the same, and which others stand against them."""

    positive: Positive = Field(
        default="mz", description="mz: identical twins; same: scan and rescan of one person."
    )
    hard_negatives: tuple[Literal["dz", "sibling"], ...] = Field(
        default=(), description="Relatives who are negatives, too: all such pairs are taken."
    )
