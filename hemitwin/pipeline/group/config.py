"""What is asked of a group: which regions come first, and how asymmetric its members are."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from hemitwin._frozen import Frozen
from hemitwin._names import HCPMMP

__all__ = ["AsymmetryConfig", "Part", "RankConfig"]

Part = Literal["positive", "negative", "signed"]
"""What is counted of a signed map: what speaks for the score, what against it, or both."""


class RankConfig(Frozen):
    """What is ranked, and how often families are drawn."""

    part: Part = Field(
        default="positive",
        description="What is counted: relevance for the score, against it, or both.",
    )
    draws: int = Field(default=2000, ge=100, description="Draws of the bootstrap over families.")
    seed: int = Field(default=0, ge=0, description="Same seed, same intervals and surrogates.")
    null_draws: int = Field(
        default=1000,
        ge=0,
        description="Surrogate maps as smooth as the group's, for p values of groups of regions; "
        "0 for none.",
    )
    atlas: str = Field(
        default=HCPMMP,
        pattern=r"^[a-zA-Z0-9]+$",
        description="Name of the atlas that the maps were parcellated by; groups of regions are "
        "known of HCP-MMP alone.",
    )


class AsymmetryConfig(Frozen):
    """Who is compared with whom."""

    reference: Path | None = Field(
        default=None,
        description="Table whose participant_id are the reference group; by default all.",
    )
    reference_group: str | None = Field(
        default=None,
        pattern=r"^[^=]+=.+$",
        description="column=value that selects the reference group, in its table or in that of "
        "--participants.",
    )
    participants: Path | None = Field(
        default=None, description="Table with age and sex, which are then accounted for."
    )
    families: Path | None = Field(
        default=None,
        description="Table of relatives, kept apart: no one's own are in the reference.",
    )
    draws: int = Field(default=2000, ge=100, description="Draws of the bootstrap over families.")
    seed: int = Field(default=0, ge=0, description="Same seed, same intervals.")
