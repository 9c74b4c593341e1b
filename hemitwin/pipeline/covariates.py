"""What is known of everybody's age and sex, as the columns of a regression."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from hemitwin.pipeline.demographics import Demographics

__all__ = ["Covariates", "Design", "independent_columns"]

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
    left_out : mapping of str to str
        What was not taken, and why.
    """

    table: pd.DataFrame
    left_out: Mapping[str, str]

    @classmethod
    def of(cls, subjects: Sequence[str], people: Demographics) -> "Covariates":
        """Take age and sex where they are known of everybody and not the same for all."""
        table = pd.DataFrame(index=list(subjects))
        left_out: dict[str, str] = {}
        sources: dict[str, Mapping[str, str] | Mapping[str, float]]
        sources = {"age": people.age_years, "sex": people.sex}
        for kind, known in sources.items():
            found = [known.get(subject) for subject in subjects]
            if None in found:
                left_out[kind] = "not known of everybody"
            elif len(set(found)) < 2:
                left_out[kind] = "the same for everybody"
            elif kind == "age":
                table["age_years"] = np.array(found, dtype=float)
            else:
                for level in sorted({str(one) for one in found})[1:]:
                    table[f"sex={level}"] = [float(one == level) for one in found]
        return cls(table, left_out)

    def design(
        self, subjects: Sequence[str], *, group: Bool[np.ndarray, " subjects"] | None = None
    ) -> Design:
        """Build a regression's columns, without those that could not be told from the others.

        Parameters
        ----------
        subjects : sequence of str
            Its rows.
        group : (subjects,) bool, optional
            Becomes the second column; some are in it and some not.
        """
        rows = self.table.loc[list(subjects)].to_numpy(float)
        first = np.ones((len(rows), 1)) if group is None else _beside_ones(group)
        whole = np.concatenate([first, rows], axis=1)
        names = [_INTERCEPT, _GROUP][: first.shape[1]] + [str(one) for one in self.table.columns]
        chosen = independent_columns(whole)
        used = tuple(names[one] for one in chosen if one >= first.shape[1])
        lost = [name for name in names[first.shape[1] :] if name not in used]
        reason = "the same for all of these subjects, or not to be told from the other columns"
        return Design(whole[:, chosen], used, {**self.left_out, **dict.fromkeys(lost, reason)})

    def row(self, subject: str, design: Design) -> Float[np.ndarray, " columns"]:
        """Return one more subject's row of a design without a group."""
        own = self.table.loc[[subject], list(design.used)].to_numpy(float)
        return np.concatenate([[1.0], own[0]])


def independent_columns(matrix: Float[np.ndarray, "subjects columns"]) -> list[int]:
    """Choose the columns, from the left, that are no mixture of those before.

    Examples
    --------
    >>> independent_columns(np.array([[1.0, 5, 0], [1, 5, 1], [1, 5, 2]]))
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


def _beside_ones(group: Bool[np.ndarray, " subjects"]) -> Float[np.ndarray, "subjects two"]:
    return np.column_stack([np.ones(len(group)), group.astype(float)])
