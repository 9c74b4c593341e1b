"""Scores of a detector, with intervals over subjects: pairs of one subject are not independent."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Bool, Float
from sklearn.metrics import roc_auc_score

__all__ = ["Estimate", "auc_with_interval", "rates_at", "youden_threshold"]


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float]:
        """Return the three numbers by name."""
        return asdict(self)


def auc_with_interval(
    labels: Bool[np.ndarray, " n"],
    scores: Float[np.ndarray, " n"],
    subjects: Sequence[str],
    *,
    draws: int = 2000,
    seed: int = 0,
) -> Estimate:
    """Area under the ROC curve with a percentile bootstrap over subjects.

    All pairs of a drawn subject come along each time it is drawn. The area of a draw is the
    weighted Mann-Whitney statistic, so that one matrix of comparisons serves all draws.

    Parameters
    ----------
    labels : (n,) bool
        True where a lesion is.
    scores : (n,) float
        Larger means more asymmetric.
    subjects : sequence of str
        Whose pair each is.
    draws : int
        Bootstrap draws.
    seed : int
        Of the draws.

    Returns
    -------
    Estimate
        Area and its 2.5th and 97.5th percentiles.

    Raises
    ------
    ValueError
        Only one class is there, or a score is not finite.

    Examples
    --------
    >>> labels = np.array([False, True, False, True])
    >>> auc_with_interval(labels, np.array([0.1, 0.9, 0.2, 0.8]), ["a", "a", "b", "b"]).value
    1.0
    """
    if labels.all() or not labels.any() or not np.isfinite(scores).all():
        msg = (
            f"the AUC needs finite scores of both classes, got {int(labels.sum())} with and "
            f"{int((~labels).sum())} without a lesion; add pairs of the other class"
        )
        raise ValueError(msg)
    names = sorted(set(subjects))
    index = np.array([names.index(subject) for subject in subjects])
    member = np.eye(len(names))[index]
    difference = scores[labels][:, None] - scores[~labels][None]
    wins = (difference > 0) + 0.5 * (difference == 0)
    table = member[labels].T @ wins @ member[~labels]
    counts = member[labels].sum(0), member[~labels].sum(0)
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws)
    pairs = (weights @ counts[0]) * (weights @ counts[1])
    areas = np.einsum("di,ij,dj->d", weights, table, weights)[pairs > 0] / pairs[pairs > 0]
    low, high = np.quantile(areas, [0.025, 0.975])
    return Estimate(float(roc_auc_score(labels, scores)), float(low), float(high))


def youden_threshold(labels: Bool[np.ndarray, " n"], scores: Float[np.ndarray, " n"]) -> float:
    """Choose the threshold of the largest sensitivity + specificity, midway between two scores.

    Parameters
    ----------
    labels, scores : (n,)
        Of validation pairs; never of the test's.

    Returns
    -------
    float
        Scores above it are called asymmetric. Among equals the lowest is taken.

    Examples
    --------
    >>> youden_threshold(np.array([False, False, True]), np.array([0.1, 0.3, 0.5]))
    0.4
    """
    ordered = np.unique(scores)
    if ordered.size == 1:
        return float(ordered[0])
    candidates = (ordered[:-1] + ordered[1:]) / 2
    above = scores[None] > candidates[:, None]
    gain = above[:, labels].mean(1) - above[:, ~labels].mean(1)
    return float(candidates[int(np.argmax(gain))])


def rates_at(
    threshold: float, labels: Bool[np.ndarray, " n"], scores: Float[np.ndarray, " n"]
) -> dict[str, float]:
    """Return sensitivity, specificity and balanced accuracy at a threshold.

    Examples
    --------
    >>> rates_at(0.4, np.array([False, True]), np.array([0.1, 0.5]))["balanced_accuracy"]
    1.0
    """
    called = scores > threshold
    sensitivity = float(called[labels].mean())
    specificity = float((~called[~labels]).mean())
    return {
        "sensitivity": sensitivity,
        "specificity": specificity,
        "balanced_accuracy": (sensitivity + specificity) / 2,
    }
