"""The result of a comparison: every figure of several runs, and their differences."""

from dataclasses import dataclass
from typing import Any

from hemitwin.pipeline.statistics.bootstrap import Estimate
from hemitwin.pipeline.statistics.metrics import plain_name
from hemitwin.pipeline.statistics.paired_tests import Difference, McNemar

__all__ = ["Comparison", "ComparisonRow"]

_METHOD = (
    "Intervals: 95 %, percentile bootstrap over families, within each fold. Several folds of one "
    "configuration: scores of different folds are calibrated apart, so every figure is computed "
    "in each fold and averaged over folds. Differences: the same draws for both, two-sided p = "
    "(1 + draws at least as far from the difference as it is from 0) / (draws + 1). McNemar: "
    "exact, calls at each run's own threshold of validation, pairs of all folds together. Holm: "
    "within each test, over all comparisons with the first."
)


@dataclass(frozen=True, eq=False)
class ComparisonRow:
    """One configuration: its figures, and how it differs from the first.

    Parameters
    ----------
    name : str
        Its folder.
    folds, pairs, subjects : int
        How many were scored.
    settings : dict
        In which the compared ones differ.
    figures : dict of str to Estimate
        Of the network's score.
    differences : dict of str to Difference
        In `auc` and `f1`, this less the first; empty for the first itself.
    calls : McNemar or None
        Against the first.
    holm : dict of str to float
        Adjusted p of `auc`, `f1` and `mcnemar`.
    """

    name: str
    folds: int
    pairs: int
    subjects: int
    settings: dict[str, Any]
    figures: dict[str, Estimate]
    differences: dict[str, Difference]
    calls: McNemar | None
    holm: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Return the row as JSON."""
        differences = {
            name: {**one.estimate.to_dict(), "p": one.p, "p_holm": self.holm[name]}
            for name, one in self.differences.items()
        }
        calls = {**self.calls.to_dict(), "p_holm": self.holm["mcnemar"]} if self.calls else None
        return {
            "name": self.name,
            "folds": self.folds,
            "pairs": self.pairs,
            "subjects": self.subjects,
            "settings": self.settings,
            "figures": {name: one.to_dict() for name, one in self.figures.items()},
            "differences": differences,
            "mcnemar": calls,
        }

    @property
    def title(self) -> str:
        """Name and settings in one line."""
        settings = ", ".join(f"{name} {value}" for name, value in self.settings.items())
        return f"{self.name}: {settings}" if settings else self.name

    def to_rows(self) -> dict[str, str]:
        """Return the row as the lines of a short table."""
        rows = {"pairs, people, folds": f"{self.pairs}, {self.subjects}, {self.folds}"}
        rows |= {plain_name(name): str(one) for name, one in self.figures.items()}
        for name, one in self.differences.items():
            tested = f"{one.estimate}, p {one.p:.4f}, Holm {self.holm[name]:.4f}"
            rows[f"{plain_name(name)}, difference"] = tested
        if self.calls:
            right = f"{self.calls.only_first_right} to {self.calls.only_second_right}"
            tested = f"p {self.calls.p:.4f}, Holm {self.holm['mcnemar']:.4f}"
            rows["only first to only this right"] = f"{right}, {tested}"
        return rows

    def to_line(self) -> dict[str, Any]:
        """Return the row as one line of a table, an interval as two columns."""
        line: dict[str, Any] = {"run": self.name, "folds": self.folds, "pairs": self.pairs}
        line |= {"subjects": self.subjects, **self.settings}
        estimates = {**self.figures}
        estimates |= {f"{name}_difference": one.estimate for name, one in self.differences.items()}
        for name, one in estimates.items():
            line |= {name: one.value, f"{name}_low": one.low, f"{name}_high": one.high}
        for name, tested in self.differences.items():
            line |= {f"{name}_p": tested.p, f"{name}_p_holm": self.holm[name]}
        if self.calls:
            line |= {"mcnemar_p": self.calls.p, "mcnemar_p_holm": self.holm["mcnemar"]}
        return line


@dataclass(frozen=True, eq=False)
class Comparison:
    """All rows, the first of which the others are held against."""

    rows: tuple[ComparisonRow, ...]
    draws: int

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON, with the method in words."""
        rows = [row.to_dict() for row in self.rows]
        return {"method": _METHOD, "bootstrap_draws": self.draws, "rows": rows}
