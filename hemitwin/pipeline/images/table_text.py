"""Text tables of other people: the separator is found out, every cell stays text."""

import csv
import io
import re
import warnings
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from hemitwin._error_text import error_text
from hemitwin.pipeline.images.picture import IMAGE_SUFFIXES
from hemitwin.pipeline.stage.errors import UserError

__all__ = ["read_text_table"]

_SEPARATORS = (",", "\t", ";")
_BLANKS = r"\s+"
_MISSING = ("", "nan", "NaN", "NA", "N/A", "n/a", "<NA>")
_LOOKED_AT = 50
_COVIDX = ("patient_id", "filename", "class", "source")


def read_text_table(path: Path) -> pd.DataFrame:
    """Read a table as text: commas, tabs, semicolons or blanks between its columns.

    Parameters
    ----------
    path : Path
        In UTF-8. Its first line names the columns; a table of four columns without such a line
        has those of COVIDx's lists, ``patient_id filename class source``.

    Returns
    -------
    DataFrame
        Missing values are NaN; ``None`` and ``null`` are text, since classes are called so.

    Raises
    ------
    UserError
        It is missing, is no table in UTF-8, or does not name its columns.
    """
    lines = [line for line in _text_of(path).splitlines() if line.strip()]
    if len(lines) < 2:
        msg = f"{path} must have a line of column names and one for each image; got {len(lines)}"
        raise UserError(msg)
    separator = _separator(lines[:_LOOKED_AT])
    names = _cells(lines[0], separator)
    headless = any(name.lower().endswith(tuple(IMAGE_SUFFIXES)) for name in names)
    if headless and len(names) != len(_COVIDX):
        msg = f"{path} must name its columns in the first line, got {lines[0][:80]}; add it"
        raise UserError(msg)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", pd.errors.ParserWarning)  # separators at lines' ends
            table = pd.read_csv(
                io.StringIO("\n".join(lines[0 if headless else 1 :])),
                sep=separator,
                names=list(_COVIDX) if headless else _told_apart(names),
                index_col=False,
                dtype=str,
                keep_default_na=False,
                na_values=list(_MISSING),
                skipinitialspace=True,
            )
    except ValueError as error:  # what pandas raises of a file that is no table
        msg = f"{path} must have the same columns in every line ({error_text(error)}); correct it"
        raise UserError(msg) from error
    return table


def _text_of(path: Path) -> str:
    if not path.is_file():
        msg = f"a table of images must be a file, got {path}, which is not there; name another"
        raise UserError(msg)
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        msg = f"{path} must be text in UTF-8 ({error_text(error)}); save it so"
        raise UserError(msg) from error


def _separator(lines: Sequence[str]) -> str:
    """Return what divides all lines into as many cells, two at least; most cells are best."""
    counts = {one: [len(_cells(line, one)) for line in lines] for one in (*_SEPARATORS, _BLANKS)}
    even = {one: found[0] for one, found in counts.items() if len(set(found)) == 1}
    # Blanks come last: they stand in names of columns and files, too.
    for wanted in (_SEPARATORS, (_BLANKS,)):
        best = max(wanted, key=lambda one: even.get(one, 0))
        if even.get(best, 0) > 1:
            return best
    return max(_SEPARATORS, key=lambda one: counts[one][0])


def _cells(line: str, separator: str) -> list[str]:
    if separator == _BLANKS:
        return re.split(_BLANKS, line.strip())
    return [cell.strip() for cell in next(csv.reader([line], delimiter=separator))]


def _told_apart(names: Sequence[str]) -> list[str]:
    """Give a number to a column without a name, or with one that another has."""
    known: list[str] = []
    for place, name in enumerate(names):
        own = name or f"column {place + 1}"
        known.append(own if own not in known else f"{own}.{place + 1}")
    return known
