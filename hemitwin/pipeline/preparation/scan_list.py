"""Lists of scans: a plain text file with one path a line, or a table with columns."""

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast, get_args

from hemitwin._error_text import error_text
from hemitwin.pipeline.preparation.hcp import HCP_TEMPLATE
from hemitwin.pipeline.stage.bids import Alignment, Case, Modality, entities_of, normalise_labels
from hemitwin.pipeline.stage.errors import UserError, reading
from hemitwin.transforms import volume_members

__all__ = ["find_listed_scans"]

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_SUBJECT = ("subject", "participant_id")
_DROPPED = ("space", "res", "den", "desc")
_NATIVE = ("T1w", "T2w", "FLAIR", "ACPC")
_SPACE = re.compile(r"[a-zA-Z0-9]+")


def find_listed_scans(
    path: Path, *, labels: Sequence[str] | None = None, modality: Modality = "T1w"
) -> tuple[Case, ...]:
    """Read a list of scans.

    Parameters
    ----------
    path : Path
        ``.csv`` or ``.tsv``: columns ``subject`` (or ``participant_id``) and ``scan``, and if
        wanted ``session``, ``mask``, ``alignment``, ``space`` and ``transform``; other columns are
        not read. Any other suffix: one path a line, ``#`` begins a comment; the label is taken
        from the file's name. Paths are relative to the list.
    labels : sequence of str, optional
        Subjects wanted; all by default.
    modality : str
        What the scans are.

    Returns
    -------
    tuple of Case
        In the order of the list.

    Raises
    ------
    UserError
        The list cannot be read, is empty or lacks a column; a label, alignment or space is none;
        a scan or a name comes twice; a wanted subject is not in it.
    """
    text = _text(path)
    rows = _table(path, text) if path.suffix in _DELIMITERS else _lines(text)
    cases = [_case(path, number, row, modality) for number, row in rows]
    _require_once(path, [(number, case) for (number, _), case in zip(rows, cases, strict=True)])
    wanted = normalise_labels(labels)
    unknown = sorted(set(wanted or ()) - {case.subject for case in cases})
    if unknown or not cases:
        what = ", ".join(unknown) or "every row"
        msg = f"{path} must list the scans asked for, but {what} is missing; check the labels"
        raise UserError(msg)
    return tuple(case for case in cases if wanted is None or case.subject in wanted)


def _text(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8-sig")  # spreadsheets begin with a byte-order mark
    except (OSError, UnicodeDecodeError) as error:
        msg = (
            f"a list of scans must be a text file in UTF-8, {path} is not ({error_text(error)}); "
            f"save it so"
        )
        raise UserError(msg) from error
    if "\0" in text:
        msg = f"a list of scans must be a text file, {path} is not; give a list, not a scan"
        raise UserError(msg)
    return text


def _table(path: Path, text: str) -> list[tuple[int, dict[str, str]]]:
    reader = csv.reader(text.splitlines(), delimiter=_DELIMITERS[path.suffix])
    with reading(path, "save it again as a table"):
        (_, names), *lines = [(reader.line_num, cells) for cells in reader] or [(1, [])]
    header = [name.strip().lower() for name in names]
    subject = next((name for name in _SUBJECT if name in header), None)
    if subject is None or "scan" not in header:
        msg = f"{path} must have columns subject and scan, got {', '.join(header)}; name them so"
        raise UserError(msg)
    rows = []
    for number, cells in lines:
        row = dict(zip(header, (cell.strip() for cell in cells), strict=False))
        row["subject"] = row.get(subject, "")
        if any(cells):
            rows.append((number, row))
    return rows


def _lines(text: str) -> list[tuple[int, dict[str, str]]]:
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        scan = line.split("#", 1)[0].strip()
        if scan:
            rows.append((number, {"scan": scan, **_names_in(Path(scan).name)}))
    return rows


def _names_in(name: str) -> dict[str, str]:
    """Take subject and other entities from a BIDS name, or make a label of any other."""
    stem = name.removesuffix(".gz").rsplit(".", 1)[0]
    entities = entities_of(stem)
    if "sub" not in entities:
        return {"subject": re.sub(r"[^a-zA-Z0-9]", "", stem)}
    kept = (f"{key}-{value}" for key, value in entities.items() if key not in _DROPPED)
    return {"subject": entities["sub"], "name": "_".join(kept)}


def _case(path: Path, number: int, row: Mapping[str, str], modality: Modality) -> Case:
    try:
        (subject,) = normalise_labels([row["subject"]]) or ("",)
        sessions = normalise_labels([row["session"]] if row.get("session") else [], prefix="ses")
        scan = _scan(row)
        alignment, space = _alignment(row, scan)
    except UserError as error:
        msg = f"{path}, line {number}: {error}"
        raise UserError(msg) from error
    return Case(
        subject,
        row.get("name") or "_".join([subject, *(sessions or ())]),
        path.parent / scan,
        modality,
        alignment=alignment,
        space=space,
        mask=path.parent / row["mask"] if row.get("mask") else None,
        transform=path.parent / row["transform"] if row.get("transform") else None,
        uri=scan.name,
    )


def _scan(row: Mapping[str, str]) -> Path:
    if not row.get("scan"):
        msg = "a row must name a scan, got none; fill it in or delete the row"
        raise UserError(msg)
    return Path(row["scan"])


def _alignment(row: Mapping[str, str], scan: Path) -> tuple[Alignment, str | None]:
    space = row.get("space") or _space_of(scan)
    default = "similarity" if row.get("transform") else "nonlinear" if space else "native"
    alignment = row.get("alignment") or default
    if alignment not in get_args(Alignment) or (space and not _SPACE.fullmatch(space)):
        msg = (
            f"alignment must be one of {', '.join(get_args(Alignment))} and space a template's "
            f"name, got {alignment!r} and {space!r}; put templates into the column space"
        )
        raise UserError(msg)
    return cast("Alignment", alignment), space


def _space_of(scan: Path) -> str | None:
    """Read a template's name from where a scan lies: a list often passes over it."""
    named = entities_of(scan.name.rsplit("_", 1)[0]).get("space")
    if named is not None and named not in _NATIVE:
        return named
    return HCP_TEMPLATE if "MNINonLinear" in scan.parts else None


def _require_once(path: Path, cases: Sequence[tuple[int, Case]]) -> None:
    """Refuse a name or a file that comes twice: results would overwrite, or people would mix."""
    names: dict[str, int] = {}
    scans: dict[Path, int] = {}
    for number, case in cases:
        first = names.setdefault(case.name, number)
        same = scans.setdefault(volume_members(case.scan)[0].resolve(), number)
        if number not in {first, same} or first != same:
            what = case.name if first != number else f"the file {case.scan}"
            msg = (
                f"{path} must list each scan once, but {what} stands in lines "
                f"{min(first, same)} and {number}; add a column session, or use a table with "
                "subject and scan"
            )
            raise UserError(msg)
