"""The result of a comparison and its picture: figures of several runs, and differences."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hemitwin._atomic import atomic_path
from hemitwin.pipeline.stage.pictures import BLUE, paper_style
from hemitwin.pipeline.statistics.bootstrap import Estimate
from hemitwin.pipeline.statistics.metrics import plain_name
from hemitwin.pipeline.statistics.paired_tests import Difference, McNemar

__all__ = ["Comparison", "ComparisonRow", "picture_of_comparison"]

_METHOD = (
    "Intervals: 95 %, percentile bootstrap over families, within each fold. Several folds of one "
    "configuration: scores of different folds are calibrated apart, so every figure is computed "
    "in each fold and averaged over folds. Differences: the same draws for both, two-sided p = "
    "(1 + draws at least as far from the difference as it is from 0) / (draws + 1). McNemar: "
    "exact, calls at each run's own threshold of validation, pairs of all folds together. Holm: "
    "within each test, over all comparisons with the first."
)

_TITLES = {"auc": "AUC", "f1": "F1"}


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


def picture_of_comparison(path: Path, result: Comparison) -> None:
    """Draw AUC and F1 of each run, and their differences from the first with Holm's p.

    Parameters
    ----------
    path : Path
        The PNG file.
    result : Comparison
        Its first row stands at the top.
    """
    rows = result.rows
    # A Figure of its own, not pyplot: no global state, and no display is needed.
    with paper_style():
        figure = Figure(figsize=(10.5, 1.3 + 0.5 * len(rows)), dpi=200, layout="constrained")
        panels = figure.subplots(1, 2 * len(_TITLES), sharey=True)
        for number, (name, title) in enumerate(_TITLES.items()):
            figures = [row.figures[name] for row in rows]
            _forest(panels[2 * number], figures, f"{title} [95 %]")
            _differences(panels[2 * number + 1], rows, name, f"{title}, difference from the first")
        panels[0].set_yticks(range(len(rows)), [_label(row) for row in rows])
        panels[0].set_ylim(len(rows) - 0.5, -0.6)
        with atomic_path(path) as temporary:
            figure.savefig(temporary)


def _forest(panel: Axes, estimates: Sequence[Estimate | None], title: str) -> None:
    for place, one in enumerate(estimates):
        if one is None:
            continue
        panel.plot([one.low, one.high], [place] * 2, color=BLUE, linewidth=1.4)
        panel.plot(one.value, place, "s", color=BLUE, markersize=5)
        text = f"{one.value:.3f} [{one.low:.3f}, {one.high:.3f}]"
        _write(panel, text, (one.value, float(place)), 6)
    panel.set_title(title)
    panel.margins(x=0.25)
    panel.tick_params(axis="y", length=0)
    panel.spines["left"].set_visible(False)


def _differences(panel: Axes, rows: Sequence[ComparisonRow], name: str, title: str) -> None:
    differences = [row.differences[name] if row.differences else None for row in rows]
    _forest(panel, [one.estimate if one else None for one in differences], title)
    panel.axvline(0.0, color="0.6", linewidth=0.8, zorder=0)
    _write(panel, "reference", (0.0, 0.0), -3)
    known = [one.estimate for one in differences if one]
    reach = max([0.02, *(np.nanmax(np.abs([one.low, one.high])) for one in known)])
    panel.set_xlim(-1.35 * reach, 1.35 * reach)
    for place, row in enumerate(rows):
        if row.differences:
            text = f"p = {_p(row.differences[name].p)}, Holm {_p(row.holm[name])}"
            at = (row.differences[name].estimate.value, float(place))
            _write(panel, text, at, -13)


def _write(panel: Axes, text: str, at: tuple[float, float], points_up: int) -> None:
    white = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
    panel.annotate(
        text,
        at,
        (0, points_up),
        textcoords="offset points",
        ha="center",
        fontsize=6.5,
        bbox=white,
    )


def _label(row: ComparisonRow) -> str:
    name = row.name if len(row.name) <= 34 else f"...{row.name[-31:]}"
    shown = list(row.settings.items())[:3]
    plain = [f"{key.rsplit('.', 1)[-1].replace('_', ' ')} {value}" for key, value in shown]
    settings = ", ".join(plain)
    return f"{name}\n{settings}" if settings else name


def _p(p: float) -> str:
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"
