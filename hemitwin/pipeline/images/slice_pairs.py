"""Pairs of halves in a folder of slices, in memory."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
from jaxtyping import Bool, UInt8
from PIL import Image
from pydantic import Field, field_validator

from hemitwin._frozen import Frozen
from hemitwin._names import Shape
from hemitwin.pipeline.cohort.split import Fold, Split, read_split
from hemitwin.pipeline.stage.errors import UserError, reading
from hemitwin.pipeline.stage.json_files import read_json

__all__ = ["PairSet", "SlicePairsConfig", "read_pairs"]

_FILES = ("left_file_name", "right_file_name")
_WANTED = (*_FILES, "subject", "case", "plane", "position_mm")


class SlicePairsConfig(Frozen):
    """Which halves of slices a run compares, and what is drawn into one of them."""

    slices: Path = Field(
        description="Folder that `hemitwin slice --part hemisphere` wrote; its folds are taken."
    )
    shapes: tuple[Shape, ...] = Field(
        default=("circle", "square"), min_length=1, description="One of them each time."
    )
    area_mm2: tuple[float, float] = Field(
        default=(3.0, 60.0), description="Areas in training, drawn evenly in their logarithm."
    )
    grey: tuple[float, float] = Field(
        default=(140.0, 215.0), description="Of circle and square: black is 0, white 255."
    )
    contrast: tuple[float, float] = Field(
        default=(-0.5, -0.25), description="Of textured: change of the grey, as a share of it."
    )
    window_px: int | None = Field(
        default=None,
        ge=16,
        description="Edge of the square windows through which training sees the halves, at places "
        "drawn anew; the whole halves by default. Validation and test see the whole. A few pixels "
        "are learnt many times sooner where they are more of what is seen.",
    )
    tested_mm2: tuple[float, ...] = Field(
        default=(3.0, 5.0, 7.0, 10.0, 13.5, 20.0, 40.0),
        min_length=1,
        description="Areas of the shapes in validation and test: each slice gets each of them in "
        "the test, and one of them in validation.",
    )

    @field_validator("area_mm2", "grey", "contrast")
    @classmethod
    def _low_first(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[0] > value[1]:
            msg = f"a range must be (low, high), got {value}; swap them"
            raise ValueError(msg)
        return value

    @field_validator("area_mm2", "tested_mm2")
    @classmethod
    def _above_nothing(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if min(value) <= 0:
            msg = f"areas must be above 0 mm2, got {value}; leave that out"
            raise ValueError(msg)
        return value


@dataclass(frozen=True, eq=False)
class PairSet:
    """Both halves of slices, the right one mirrored onto the left.

    Parameters
    ----------
    table : DataFrame
        A row a pair: its ``name``, ``subject``, and what else the folder's tables say.
    pixels : (n, 2, rows, columns) uint8
        Left and right; background 0.
    pixel_mm : float
        Edge of a pixel.
    """

    table: pd.DataFrame
    pixels: UInt8[np.ndarray, "n 2 rows columns"]
    pixel_mm: float

    def __len__(self) -> int:
        """Count the pairs."""
        return len(self.table)

    @property
    def fingerprints(self) -> list[str]:
        """Digests of the pixels, by which a pair is known again."""
        return [hashlib.sha256(one.tobytes()).hexdigest() for one in self.pixels]

    def of_fold(self, split: Split, fold: Fold) -> "PairSet":
        """Return the pairs of a fold's subjects."""
        folds = self.table["subject"].map(dict(split.folds))
        return self.take((folds == fold).to_numpy())

    def take(self, chosen: Bool[np.ndarray, " n"]) -> "PairSet":
        """Return the pairs of a mask."""
        table = self.table[chosen].reset_index(drop=True)
        return PairSet(table, self.pixels[chosen], self.pixel_mm)


def read_pairs(folder: Path) -> tuple[PairSet, Split]:
    """Read the halves of slices without asymmetries, with the folds that they were written in.

    Parameters
    ----------
    folder : Path
        Written by ``hemitwin slice --part hemisphere``, with 8 bits a pixel.

    Returns
    -------
    PairSet
        Of all folds, by subject and position.
    Split
        Of the folder.

    Raises
    ------
    UserError
        The folder is none of halves, its pictures are not of one size and 8 bits, it holds
        pictures into which shapes were drawn already, or a file is missing or damaged.
    """
    settings_path = folder / "slices.json"
    if not settings_path.is_file():
        msg = (
            f"{folder} must be a folder of slices, but it has no {settings_path.name}; write it "
            f"with 'hemitwin slice DERIVATIVES {folder} --part hemisphere'"
        )
        raise UserError(msg)
    split = read_split(folder / "splits.json")
    tables = [_table(folder / fold) for fold in get_args(Fold) if (folder / fold).is_dir()]
    table = pd.concat([one for one in tables if len(one)], ignore_index=True)
    if "asymmetry_mm2" in table.columns:
        msg = (
            f"shapes are drawn as training goes, but {folder} has some already; slice without "
            f"--asymmetry-mm2"
        )
        raise UserError(msg)
    with reading(settings_path, "slice again") as remedy:
        pixel_mm = float(read_json(settings_path, remedy=remedy)["pixel_mm"])
    pairs = [_pair(files) for files in table[["left", "right"]].to_numpy()]
    sizes = sorted({one.shape[1:] for one in pairs})
    if len(sizes) > 1:
        msg = (
            f"all halves of a run must have one size, but {folder} has {sizes}; slice one plane, "
            f"or give --pixels"
        )
        raise UserError(msg)
    pixels = np.stack(pairs)
    table["name"] = [
        f"{row.case}_{row.plane}{row.position_mm:+07.2f}mm" for row in table.itertuples()
    ]
    return PairSet(table.drop(columns=["left", "right"]), pixels, pixel_mm), split


def _table(folder: Path) -> pd.DataFrame:
    path = folder / "metadata.csv"
    with reading(path, "slice again"):
        table = pd.read_csv(path)
        if missing := [name for name in _WANTED if name not in table.columns]:
            msg = (
                f"{path} must have the columns of halves, but has no {', '.join(missing)}; slice "
                f"with --part hemisphere"
            )
            raise UserError(msg)
    for side, column in zip(("left", "right"), _FILES, strict=True):
        table[side] = [str(folder / str(name)) for name in table[column]]
    return table


def _pair(files: np.ndarray) -> UInt8[np.ndarray, "2 rows columns"]:
    halves = []
    for path in map(Path, files):
        with reading(path, "slice again"), Image.open(path) as picture:
            if picture.mode != "L":
                msg = f"{path} must have 8 bits of grey, got {picture.mode}; slice with --bits 8"
                raise UserError(msg)
            halves.append(np.asarray(picture))
    if halves[0].shape != halves[1].shape:
        msg = f"{files[0]} and {files[1]} must have one size, got {[h.shape for h in halves]}"
        raise UserError(msg)
    return np.stack(halves)
