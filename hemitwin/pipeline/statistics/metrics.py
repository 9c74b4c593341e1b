"""Figures of a detector or verifier, with intervals over families: pairs are not independent."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float
from sklearn.metrics import roc_auc_score

from hemitwin.pipeline.statistics.bootstrap import Clusters, Estimate, unavailable
from hemitwin.pipeline.statistics.roc import RocCurves

__all__ = [
    "CALLED",
    "RANKED",
    "Estimate",
    "auc",
    "auc_with_interval",
    "figure_draws",
    "figures_with_intervals",
    "missing_figures",
    "plain_name",
    "rates_at",
    "youden_threshold",
]

Draws = Float[np.ndarray, " draws"]

_FARS = {"tar_at_far_1e-2": 1e-2, "tar_at_far_1e-3": 1e-3}

_RANKED: Mapping[str, Callable[[RocCurves], Draws]] = {
    "auc": RocCurves.area,
    "average_precision": RocCurves.average_precision,
    "partial_auc": RocCurves.partial_area,
    "eer": RocCurves.equal_error_rate,
    "tar_at_far_1e-2": lambda curves: curves.tpr_at(1e-2),
    "tar_at_far_1e-3": lambda curves: curves.tpr_at(1e-3),
}

RANKED = tuple(_RANKED)
"""Figures of the ranking: they need no threshold."""

CALLED = ("accuracy", "balanced_accuracy", "precision", "recall", "specificity", "f1")
"""Figures of the calls at a threshold."""


_PLAIN = {
    "auc": "AUC",
    "partial_auc": "partial AUC, TPR >= 0.8",
    "eer": "equal error rate",
    "tar_at_far_1e-2": "TAR at FAR 1e-2",
    "tar_at_far_1e-3": "TAR at FAR 1e-3",
    "f1": "F1",
}


def plain_name(figure: str) -> str:
    """Return a figure's name as a table writes it.

    Examples
    --------
    >>> plain_name("average_precision"), plain_name("eer")
    ('average precision', 'equal error rate')
    """
    return _PLAIN.get(figure, figure.replace("_", " "))


def auc(labels: Bool[np.ndarray, " n"], scores: Float[np.ndarray, " n"]) -> float:
    """Area under the ROC curve, without an interval.

    Parameters
    ----------
    labels : (n,) bool
        True where a lesion is.
    scores : (n,) float
        Larger means more asymmetric.

    Raises
    ------
    ValueError
        Only one class is there, or a score is not finite.

    Examples
    --------
    >>> auc(np.array([False, True, False, True]), np.array([0.1, 0.9, 0.2, 0.8]))
    1.0
    """
    _require_both_classes(labels, scores)
    return float(roc_auc_score(labels, scores))


def auc_with_interval(
    labels: Bool[np.ndarray, " n"],
    scores: Float[np.ndarray, " n"],
    subjects: Sequence[str] | Clusters,
    *,
    draws: int = 2000,
    seed: int = 0,
) -> Estimate:
    """Area under the ROC curve with a percentile bootstrap over subjects.

    All pairs of a drawn subject come along each time it is drawn. The area of a draw is the
    weighted Mann-Whitney statistic.

    Parameters
    ----------
    labels : (n,) bool
        True where a lesion is.
    scores : (n,) float
        Larger means more asymmetric.
    subjects : sequence of str, or Clusters
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
    value = auc(labels, scores)
    clusters = subjects if isinstance(subjects, Clusters) else Clusters.of(subjects)
    parts = clusters.weights_in_parts(draws, seed)
    areas = [RocCurves.of(labels, scores, weights).area() for weights in parts]
    return Estimate.of(value, np.concatenate(areas))


def figures_with_intervals(
    labels: Bool[np.ndarray, " n"],
    scores: Float[np.ndarray, " n"],
    clusters: Clusters,
    *,
    threshold: float | None,
    draws: int = 2000,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Return every figure of scored pairs with a percentile bootstrap over families.

    Parameters
    ----------
    labels : (n,) bool
        The positive class: a lesion is there, or the two are no twins.
    scores : (n,) float
        High means positive.
    clusters : Clusters
        Whose pair each is.
    threshold : float, optional
        Frozen on validation; scores above it are called positive. Without one there are only the
        figures in `RANKED`.
    draws : int
        Bootstrap draws.
    seed : int
        Of the draws.

    Returns
    -------
    dict of str to Estimate
        The names in `RANKED` and `CALLED`. `partial_auc` is the mean specificity over the
        sensitivities from 0.8 to 1 (Jiang, Metz and Nishikawa 1996). A true accept rate needs
        as many negatives as one false accept stands for, 1 / FAR; with fewer it is NaN, with the
        reason.

    Raises
    ------
    ValueError
        Only one class is there, or a score is not finite.

    Examples
    --------
    >>> figures = figures_with_intervals(
    ...     np.array([False, True, False, True]), np.array([0.1, 0.9, 0.2, 0.8]),
    ...     Clusters.of(["a", "a", "b", "b"]), threshold=0.5)
    >>> figures["f1"].value, figures["eer"].value
    (1.0, 0.0)
    """
    _require_both_classes(labels, scores)
    values, drawn = drawn_figures(
        labels, scores, clusters, threshold=threshold, draws=draws, seed=seed
    )
    missing = missing_figures(labels)
    return {
        name: unavailable(missing[name])
        if name in missing
        else Estimate.of(values[name], drawn[name])
        for name in (RANKED if threshold is None else RANKED + CALLED)
    }


def drawn_figures(
    labels: Bool[np.ndarray, " n"],
    scores: Float[np.ndarray, " n"],
    clusters: Clusters,
    *,
    threshold: float | None,
    draws: int,
    seed: int,
) -> tuple[dict[str, float], dict[str, Draws]]:
    """Return every figure of scored pairs, and what it is in each bootstrap draw over families.

    Draws of one seed are the same families for all scores: differences are drawn pair by pair.

    Parameters
    ----------
    labels, scores, clusters, threshold, draws, seed
        As for `figures_with_intervals`.

    Returns
    -------
    dict of str to float
        The figures.
    dict of str to (draws,) float
        As `figure_draws` gives them.
    """
    whole = figure_draws(labels, scores, np.ones((1, labels.size)), threshold=threshold)
    parts = [
        figure_draws(labels, scores, weights, threshold=threshold)
        for weights in clusters.weights_in_parts(draws, seed)
    ]
    values = {name: float(value[0]) for name, value in whole.items()}
    return values, {name: np.concatenate([part[name] for part in parts]) for name in values}


def missing_figures(labels: Bool[np.ndarray, " n"]) -> dict[str, str]:
    """Return the figures that there are too few negatives for, each with its reason.

    Examples
    --------
    >>> missing_figures(np.zeros(100, dtype=bool))
    {'tar_at_far_1e-3': 'it needs 1000 negatives, there are 100'}
    """
    negatives = int((~labels).sum())
    return {
        name: f"it needs {round(1 / far)} negatives, there are {negatives}"
        for name, far in _FARS.items()
        if negatives * far < 1
    }


def figure_draws(
    labels: Bool[np.ndarray, " n"],
    scores: Float[np.ndarray, " n"],
    weights: Float[np.ndarray, "draws n"],
    *,
    threshold: float | None,
) -> dict[str, Draws]:
    """Return every figure once for each weighting of the pairs.

    Parameters
    ----------
    labels, scores : (n,)
        As for `figures_with_intervals`.
    weights : (draws, n) float
        How often each pair comes.
    threshold : float, optional
        Without one there are only the figures in `RANKED`.

    Returns
    -------
    dict of str to (draws,) float
        NaN where a draw lacks what a figure needs, as precision lacks calls.
    """
    curves = RocCurves.of(labels, scores, weights)
    figures = {name: figure(curves) for name, figure in _RANKED.items()}
    if threshold is None:
        return figures
    return figures | _calls(labels, scores > threshold, weights)


def _calls(
    labels: Bool[np.ndarray, " n"],
    called: Bool[np.ndarray, " n"],
    weights: Float[np.ndarray, "draws n"],
) -> dict[str, Draws]:
    cells = [labels & called, ~labels & called, labels & ~called, ~labels & ~called]
    tp, fp, fn, tn = (weights @ np.stack(cells, axis=1).astype(float)).T
    with np.errstate(divide="ignore", invalid="ignore"):
        recall, specificity = tp / (tp + fn), tn / (tn + fp)
        return {
            "accuracy": (tp + tn) / (tp + fp + fn + tn),
            "balanced_accuracy": (recall + specificity) / 2,
            "precision": tp / (tp + fp),
            "recall": recall,
            "specificity": specificity,
            "f1": 2 * tp / (2 * tp + fp + fn),
        }


def _require_both_classes(labels: Bool[np.ndarray, " n"], scores: Float[np.ndarray, " n"]) -> None:
    if labels.all() or not labels.any() or not np.isfinite(scores).all():
        msg = (
            f"the AUC needs finite scores of both classes, got {int(labels.sum())} with and "
            f"{int((~labels).sum())} without a lesion; add pairs of the other class"
        )
        raise ValueError(msg)


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
    gain = _share_above(candidates, scores[labels]) - _share_above(candidates, scores[~labels])
    return float(candidates[int(np.argmax(gain))])


def _share_above(
    thresholds: Float[np.ndarray, " m"], scores: Float[np.ndarray, " n"]
) -> Float[np.ndarray, " m"]:
    at_most = np.searchsorted(np.sort(scores), thresholds, side="right")
    return np.asarray((scores.size - at_most) / scores.size)


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
