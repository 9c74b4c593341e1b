"""What a lesion is, completely: enough to make the same one again."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["LesionConfig", "LesionSpec"]

Range = tuple[float, float]


class LesionSpec(BaseModel):
    """One lesion: all that `inject_lesion` needs beside the volume."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["ellipsoid", "mask"] = Field(description="Drawn shape, or one of a mask folder.")
    side: Literal["L", "R"] = Field(description="Hemisphere; nothing crosses x = 0.")
    seed: int = Field(ge=0, description="Seed of the edge's and the texture's noise.")
    centre_mm: tuple[float, float, float] = Field(description="Centre in template RAS+ mm.")
    volume_mm3: float = Field(gt=0, description="Volume of {alpha >= 0.5} in native mm3.")
    native_mm3_per_mm3: float = Field(
        default=1.0, gt=0, description="Native mm3 per template mm3: det of moving_from_fixed."
    )
    radii_ratio: tuple[float, float, float] = Field(
        default=(1.0, 1.0, 1.0), description="Relative radii of the ellipsoid; a mask has its own."
    )
    rotation_deg: tuple[float, float, float] = Field(
        default=(0.0, 0.0, 0.0), description="Turns about x, then y, then z."
    )
    roughness: float = Field(
        default=0.0, ge=0, le=1, description="Edge noise (SD) relative to the mean radius."
    )
    edge_mm: float = Field(default=0.0, ge=0, description="Width of the edge from alpha 0 to 1.")
    contrast: float = Field(ge=-1, description="Relative change inside: -0.4 darkens by 40 %.")
    texture: float = Field(default=0.0, ge=0, description="SD of the relative change's noise.")
    texture_mm: float = Field(default=5.0, gt=0, description="Grain of the texture in mm.")
    mask_name: str | None = Field(default=None, description="File in the mask folder (kind mask).")

    @model_validator(mode="after")
    def _mask_has_a_name(self) -> "LesionSpec":
        if (self.kind == "mask") != (self.mask_name is not None):
            msg = (
                f"mask_name must be set for kind 'mask' and only then; got kind {self.kind!r} "
                f"with {self.mask_name!r}; name a file or choose 'ellipsoid'"
            )
            raise ValueError(msg)
        return self

    @property
    def template_mm3(self) -> float:
        """The volume in template space, which is larger than most brains."""
        return self.volume_mm3 / self.native_mm3_per_mm3

    @property
    def mean_radius_mm(self) -> float:
        """Radius of the ball of this volume in template space."""
        return float((3 * self.template_mm3 / (4 * 3.141592653589793)) ** (1 / 3))


class LesionConfig(BaseModel):
    """Ranges that lesions are drawn from (uniform; volumes uniform in their logarithm)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    volume_mm3: Range = Field(default=(2000.0, 20000.0), description="Native volume.")
    native_mm3_per_mm3: float = Field(
        default=1.0, gt=0, description="Native mm3 per template mm3 of the subject at hand."
    )
    radii_ratio: Range = Field(default=(0.6, 1.6), description="Each relative radius.")
    roughness: Range = Field(default=(0.1, 0.3), description="Edge noise relative to the radius.")
    edge_mm: Range = Field(default=(2.0, 5.0), description="Width of the edge.")
    contrast: Range = Field(default=(-0.6, -0.3), description="Relative change inside.")
    texture: Range = Field(default=(0.03, 0.1), description="SD of the texture.")
    texture_mm: Range = Field(default=(4.0, 8.0), description="Grain of the texture.")
    mask_share: float = Field(
        default=0.0, ge=0, le=1, description="Share of lesions shaped by real masks."
    )
    least_inside: float = Field(
        default=0.8, gt=0, le=1, description="Share of the shape inside brain and side."
    )

    @model_validator(mode="after")
    def _ranges_rise(self) -> "LesionConfig":
        for name, value in self:
            if isinstance(value, tuple) and value[0] > value[1]:
                msg = f"{name} must be (low, high), got {value}; swap them"
                raise ValueError(msg)
        if self.volume_mm3[0] <= 0 or self.radii_ratio[0] <= 0:
            msg = "volume_mm3 and radii_ratio must be positive; raise their lower ends"
            raise ValueError(msg)
        return self
