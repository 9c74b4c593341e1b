"""Who is related to whom: groups for the folds, from tables that are never shared."""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from hemitwin.pipeline.cohort.kinship import Kinship, Relative
from hemitwin.pipeline.stage.errors import UserError
from hemitwin.pipeline.stage.json_files import read_json, write_private
from hemitwin.pipeline.stage.tables import plain_identifier, read_table

__all__ = [
    "FAMILIES",
    "groups_of",
    "kinship_of",
    "read_families",
    "read_kinship",
    "write_families",
]

logger = logging.getLogger(__name__)

_COLUMNS = {
    "family_id": "family",
    "mother_id": "mother",
    "father_id": "father",
    "zygositygt": "genotyped",
    "zygositysr": "reported",
}
_ZYGOSITIES = {"mz": "MZ", "dz": "DZ", "notmz": "DZ", "nottwin": "NotTwin"}
_RELATING = {"family", "mother", "father", "genotyped", "reported"}
_AMBIGUOUS = ("0", "-1")
FAMILIES = "families.private.json"
"""The name of a run's private file of relatives."""


def read_kinship(*paths: Path) -> Kinship:
    """Read family tables: ``participants.tsv`` or the Connectome Project's restricted CSV.

    Columns are taken in any spelling of capitals, each optional: ``family_id``, ``mother_id``,
    ``father_id``, and ``ZygosityGT`` with ``ZygositySR`` where there is no genotype (``MZ``,
    ``DZ`` or ``NotMZ``, ``NotTwin``). A missing value (``n/a``, or nothing) links nobody.

    Parameters
    ----------
    *paths : Path
        Tables; what they say is taken together.

    Raises
    ------
    UserError
        A table is missing, names no subjects, has an unknown zygosity, or has a parent ``0`` or
        ``-1``, which is nobody in pedigree files and somebody in numbered ones.
    """
    lines: list[tuple[str, Relative]] = []
    for path in paths:
        table = read_table(path)
        named = [str(name) for name in table.columns]
        columns = {_COLUMNS[name.lower()]: name for name in named if name.lower() in _COLUMNS}
        if not _RELATING & set(columns):
            continue
        lines += [_line(row, columns) for _, row in table.iterrows()]
        _warn_of_reports(path, table, columns)
    return Kinship(tuple(lines))


def _line(row: "pd.Series[str]", columns: Mapping[str, str]) -> tuple[str, Relative]:
    def value(kind: str) -> str | None:
        text = row.get(columns.get(kind, ""))
        return plain_identifier(text) if isinstance(text, str) and text.strip() else None

    parents = {kind: value(kind) for kind in ("mother", "father")}
    if unclear := set(parents.values()) & set(_AMBIGUOUS):
        msg = (
            f"a parent must have an identifier or be n/a, but {row['subject']} has "
            f"{unclear.pop()}; write n/a where a parent is unknown, and count parents from 1"
        )
        raise UserError(msg)
    said = value("genotyped") or value("reported")
    zygosity = None if said is None else _ZYGOSITIES.get(said.lower())
    if said is not None and zygosity is None:
        msg = (
            f"a zygosity must be MZ, DZ, NotMZ, NotTwin or n/a, but {row['subject']} has {said}; "
            f"write one of these"
        )
        raise UserError(msg)
    return str(row["subject"]), Relative(value("family"), **parents, zygosity=zygosity)


def _warn_of_reports(path: Path, table: pd.DataFrame, columns: Mapping[str, str]) -> None:
    if "reported" not in columns:
        return
    reported = table[columns["reported"]].notna()
    if "genotyped" in columns:
        genotyped = table[columns["genotyped"]].fillna("").str.strip() != ""
        reported &= ~genotyped
    if count := int(reported.sum()):
        logger.warning(
            "%s: %d of %d zygosities are self-reported, where no genotype is given",
            path.name,
            count,
            len(table),
        )


def kinship_of(
    subjects: Sequence[str], participants: Path | None, families: Path | None = None
) -> Kinship:
    """Read what the tables of a cohort say about relatives.

    Parameters
    ----------
    subjects : sequence of str
        With ``sub-``; sessions of one subject have one name and so one group.
    participants : Path, optional
        A BIDS ``participants.tsv``; family columns are optional in it.
    families : Path, optional
        A table that is kept apart because it names relatives, such as the Connectome Project's
        restricted CSV.

    Raises
    ------
    UserError
        A table is missing, names no subjects, or knows of families but has no line for a subject;
        or the table that is kept apart knows of none.
    """
    paths = [path for path in (participants, families) if path is not None]
    tables = {path: read_kinship(path) for path in paths}
    kinship = Kinship(tuple(line for table in tables.values() for line in table.lines))
    if families is not None and not tables[families].lines:
        msg = (
            f"{families} must have a column that tells relatives (family_id, mother_id, father_id "
            f"or the zygosity) and a line for each subject, it has not; without it relatives lie "
            f"on both sides of a split"
        )
        raise UserError(msg)
    unknown = sorted(set(subjects) - kinship.subjects) if kinship.lines else []
    if unknown:
        msg = (
            f"{' and '.join(str(path) for path in paths)} must have a line for every subject, but "
            f"{', '.join(unknown[:8])} has none; add it (n/a where nothing is known), or exclude "
            f"the subject"
        )
        raise UserError(msg)
    return kinship


def groups_of(
    subjects: Sequence[str], participants: Path | None, families: Path | None = None
) -> Mapping[str, str]:
    """Give each of the subjects its group: those it is related to, else itself.

    Parameters and errors are those of `kinship_of`.

    Returns
    -------
    mapping of str to str
        For `subjects` only; people who link them but were not scanned count.
    """
    groups = kinship_of(subjects, participants, families).groups(subjects)
    return {subject: groups[subject] for subject in subjects}


def write_families(path: Path, groups: Mapping[str, str]) -> Path | None:
    """Write who is related to whom into a file that only its owner may read (mode 0600).

    Parameters
    ----------
    path : Path
        Outside every folder that is shared.
    groups : mapping of str to str
        Each subject's group.

    Returns
    -------
    Path or None
        `None`, and no file, where nobody is related to anybody.
    """
    members = pd.Series(dict(groups), dtype=object)
    related = members[members.duplicated(keep=False)]
    if related.empty:
        path.unlink(missing_ok=True)
        return None
    content = {"private": "names relatives; do not share", "groups": related.to_dict()}
    return write_private(path, json.dumps(content, indent=2) + "\n")


def read_families(path: Path) -> Mapping[str, str]:
    """Read what `write_families` wrote; empty where the file is not there.

    Raises
    ------
    UserError
        The file holds no groups.
    """
    if not path.is_file():
        return {}
    groups = read_json(path, remedy="restore it or train again").get("groups")
    if not isinstance(groups, dict):
        msg = f"{path} must hold 'groups', it does not; restore the file, or train again"
        raise UserError(msg)
    return {str(name): str(group) for name, group in groups.items()}
