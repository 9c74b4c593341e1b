"""What a lesion is, completely: enough to make the same one again."""

from typing import Literal

from pydantic import Field, model_validator

from hemitwin._frozen import Frozen
from hemitwin.transforms.lesions.mass_effect import LARGEST_PUSH, MassEffect

__all__ = [
    "SIDES",
    "LesionKind",
    "LesionLayer",
    "LesionRole",
    "LesionSpec",
    "Modality",
    "Pathology",
    "Side",
]

Side = Literal["L", "R"]
SIDES: tuple[Side, Side] = ("L", "R")
LesionKind = Literal["ellipsoid", "mask", "field", "foci"]
LesionRole = Literal["lesion", "control", "sham"]
Modality = Literal["T1w", "T2w", "FLAIR"]
Pathology = Literal["generic", "tumour", "infarct", "cavity", "haemorrhage", "white_matter"]


class LesionLayer(Frozen):
    """A part of a lesion that looks different from its core: the outer shell or the centre."""

    share: float = Field(gt=0, lt=1, description="Share of the lesion's volume.")
    contrast: float = Field(ge=-1, description="Relative change of the layer.")
    replacement: float = Field(
        default=0.0, ge=0, le=1, description="How far the tissue's own pattern is lost."
    )
    follows_white_matter: bool = Field(
        default=False, description="Seen where the volume shows white matter, as oedema is."
    )


class LesionSpec(Frozen):
    """One lesion: all that `inject_lesion` needs beside the volume.

    From outside in, a lesion has a shell (oedema of a tumour, gliosis about a cavity), its core
    and a centre (necrosis). `contrast`, `texture` and `replacement` are the core's.
    """

    pathology: Pathology = Field(default="generic", description="What it stands for.")
    role: LesionRole = Field(
        default="lesion",
        description="lesion; control: its support, blur and resampling without contrast or net "
        "displacement; sham: the lesion in both hemispheres.",
    )
    modality: Modality = Field(default="T1w", description="Contrast of the volume it is made for.")
    kind: LesionKind = Field(
        description="ellipsoid, field (a smooth random field above a threshold), foci (several "
        "small balls), or mask: one of a mask folder."
    )
    side: Side = Field(description="Hemisphere; nothing crosses x = 0.")
    seed: int = Field(ge=0, description="Seed of the shape's, the edge's and the texture's noise.")
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
    contrast: float = Field(
        ge=-5,
        description="Relative change inside: -0.4 darkens by 40 %. Or SDs: contrast_from.",
    )
    contrast_from: Literal["spec", "surroundings"] = Field(
        default="spec",
        description="surroundings: contrasts are in SDs of the tissue around the lesion.",
    )
    texture: float = Field(
        default=0.0,
        ge=0,
        description="SD of the relative change's noise; from surroundings, in units of theirs. "
        "None without contrast.",
    )
    texture_mm: float = Field(default=5.0, gt=0, description="Grain of the texture in mm.")
    texture_from: Literal["spec", "surroundings"] = Field(
        default="spec",
        description="surroundings: SD and grain are measured in the volume around the lesion.",
    )
    replacement: float = Field(
        default=0.0, ge=0, le=1, description="How far the core's own pattern is lost."
    )
    shell: LesionLayer | None = Field(default=None, description="Outermost part.")
    centre: LesionLayer | None = Field(default=None, description="Innermost part.")
    in_white_matter: bool = Field(
        default=False, description="Keep to the volume's deep white matter."
    )
    foci: int = Field(default=1, ge=1, le=64, description="How many balls (kind foci).")
    spread_mm: float = Field(default=0.0, ge=0, description="Foci lie within it of the centre.")
    mass_effect_mm: float = Field(
        default=0.0, ge=0, description="Largest displacement of tissue in template mm."
    )
    mass_reach_mm: float = Field(
        default=40.0, gt=0, description="Distance from the centre where displacement ends."
    )
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

    @model_validator(mode="after")
    def _layers_and_push_are_possible(self) -> "LesionSpec":
        shares = sum(layer.share for layer in (self.shell, self.centre) if layer)
        if shares >= 1:
            msg = f"shell and centre must leave a core, got shares of {shares:g}; lower them"
            raise ValueError(msg)
        if self.contrast_from == "spec" and self.contrast < -1:
            msg = (
                f"contrast must be at least -1, which is black, got {self.contrast:g}; for SDs of "
                f"the surroundings set contrast_from"
            )
            raise ValueError(msg)
        most = LARGEST_PUSH * self.mass_reach_mm
        if self.mass_effect_mm > most or (self.mass_effect_mm and self.centre_mm[0] == 0):
            msg = (
                f"mass_effect_mm must be at most {most:.2f} for a reach of {self.mass_reach_mm:g} "
                f"mm, about a centre beside x = 0; got {self.mass_effect_mm:g} mm about "
                f"{self.centre_mm}; lower it"
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

    @property
    def has_contrast(self) -> bool:
        """Whether any part of it differs from healthy tissue in brightness."""
        layers = (layer.contrast for layer in (self.shell, self.centre) if layer)
        return any((self.contrast, *layers))

    @property
    def is_abnormal(self) -> bool:
        """The label: a lesion that changes something, on one side only."""
        return self.role == "lesion" and (self.has_contrast or self.mass_effect_mm > 0)

    @property
    def mass_effect(self) -> MassEffect | None:
        """The displacement, where there is one."""
        if self.mass_effect_mm == 0:
            return None
        return MassEffect(self.centre_mm, self.mass_reach_mm, self.mass_effect_mm)
