"""How relevance is brought to the surfaces, and what is drawn."""

from typing import Literal

from pydantic import Field, field_validator

from hemitwin._frozen import Frozen

__all__ = ["ExportConfig"]


class ExportConfig(Frozen):
    """How relevance is brought to the surfaces, and what is drawn."""

    mapping: Literal["trilinear", "ribbon"] = Field(
        default="trilinear",
        description="Read relevance at the midthickness, or average it from the white to the "
        "pial surface.",
    )
    smooth_mm: float | None = Field(
        default=None,
        ge=0,
        le=40,
        description="Smooth maps by this FWHM in mm, along the cortex and in voxels; not at all "
        "by default, and with 0.",
    )
    render: bool = Field(default=False, description="Draw the scenes, too.")

    @field_validator("smooth_mm")
    @classmethod
    def _none_for_zero(cls, width: float | None) -> float | None:
        # Files tell one name of it: a map that is smoothed by 0 mm is one that is not.
        return width or None
