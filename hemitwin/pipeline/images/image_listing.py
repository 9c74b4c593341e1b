"""What a source of images says of each before any is opened: name, class, group, fold, origin."""

import os
import re
import unicodedata
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from hemitwin.pipeline.cohort.split import Fold
from hemitwin.pipeline.images.picture import IMAGE_SUFFIXES, Picture

__all__ = [
    "COLUMNS",
    "Listing",
    "family_of",
    "files_below",
    "fold_of",
    "group_of",
    "in_order",
    "listed",
    "plain_text",
]

COLUMNS = ("name", "label", "group", "fold", "origin")
"""Of every listing; further columns of a table follow."""

_FOLDS: dict[str, Fold] = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
_LITTER = frozenset({"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"})
_SUBJECT = r"(?<![A-Za-z0-9])sub-[A-Za-z]*[0-9][A-Za-z0-9]*"
_DRAWN = re.compile(r"_asymmetry-[0-9.]+mm2")
_NUMBERS = re.compile(r"[0-9a-f]*[0-9][0-9a-f]*")
_NAMED = 8


@dataclass(frozen=True, eq=False)
class Listing:
    """The images of a source, none of them opened yet.

    Parameters
    ----------
    table : DataFrame
        `COLUMNS` and what else the source's table has. Its index says which image `load` gives.
    load : callable
        Opens the image of a place in the index.
    problems : tuple of str
        What was left out, with its name.
    """

    table: pd.DataFrame
    load: Callable[[int], Picture]
    problems: tuple[str, ...] = ()


def fold_of(name: str) -> Fold | None:
    """Return the fold that a folder, or a value of a table, is called after.

    Examples
    --------
    >>> fold_of("Testing"), fold_of("VAL"), fold_of("glioma")
    ('test', 'validation', None)
    """
    return _FOLDS.get(name.strip().lower())


def files_below(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the images below a folder, and the files that are none by their suffix.

    Hidden files and what operating systems leave behind are neither.

    Parameters
    ----------
    folder : Path
        Searched to any depth.
    """
    images: list[Path] = []
    others: list[Path] = []
    for where, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not is_litter(name))
        for name in sorted(name for name in files if not is_litter(name)):
            path = Path(where, name)
            (images if path.suffix.lower() in IMAGE_SUFFIXES else others).append(path)
    return images, others


def is_litter(name: str) -> bool:
    """Say whether a file or folder is hidden, or there without anybody's doing.

    Examples
    --------
    >>> is_litter("._scan.png"), is_litter("Thumbs.db"), is_litter("scan.png")
    (True, True, False)
    """
    return name.startswith(".") or name.lower() in _LITTER


def group_of(name: str, pattern: str | None) -> str:
    """Return what a file's name says of its group; the name itself where it says nothing.

    Parameters
    ----------
    name : str
        Relative, with ``/``.
    pattern : str, optional
        Regular expression; its first group in brackets, if it has one. ``sub-01`` by default.

    Examples
    --------
    >>> group_of("train/sub-01/sub-01_axial.png", None)
    'sub-01'
    >>> group_of("normal/person12_3.jpg", "person[0-9]+")
    'person12'
    """
    found = re.search(pattern or _SUBJECT, name)
    return next((one for one in (*found.groups(), found[0]) if one), name) if found else name


def family_of(path: str, classes: Collection[str]) -> str:
    """Return what files of one origin have in common in their names: all but numbers and class.

    What `hemitwin slice` says there of a shape that it drew is the class, too.

    Parameters
    ----------
    path : str
        Relative, with ``/``.
    classes : collection of str
        Their names say the class by intent, and nothing of the origin.

    Examples
    --------
    >>> family_of("hospital 2/Te-gl_0010.jpg", ["glioma"])
    'hospital #/te-gl_#'
    >>> family_of("glioma (12).PNG", ["glioma", "no tumor"])
    ' (#)'
    >>> family_of("sub-01_axial+08.00mm_asymmetry-0400.00mm2.png", ["left", "none"])
    'sub-#_axial+#.#mm'
    """
    text = plain_text(path).lower()
    text = _DRAWN.sub("", text.rpartition(".")[0] or text)
    for name in sorted(map(str.lower, classes), key=len, reverse=True):
        if not name.isdigit():
            text = text.replace(name, "")
    return _NUMBERS.sub("#", text)


def plain_text(text: str) -> str:
    """Return text without outer blanks, its letters composed: some systems take them apart."""
    return unicodedata.normalize("NFC", text.strip())


def in_order(classes: Collection[str]) -> tuple[str, ...]:
    """Sort names of classes; by number where all are whole numbers.

    Examples
    --------
    >>> in_order({"10", "9"}), in_order({"b", "a"})
    (('9', '10'), ('a', 'b'))
    """
    numbers = all(name.isascii() and name.isdigit() for name in classes)
    return tuple(sorted(classes, key=lambda name: (int(name) if numbers else 0, name)))


def listed(names: Sequence[str]) -> str:
    """Name the first few."""
    more = len(names) - _NAMED
    return ", ".join([*names[:_NAMED], *([f"and {more} more"] if more > 0 else [])])
