"""Which labelled images are read."""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from hemitwin._frozen import Frozen

__all__ = ["ImagesConfig"]

_Share = Annotated[float, Field(gt=0, le=1)]


class ImagesConfig(Frozen):
    """Which labelled images a run learns from, and as what the network sees them."""

    images: Path = Field(
        description="Folder of class folders (also below train, validation and test), CSV, TSV or "
        "text table, .npz with MedMNIST's keys, or folder that `hemitwin slice` wrote."
    )
    image_column: str = Field(
        default="file_name", description="A table's column of files, or of ids without suffix."
    )
    label_column: str = Field(default="label", description="A table's column of classes.")
    group_column: str | None = Field(
        default=None,
        description="A table's column of what must not be torn apart by folds, for example "
        "patient_id; by default a column called subject, participant_id, patient_id, patient or "
        "lesion_id, where there is one.",
    )
    group_pattern: str | None = Field(
        default=None,
        description="Regular expression of the group in a file's name, where no column has it, "
        "for example person[0-9]+; by default a subject as BIDS names it, sub-01.",
    )
    fold_column: str | None = Field(
        default=None,
        description="A table's column of train, validation and test; by default one called split "
        "or fold that holds nothing else.",
    )
    source_column: str | None = Field(
        default=None,
        description="A table's column of where an image is from (hospital, scanner, dataset), for "
        "the check of shortcuts; by default one called source, dataset, site or scanner.",
    )
    folder: Path | None = Field(
        default=None, description="Where a table's files are; the table's own folder by default."
    )
    keep_folds: bool = Field(
        default=True, description="Keep the folds that the images come in; else draw new ones."
    )
    classes: tuple[str, ...] = Field(
        default=(), description="Those used, in this order; all, sorted, by default."
    )
    channels: Literal[1, 3] = Field(default=1, description="1: grey; 3: colour.")
    balanced: bool = Field(
        default=True, description="Draw as many images of each class; else as many as there are."
    )
    epoch_images: int | None = Field(
        default=None,
        ge=2,
        description="Images drawn in an epoch; by default as many as the training fold has.",
    )
    images_per_class: int | None = Field(
        default=None,
        ge=2,
        description="Training images of each class that are used, at most: for few-shot curves.",
    )
    pixels: int = Field(
        default=112,
        ge=16,
        description="Height and width that the network sees: images are resized with their aspect "
        "kept, and padded with 0.",
    )
    crop: tuple[_Share, _Share] | Path | None = Field(
        default=None,
        description="What is kept of an image, before resizing: shares of height and width of its "
        "central box; or a folder of masks, each called as its image, outside which all is black.",
    )

    @field_validator("group_pattern")
    @classmethod
    def _is_pattern(cls, pattern: str | None) -> str | None:
        try:
            re.compile(pattern or "")
        except re.error as error:
            msg = f"group_pattern must be a regular expression, got {pattern} ({error})"
            raise ValueError(msg) from error
        return pattern

    @field_validator("classes", mode="before")
    @classmethod
    def _as_text(cls, classes: object) -> object:
        if not isinstance(classes, (list, tuple)):
            return classes
        if any(isinstance(one, bool) for one in classes):
            msg = f"classes must be names, got {classes}; write 'yes' and 'no' in quotes"
            raise ValueError(msg)  # YAML reads them as truth, and 0 as a number
        return tuple(str(one) if isinstance(one, int) else one for one in classes)

    @field_validator("classes")
    @classmethod
    def _named_once(cls, classes: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(classes)) < len(classes) or len(classes) == 1:
            msg = f"classes must be at least two, each named once, got {', '.join(classes)}"
            raise ValueError(msg)
        return classes
