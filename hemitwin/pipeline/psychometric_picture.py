"""A psychometric curve as a picture: points, fit and band."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter
from scipy.stats import binomtest

from hemitwin.pipeline.statistics.psychometric import Detections, PsychometricCurve

__all__ = ["draw_psychometric"]

_POINTS = 7
_LEAST_A_POINT = 3
_BLUE = "#1f5fa8"


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
    colours = [_BLUE] if len(curves) == 1 else ["#9ecae1", "#4292c6", "#08519c", "#08306b"]
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
