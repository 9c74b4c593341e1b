"""Images in a folder for each class, which may lie in a folder for each fold."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import pandas as pd

from hemitwin.pipeline.cohort.split import Fold
from hemitwin.pipeline.images.image_listing import (
    COLUMNS,
    Listing,
    family_of,
    files_below,
    fold_of,
    group_of,
    is_litter,
    listed,
    plain_text,
)
from hemitwin.pipeline.images.picture import open_picture
from hemitwin.pipeline.stage.errors import UserError

__all__ = ["fold_folders", "list_class_folders", "list_unlabelled"]

_TABLES = {".csv", ".tsv", ".txt"}


@dataclass(frozen=True)
class _File:
    """An image file, and the folder below which its name tells where it is from."""

    path: Path
    below: Path
    label: str = ""
    fold: str = ""


def fold_folders(root: Path) -> dict[Path, str]:
    """Return the folders of folds below a folder, if there is one for training among them.

    A folder ``test`` without one for training is a class like another.

    Parameters
    ----------
    root : Path
        A source of images.
    """
    found = [(path, fold_of(path.name)) for path in _folders(root)]
    folds: dict[Path, str] = {
        path: wanted for wanted in get_args(Fold) for path, fold in found if fold == wanted
    }
    return folds if "train" in folds.values() else {}


def list_class_folders(root: Path, *, group_pattern: str | None = None) -> Listing:
    """List the images of class folders, to any depth below them.

    Parameters
    ----------
    root : Path
        Holds a folder for each class, or for each fold (``train`` or ``Training``, ``val``,
        ``valid`` or ``validation``, ``test`` or ``Testing``) such folders.
    group_pattern : str, optional
        See `group_of`.

    Raises
    ------
    UserError
        There are no class folders, or nothing lies in them.
    """
    folds = fold_folders(root)
    parents = folds or {root: ""}
    rows: list[_File] = []
    problems = _beside(root, folds)
    for parent, fold in parents.items():
        for folder in _folders(parent):
            images, others = files_below(folder)
            label = plain_text(folder.name)
            rows += [_File(path, folder, label, fold) for path in images]
            problems += _not_images(root, others)
            if not images:
                problems.append(f"{_name(root, folder)}: a class without an image")
    if not rows:
        msg = (
            f"{root} must hold a folder with images for each class (also below train, validation "
            f"and test), or be a table; got {_found(root)}; sort the images into folders, or give "
            f"a CSV of files and labels"
        )
        raise UserError(msg)
    return _listing(root, rows, tuple(problems), group_pattern)


def list_unlabelled(source: Path | Sequence[Path], classes: Sequence[str]) -> Listing:
    """List images of which the class need not be known.

    Parameters
    ----------
    source : Path or sequence of Path
        A folder, searched to any depth, in which names begin; or files, with whole paths.
    classes : sequence of str
        A file below a folder that is called so, in any case, has this label; others have none.

    Raises
    ------
    UserError
        There is no image.
    """
    problems: list[str] = []
    root = source if isinstance(source, Path) and source.is_dir() else None
    if root is not None:
        files, others = files_below(root)
        problems += _not_images(root, others)
    else:
        files = [source] if isinstance(source, Path) else list(dict.fromkeys(source))
    if not files:
        msg = f"there must be images to look at, but {source} holds none; give another folder"
        raise UserError(msg)
    labels = {plain_text(name).lower(): name for name in classes}
    rows = [_File(path, root or path.parent, _label_of(path, root, labels)) for path in files]
    return _listing(root, rows, tuple(problems), None)


def _label_of(path: Path, root: Path | None, labels: dict[str, str]) -> str:
    parents = Path(_name(root, path)).parent.parts
    known = (labels.get(plain_text(name).lower()) for name in reversed(parents))
    return next((label for label in known if label is not None), "")


def _listing(
    root: Path | None, rows: Sequence[_File], problems: tuple[str, ...], group_pattern: str | None
) -> Listing:
    classes = {row.label for row in rows if row.label}
    cells = []
    for row in rows:
        name = _name(root, row.path)
        group = group_of(name, group_pattern)
        origin = family_of(_name(row.below, row.path), classes)
        cells.append((name, row.label, group, row.fold, origin))
    table = pd.DataFrame(cells, columns=list(COLUMNS))
    return Listing(table, lambda place: open_picture(rows[place].path), problems)


def _name(root: Path | None, path: Path) -> str:
    inside = root is not None and path.is_relative_to(root)
    return (path.relative_to(root) if root is not None and inside else path).as_posix()


def _folders(parent: Path) -> list[Path]:
    return sorted(path for path in parent.iterdir() if path.is_dir() and not is_litter(path.name))


def _beside(root: Path, folds: dict[Path, str]) -> list[str]:
    """Say what lies beside the folders that are read."""
    problems = [
        f"{folder.name}: left out, since it lies beside the folders of folds"
        for folder in (_folders(root) if folds else [])
        if folder not in folds
    ]
    for parent in folds or {root: ""}:
        tables = [path for path in _files(parent) if path.suffix.lower() in _TABLES]
        others = [_name(root, path) for path in _files(parent) if path not in tables]
        if others:
            problems.append(f"{listed(others)}: left out, since in no class folder")
        problems += [
            f"{_name(root, path)}: not read; where it has the labels, give it as images"
            for path in tables
        ]
    return problems


def _not_images(root: Path, others: Sequence[Path]) -> list[str]:
    names = listed([_name(root, path) for path in others])
    return [f"{names}: left out, no image by the suffix"] if others else []


def _found(root: Path) -> str:
    folders, files = [path.name for path in _folders(root)], [path.name for path in _files(root)]
    where = f"the folders {listed(folders)} without images" if folders else "no folder"
    return f"{where} and {f'the files {listed(files)}' if files else 'no file'} directly in it"


def _files(parent: Path) -> list[Path]:
    return sorted(path for path in parent.iterdir() if path.is_file() and not is_litter(path.name))
