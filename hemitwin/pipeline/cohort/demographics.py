"""Age and sex of subjects, from the tables that a cohort comes with."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from hemitwin.pipeline.stage.errors import UserError
from hemitwin.pipeline.stage.tables import read_sessions, read_table, sessions_of

__all__ = ["Demographics", "Kind", "listed_subjects", "read_demographics"]

logger = logging.getLogger(__name__)

Kind = Literal["age", "sex"]

# The first that a table has is taken: the Connectome Project's open table gives ages as ranges.
_AGES = ("age_in_yrs", "age_years", "age")
_SEXES = ("sex", "gender")
_SEX_NAMES = {"f": "F", "female": "F", "m": "M", "male": "M"}
_OLDEST_YEARS = 120
_NAMED = 8


@dataclass(frozen=True)
class Demographics:
    """What tables say of subjects' age and sex; who is not in a mapping is not known.

    Parameters
    ----------
    age_years : mapping of str to float
        By subject (``sub-01``), where the tables give one age alone.
    sex : mapping of str to str
        ``F``, ``M``, or what else the table has, in capitals.
    session_ages : mapping of (str, str) to float or None
        By subject and session (``ses-1``), where lines are of that session: they go before the
        subject's. `None` where they have no age, or several.
    unclear : mapping of (str, str) to str
        By ``age`` or ``sex`` and subject: what stands in the tables in place of one value.
    """

    age_years: Mapping[str, float] = field(default_factory=dict, repr=False)
    sex: Mapping[str, str] = field(default_factory=dict, repr=False)
    session_ages: Mapping[tuple[str, str], float | None] = field(default_factory=dict, repr=False)
    unclear: Mapping[tuple[Kind, str], str] = field(default_factory=dict, repr=False)

    def age_of(self, subject: str, session: str | None = None) -> float | None:
        """Return a subject's age at a session, in years; `None` where it is not known.

        Parameters
        ----------
        subject : str
            ``sub-01``.
        session : str, optional
            Of the scan, ``ses-1``. Lines of that session decide; where there are none, the
            subject's age is taken if all of its lines agree.
        """
        if session is not None and (subject, session) in self.session_ages:
            return self.session_ages[subject, session]
        return self.age_years.get(subject)

    def require(
        self, scans: Sequence[tuple[str, str | None]], *, sex: bool = False, age: bool = False
    ) -> None:
        """Refuse subjects whose sex or age is needed and not known.

        Parameters
        ----------
        scans : sequence of (str, str or None)
            Subject and session of each.
        sex, age : bool
            What is needed.

        Raises
        ------
        UserError
            Somebody has none; the message names who.
        """
        missing: dict[Kind, set[str]] = {
            "sex": {one for one, _ in scans if sex and one not in self.sex},
            "age": {one for one, session in scans if age and self.age_of(one, session) is None},
        }
        for kind, subjects in missing.items():
            if subjects:
                listed = listed_subjects({one: self.why(kind, one) for one in subjects})
                msg = (
                    f"pairs can be matched on {kind} only where it is known of every subject (a "
                    f"column {'sex' if kind == 'sex' else 'age, in years,'} of participants.tsv, "
                    f"or {'Gender' if kind == 'sex' else 'Age_in_Yrs'} of the Connectome "
                    f"Project), but {listed} has none; complete the table, or leave {kind} out of "
                    f"what is matched"
                )
                raise UserError(msg)

    def why(self, kind: Kind, subject: str) -> str:
        """Say why a subject's age or sex is not clear; empty where no table has it."""
        return self.unclear.get((kind, subject), "")


def listed_subjects(reasons: Mapping[str, str]) -> str:
    """Name some subjects, each with what there is to say of it.

    Examples
    --------
    >>> listed_subjects({"sub-2": "", "sub-1": "n/a"})
    'sub-1 (n/a), sub-2'
    """
    names = [f"{one} ({reasons[one]})" if reasons[one] else one for one in sorted(reasons)]
    more = len(names) - _NAMED
    return ", ".join([*names[:_NAMED], *([f"and {more} more"] if more > 0 else [])])


def read_demographics(*paths: Path) -> Demographics:
    """Read age and sex from ``participants.tsv`` or the Connectome Project's CSVs.

    Columns are taken in any spelling of capitals, each optional: ``Age_in_Yrs`` or ``age`` (years;
    the ``89+`` of BIDS counts as 89; a range such as ``26-30`` is no age), ``sex`` or ``Gender``.
    A subject may have several lines, of sessions (``session_id``) or not, and the files
    ``sub-01/sub-01_sessions.tsv`` beside ``participants.tsv`` are read with it: lines that agree
    are one, and of ages that differ a scan's session decides. What is not above 0 and at most 120
    is no age, and a warning names whose it is.

    Parameters
    ----------
    *paths : Path
        Tables; the first that knows something says it.

    Raises
    ------
    UserError
        A table is missing, cannot be read or names no subjects.

    Examples
    --------
    >>> import tempfile
    >>> table = Path(tempfile.mkdtemp()) / "people.csv"
    >>> _ = table.write_text(chr(10).join(["Subject,Age_in_Yrs,Gender", "1,31,F", "2,,M"]))
    >>> people = read_demographics(table)
    >>> people.age_years, people.sex
    ({'sub-1': 31.0}, {'sub-1': 'F', 'sub-2': 'M'})
    """
    age_years: dict[str, float] = {}
    sex: dict[str, str] = {}
    session_ages: dict[tuple[str, str], float | None] = {}
    unclear: dict[tuple[Kind, str], str] = {}
    lines: dict[Path, dict[str, list[_Line]]] = {path: _lines_by_subject(path) for path in paths}
    for subject, own in (item for table in lines.values() for item in table.items()):
        ages = sorted({line.years for line in own if line.years is not None})
        if ages and subject not in age_years and ("age", subject) not in unclear:
            if len(ages) == 1:
                age_years[subject] = ages[0]
            else:
                given = _joined(f"{age:g}" for age in ages)
                unclear["age", subject] = f"its lines give {given} years, and no session decides"
            session_ages |= _by_session(subject, own)
        sexes = sorted({line.sex for line in own if line.sex})
        if sexes and subject not in sex and ("sex", subject) not in unclear:
            if len(sexes) == 1:
                sex[subject] = sexes[0]
            else:
                unclear["sex", subject] = f"its lines give {_joined(sexes)}"
    known = {*age_years, *(subject for kind, subject in unclear if kind == "age")}
    for path, table in lines.items():
        _warn_of_no_ages(path, table, known)
    return Demographics(age_years, sex, session_ages, unclear)


@dataclass(frozen=True)
class _Line:
    session: str | None
    age: str
    sex: str

    @property
    def years(self) -> float | None:
        years = self.number
        return years if 0 < years <= _OLDEST_YEARS else None

    @property
    def number(self) -> float:
        return float(pd.to_numeric(self.age.removesuffix("+"), errors="coerce"))


def _lines_by_subject(path: Path) -> dict[str, list[_Line]]:
    found: dict[str, list[_Line]] = {}
    for table in (read_table(path), read_sessions(path)):
        columns = (sessions_of(table), _texts(table, _AGES), _texts(table, _SEXES))
        for subject, session, age, sex in zip(table["subject"], *columns, strict=True):
            line = _Line(session, age, _SEX_NAMES.get(sex.lower(), sex.upper()))
            found.setdefault(str(subject), []).append(line)
    return found


def _texts(table: pd.DataFrame, wanted: Sequence[str]) -> list[str]:
    """Take the first of the columns that the table has; nothing where a value is missing."""
    spelled = {str(name).lower(): str(name) for name in table.columns}
    column = next((spelled[name] for name in wanted if name in spelled), None)
    if column is None:
        return [""] * len(table)
    return [text.strip() if isinstance(text, str) else "" for text in table[column]]


def _by_session(subject: str, lines: Sequence[_Line]) -> dict[tuple[str, str], float | None]:
    ages: dict[str, set[float]] = {}
    for line in lines:
        if line.session is not None:
            own = ages.setdefault(line.session, set())
            own |= set() if line.years is None else {line.years}
    return {(subject, at): own.pop() if len(own) == 1 else None for at, own in ages.items()}


def _joined(values: Iterable[str]) -> str:
    return " and ".join(values)


def _warn_of_no_ages(path: Path, table: Mapping[str, Sequence[_Line]], known: set[str]) -> None:
    """Name whose age is none; a range where another table has the age needs no word."""
    wrong = {
        subject: line.age
        for subject, lines in table.items()
        for line in lines
        if line.age and line.years is None
        if subject not in known or not np.isnan(line.number)
    }
    if wrong:
        logger.warning(
            "%s has no ages of %s: an age is in years, above 0 and at most %d",
            path.name,
            listed_subjects(wrong),
            _OLDEST_YEARS,
        )
