"""A folder of slices: it has one split and one set of settings, and a record of each case.

A case's record is written after its pictures, beside them; the table is made of all records that
are there, whoever was asked for last.
"""

import logging
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import pandas as pd

from hemitwin._atomic import atomic_path
from hemitwin.pipeline.cohort.families import FAMILIES, write_families
from hemitwin.pipeline.cohort.split import Fold, Split, read_split, write_split
from hemitwin.pipeline.stage.bids import Case
from hemitwin.pipeline.stage.errors import UserError, reading
from hemitwin.pipeline.stage.json_files import read_json, write_json, write_text
from hemitwin.pipeline.stage.records import Record, content_digest, recorded_inputs

__all__ = ["SliceFolder", "SliceRow"]

logger = logging.getLogger(__name__)

SliceRow = Mapping[str, object]
"""A row of the table, of a picture or of a pair, without the subject's number."""

_SETTINGS = "slices.json"
_SPLIT = "splits.json"
_TABLE = "metadata.csv"
_CARD = "README.md"
_PICTURE = re.compile(
    r"(?P<case>sub-.+)_(axial|coronal|sagittal)[+-][0-9.]+mm(_hemi-[LR])?"
    r"(_asymmetry-[0-9.]+mm2)?(_mask)?\.png"
)
_NAMED = 8


@dataclass(frozen=True)
class SliceFolder:
    """Where a dataset of slices lies.

    Parameters
    ----------
    path : Path
        Holds ``<fold>/<subject>/*.png`` with a record ``<case>.json`` beside each case's pictures,
        ``<fold>/metadata.csv``, `splits.json`, `slices.json`, and a card, `README.md`.
    """

    path: Path

    @property
    def split(self) -> Split | None:
        """The split that the folder belongs to; None where it is not begun."""
        path = self.path / _SPLIT
        return read_split(path) if path.is_file() else None

    def require(self, settings: Mapping[str, object]) -> None:
        """Refuse settings other than those that the folder was begun with.

        Raises
        ------
        UserError
            They differ, or there are pictures of which nobody knows the settings.
        """
        begun = (self.path / _SPLIT).is_file()
        if not begun and any(_PICTURE.fullmatch(path.name) for path in self._pictures()):
            msg = (
                f"a folder of slices must hold its {_SPLIT}, but {self.path} has pictures and "
                f"none; choose another folder, or remove this one first"
            )
            raise UserError(msg)
        if not begun:
            return
        path = self.path / _SETTINGS
        there = read_json(path) if path.is_file() else {}
        changed = [name for name in settings if there.get(name) != settings[name]]
        if changed:
            before = ", ".join(f"{name} {there.get(name)}" for name in changed)
            now = ", ".join(f"{name} {settings[name]}" for name in changed)
            msg = (
                f"a folder of slices must have one set of settings, but {self.path} was begun "
                f"with {before} and {now} is asked for; choose another folder, or remove this one "
                f"first"
            )
            raise UserError(msg)

    def begin(
        self, settings: Mapping[str, object], split: Split, groups: Mapping[str, str]
    ) -> None:
        """Bind the folder to settings (and what else is told) and a split, unless it is bound.

        The groups of relatives go beside the folder, into a private file. The split is written
        last: with it the folder is begun.
        """
        if (self.path / _SPLIT).is_file():
            return
        whole = self.path.resolve()  # "." has no name
        write_families(whole.with_name(f"{whole.name}.{FAMILIES}"), groups)
        write_json(self.path / _SETTINGS, settings)
        write_split(self.path / _SPLIT, split)

    def members(self) -> tuple[str, ...]:
        """Return the names of the cases that have a record, sorted."""
        return tuple(sorted(path.stem for path in self._records()))

    def drop_changed(self, cases: Iterable[Case], *, asked: Collection[str]) -> None:
        """Remove the slices of volumes that were prepared anew, and records without pictures.

        Parameters
        ----------
        cases : iterable of Case
            The prepared volumes at hand. Slices of others stay: nothing speaks against them.
        asked : collection of str
            Names of the cases whose slices are made now: of these nothing is said.
        """
        volumes = {case.name: case.scan for case in cases}
        dropped = []
        for path in self._records():
            volume = volumes.get(path.stem)
            source, whole = self._look_at(path)
            changed = volume is not None and content_digest(volume) != source
            if changed or not whole:
                path.unlink()
                self._remove_pictures(path.parent, path.stem, ())
                dropped.append(path.stem)
        if told := sorted(set(dropped) - set(asked)):
            logger.warning(
                "%s: the slices of %s are taken out, because the prepared volume is another one "
                "or a picture is gone; slice again",
                self.path,
                _listed(told),
            )

    def record_of(
        self,
        case: Case,
        fold: str,
        settings: Mapping[str, object],
        inputs: Mapping[str, Path],
    ) -> Record:
        """Return what decides a case's pictures, beside the prepared volume."""
        return Record(
            "slice",
            computation=4,
            inputs={"volume": case.scan, **inputs},
            settings={**settings, "fold": fold},
        )

    def read_rows(self, case: Case, fold: str, record: Record) -> list[SliceRow] | None:
        """Read a case's rows, if its pictures are what would be cut now."""
        content = record.find(self._sidecar(case, fold))
        return None if content is None else content["Slices"]

    def write_rows(self, case: Case, fold: str, rows: Sequence[SliceRow], record: Record) -> None:
        """Write what a case's pictures were cut from; remove older pictures of the case."""
        files = [self.path / fold / name for name in sorted(_files_of(rows))]
        sidecar = self._sidecar(case, fold)
        self._remove_pictures(sidecar.parent, case.name, files)
        content = {
            "Sources": [f"bids::{case.scan.name}"],
            "Slices": [dict(row) for row in rows],
        }
        record.write(sidecar, content, files)

    def _look_at(self, record: Path) -> tuple[str | None, bool]:
        """Return the digest of the volume that slices are of, and whether all are there."""
        try:
            with reading(record, "slice again") as remedy:
                content = read_json(record, remedy=remedy)
                fold = record.parent.parent
                files = [fold / name for name in _files_of(content["Slices"])]
                return recorded_inputs(content).get("volume"), all(one.is_file() for one in files)
        except UserError as error:
            logger.warning("%s", error)
            return None, False

    def _sidecar(self, case: Case, fold: str) -> Path:
        return self.path / fold / case.subject / f"{case.name}.json"

    def write_tables(
        self, split: Split, columns: Sequence[str], labels: Mapping[str, str] | None = None
    ) -> pd.DataFrame:
        """Write the table of each fold: all cases that have a record, by subject and case.

        Each lies in its fold's folder and names files from there, as loaders of folders of images
        expect it. The number of a subject is its own: one that relatives shared would name them,
        and the tables may be shared.

        Parameters
        ----------
        split : Split
            The folder's.
        columns : sequence of str
            The tables'.
        labels : mapping of str to str, optional
            The label of each subject, where it is the subject's.

        Returns
        -------
        DataFrame
            All rows.
        """
        numbers = {name: f"g{index:04d}" for index, name in enumerate(sorted(split.folds))}
        records = sorted(self._records(), key=lambda path: (path.parent.name, path.stem))
        rows = [row for path in records for row in read_json(path)["Slices"]]
        whole = pd.DataFrame(rows, columns=list(columns))
        whole["group"] = [numbers[name] for name in whole["subject"]]
        if labels is not None:
            whole["label"] = [labels[name] for name in whole["subject"]]
        (self.path / _TABLE).unlink(missing_ok=True)  # one of all folds, by version 0.1.0
        for fold in get_args(Fold):
            table = whole[whole["split"] == fold]
            path = self.path / fold / _TABLE
            if table.empty:
                path.unlink(missing_ok=True)
                continue
            with atomic_path(path) as temporary:
                table.to_csv(temporary, index=False)
        listed = {self.path / row["split"] / name for row in rows for name in _files_of([row])}
        self._tell_unlisted(listed)
        return whole

    def subjects(self) -> tuple[str, ...]:
        """Return the subjects of the cases that have a record, sorted."""
        return tuple(sorted({path.parent.name for path in self._records()}))

    def write_card(self, text: str) -> None:
        """Write what the folder holds, for whoever it is given to."""
        write_text(self.path / _CARD, text)

    def _tell_unlisted(self, listed: Collection[Path]) -> None:
        found = (_PICTURE.fullmatch(path.name) for path in self._pictures() if path not in listed)
        if cases := sorted({one["case"] for one in found if one}):
            logger.warning(
                "%s: pictures of %s are not in %s, because a run was cut off; slice again",
                self.path,
                _listed(cases),
                _TABLE,
            )

    def _records(self) -> list[Path]:
        return [path for path in self._files("json") if path.name.startswith("sub-")]

    def _pictures(self) -> list[Path]:
        return self._files("png")

    def _files(self, suffix: str) -> list[Path]:
        folds = get_args(Fold)
        return [one for fold in folds for one in self.path.glob(f"{fold}/sub-*/*.{suffix}")]

    def _remove_pictures(self, folder: Path, case: str, kept: Collection[Path]) -> None:
        for path in folder.glob("*.png"):
            found = _PICTURE.fullmatch(path.name)
            if found and found["case"] == case and path not in kept:
                path.unlink(missing_ok=True)


def _files_of(rows: Iterable[SliceRow]) -> set[str]:
    """Name the files of rows, from their fold's folder."""
    return {
        str(value)
        for row in rows
        for name, value in row.items()
        if name.endswith("file_name") and value is not None
    }


def _listed(names: Sequence[str]) -> str:
    return ", ".join([*names[:_NAMED], *(["..."] if len(names) > _NAMED else [])])
