"""Weighted ROC curves, many at once: what a ranking of pairs is worth in each bootstrap draw."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

__all__ = ["RocCurves", "share"]

_LEAST_TPR = 0.8
"""Where the partial area begins."""


@dataclass(frozen=True, eq=False)
class RocCurves:
    """ROC curves of the same pairs under several weightings.

    Parameters
    ----------
    positives, negatives : (draws, 1 + distinct scores) float
        Weight of the pairs of either class above each threshold, thresholds falling, from 0 up
        to the whole. A curve without one of the classes gives NaN everywhere.
    """

    positives: Float[np.ndarray, "draws steps"]
    negatives: Float[np.ndarray, "draws steps"]

    @classmethod
    def of(
        cls,
        labels: Bool[np.ndarray, " n"],
        scores: Float[np.ndarray, " n"],
        weights: Float[np.ndarray, "draws n"],
    ) -> "RocCurves":
        """Sort the pairs once, and add up their weights from the highest score down.

        Parameters
        ----------
        labels : (n,) bool
            The positive class.
        scores : (n,) float
            High means positive. Equal scores share one step.
        weights : (draws, n) float
            Of each pair in each draw.
        """
        order = np.argsort(-scores, kind="stable")
        ordered = scores[order]
        starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
        sums = []
        for member in (labels, ~labels):
            steps = np.add.reduceat(weights[:, order] * member[order], starts, axis=1)
            sums.append(np.pad(np.cumsum(steps, axis=1), ((0, 0), (1, 0))))
        return cls(*sums)

    @property
    def true_rates(self) -> Float[np.ndarray, "draws steps"]:
        """True positive rates (true accept rates)."""
        return share(self.positives, self.positives[:, -1:])

    @property
    def false_rates(self) -> Float[np.ndarray, "draws steps"]:
        """False positive rates (false accept rates)."""
        return share(self.negatives, self.negatives[:, -1:])

    def area(self) -> Float[np.ndarray, " draws"]:
        """Area under the curve: the weighted Mann-Whitney statistic, ties counting one half."""
        middle = (self.positives[:, 1:] + self.positives[:, :-1]) / 2
        wins = (middle * np.diff(self.negatives)).sum(1)
        return share(wins, self.positives[:, -1] * self.negatives[:, -1])

    def average_precision(self) -> Float[np.ndarray, " draws"]:
        """Mean precision over the steps of recall, without interpolation."""
        above = self.positives + self.negatives
        precision = np.divide(self.positives, above, out=np.zeros_like(above), where=above > 0)
        gained = (np.diff(self.positives) * precision[:, 1:]).sum(1)
        defined = np.where(self.negatives[:, -1] > 0, self.positives[:, -1], 0.0)
        return share(gained, defined)

    def partial_area(self, least_tpr: float = _LEAST_TPR) -> Float[np.ndarray, " draws"]:
        """Area right of the curve above a true positive rate, over the largest there can be.

        It is the mean specificity over the sensitivities from `least_tpr` to 1: 1 for a perfect
        ranking, (1 - `least_tpr`) / 2 for chance (Jiang, Metz and Nishikawa 1996,
        doi:10.1148/radiology.201.3.8939225).
        """
        true_rates, false_rates = self.true_rates, self.false_rates
        below, above = true_rates[:, :-1], true_rates[:, 1:]
        start = np.clip(below, least_tpr, above.clip(min=least_tpr))
        height = above.clip(min=least_tpr) - start
        rise = above - below
        travelled = np.divide(start - below, rise, out=np.zeros_like(rise), where=rise > 0)
        entry = false_rates[:, :-1] + travelled * np.diff(false_rates)
        area = (height * (1 - (entry + false_rates[:, 1:]) / 2)).sum(1)
        return np.asarray(area / (1 - least_tpr))

    def equal_error_rate(self) -> Float[np.ndarray, " draws"]:
        """Where false positives and misses are equally frequent, on the line between two steps."""
        false_rates, gap = self.false_rates, self.false_rates + self.true_rates - 1
        step = np.argmax(gap >= 0, axis=1)[:, None]
        before, after = (np.take_along_axis(gap, step - k, 1)[:, 0] for k in (1, 0))
        low, high = (np.take_along_axis(false_rates, step - k, 1)[:, 0] for k in (1, 0))
        return np.asarray(low + (high - low) * share(-before, after - before))

    def tpr_at(self, far: float) -> Float[np.ndarray, " draws"]:
        """Largest true positive rate of the steps whose false positive rate is at most `far`."""
        true_rates, false_rates = self.true_rates, self.false_rates
        best = np.where(false_rates <= far, true_rates, 0.0).max(1)
        return np.asarray(np.where(np.isnan(true_rates[:, -1] + false_rates[:, -1]), np.nan, best))


def share(part: np.ndarray, whole: np.ndarray) -> Float[np.ndarray, " ..."]:
    """Divide, and give NaN where there is nothing to divide by.

    Examples
    --------
    >>> share(np.array([1.0, 0.0]), np.array([2.0, 0.0]))
    array([0.5, nan])
    """
    shape = np.broadcast_shapes(part.shape, whole.shape)
    return np.asarray(np.divide(part, whole, out=np.full(shape, np.nan), where=whole > 0))
