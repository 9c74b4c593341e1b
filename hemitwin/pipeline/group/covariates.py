"""What is known of everybody's age and sex, as the columns of a regression."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from hemitwin.pipeline.cohort.demographics import Demographics, Kind
from hemitwin.pipeline.stage.bids import session_of
from hemitwin.pipeline.stage.errors import UserError

__all__ = ["Covariates", "Design"]

_INTERCEPT, _GROUP = "intercept", "group"


@dataclass(frozen=True, eq=False)
class Design:
    """The columns of one regression; none is a mixture of the others.

    Parameters
    ----------
    matrix : (subjects, columns) float
        The intercept, the group where there is one, covariates.
    used : tuple of str
        The covariates among them.
    left_out : mapping of str to str
        The other covariates, each with the reason.
    """

    matrix: Float[np.ndarray, "subjects columns"]
    used: tuple[str, ...]
    left_out: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class Covariates:
    """Age and sex of all subjects.

    Parameters
    ----------
    table : DataFrame
        A row a subject; ``age_years``, and a column of zeros and ones for each sex but the first.
        NaN where it is not known.
    left_out : mapping of str to str
        What was not taken, and why.
    lacking : mapping of str to mapping of str to str
        Of what was taken: whose it is not known, and what the tables have in its place.
    people : Demographics
        What the tables say.
    """

    table: pd.DataFrame
    left_out: Mapping[str, str]
    lacking: Mapping[Kind, Mapping[str, str]] = field(default_factory=dict)
    people: Demographics = field(default_factory=Demographics)

    @classmethod
    def of(
        cls,
        subjects: Sequence[str],
        people: Demographics,
        scans: Mapping[str, Sequence[str]] | None = None,
    ) -> "Covariates":
        """Take age and sex where they are not the same for all of whom they are known.

        Parameters
        ----------
        subjects : sequence of str
            ``sub-01`` and the like.
        people : Demographics
            What the tables say of them.
        scans : mapping of str to sequence of str, optional
            By subject, the names of its scans. A subject's age is the mean over its scans, as its
            asymmetry is; by default a subject is one scan without a session.
        """
        table = pd.DataFrame(index=list(subjects))
        left_out: dict[str, str] = {}
        lacking: dict[Kind, Mapping[str, str]] = {}
        names = scans or {one: [one] for one in subjects}
        ages = {
            one: _mean([people.age_of(one, session_of(scan)) for scan in names[one]])
            for one in subjects
        }
        known: dict[Kind, Mapping[str, float | None] | Mapping[str, str]]
        known = {"age": ages, "sex": people.sex}
        for kind, values in known.items():
            found = [values.get(subject) for subject in subjects]
            levels = sorted({str(one) for one in found if one is not None})
            if len(levels) < 2:
                left_out[kind] = "the same for everybody" if levels else "known of nobody"
                continue
            lacking[kind] = {
                subject: people.why(kind, subject)
                for subject, value in zip(subjects, found, strict=True)
                if value is None
            }
            if kind == "age":
                table["age_years"] = np.array(found, dtype=float)
                continue
            for level in levels[1:]:
                table[f"sex={level}"] = [_is_of(one, level) for one in found]
        return cls(table, left_out, lacking, people)

    @property
    def known(self) -> frozenset[str]:
        """The subjects of whom all is known that was taken."""
        missing = {subject for subjects in self.lacking.values() for subject in subjects}
        return frozenset(str(one) for one in self.table.index) - missing

    def design(
        self, subjects: Sequence[str], *, group: Bool[np.ndarray, " subjects"] | None = None
    ) -> Design:
        """Build a regression's columns, without those that could not be told from the others.

        Parameters
        ----------
        subjects : sequence of str
            Its rows; all is known of them (`known`).
        group : (subjects,) bool, optional
            Becomes the second column; some are in it and some not.
        """
        rows = self.table.loc[list(subjects)].to_numpy(float)
        first = np.ones((len(rows), 1)) if group is None else _beside_ones(group)
        whole = np.concatenate([first, rows], axis=1)
        names = [_INTERCEPT, _GROUP][: first.shape[1]] + [str(one) for one in self.table.columns]
        chosen = _independent_columns(whole)
        used = tuple(names[one] for one in chosen if one >= first.shape[1])
        lost = [name for name in names[first.shape[1] :] if name not in used]
        reason = "the same for all of these subjects, or not to be told from the other columns"
        return Design(whole[:, chosen], used, {**self.left_out, **dict.fromkeys(lost, reason)})

    def row(self, name: str, design: Design) -> Float[np.ndarray, " columns"]:
        """Return the row of one more subject, or of one scan, in a design without a group.

        Parameters
        ----------
        name : str
            ``sub-01``, or a scan's: it has the age of its own session.
        design : Design
            What is needed.

        Raises
        ------
        UserError
            Something that is needed is not known.
        """
        subject = name.split("_", maxsplit=1)[0]
        age, sex = self.people.age_of(subject, session_of(name)), self.people.sex.get(subject)
        row, missing = [1.0], dict[Kind, str]()
        for column in design.used:
            kind: Kind = "age" if column == "age_years" else "sex"
            own = age if kind == "age" else sex
            if own is None:
                missing[kind] = self.people.why(kind, subject) or "no table says it"
            row.append(age if kind == "age" and age else _is_of(sex, column.partition("=")[2]))
        if missing:
            listed = " and ".join(f"{kind} ({why})" for kind, why in missing.items())
            msg = (
                f"age and sex that a reference is adjusted for must be known of whom it is held "
                f"against, but of {name} {listed} is not; complete the table, leave the subject "
                f"out, or take the column out of the table"
            )
            raise UserError(msg)
        return np.array(row)


def _independent_columns(matrix: Float[np.ndarray, "subjects columns"]) -> list[int]:
    """Choose the columns, from the left, that are no mixture of those before.

    Examples
    --------
    >>> _independent_columns(np.array([[1.0, 5, 0], [1, 5, 1], [1, 5, 2]]))
    [0, 2]
    """
    chosen: list[int] = []
    for column in range(matrix.shape[1]):
        # Ages in the forties beside zeros and ones: columns of one length are judged alike.
        part = matrix[:, [*chosen, column]]
        scaled = part / np.maximum(np.linalg.norm(part, axis=0), 1e-12)
        if np.linalg.matrix_rank(scaled, tol=1e-8) > len(chosen):
            chosen.append(column)
    return chosen


def _mean(ages: Sequence[float | None]) -> float | None:
    """Return the mean; `None` where one is not known."""
    known = [age for age in ages if age is not None]
    return float(np.mean(known)) if known and len(known) == len(ages) else None


def _is_of(sex: float | str | None, level: str) -> float:
    return np.nan if sex is None else float(sex == level)


def _beside_ones(group: Bool[np.ndarray, " subjects"]) -> Float[np.ndarray, "subjects two"]:
    return np.column_stack([np.ones(len(group)), group.astype(float)])
