"""Figures of a classifier of several classes, with intervals over groups of images."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int

from hemitwin.pipeline.statistics.bootstrap import Clusters, Estimate, unavailable
from hemitwin.pipeline.statistics.roc import RocCurves, share

__all__ = [
    "BINS",
    "BY_CLASS",
    "CALIBRATION",
    "OVERALL",
    "ClassFigures",
    "Classified",
    "ReliabilityBin",
    "class_figures",
    "figure_differences",
]

Columns = Float[np.ndarray, "_ _"]
"""A row a draw; one column, one a class, or one a bin."""

OVERALL = ("accuracy", "balanced_accuracy", "macro_f1", "macro_auc", "macro_partial_auc")
"""Figures of all classes together."""

CALIBRATION = ("calibration_error", "brier")
"""Figures of probabilities."""

BY_CLASS: Mapping[str, str] = {
    "precision": "no image is called this class",
    "recall": "no image is of this class",
    "f1": "no image is of this class or called it",
    "auc": "it needs images of this class and of others",
    "partial_auc": "it needs images of this class and of others",
}
"""Figures of each class, and why there may be none."""

BINS = 10
"""Of the confidence, of one width."""

_PRECISION = 1e-4


@dataclass(frozen=True, eq=False)
class Classified:
    """What a classifier said of images whose classes are known.

    Parameters
    ----------
    labels : (n,) int
        The classes, from 0.
    scores : (n, classes) float
        Of each class, at least two; high means that the image is of it.
    chosen : (n,) int
        The class that was called. It need not have the highest score, as a rare class may be
        called from a lower one on.
    probabilities : bool
        Whether the scores of an image are probabilities, which add up to 1.

    Raises
    ------
    ValueError
        The lengths differ, a class has no score, a score is not finite, or probabilities are none.
    """

    labels: Int[np.ndarray, " n"]
    scores: Float[np.ndarray, " _ classes"]
    chosen: Int[np.ndarray, " _"]
    probabilities: bool

    def __post_init__(self) -> None:
        """Check that the three are of the same images and classes."""
        count, classes = self.scores.shape
        if classes < 2:
            msg = f"there must be at least two classes; got scores of {classes}; add the others'"
            raise ValueError(msg)
        if not self.labels.size == self.chosen.size == count > 0:
            msg = (
                "labels, scores and chosen classes must be of the same images, at least one; got "
                f"{self.labels.size}, {count} and {self.chosen.size}; give one of each an image"
            )
            raise ValueError(msg)
        named = np.concatenate([self.labels, self.chosen])
        if named.min() < 0 or named.max() >= classes:
            msg = (
                f"classes must be numbered from 0 to {classes - 1}, as there are scores; got "
                f"{int(named.min())} to {int(named.max())}; number them so"
            )
            raise ValueError(msg)
        if not np.isfinite(self.scores).all():
            missing = int((~np.isfinite(self.scores)).any(axis=1).sum())
            msg = f"scores must be finite; those of {missing} images are not; leave these out"
            raise ValueError(msg)
        sums = self.scores.sum(axis=1)
        if self.probabilities and (
            self.scores.min() < -_PRECISION or np.abs(sums - 1).max() > _PRECISION
        ):
            msg = (
                f"probabilities must be at least 0 and add up to 1; got from {self.scores.min()} "
                f"and sums of {sums.min()} to {sums.max()}; set probabilities=False for scores"
            )
            raise ValueError(msg)

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return int(self.scores.shape[1])

    @cached_property
    def present(self) -> Bool[np.ndarray, " classes"]:
        """Which classes some image is of."""
        return np.bincount(self.labels, minlength=self.classes) > 0

    @cached_property
    def ranking(self) -> Float[np.ndarray, "n classes"]:
        """What images are ranked by for each class: its probability, or its score's lead.

        A score alone says little: an image far from all templates but farthest from the others
        is of the class. The lead is over the highest score of another class.
        """
        if self.probabilities:
            return self.scores
        highest = np.sort(self.scores, axis=1)[:, ::-1]
        leads = self.scores == highest[:, :1]
        return np.asarray(self.scores - np.where(leads, highest[:, 1:2], highest[:, :1]))

    @cached_property
    def confidence(self) -> Float[np.ndarray, " n"]:
        """Probability of the class that was called."""
        return np.asarray(self.scores[np.arange(self.labels.size), self.chosen], dtype=float)

    @cached_property
    def bins(self) -> Int[np.ndarray, " n"]:
        """Bin of each image's confidence: (0, 1/BINS], and so on up to 1."""
        edges = np.ceil(np.round(self.confidence * BINS, 9)).astype(np.int64)
        return np.clip(edges - 1, 0, BINS - 1)


@dataclass(frozen=True)
class ReliabilityBin:
    """How often a classifier is right where it is so confident.

    Parameters
    ----------
    low, high : float
        Confidences above the one, up to the other.
    images : int
        How many.
    confidence : float
        Their mean.
    accuracy : Estimate
        The share of them that is called right.
    """

    low: float
    high: float
    images: int
    confidence: float
    accuracy: Estimate


@dataclass(frozen=True, eq=False)
class ClassFigures:
    """What a classifier is worth.

    Parameters
    ----------
    confusion : (classes, classes) int
        Images by their class (row) and the class they are called (column).
    overall : mapping of str to Estimate
        By the names of `OVERALL`, and of `CALIBRATION` where the scores are probabilities.
    by_class : tuple of mapping of str to Estimate
        For each class by the names of `BY_CLASS`.
    reliability : tuple of ReliabilityBin
        The bins with images in them; empty where the scores are no probabilities.
    """

    confusion: Int[np.ndarray, "classes classes"]
    overall: Mapping[str, Estimate]
    by_class: tuple[Mapping[str, Estimate], ...]
    reliability: tuple[ReliabilityBin, ...]


def class_figures(
    found: Classified, clusters: Clusters, *, draws: int = 2000, seed: int = 0
) -> ClassFigures:
    """Return every figure of a classifier with a percentile bootstrap over groups.

    - AUC and partial AUC are of one class against all others, by the class's probability, or
      else by its score's lead over the others' highest. The partial AUC is the area right of the
      curve above a true positive rate of 0.8, over the largest there can be: the mean specificity
      over the sensitivities from 0.8 to 1, 0.1 for chance (Jiang, Metz and Nishikawa 1996,
      doi:10.1148/radiology.201.3.8939225). The same area is often given as such, from 0 to 0.2: a
      fifth of this. McClish's standardisation (1989, doi:10.1177/0272989X8900900307), which puts
      chance at 0.5, is (p + 0.8) / 1.8 of this p.
    - Balanced accuracy and the macro figures are means over the classes that there are images of.
    - The calibration error is the mean over the images of |accuracy - mean confidence| of their
      bin, of ten of one width; confidence is the probability of the class that is called (Guo et
      al. 2017, arXiv:1706.04599).
    - Brier's score is the mean of the summed squares of probability less truth over all classes,
      0 to 2 (Brier 1950, Monthly Weather Review 78:1-3).

    Parameters
    ----------
    found : Classified
        What was said of the images.
    clusters : Clusters
        Whose image each is, as ``Clusters.of(patients)``.
    draws : int
        Bootstrap draws.
    seed : int
        Of the draws.

    Returns
    -------
    ClassFigures
        Figures that these images cannot give are NaN, with the reason. Draws without images of a
        class are left out of the intervals of what needs them.

    Raises
    ------
    ValueError
        The clusters are not of these images.

    Examples
    --------
    >>> labels = np.array([0, 0, 1, 2])
    >>> found = Classified(labels, np.eye(3)[labels], labels, probabilities=True)
    >>> class_figures(found, Clusters.of(["a", "b", "c", "d"])).overall["accuracy"].value
    1.0
    """
    whole, drawn = _figures(found, clusters, draws, seed)
    names = OVERALL + (CALIBRATION if found.probabilities else ())
    cells = found.labels * found.classes + found.chosen
    counts = np.bincount(cells, minlength=found.classes**2)
    return ClassFigures(
        confusion=counts.reshape(found.classes, found.classes),
        overall={name: Estimate.of(float(whole[name][0, 0]), drawn[name][:, 0]) for name in names},
        by_class=tuple(
            {
                name: unavailable(reason)
                if np.isnan(whole[name][0, k])
                else Estimate.of(float(whole[name][0, k]), drawn[name][:, k])
                for name, reason in BY_CLASS.items()
            }
            for k in range(found.classes)
        ),
        reliability=_reliability(found, whole, drawn) if found.probabilities else (),
    )


def figure_differences(
    one: Classified, other: Classified, clusters: Clusters, *, draws: int = 2000, seed: int = 0
) -> tuple[dict[str, Estimate], tuple[dict[str, Estimate], ...]]:
    """Return how much more one classifier is worth than another on the same images.

    Parameters
    ----------
    one, other : Classified
        Of the same images, in the same order.
    clusters : Clusters
        Whose image each is.
    draws, seed : int
        Of the bootstrap over groups; each draw is of both.

    Returns
    -------
    dict of str to Estimate
        Of the figures in `OVERALL`, one less the other.
    tuple of dict of str to Estimate
        For each class, of those in `BY_CLASS`.

    Raises
    ------
    ValueError
        The two are not of the same images and classes.
    """
    if not np.array_equal(one.labels, other.labels) or one.classes != other.classes:
        msg = (
            f"both classifiers must have seen the same images; got {one.labels.size} of "
            f"{one.classes} classes and {other.labels.size} of {other.classes}, with other labels "
            "or in another order; sort both alike"
        )
        raise ValueError(msg)
    (whole, drawn), (minus, drawn_minus) = (
        _figures(found, clusters, draws, seed) for found in (one, other)
    )

    def difference(name: str, column: int) -> Estimate:
        value = float(whole[name][0, column] - minus[name][0, column])
        if np.isnan(value):
            return unavailable(BY_CLASS.get(name, "it is undefined for these images"))
        return Estimate.of(value, drawn[name][:, column] - drawn_minus[name][:, column])

    return (
        {name: difference(name, 0) for name in OVERALL},
        tuple({name: difference(name, k) for name in BY_CLASS} for k in range(one.classes)),
    )


def _figures(
    found: Classified, clusters: Clusters, draws: int, seed: int
) -> tuple[dict[str, Columns], dict[str, Columns]]:
    """Return every figure once for the images, and for all draws of the groups."""
    if clusters.first.size != found.labels.size:
        msg = (
            f"every image must have its group; got {clusters.first.size} for "
            f"{found.labels.size} images; give one an image"
        )
        raise ValueError(msg)
    whole = _figure_draws(found, np.ones((1, found.labels.size)))
    parts = [_figure_draws(found, weights) for weights in clusters.weights_in_parts(draws, seed)]
    return whole, {name: np.concatenate([part[name] for part in parts]) for name in whole}


def _figure_draws(found: Classified, weights: Float[np.ndarray, "draws n"]) -> dict[str, Columns]:
    """Return every figure for each weighting: one column, one a class or one a bin."""
    called = _calls(found, weights)
    ranked = _ranks(found, weights)
    by_class = called | ranked
    means = {
        f"macro_{name}": by_class[name][:, found.present].mean(axis=1, keepdims=True)
        for name in ("f1", "auc", "partial_auc")
    }
    correct = (found.labels == found.chosen).astype(float)
    total = weights.sum(axis=1, keepdims=True)
    overall = {
        "accuracy": share((weights @ correct)[:, None], total),
        "balanced_accuracy": by_class["recall"][:, found.present].mean(axis=1, keepdims=True),
    }
    calibration = _calibration(found, weights, correct) if found.probabilities else {}
    return by_class | means | overall | calibration


def _calls(found: Classified, weights: Float[np.ndarray, "draws n"]) -> dict[str, Columns]:
    classes = np.eye(found.classes)
    truth, called = classes[found.labels], classes[found.chosen]
    hits, there, named = (weights @ one for one in (truth * called, truth, called))
    return {
        "precision": share(hits, named),
        "recall": share(hits, there),
        "f1": share(2 * hits, there + named),
    }


def _ranks(found: Classified, weights: Float[np.ndarray, "draws n"]) -> dict[str, Columns]:
    curves = [
        RocCurves.of(found.labels == k, found.ranking[:, k], weights) for k in range(found.classes)
    ]
    return {
        "auc": np.stack([curve.area() for curve in curves], axis=1),
        "partial_auc": np.stack([curve.partial_area() for curve in curves], axis=1),
    }


def _calibration(
    found: Classified, weights: Float[np.ndarray, "draws n"], correct: Float[np.ndarray, " n"]
) -> dict[str, Columns]:
    bins = np.eye(BINS)[found.bins]
    there, right, confidence = (
        weights @ (bins * one[:, None])
        for one in (np.ones_like(correct), correct, found.confidence)
    )
    total = weights.sum(axis=1, keepdims=True)
    squares = ((found.scores - np.eye(found.classes)[found.labels]) ** 2).sum(axis=1)
    gaps = np.abs(right - confidence).sum(axis=1, keepdims=True)
    return {
        "calibration_error": share(gaps, total),
        "brier": share((weights @ squares)[:, None], total),
        "bin_accuracy": share(right, there),
        "bin_confidence": share(confidence, there),
    }


def _reliability(
    found: Classified, whole: dict[str, Columns], drawn: dict[str, Columns]
) -> tuple[ReliabilityBin, ...]:
    counts = np.bincount(found.bins, minlength=BINS)
    return tuple(
        ReliabilityBin(
            k / BINS,
            (k + 1) / BINS,
            int(counts[k]),
            float(whole["bin_confidence"][0, k]),
            Estimate.of(float(whole["bin_accuracy"][0, k]), drawn["bin_accuracy"][:, k]),
        )
        for k in np.flatnonzero(counts).tolist()
    )
