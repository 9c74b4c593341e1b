"""An evaluation as one picture: ranking, detection by size, bins and roles."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter
from scipy.stats import binomtest

from hemitwin._atomic import atomic_path
from hemitwin.pipeline.evaluation.breakdown import BinRow
from hemitwin.pipeline.evaluation.results import Evaluation
from hemitwin.pipeline.evaluation.score_table import ScoreTable
from hemitwin.pipeline.stage.pictures import BLUE, paper_style
from hemitwin.pipeline.statistics.bootstrap import Estimate, unavailable
from hemitwin.pipeline.statistics.psychometric import Detections, PsychometricCurve
from hemitwin.pipeline.statistics.roc import RocCurves

__all__ = ["draw_psychometric", "picture_of_evaluation"]

_COLOURS = (BLUE, "#d1691b", "#7a7a7a", "#3f8f4f", "#8a4fa0", "#a03f55", "#55a0a0")
_MARKERS = "osD^vP*"

_NONE = unavailable("there is no place")

_POINTS = 7
_LEAST_A_POINT = 3


def picture_of_evaluation(path: Path, result: Evaluation) -> None:
    """Draw ROC curves, psychometric curves, AUC by bin and shares called asymmetric by role.

    Parameters
    ----------
    path : Path
        The PNG file.
    result : Evaluation
        What is drawn.
    """
    # A Figure of its own, not pyplot: no global state, and no display is needed.
    with paper_style():
        figure = Figure(figsize=(10.5, 6.6), dpi=200, layout="constrained")
        panels = figure.subplots(2, 3)
        _roc(panels[0, 0], result)
        _detection(panels[0, 1], panels[0, 2], result)
        _bins(panels[1, 0], result.by_size, "AUC by lesion volume (native)")
        _bins(panels[1, 1], result.by_contrast, "AUC by lesion contrast (size of change)")
        _roles(panels[1, 2], result)
        _legend(figure, result)
        for letter, panel in zip("abcdef", panels.flat, strict=True):
            panel.set_title(f"{letter}  {panel.get_title(loc='left')}")
        with atomic_path(path) as temporary:
            figure.savefig(temporary)


def _legend(figure: Figure, result: Evaluation) -> None:
    """Name the scores once, below all panels: there are more than have room in one."""
    own = ScoreTable(result.pairs).network_score
    looks = zip(result.auc.items(), _COLOURS, _MARKERS, strict=False)
    handles = [
        Line2D(
            [],
            [],
            color=colour,
            marker=marker,
            markersize=4.5,
            label=f"{_plain(name, own)}: {_short(one)}",
        )
        for (name, one), colour, marker in looks
    ]
    title = "AUC over all pairs [95 %]; the dots in a are thresholds of validation"
    figure.legend(
        handles=handles, loc="outside lower center", ncols=4, title=title, title_fontsize=7
    )


def _roc(panel: Axes, result: Evaluation) -> None:
    table = ScoreTable(result.pairs)
    whole = np.ones((1, table.labels.size))
    for name, colour in zip(result.auc, _COLOURS, strict=False):
        scores = table.scores(name)
        curve = RocCurves.of(table.labels, scores, whole)
        panel.plot(curve.false_rates[0], curve.true_rates[0], color=colour, linewidth=1.3)
        if name in result.thresholds:
            called = scores > result.thresholds[name]
            at = called[~table.labels].mean(), called[table.labels].mean()
            panel.plot(*at, "o", color=colour, markersize=4.5, markeredgecolor="white")
    panel.plot([0, 1], [0, 1], color="0.8", linewidth=0.8, zorder=0)
    panel.set(xlabel="false positive rate", ylabel="true positive rate", aspect="equal")
    people = ScoreTable(result.pairs).rows["subject"].nunique()
    panel.set_title(f"ROC, {table.labels.size} pairs of {people} people")


def _detection(overall: Axes, by_contrast: Axes, result: Evaluation) -> None:
    overall.set_title("Detection at 5 % false positives")
    by_contrast.set_title("Detection by contrast of the lesion")
    if result.detection is None:
        for panel in (overall, by_contrast):
            panel.set_axis_off()
            panel.text(0.5, 0.5, "not enough pairs", ha="center", transform=panel.transAxes)
        return
    curve = result.detection.overall
    overall.set_title(f"Detection (false positives: {100 * curve.guess:.0f} %)")
    name = f"{len(curve.detections.volumes_mm3)} lesions\nd50 {curve.d50} mm³\nd90 {curve.d90} mm³"
    draw_psychometric(overall, {name: curve})
    overall.legend(loc="upper left")
    named = {f"{name}: {one.d50}": one for name, one in result.detection.by_contrast.items()}
    draw_psychometric(by_contrast, named, with_band=False)
    by_contrast.legend(loc="upper left", title="d50 in mm³", title_fontsize=7)


def _bins(panel: Axes, rows: Sequence[BinRow], title: str) -> None:
    names = list(rows[0].auc) if rows else []
    looks = zip(names, _COLOURS, _MARKERS, strict=False)
    for number, (name, colour, marker) in enumerate(looks):
        shift = min(0.16, 0.8 / len(names)) * (number - (len(names) - 1) / 2)
        places = np.arange(len(rows)) + shift
        _intervals(panel, places, [row.auc[name] for row in rows], (colour, marker))
    known = [row.places.get("known_place", _NONE) for row in rows]
    if any(np.isfinite(one.value) for one in known):
        _intervals(panel, np.arange(len(rows), dtype=float), known, ("black", "_"))
        panel.plot([], [], "_", color="black", label="arithmetic, at the known place")
        panel.legend(loc="lower right", fontsize=7)
    panel.axhline(0.5, color="0.8", linewidth=0.8, zorder=0)
    labels = [f"{row.name.replace(' and more', '+')}\nn = {row.lesions}" for row in rows]
    panel.set_xticks(range(len(rows)), labels, fontsize=7)
    panel.set(ylabel="AUC", ylim=(min(0.35, *panel.get_ylim()), 1.03))
    panel.set_title(title)


def _intervals(
    panel: Axes, places: np.ndarray, estimates: Sequence[Estimate], look: tuple[str, str]
) -> None:
    colour, marker = look
    for place, one in zip(places, estimates, strict=True):
        panel.plot([place] * 2, [one.low, one.high], color=colour, linewidth=1.1)
    values = [one.value for one in estimates]
    panel.plot(places, values, marker, color=colour, markersize=4.5)


def _roles(panel: Axes, result: Evaluation) -> None:
    rows = result.roles
    places = np.arange(len(rows), dtype=float)
    _intervals(panel, places, [row.called for row in rows], (_COLOURS[0], "o"))
    panel.set_xticks(places, [f"{row.role}\nn = {row.pairs}" for row in rows])
    panel.set(ylabel="share called asymmetric", ylim=(-0.03, 1.03), xlim=(-0.6, len(rows) - 0.4))
    panel.set_title("Calls at the threshold of validation")


def _plain(name: str, own: str) -> str:
    return "network" if name == own else name.replace("_", " ")


def _short(one: Estimate) -> str:
    return f"{one.value:.2f} [{one.low:.2f}, {one.high:.2f}]"


def draw_psychometric(
    panel: Axes, curves: Mapping[str, PsychometricCurve], *, with_band: bool = True
) -> None:
    """Draw P(detected) against the native volume.

    Parameters
    ----------
    panel : Axes
        Gets a logarithmic axis in ml.
    curves : mapping of str to PsychometricCurve
        By the name that the legend gives them; a dotted line shows the false positive rate.
    with_band : bool
        The 95 % band of the bootstrap, and the intervals of the points.
    """
    colours = [BLUE] if len(curves) == 1 else ["#9ecae1", "#4292c6", "#08519c", "#08306b"]
    for (name, curve), colour in zip(curves.items(), colours, strict=False):
        smallest, largest = curve.detections.tested_mm3
        volumes = np.geomspace(smallest, largest, 200)
        panel.plot(volumes / 1000, curve.at(volumes), color=colour, label=name)
        if with_band:
            low, high = curve.band(volumes)
            panel.fill_between(volumes / 1000, low, high, color=colour, alpha=0.18, linewidth=0)
        _points(panel, curve.detections, colour, with_intervals=with_band)
        guess = curve.guess
        panel.axhline(guess, color="0.45", linestyle=":", linewidth=0.9)
        if np.isfinite(curve.d50.value):
            below = [curve.d50.value / 1000] * 2
            panel.plot(below, [0, 0.5], color=colour, linestyle="--", linewidth=0.8)
    panel.set_xscale("log")
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.set(xlabel="lesion volume, native (ml)", ylabel="P(detected)", ylim=(-0.03, 1.38))
    panel.set_yticks(np.linspace(0, 1, 6))  # the legend stands above


def _points(panel: Axes, detections: Detections, colour: str, *, with_intervals: bool) -> None:
    """Draw the share detected in parts of equal width, with exact binomial intervals."""
    log_mm3 = np.log10(detections.volumes_mm3)
    edges = np.linspace(log_mm3.min(), log_mm3.max(), _POINTS + 1)
    part = np.clip(np.digitize(log_mm3, edges) - 1, 0, _POINTS - 1)
    for number in range(_POINTS):
        inside = part == number
        count = int(inside.sum())
        if count < _LEAST_A_POINT:
            continue
        seen = int(detections.detected[inside].sum())
        place = 10 ** float(log_mm3[inside].mean()) / 1000
        share = seen / count
        if with_intervals:
            interval = binomtest(seen, count).proportion_ci()
            panel.plot([place] * 2, [interval.low, interval.high], color=colour, linewidth=0.9)
        panel.plot(place, share, "o", color=colour, markersize=4, markeredgecolor="white")
