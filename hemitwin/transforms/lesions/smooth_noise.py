"""Smooth random fields: cubic B-splines on a lattice of white noise, about 0 with SD 1."""

import numpy as np
from jaxtyping import Float
from scipy import ndimage

__all__ = ["lattice_noise", "spline_noise"]

_SD = (151 / 315) ** 1.5  # the square of a cubic B-spline integrates to 151/315 along each axis


def spline_noise(
    points_mm: Float[np.ndarray, " 3 *n"], grain_mm: float, rng: np.random.Generator, *, knots: int
) -> Float[np.ndarray, " *n"]:
    """Sum cubic B-splines of white noise on a lattice of `grain_mm`, mirrored at its ends.

    White noise needs no prefilter: the splines smooth it, and a constant brings the standard
    deviation back to 1.

    Parameters
    ----------
    points_mm : (3, *n)
        Millimetres from the lattice's middle.
    grain_mm : float
        Distance of the knots.
    rng : numpy.random.Generator
        Draws ``knots ** 3`` normal numbers.
    knots : int
        Along each axis.

    Returns
    -------
    (*n,) float64
    """
    lattice = rng.standard_normal((knots,) * 3)
    at = points_mm / grain_mm + (knots - 1) / 2
    noise = ndimage.map_coordinates(lattice, at, order=3, mode="mirror", prefilter=False)
    return np.asarray(noise / _SD)


def lattice_noise(
    points_mm: Float[np.ndarray, " 3 *n"], grain_mm: float, rng: np.random.Generator, *, knots: int
) -> Float[np.ndarray, " *n"]:
    """Return the field of `spline_noise`, linear between half knots: several times faster.

    The half knots lie where the lattice has them, whatever the points: the field is the same one
    on every grid.

    Parameters
    ----------
    points_mm, grain_mm, rng, knots
        As in `spline_noise`.

    Returns
    -------
    (*n,) float64
    """
    field = rng.standard_normal((knots,) * 3)
    at = points_mm / grain_mm + (knots - 1) / 2
    axes = tuple(range(1, at.ndim))
    first = np.floor(at.min(axis=axes)).astype(int)
    last = np.ceil(at.max(axis=axes)).astype(int) + 1
    for axis in range(3):
        weights = _mirrored_weights(np.arange(2 * first[axis], 2 * last[axis] + 1) / 2, knots)
        used = np.flatnonzero(weights.any(axis=0))
        some = slice(int(used[0]), int(used[-1]) + 1)
        near = np.moveaxis(field, axis, 0)[some]
        field = np.moveaxis(np.tensordot(weights[:, some], near, axes=1), 0, axis)
    halves = 2 * (at - first.reshape((3,) + (1,) * (at.ndim - 1)))
    return np.asarray(ndimage.map_coordinates(field, halves, order=1) / _SD)


def _mirrored_weights(place: Float[np.ndarray, " n"], knots: int) -> Float[np.ndarray, "n k"]:
    """Give each place its four cubic B-spline weights, on knots mirrored about the end knots."""
    below = np.floor(place).astype(int)
    weights = np.zeros((len(place), knots))
    for offset in range(-1, 3):
        far = np.abs(place - (below + offset))
        value = np.where(far < 1, 2 / 3 - far**2 + far**3 / 2, np.maximum(2 - far, 0) ** 3 / 6)
        turned = np.abs((below + offset) % (2 * (knots - 1)))
        knot = np.minimum(turned, 2 * (knots - 1) - turned)
        np.add.at(weights, (np.arange(len(place)), knot), value)
    return weights
