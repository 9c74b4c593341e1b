"""A comparison of runs as a forest plot."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hemitwin._atomic import atomic_path
from hemitwin.pipeline.comparison import Comparison, ComparisonRow
from hemitwin.pipeline.stage.pictures import paper_style
from hemitwin.pipeline.statistics.bootstrap import Estimate

__all__ = ["picture_of_comparison"]

_TITLES = {"auc": "AUC", "f1": "F1"}
_BLUE = "#1f5fa8"


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
        panel.plot([one.low, one.high], [place] * 2, color=_BLUE, linewidth=1.4)
        panel.plot(one.value, place, "s", color=_BLUE, markersize=5)
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
