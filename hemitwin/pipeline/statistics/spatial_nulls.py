"""Surrogate maps: chance values that are as smooth over the brain as a given map."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial.distance import cdist

__all__ = ["Variogram", "homotopic_surrogates", "surrogate_maps"]

_PERCENTILE, _BINS, _BANDWIDTH = 25, 25, 3
# At this many standard deviations the kernel has the quartiles of a uniform one (Burt et al.).
_KERNEL = 2.68
_NEIGHBOURHOODS = (0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.4, 0.8)
_MAPS_AT_ONCE = 128


@dataclass(frozen=True, eq=False)
class Variogram:
    """How much values differ over short distances.

    Parameters
    ----------
    distance_mm : (regions, regions) float
        Between all of them.

    Notes
    -----
    Pairs of regions below the 25th percentile of all distances, in 25 bins that overlap: a
    Gaussian kernel three bins wide weighs them. Half the mean squared difference is given.
    """

    distance_mm: Float[np.ndarray, "regions regions"]

    @cached_property
    def _pairs(self) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
        first, second = np.triu_indices(len(self.distance_mm), 1)
        distance = self.distance_mm[first, second]
        near = distance <= np.percentile(distance, _PERCENTILE)
        return first[near], second[near]

    @cached_property
    def _weights(self) -> Float[np.ndarray, "n bins"]:
        distance = self.distance_mm[self._pairs]
        bins = np.linspace(distance.min(), distance.max(), _BINS)
        # Places all alike far apart (a square's corners) make one bin.
        width = max(_BANDWIDTH * (bins[1] - bins[0]), 1e-9 * max(1.0, float(distance.max())))
        weights = np.exp(-0.5 * (_KERNEL * (distance[:, None] - bins) / width) ** 2)
        return np.asarray(weights / weights.sum(axis=0) / 2, dtype=float)

    def of(self, maps: Float[np.ndarray, "maps regions"]) -> Float[np.ndarray, "maps bins"]:
        """Return the variogram of each map."""
        first, second = self._pairs
        found = np.empty((len(maps), _BINS))
        for start in range(0, len(maps), _MAPS_AT_ONCE):
            part = slice(start, start + _MAPS_AT_ONCE)
            found[part] = (maps[part][:, first] - maps[part][:, second]) ** 2 @ self._weights
        return found


def surrogate_maps(
    values: Float[np.ndarray, " regions"],
    centres_mm: Float[np.ndarray, "regions 3"],
    *,
    draws: int,
    seed: int,
) -> Float[np.ndarray, "draws regions"]:
    """Draw maps whose variogram is that of a given map, and which have else nothing of it.

    Values are permuted, smoothed over each of several neighbourhoods (weights fall off as
    exp(-d / d_k), out to the k-th nearest region), and mixed with noise so that their variogram
    comes nearest to the map's; the best neighbourhood is kept (Burt et al. 2020,
    doi:10.1016/j.neuroimage.2020.117038). Unlike there, slope and intercept are not below 0: the
    absolute value of a negative one belongs to another variogram than the one that was fitted.

    Parameters
    ----------
    values : (regions,) float
        The map, finite.
    centres_mm : (regions, 3) float
        Where its regions are, no two in one place. Distances are Euclidean: of all, only these are
        defined over cortex and subcortex alike.
    draws, seed : int
        How many, and which.

    Returns
    -------
    (draws, regions) float
        With the map's mean; the values are not the map's own.

    Raises
    ------
    ValueError
        There are fewer than eight regions, the arrays do not fit, or a value is not finite.
    """
    _check(values, centres_mm)
    rng = np.random.default_rng(seed)
    mean = values.mean()
    permuted = rng.permuted(np.tile(values - mean, (draws, 1)), axis=1)
    noise = rng.standard_normal(permuted.shape)
    if np.ptp(values) <= 1e-12 * np.abs(values).max():
        return np.full(permuted.shape, mean)
    distance = cdist(centres_mm, centres_mm)
    variogram = Variogram(distance)
    target = variogram.of(values[None])[0]
    least, best = np.full(draws, np.inf), np.empty_like(permuted)
    for smoother in _smoothers(distance):
        smooth = permuted @ smoother.T
        slope, intercept, error = _fit(variogram.of(smooth), target)
        better = error < least
        mixed = np.sqrt(slope)[:, None] * smooth + np.sqrt(intercept)[:, None] * noise
        best[better], least[better] = mixed[better], error[better]
    best += mean
    return best


def homotopic_surrogates(
    values: Float[np.ndarray, " regions"],
    centres_mm: Float[np.ndarray, "regions 3"],
    partners: Int[np.ndarray, " regions"],
    *,
    draws: int,
    seed: int,
) -> Float[np.ndarray, "draws regions"]:
    """Draw surrogate maps that are also as alike on the two sides as the given map.

    Homotopic regions are far apart and yet alike; no variogram of distances knows that, and a
    group with regions on both sides would then look like twice the evidence. So the mean of each
    pair, and half its difference, are two maps over one half of the brain; each is given its
    surrogates, and these make both sides. The values are then put in the place of the surrogates'
    by rank: each surrogate has the map's own values.

    Parameters
    ----------
    values, centres_mm, draws, seed
        As for `surrogate_maps`. The first axis of `centres_mm` points to the right; 0 is the
        mid-plane.
    partners : (regions,) int
        Row of each region's homotopic partner; its own where it has none.

    Returns
    -------
    (draws, regions) float

    Raises
    ------
    ValueError
        As `surrogate_maps`, of one half of the brain.
    """
    one = np.flatnonzero(np.arange(len(partners)) <= partners)
    other = partners[one]
    paired = one != other
    folded = np.column_stack([np.abs(centres_mm[:, 0]), centres_mm[:, 1:]])
    half = (folded[one] + folded[other]) / 2
    mean, difference = (values[one] + values[other]) / 2, (values[one] - values[other]) / 2
    first, second = np.random.SeedSequence(seed).generate_state(2).tolist()
    means = surrogate_maps(mean, half, draws=draws, seed=first)
    differences = np.zeros_like(means)
    if paired.any():
        differences[:, paired] = surrogate_maps(
            difference[paired], half[paired], draws=draws, seed=second
        )
    surrogates = np.empty((draws, len(values)))
    surrogates[:, other] = means - differences
    surrogates[:, one] = means + differences
    ranks = surrogates.argsort(axis=1).argsort(axis=1)
    return np.sort(values)[ranks]


def _check(
    values: Float[np.ndarray, " regions"], centres_mm: Float[np.ndarray, "regions 3"]
) -> None:
    fitting = len(values) == len(centres_mm) >= 8
    if not (fitting and np.isfinite(values).all() and np.isfinite(centres_mm).all()):
        msg = (
            f"a map must have eight or more finite values, each with a finite place, got "
            f"{len(values)} values and {len(centres_mm)} places; leave out what is missing in both"
        )
        raise ValueError(msg)


def _smoothers(
    distance_mm: Float[np.ndarray, "regions regions"],
) -> Iterator[Float[np.ndarray, "regions regions"]]:
    """Yield the weights of each region's neighbours, itself among them, for each share of them."""
    count = len(distance_mm)
    order = distance_mm.argsort(axis=1, kind="stable")
    for size in sorted({min(count - 1, max(2, round(one * count))) for one in _NEIGHBOURHOODS}):
        near = order[:, : size + 1]
        reach = np.take_along_axis(distance_mm, near, axis=1)
        weights = np.exp(-reach / reach[:, -1:])
        smoother = np.zeros_like(distance_mm)
        np.put_along_axis(smoother, near, weights / weights.sum(axis=1, keepdims=True), axis=1)
        yield smoother


def _fit(
    found: Float[np.ndarray, "maps bins"], target: Float[np.ndarray, " bins"]
) -> tuple[Float[np.ndarray, " maps"], Float[np.ndarray, " maps"], Float[np.ndarray, " maps"]]:
    """Regress the target on each variogram, slope and intercept not below 0; add the error."""
    centred = found - found.mean(axis=1, keepdims=True)
    spread = (centred**2).sum(axis=1)
    slope = np.divide(
        centred @ (target - target.mean()), spread, out=np.zeros(len(found)), where=spread > 0
    )
    intercept = target.mean() - slope * found.mean(axis=1)
    through_zero = found @ target / (found**2).sum(axis=1)
    slope = np.where(intercept < 0, through_zero, slope)
    intercept = np.where(slope < 0, target.mean(), np.maximum(intercept, 0))
    slope = np.maximum(slope, 0)
    error = ((slope[:, None] * found + intercept[:, None] - target) ** 2).sum(axis=1)
    return slope, intercept, error
