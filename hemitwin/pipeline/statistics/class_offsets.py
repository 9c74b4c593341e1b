"""What is added to the scores of classes, so that the highest is right most often."""

from typing import Literal

import numpy as np
from jaxtyping import Float, Int

__all__ = ["Criterion", "fit_offsets"]

Criterion = Literal["accuracy", "balanced_accuracy"]

_LEAST = 1e-12
_SWEEPS = 10


def fit_offsets(
    scores: Float[np.ndarray, " n classes"],
    classes: Int[np.ndarray, " n"],
    criterion: Criterion = "balanced_accuracy",
) -> Float[np.ndarray, " classes"]:
    """Choose what is added to each class's score, so that the highest is right most often.

    Class after class takes the offset that is best beside those of the others, midway between
    two images' scores, until none gets better. Of equals the one nearest to the present offset is
    taken, so that where nothing is gained nothing is changed.

    Parameters
    ----------
    scores : (n, classes) float
        Of validation images, never of the test's; logarithms, where they are probabilities.
    classes : (n,) int
        What they are.
    criterion : {'accuracy', 'balanced_accuracy'}
        What is to be highest.

    Returns
    -------
    (classes,) float
        The offsets.

    Examples
    --------
    >>> fit_offsets(np.array([[3.0, 0.0], [3.0, 2.0], [3.0, 2.0]]), np.array([0, 1, 1]))
    array([-2.,  0.])
    """
    counts = np.bincount(classes, minlength=scores.shape[1])
    weights = np.ones(len(classes)) if criterion == "accuracy" else 1 / counts[classes]
    offsets = np.zeros(scores.shape[1])
    for _ in range(_SWEEPS):
        before = offsets.copy()
        for k in range(len(offsets)):
            offsets[k] = _best_offset(scores, classes, weights, offsets, k)
        if np.array_equal(before, offsets):
            break
    return offsets


def _best_offset(
    scores: Float[np.ndarray, " n classes"],
    classes: Int[np.ndarray, " n"],
    weights: Float[np.ndarray, " n"],
    offsets: Float[np.ndarray, " classes"],
    k: int,
) -> float:
    """Return the offset of class k that calls most weight right beside the others' offsets."""
    others = scores + offsets
    others[:, k] = -np.inf
    needed = others.max(axis=1) - scores[:, k]  # above it an image is called k
    order = np.argsort(needed, kind="stable")
    gain = weights * ((classes == k).astype(float) - (others.argmax(axis=1) == classes))
    right = np.concatenate([[0.0], np.cumsum(gain[order])])  # with so many called k
    edges = needed[order]
    places = np.concatenate([[edges[0] - 1], (edges[1:] + edges[:-1]) / 2, [edges[-1] + 1]])
    apart = np.concatenate([[True], edges[1:] > edges[:-1], [True]])
    present = float(right[np.searchsorted(edges, offsets[k])])
    best = right[apart].max()
    if best <= present + _LEAST:
        return float(offsets[k])
    candidates = places[apart & (right >= best - _LEAST)]
    return float(candidates[np.abs(candidates - offsets[k]).argmin()])
