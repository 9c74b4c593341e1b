"""Labelled images in memory, as the network sees them, with what is known of each."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int, UInt8

from hemitwin.pipeline.cohort.families import FAMILIES
from hemitwin.pipeline.images.config import ImagesConfig
from hemitwin.pipeline.images.image_arrays import list_arrays
from hemitwin.pipeline.images.image_folders import (
    fold_folders,
    list_class_folders,
    list_unlabelled,
)
from hemitwin.pipeline.images.image_listing import COLUMNS, Listing, in_order, listed
from hemitwin.pipeline.images.image_masks import ImageMasks
from hemitwin.pipeline.images.image_tables import TABLE, list_fold_tables, list_table
from hemitwin.pipeline.images.picture import Picture, fit_picture
from hemitwin.pipeline.stage.errors import UserError

__all__ = ["ImageSet", "read_images", "read_unlabelled"]

logger = logging.getLogger(__name__)

_FACTS = ("width", "height", "mode", "format", "digest")
_TOLD = 8


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images of one size with their classes.

    Parameters
    ----------
    table : DataFrame
        A row an image: ``name`` (unique; the file, relative to its source), ``label`` (its class,
        "" where it has none), ``group`` (what folds must not tear apart; the name where nothing
        is known), ``fold`` ("" where the source gives none), ``origin`` (what the file's name, or
        a table, says of where it is from), ``width`` and ``height`` in pixels, ``mode`` and
        ``format`` of the file, ``digest`` of its pixels; then further columns of a table.
    pixels : (n, channels, rows, columns) uint8
        After crop and resizing.
    classes : tuple of str
        In the order of `class_numbers`.
    problems : tuple of str
        What was left out or changed, with the file's name.
    """

    table: pd.DataFrame
    pixels: UInt8[np.ndarray, "n channels rows columns"]
    classes: tuple[str, ...]
    problems: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Count the images."""
        return len(self.table)

    @property
    def class_numbers(self) -> Int[np.ndarray, " n"]:
        """Each image's place in `classes`; -1 without a class."""
        numbers = {name: number for number, name in enumerate(self.classes)}
        return np.array([numbers.get(label, -1) for label in self.table["label"]], dtype=np.int64)

    @property
    def is_grouped(self) -> bool:
        """Whether it is known of any image which others belong to it."""
        return bool((self.table["group"] != self.table["name"]).any())

    def take(self, rows: Int[np.ndarray, " kept"] | Bool[np.ndarray, " n"]) -> "ImageSet":
        """Return the images of some rows: places, or a mask; pixels are copied."""
        places = np.arange(len(self))[rows]
        table = self.table.iloc[places].reset_index(drop=True)
        return replace(self, table=table, pixels=self.pixels[places])


def read_images(config: ImagesConfig) -> ImageSet:
    """Read labelled images; one that cannot be read is left out and told.

    An image that lies in two classes, pixel by pixel, is left out of both, and so is one with the
    same value everywhere. `open_picture` says what becomes of transparency, of more than 8 bits,
    of several frames and of the EXIF orientation.

    Parameters
    ----------
    config : ImagesConfig
        Where they lie, which classes are used, and the size to bring them to.

    Raises
    ------
    UserError
        The source is none, a class that is asked for has no image, or there are fewer than two
        classes.
    """
    listing = _of_classes(_listing(config), config)
    if not config.keep_folds:
        listing = replace(listing, table=listing.table.assign(fold=""))
    images = _opened(listing, config, classes=())
    images = _without_contradictions(images)
    there = set(images.table["label"])
    gone = sorted(set(listing.table["label"]) - there)
    if len(there) < 2 or (gone and config.classes):
        msg = (
            f"{config.images} must give at least two images of different classes that can be "
            f"read, and one of each class asked for; got {len(images)} of "
            f"{listed(in_order(there))}; {listed(images.problems)}"
        )
        raise UserError(msg)
    lost = tuple(f"{name}: no image of this class is left" for name in gone)
    images = replace(
        images, classes=config.classes or in_order(there), problems=(*images.problems, *lost)
    )
    _tell(images)
    return images


def read_unlabelled(
    source: Path | Sequence[Path], config: ImagesConfig, *, classes: Sequence[str] = ()
) -> ImageSet:
    """Read images of which the class need not be known, to be classified.

    Parameters
    ----------
    source : Path or sequence of Path
        A folder, searched to any depth; or files.
    config : ImagesConfig
        Crop, size and channels.
    classes : sequence of str
        A run's classes, `config.classes` by default. An image below a folder that is called after
        one of them, in any case, has it for its label; others have "".

    Raises
    ------
    UserError
        There is no image, or none that can be read.
    """
    known = tuple(classes) or config.classes
    listing = list_unlabelled(source, known)
    images = _opened(listing, config, classes=known)
    if not len(images):
        msg = f"one image at least must be readable, but: {listed(images.problems)}; give others"
        raise UserError(msg)
    _tell(images)
    return images


def _listing(config: ImagesConfig) -> Listing:
    path = config.images
    if path.is_dir():
        _refuse_relatives(config)
        if (path / TABLE).is_file():
            return list_table(path / TABLE, config)
        tables = {folder / TABLE: fold for folder, fold in fold_folders(path).items()}
        there = {table: fold for table, fold in tables.items() if table.is_file()}
        if there:
            return list_fold_tables(there, config)
        return list_class_folders(path, group_pattern=config.group_pattern)
    if not path.is_file():
        msg = (
            f"images must come from a folder, a table or an .npz, but {path} is not there; "
            f"name another"
        )
        raise UserError(msg)
    return list_arrays(path) if path.suffix.lower() == ".npz" else list_table(path, config)


def _refuse_relatives(config: ImagesConfig) -> None:
    whole = config.images.resolve()
    private = whole.with_name(f"{whole.name}.{FAMILIES}")
    if not config.keep_folds and private.is_file():
        msg = (
            f"slices of relatives must keep their folds, but keep_folds is off and {private} "
            f"names relatives; set keep_folds, or slice again with another seed"
        )
        raise UserError(msg)


def _of_classes(listing: Listing, config: ImagesConfig) -> Listing:
    """Keep the classes that are asked for; refuse what are no classes."""
    counts = listing.table["label"].value_counts()
    there = in_order(set(counts.index))
    missing = [name for name in config.classes if name not in there]
    if missing:
        msg = (
            f"{config.images} must have images of each class in classes, but has none of "
            f"{listed(missing)}; it has {listed(there)}"
        )
        raise UserError(msg)
    if len(there) < 2:
        msg = (
            f"{config.images} must have at least two classes, got {listed(there)} alone; where "
            f"this folder holds the folders of classes, give it as images"
        )
        raise UserError(msg)
    if len(there) > max(20, len(listing.table) / 2):
        msg = (
            f"{config.images} must have few classes with several images each, got {len(there)} "
            f"for {len(listing.table)} images ({listed(there)}); name another label_column"
        )
        raise UserError(msg)
    if not config.classes:
        return listing
    kept = listing.table["label"].isin(config.classes)
    others = [
        f"{name}: {counts[name]} image(s) left out, a class not asked for"
        for name in there
        if name not in config.classes
    ]
    return replace(listing, table=listing.table[kept], problems=(*listing.problems, *others))


def _opened(listing: Listing, config: ImagesConfig, *, classes: tuple[str, ...]) -> ImageSet:
    """Decode one image after another into one array."""
    places = list(listing.table.index)
    shape = (len(places), config.channels, config.pixels, config.pixels)
    pixels = np.zeros(shape, dtype=np.uint8)
    facts: list[tuple[object, ...]] = []
    kept: list[int] = []
    lost: list[str] = []
    changed: dict[str, list[str]] = {}
    masks = ImageMasks.below(config.crop) if isinstance(config.crop, Path) else None
    for row, name in enumerate(listing.table["name"]):
        try:
            picture = _showing(listing.load(places[row]))
            seen = picture if masks is None else _showing(masks.keep(picture, name))
        except UserError as error:
            lost.append(f"{name}: left out, {error}")
            continue
        pixels[len(kept)] = fit_picture(seen, config)
        kept.append(row)
        facts.append(_facts(picture))
        for change in picture.changes:
            changed.setdefault(change, []).append(name)
    table = listing.table.iloc[kept].reset_index(drop=True)
    known = pd.DataFrame(facts, columns=list(_FACTS))
    further = [name for name in table.columns if name not in {*COLUMNS, *_FACTS}]
    table = pd.concat([table[list(COLUMNS)], known, table[further]], axis=1)
    told = [
        f"{len(names)} image(s) {change}: {listed(names)}" for change, names in changed.items()
    ]
    problems = (*listing.problems, *lost, *told)
    return ImageSet(table, pixels[: len(kept)], classes, problems)


def _showing(picture: Picture) -> Picture:
    if picture.is_blank:
        msg = "an image must show something, but it has one value everywhere"
        raise UserError(msg)
    return picture


def _facts(picture: Picture) -> tuple[object, ...]:
    return (*picture.image.size, picture.mode, picture.format, picture.digest)


def _without_contradictions(images: ImageSet) -> ImageSet:
    """Leave out every image that lies in several classes."""
    several = images.table.groupby("digest")["label"].transform("nunique") > 1
    if not several.any():
        return images
    problems = []
    for _, same in images.table[several].groupby("digest", sort=False):
        named = [
            f"{row.name_} ({row.label})"
            for row in same.rename(columns={"name": "name_"}).itertuples()
        ]
        problems.append(f"{listed(named)}: left out, one image in several classes")
    kept = images.take(~several.to_numpy())
    return replace(kept, problems=(*images.problems, *problems))


def _tell(images: ImageSet) -> None:
    for problem in images.problems[:_TOLD]:
        logger.warning("%s", problem)
    if (more := len(images.problems) - _TOLD) > 0:
        logger.warning("and %d more of this kind, in the record of the images", more)
