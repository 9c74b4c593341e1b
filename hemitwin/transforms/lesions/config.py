"""Ranges and shares that lesions are drawn from."""

from pydantic import Field, model_validator

from hemitwin._frozen import Frozen
from hemitwin.transforms.lesions.contrasts import CONTRASTS, LesionContrasts, Range
from hemitwin.transforms.lesions.spec import LesionRole, Modality, Pathology

__all__ = ["LesionConfig"]

_PUSHING: tuple[Pathology, ...] = ("tumour", "haemorrhage")


class LesionConfig(Frozen):
    """Ranges that lesions are drawn from (uniform; volumes uniform in their logarithm).

    As it stands all lesions are generic ones. Shares are relative to one another.
    """

    pathologies: dict[Pathology, float] = Field(
        default={"generic": 1.0}, description="Share of each pathology."
    )
    roles: dict[LesionRole, float] = Field(
        default={"lesion": 1.0},
        description="Share of lesions, of controls (no contrast) and of shams (on both sides).",
    )
    modality: Modality = Field(default="T1w", description="What the volumes are.")
    volume_mm3: Range = Field(default=(2000.0, 20000.0), description="Native volume.")
    volumes_mm3: dict[Pathology, Range] = Field(
        default={"white_matter": (500.0, 4000.0)},
        description="Native volume of a pathology that is not to have volume_mm3.",
    )
    native_mm3_per_mm3: float = Field(
        default=1.0, gt=0, description="Native mm3 per template mm3 of the subject at hand."
    )
    radii_ratio: Range = Field(default=(0.6, 1.6), description="Each relative radius.")
    roughness: Range = Field(default=(0.1, 0.3), description="Edge noise relative to the radius.")
    edge_mm: Range = Field(default=(2.0, 5.0), description="Width of the edge.")
    contrast: Range = Field(
        default=(-0.6, -0.3), description="Relative change inside generic lesions."
    )
    contrast_sd: Range | None = Field(
        default=None,
        description="Size of generic lesions' change, up or down, in SDs of the tissue around "
        "them; in the place of contrast. Half of the tissue's pattern is lost to texture.",
    )
    contrast_share: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Share of generic lesions that change by contrast although contrast_sd is "
        "given: faint and strong ones together.",
    )
    contrasts: dict[Pathology, dict[Modality, LesionContrasts]] = Field(
        default={}, description="Relative changes that stand in for a pathology's built-in ones."
    )
    texture: Range = Field(default=(0.03, 0.1), description="SD of generic lesions' texture.")
    texture_mm: Range = Field(default=(4.0, 8.0), description="Grain of that texture.")
    matched_texture: Range = Field(
        default=(0.3, 0.7), description="The others' texture in SDs of what surrounds them."
    )
    mask_share: float = Field(
        default=0.0, ge=0, le=1, description="Share of lesions shaped by real masks."
    )
    field_share: float = Field(
        default=0.0, ge=0, le=1, description="Share of lesions that are random fields' level sets."
    )
    push: Range = Field(
        default=(0.2, 0.5), description="Height of the push of tumours and haemorrhages."
    )
    push_reach: Range = Field(
        default=(1.8, 2.4), description="Where the push ends, in mean radii of the lesion."
    )
    foci: tuple[int, int] = Field(default=(4, 12), description="Number of white-matter patches.")
    spread_mm: Range = Field(default=(12.0, 25.0), description="Patches lie within it.")
    least_inside: float = Field(
        default=0.8, gt=0, le=1, description="Share of the shape inside brain and side."
    )

    @model_validator(mode="after")
    def _ranges_rise(self) -> "LesionConfig":
        for name, value in self:
            if isinstance(value, tuple) and value[0] > value[1]:
                msg = f"{name} must be (low, high), got {value}; swap them"
                raise ValueError(msg)
        volumes = (self.volume_mm3, *self.volumes_mm3.values())
        if min(low for low, _ in volumes) <= 0 or self.radii_ratio[0] <= 0:
            msg = "volume_mm3 and radii_ratio must be positive; raise their lower ends"
            raise ValueError(msg)
        if self.mask_share + self.field_share > 1:
            msg = "mask_share and field_share must not exceed 1 together; lower one of them"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _shares_are_shares(self) -> "LesionConfig":
        for name, shares in (("pathologies", self.pathologies), ("roles", self.roles)):
            if not shares or min(shares.values()) < 0 or sum(shares.values()) <= 0:
                msg = f"{name} must hold shares of 0 or more, one above 0; got {dict(shares)}"
                raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _contrasts_are_mixed_of_two(self) -> "LesionConfig":
        if self.contrast_share > 0 and self.contrast_sd is None:
            msg = (
                f"contrast_share must come with contrast_sd, else all generic lesions change by "
                f"contrast; got {self.contrast_share}; give contrast_sd or leave it out"
            )
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _standard_deviations_are_positive(self) -> "LesionConfig":
        if self.contrast_sd is not None and self.contrast_sd[0] < 0:
            msg = f"contrast_sd must not be negative, got {self.contrast_sd}; signs are drawn"
            raise ValueError(msg)
        return self

    def contrasts_of(self, pathology: Pathology) -> LesionContrasts:
        """Return a pathology's ranges in this modality: the given ones, or the built-in ones."""
        given = self.contrasts.get(pathology, {})
        if self.modality in given:
            return given[self.modality]
        if pathology == "generic":
            return LesionContrasts(core=self.contrast)
        return CONTRASTS[pathology][self.modality]

    def volume_of(self, pathology: Pathology) -> Range:
        """Return a pathology's range of native volumes in mm3."""
        return self.volumes_mm3.get(pathology, self.volume_mm3)

    def pushes(self, pathology: Pathology) -> bool:
        """Tell whether a pathology displaces tissue."""
        return pathology in _PUSHING and self.push[1] > 0
