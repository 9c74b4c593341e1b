"""Images that a table lists; a folder of slices has one for each fold."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from hemitwin.pipeline.images.config import ImagesConfig
from hemitwin.pipeline.images.image_listing import (
    COLUMNS,
    Listing,
    family_of,
    files_below,
    fold_of,
    group_of,
    listed,
    plain_text,
)
from hemitwin.pipeline.images.picture import Picture, open_picture
from hemitwin.pipeline.images.table_text import read_text_table
from hemitwin.pipeline.stage.errors import UserError

__all__ = ["TABLE", "list_fold_tables", "list_table"]

TABLE = "metadata.csv"
"""What the table in a folder of images is called, as Hugging Face's ``imagefolder`` has it."""

_GROUPS = ("subject", "subjectid", "participantid", "patientid", "patient", "lesionid")
_FOLDS = ("split", "fold")
_SOURCES = ("source", "dataset", "site", "scanner")
_SIDES = {"left": "left_file_name", "right": "right_file_name"}
_WHOLE_NUMBER = r"-?[0-9]+(\.0+)?"


def list_fold_tables(tables: Mapping[Path, str], config: ImagesConfig) -> Listing:
    """List what the tables in the folders of folds name, each from its own folder.

    Parameters
    ----------
    tables : mapping of Path to str
        Each table's fold.
    config : ImagesConfig
        Its columns.

    Raises
    ------
    UserError
        See `list_table`.
    """
    parts = [
        list_table(path, config.model_copy(update={"folder": None}), fold=fold)
        for path, fold in tables.items()
    ]
    openers = [(part, place) for part in parts for place in part.table.index]

    def load(place: int) -> Picture:
        part, own = openers[place]
        return part.load(own)

    table = pd.concat([part.table for part in parts], ignore_index=True)
    return Listing(table, load, tuple(line for part in parts for line in part.problems))


def list_table(path: Path, config: ImagesConfig, *, fold: str | None = None) -> Listing:
    """List the images that a table names, with a class in each line.

    A file is looked for under its name from the table's folder (or `config.folder`) on; a name
    that is not found so, with or without suffix, is looked for in all folders below.

    Parameters
    ----------
    path : Path
        See `read_text_table`. A line with ``left_file_name`` and ``right_file_name`` in the
        place of `config.image_column` is two images of one class, with a column ``side``.
    config : ImagesConfig
        Which columns hold what.
    fold : str, optional
        Of all its images; names of files then begin with the table's folder.

    Raises
    ------
    UserError
        It is no table, lacks a column, or none of its files is there.
    """
    lines = _Lines.read(path, config)
    table, problems = lines.with_labels(lines.of_images())
    found = [lines.files.find(str(text)) for text in table[lines.image]]
    lost = [
        f"{text}: left out, {why}"
        for text, why in zip(table[lines.image], found, strict=True)
        if isinstance(why, str)
    ]
    if len(lost) == len(found):
        msg = (
            f"{path} must name files below {lines.files.base}, but none of its {len(found)} is "
            f"there ({table[lines.image].iloc[0]}); set folder to where they are"
        )
        raise UserError(msg)
    files = pd.Series(found, index=table.index, dtype=object)
    table = table.assign(file=files)[[isinstance(one, Path) for one in found]]
    table, twice = _listed_once(table.assign(label=lines.labels(table)))
    if fold is None:
        folds, unknown = lines.folds(table)
        table = table.assign(fold=folds)[folds.notna()]
    else:
        table, unknown = table.assign(fold=fold), []
    paths: list[Path] = list(table["file"])
    listing = lines.listing(table, prefix="" if fold is None else f"{path.parent.name}/")
    return Listing(
        listing,
        lambda place: open_picture(paths[place]),
        (*problems, *lost, *twice, *unknown),
    )


@dataclass(frozen=True)
class _Files:
    """Finds files by what tables call them."""

    base: Path

    def find(self, text: str) -> Path | str:
        """Return the file, or why there is none."""
        plain = plain_text(text).replace("\\", "/")
        if (direct := self.base / plain).is_file():
            return direct
        found = self._known.get(plain.lower(), [])
        if len(found) > 1:
            return f"{len(found)} files below {self.base} are called so"
        return found[0] if found else f"no such file below {self.base}"

    @cached_property
    def _known(self) -> dict[str, list[Path]]:
        known: dict[str, list[Path]] = {}
        for path in files_below(self.base)[0]:
            whole = path.relative_to(self.base)
            names = {whole, whole.with_suffix(""), Path(path.name), Path(path.stem)}
            for name in names:
                known.setdefault(plain_text(name.as_posix()).lower(), []).append(path)
        return known


@dataclass(frozen=True, eq=False)
class _Lines:
    """A table's lines, and the names of the columns that matter."""

    path: Path
    table: pd.DataFrame
    files: _Files
    image: str
    label: str
    group: str | None
    group_pattern: str | None
    fold: str | None
    source: str | None

    @classmethod
    def read(cls, path: Path, config: ImagesConfig) -> "_Lines":
        table = read_text_table(path)
        names = [str(name) for name in table.columns]
        halves = config.image_column not in names and set(_SIDES.values()) <= set(names)
        wanted = {
            "image_column": None if halves else config.image_column,
            "label_column": config.label_column,
            "group_column": config.group_column,
            "fold_column": config.fold_column,
            "source_column": config.source_column,
        }
        for setting, name in wanted.items():
            if name is not None and name not in names:
                msg = (
                    f"{path} must have the column {name} ({setting}), got {', '.join(names)}; set "
                    f"{setting} to one of these"
                )
                raise UserError(msg)
        base = config.folder or path.parent
        if not base.is_dir():
            msg = f"folder must be where the files of {path} are, got {base}; name another"
            raise UserError(msg)
        return cls(
            path,
            table,
            _Files(base),
            config.image_column,
            config.label_column,
            config.group_column or _called(names, _GROUPS),
            config.group_pattern,
            config.fold_column or _fold_column(table),
            config.source_column or _called(names, _SOURCES),
        )

    def of_images(self) -> pd.DataFrame:
        """Return a line for each image: two of a line that names the halves of a pair."""
        if self.image in self.table.columns:
            return self.table
        sides = [
            self.table.assign(side=side).join(self.table[column].rename(self.image))
            for side, column in _SIDES.items()
        ]
        return pd.concat(sides).sort_index(kind="stable").reset_index(drop=True)

    def with_labels(self, table: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
        """Return the lines with a file and a class, and what is said of the others."""
        named, labelled = table[self.image].notna(), table[self.label].notna()
        problems = [
            f"{text}: left out, {self.path.name} gives it no {self.label}"
            for text in table[self.image][named & ~labelled]
        ]
        if count := int((~named).sum()):
            problems.append(f"{count} line(s) of {self.path.name}: left out, no {self.image}")
        if not (named & labelled).any():
            msg = (
                f"{self.path} must name files in {self.image} and classes in {self.label}, but no "
                f"line has both; fill them in, or name other columns"
            )
            raise UserError(msg)
        return table[named & labelled], problems

    def labels(self, table: pd.DataFrame) -> list[str]:
        """Return each line's class; numbers that some program wrote as 1.0 as they were."""
        labels = [plain_text(text) for text in table[self.label]]
        if all(re.fullmatch(_WHOLE_NUMBER, label) for label in labels):
            return [label.partition(".")[0] for label in labels]
        return labels

    def folds(self, table: pd.DataFrame) -> "tuple[pd.Series[str], list[str]]":
        """Return each line's fold, "" where none has one, and what is said of unknown ones."""
        if self.fold is None:
            return pd.Series("", index=table.index, dtype=str), []
        texts = table[self.fold].fillna("")
        folds = texts.map(fold_of)
        unknown = folds.isna()
        if unknown.all():
            msg = (
                f"{self.path} must have train, validation or test in {self.fold}, got "
                f"{listed(sorted(set(texts)))}; write these, or name another fold_column"
            )
            raise UserError(msg)
        problems = [
            f"{image}: left out, {self.fold} {text or 'of nothing'} is no fold"
            for image, text in zip(table[self.image][unknown], texts[unknown], strict=True)
        ]
        return folds, problems

    def listing(self, table: pd.DataFrame, *, prefix: str) -> pd.DataFrame:
        """Return the columns of every listing, then the table's own."""
        classes = set(table["label"])
        names = [self._name(path) for path in table["file"]]
        origin = [family_of(name, classes) for name in names]
        names_below = [prefix + name for name in names]
        if self.group is None:
            group = [group_of(name, self.group_pattern) for name in names_below]
        else:
            own = pd.Series(names_below, index=table.index)
            group = list(table[self.group].str.strip().fillna(own))
        if self.source is not None:
            origin = list(table[self.source].fillna("").str.strip())
        known = table.assign(name=names_below, group=group, origin=origin)
        further = [name for name in self.table.columns if name not in {*COLUMNS, "file", "side"}]
        halves = ["side"] if self.image not in self.table.columns else []
        return known[[*COLUMNS, *further, *halves]].reset_index(drop=True)

    def _name(self, path: Path) -> str:
        base = self.files.base
        return (path.relative_to(base) if path.is_relative_to(base) else path).as_posix()


def _called(names: Sequence[str], wanted: Sequence[str]) -> str | None:
    plain = {"".join(filter(str.isalnum, name)).lower(): name for name in reversed(names)}
    return next((plain[name] for name in wanted if name in plain), None)


def _fold_column(table: pd.DataFrame) -> str | None:
    name = _called([str(name) for name in table.columns], _FOLDS)
    if name is None or not all(fold_of(text) for text in table[name].fillna("").astype(str)):
        return None
    return name


def _listed_once(table: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Keep one line of each file, and none of a file with several classes."""
    problems: list[str] = []
    kept: list[int] = []
    for path, lines in table.groupby("file", sort=False):
        labels = sorted(set(lines["label"]))
        if len(labels) > 1:
            problems.append(f"{Path(str(path)).name}: left out, listed as {' and '.join(labels)}")
            continue
        kept.append(lines.index[0])
        if len(lines) > 1:
            problems.append(f"{Path(str(path)).name}: listed {len(lines)} times, taken once")
    return table.loc[sorted(kept)], problems
