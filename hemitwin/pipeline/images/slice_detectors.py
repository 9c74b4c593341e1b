"""Detectors of shapes in halves of slices that learn nothing: what a network has to beat."""

import numpy as np
from jaxtyping import UInt8
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

__all__ = ["flat_patch", "mirror_peak"]

Halves = UInt8[np.ndarray, "2 rows columns"]


def mirror_peak(halves: Halves) -> float:
    """Return the largest difference of grey between two halves, smoothed over 3 x 3 pixels.

    Examples
    --------
    >>> halves = np.full((2, 5, 5), 100, dtype=np.uint8)
    >>> halves[0, 1:4, 1:4] = 160
    >>> mirror_peak(halves)
    60.0
    """
    left, right = halves.astype(np.float32)
    return float(np.abs(ndimage.uniform_filter(left - right, 3)).max())


def flat_patch(halves: Halves) -> float:
    """Count the pixels of the largest patch of one grey, which gives a shape of one grey away.

    Black is outside, and what is cut off as white is no patch.

    Examples
    --------
    >>> halves = np.arange(1, 51, dtype=np.uint8).reshape(2, 5, 5)
    >>> halves[0, 1:4, 1:4] = 160
    >>> flat_patch(halves)
    9.0
    """
    return float(max(_largest_patch(half) for half in halves))


def _largest_patch(half: UInt8[np.ndarray, "rows columns"]) -> int:
    number = np.arange(half.size).reshape(half.shape)
    inside = (half > 0) & (half < np.iinfo(half.dtype).max)
    ends = []
    for one, other in ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:])):
        same = (half[one] == half[other]) & inside[one]
        ends.append((number[one][same], number[other][same]))
    first, second = (np.concatenate(side) for side in zip(*ends, strict=True))
    graph = coo_array((np.ones(first.size), (first, second)), shape=(half.size, half.size))
    _, labels = connected_components(graph, directed=False)
    return int(np.bincount(labels[inside.ravel()], minlength=1).max())
