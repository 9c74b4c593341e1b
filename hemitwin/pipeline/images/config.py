"""Which slices are written."""

from typing import Literal

from pydantic import Field, field_validator

from hemitwin._frozen import Frozen
from hemitwin._names import Plane
from hemitwin.pipeline.cohort.config import SplitConfig
from hemitwin.pipeline.stage.bids import Modality

__all__ = ["Part", "SliceConfig"]

Part = Literal["whole", "hemisphere"]

_POSITIONS = "multiples of step_mm in template mm; sagittal: odd multiples of half of it"


class SliceConfig(Frozen):
    """Which slices are written."""

    modality: Modality = Field(default="T1w", description="Image type of the prepared volumes.")
    planes: tuple[Plane, ...] = Field(
        default=("axial",), min_length=1, description="Slice orientations, in any order."
    )
    part: Part = Field(
        default="whole",
        description="Whole slices, or each hemisphere apart with the right one mirrored.",
    )
    step_mm: float = Field(default=8.0, ge=0.5, description="Distance between slices.")
    split: SplitConfig = Field(default=SplitConfig(), description="Folds, by subject.")
    seed: int = Field(default=0, ge=0, description="Of the folds.")

    @field_validator("planes")
    @classmethod
    def _in_one_order(cls, planes: tuple[Plane, ...]) -> tuple[Plane, ...]:
        return tuple(sorted(set(planes)))

    @property
    def settings(self) -> dict[str, object]:
        """What decides which pictures there are: a folder has one set of it."""
        decides = self.model_dump(mode="json", exclude={"split", "seed"})
        return {**decides, "positions": _POSITIONS}
