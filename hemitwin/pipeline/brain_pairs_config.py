"""Which pairs of brains count as the same, and who stands against them."""

from typing import Literal

from pydantic import Field

from hemitwin._frozen import Frozen

__all__ = ["BrainPairsConfig", "Positive", "StrangersConfig"]

Positive = Literal["mz", "same"]
"""Which pairs count as the same: identical twins, or two scans of one person."""


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
