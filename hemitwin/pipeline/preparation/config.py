"""Which scans of a source are prepared, and what decides a prepared volume."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from hemitwin._frozen import Frozen
from hemitwin.pipeline.stage.bids import Alignment, Modality, Pairing

__all__ = ["InputType", "PrepareConfig", "SourceConfig"]

InputType = Literal["auto", "bids", "derivatives", "hcp", "list"]


class SourceConfig(Frozen):
    """Which of a source's scans are meant."""

    input_type: InputType = Field(default="auto", description="Kind of input.")
    modality: Modality = Field(default="T1w", description="Image type.")
    space: str | None = Field(
        default=None, pattern=r"^[a-zA-Z0-9]+$", description="The space- entity of derivatives."
    )
    alignment: Alignment | None = Field(
        default=None, description="How the scans already lie, if the source does not tell."
    )
    sessions: tuple[str, ...] = Field(
        default=(), description="Sessions, with or without 'ses-'; all by default."
    )
    filter_file: Path | None = Field(
        default=None,
        description="JSON, as fMRIPrep reads it: which entities the scans must have.",
    )


class PrepareConfig(Frozen):
    """What decides a prepared volume."""

    resolution_mm: float = Field(default=2.0, ge=0.5, le=8, description="Voxel size in mm.")
    pairing: Pairing = Field(
        default="hemispheres", description="What will be compared: hemispheres, or whole brains."
    )
