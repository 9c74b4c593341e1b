"""Which slices are written."""

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from hemitwin._frozen import Frozen
from hemitwin._names import Plane, Shape
from hemitwin.pipeline.cohort.config import SplitConfig
from hemitwin.pipeline.stage.bids import Modality

__all__ = ["Export", "LabelsFrom", "Part", "Positions", "SliceConfig", "Source"]

Part = Literal["whole", "hemisphere"]
Source = Literal["prepared", "native"]
Positions = Literal["all", "central", "area", "lesion"]
LabelsFrom = Literal["nothing", "asymmetries", "lesions", "column"]
Export = Literal["npz", "parquet", "classes", "symbrain"]

_POSITIONS = "multiples of step_mm in template mm; sagittal: odd multiples of half of it"
_NATIVE_MM = 1.0


class SliceConfig(Frozen):
    """Which slices are written."""

    modality: Modality = Field(default="T1w", description="Image type of the prepared volumes.")
    source: Source = Field(
        default="prepared",
        description="What is cut: the prepared volume, or the scan it was made from, sampled once "
        "through its transform.",
    )
    planes: tuple[Plane, ...] = Field(
        default=("axial",), min_length=1, description="Slice orientations, in any order."
    )
    part: Part = Field(
        default="whole",
        description="Whole slices, or each hemisphere apart with the right one mirrored.",
    )
    step_mm: float = Field(default=8.0, ge=0.5, description="Distance between slices.")
    positions: Positions = Field(
        default="all",
        description="Which of the positions that cut the brain: all, the central ones, those with "
        "enough brain, or the one where the lesion is largest.",
    )
    central_share: float = Field(
        default=0.5, gt=0, le=1, description="Of the brain's extent, for central positions."
    )
    least_area_mm2: float = Field(
        default=4000.0, gt=0, description="Brain in a slice, for positions by area."
    )
    spacing_mm: float | None = Field(
        default=None,
        gt=0,
        description="Edge of a pixel: template mm of prepared volumes (by default their voxels'), "
        "the subject's own mm of native scans (by default 1).",
    )
    pixels: int | None = Field(
        default=None,
        ge=16,
        multiple_of=2,
        description="Rows and columns, cut or padded with 0 about the middle; halves of axial and "
        "coronal slices have half the columns. By default the prepared field of view.",
    )
    window: tuple[float, float] = Field(
        default=(0.5, 99.5),
        description="Percentiles of the volume's brain: the darkest and the brightest grey.",
    )
    bits: int = Field(default=8, ge=8, le=16, multiple_of=8, description="Of a pixel: 8 or 16.")
    asymmetry_mm2: tuple[float, ...] = Field(
        default=(),
        description="Area of a shape drawn into one half of a copy of each slice, in mm2 as "
        "spacing_mm.",
    )
    asymmetry_shapes: tuple[Shape, ...] = Field(
        default=("circle", "square"), min_length=1, description="What is drawn, one each time."
    )
    asymmetry_grey: tuple[float, float] = Field(
        default=(140.0, 215.0), description="Grey of circles and squares, white being 255."
    )
    asymmetry_contrast: tuple[float, float] = Field(
        default=(-0.5, -0.25), description="Change of grey in textured shapes, as a share."
    )
    participants: Path | None = Field(
        default=None,
        description="participants.tsv or HCP CSV with families, strata or labels.",
    )
    lesion_masks: Path | None = Field(
        default=None,
        description="Folder of <subject>*_mask.nii[.gz], in the space of the scans or the "
        "template: pictures are labelled by what they show of the lesion.",
    )
    label_column: str | None = Field(
        default=None, description="Column of the participants' table that is the pictures' label."
    )
    export: tuple[Export, ...] = Field(
        default=(), description="Written beside the folder, for tools that load no folder."
    )
    split: SplitConfig = Field(default=SplitConfig(), description="Folds, by subject.")
    seed: int = Field(default=0, ge=0, description="Of the folds and of what is drawn.")

    @field_validator("planes", "asymmetry_shapes", "export")
    @classmethod
    def _in_one_order(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(sorted(set(values)))

    @field_validator("asymmetry_mm2")
    @classmethod
    def _from_small_to_large(cls, areas: tuple[float, ...]) -> tuple[float, ...]:
        if min(areas, default=1.0) <= 0:
            msg = f"asymmetry_mm2 must be above 0, got {areas}; leave it out for none"
            raise ValueError(msg)
        return tuple(sorted(set(areas)))

    @model_validator(mode="after")
    def _ranges_rise(self) -> "SliceConfig":
        ranges = {
            "window": self.window,
            "asymmetry_grey": self.asymmetry_grey,
            "asymmetry_contrast": self.asymmetry_contrast,
        }
        for name, (low, high) in ranges.items():
            if low > high or (name == "window" and not 0 <= low < high <= 100):
                msg = f"{name} must be (low, high), rising, got {(low, high)}; correct it"
                raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _parts_fit(self) -> "SliceConfig":
        given = (self.asymmetry_mm2, self.label_column, self.lesion_masks)
        if sum(bool(one) for one in given) > 1:
            msg = (
                "labels must have one source; leave all but one of asymmetry_mm2, label_column "
                "and lesion_masks out"
            )
            raise ValueError(msg)
        if self.label_column is not None and self.participants is None:
            msg = "label_column must name a column of participants, which is not given; give it"
            raise ValueError(msg)
        if self.labels_from == "nothing" and {"npz", "classes"} & set(self.export):
            msg = (
                "exports as npz and classes need labels; give label_column, asymmetry_mm2 or "
                "lesion_masks"
            )
            raise ValueError(msg)
        if self.planes == ("sagittal",) and "symbrain" in self.export:
            msg = "the export symbrain needs slices with a midline; ask for axial or coronal ones"
            raise ValueError(msg)
        if self.positions == "lesion" and self.lesion_masks is None:
            msg = "positions at the lesion need its masks; give lesion_masks, their folder"
            raise ValueError(msg)
        return self

    @property
    def labels_from(self) -> LabelsFrom:
        """What the pictures' labels are made from."""
        if self.asymmetry_mm2:
            return "asymmetries"
        if self.lesion_masks is not None:
            return "lesions"
        return "nothing" if self.label_column is None else "column"

    @property
    def settings(self) -> dict[str, object]:
        """What decides which pictures there are: a folder has one set of it."""
        kept_apart = {"split", "export", "participants", "lesion_masks"}
        if not self.asymmetry_mm2:
            kept_apart.add("seed")
        decides = self.model_dump(mode="json", exclude=kept_apart)
        return {**decides, "labels_from": self.labels_from, "fixed_positions": _POSITIONS}

    @property
    def native_mm(self) -> float:
        """Edge of a pixel of native scans."""
        return self.spacing_mm or _NATIVE_MM
