"""What healthy tissue around a place looks like, in the very volume."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import ndimage

from hemitwin._shapes import Affine, Grid, Mask
from hemitwin.transforms.lesions.spec import Modality

__all__ = [
    "Texture",
    "deep_white_matter",
    "grey_matter_limits",
    "local_mean",
    "measure_texture",
    "white_matter_limits",
]

_SAMPLE = 25000
_ROUNDS = 6
_WHITE = {"T1w": 2, "T2w": 0, "FLAIR": 1}
"""Rank of white matter's brightness among fluid, grey and white matter."""
_GREY = {"T1w": 1, "T2w": 1, "FLAIR": 2}

_CORRELATION = (0.2, 0.98)
_GRAIN = 0.75  # autocorrelation of cubic B-spline noise: about exp(-0.75 (lag / grain)^2)


@dataclass(frozen=True)
class Texture:
    """Fine structure of tissue.

    Attributes
    ----------
    sd : float
        Of the change relative to the local mean.
    grain_mm : float
        Knots of the spline noise with the same correlation of neighbouring voxels.
    """

    sd: float
    grain_mm: float


def white_matter_limits(data: Grid, brain_mask: Mask, modality: Modality) -> tuple[float, float]:
    """Find the brightness of white matter: three classes of k-means over the brain.

    Parameters
    ----------
    data : (x, y, z) float
        The volume; some thousand of its voxels are looked at.
    brain_mask : (x, y, z) bool
        The brain.
    modality : {'T1w', 'T2w', 'FLAIR'}
        White matter is the brightest class, the darkest, or the middle one.

    Returns
    -------
    low, high : float
        White matter is brighter than `low` and at most `high`: a class of brightness, not a
        segmentation, deep grey matter may be in it.
    """
    return _limits(data, brain_mask, _WHITE[modality])


def grey_matter_limits(data: Grid, brain_mask: Mask, modality: Modality) -> tuple[float, float]:
    """Find the brightness of grey matter, as `white_matter_limits` does."""
    return _limits(data, brain_mask, _GREY[modality])


def _limits(data: Grid, brain_mask: Mask, place: int) -> tuple[float, float]:
    step = max(1, round((data.size / _SAMPLE) ** (1 / 3)))
    few = data[::step, ::step, ::step][brain_mask[::step, ::step, ::step]].astype(np.float64)
    if few.size == 0:
        return -np.inf, np.inf
    means = np.quantile(few, (0.08, 0.4, 0.85))
    for _ in range(_ROUNDS):
        rank = np.searchsorted((means[1:] + means[:-1]) / 2, few)
        counts = np.bincount(rank, minlength=3)
        means = np.where(counts, np.bincount(rank, few, 3) / np.maximum(counts, 1), means)
    low, high = (float(limit) for limit in (means[1:] + means[:-1]) / 2)
    return ((-np.inf, low), (low, high), (high, np.inf))[place]


def deep_white_matter(data: Grid, brain_mask: Mask, limits: tuple[float, float]) -> Mask:
    """Return white matter that is mostly surrounded by its like: not the thin blades of gyri.

    Parameters
    ----------
    data : (x, y, z) float
        The volume.
    brain_mask : (x, y, z) bool
        The brain.
    limits : (2,) float
        What `white_matter_limits` returned.

    Returns
    -------
    (x, y, z) bool
        Where 85 % of the 27 voxels about a voxel of white matter are white matter too.
    """
    white = brain_mask & (data > limits[0]) & (data <= limits[1])
    return np.asarray(white & (ndimage.uniform_filter(white.astype(np.float32), 3) > 0.85))


def local_mean(data: Grid, brain_mask: Mask, affine: Affine, width_mm: float) -> Grid:
    """Average the brain around each voxel: two box means of `width_mm` after one another.

    Parameters
    ----------
    data : (x, y, z) float
        The volume, or part of it.
    brain_mask : (x, y, z) bool
        What counts.
    affine : (4, 4)
        Gives the voxel sizes.
    width_mm : float
        Edge of the box.

    Returns
    -------
    (x, y, z) float32
        `data` itself where there is no brain near.
    """
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    size = [max(1, int(width_mm / s) | 1) for s in sizes]
    weight = brain_mask.astype(np.float32)
    amount = np.where(brain_mask, data, 0).astype(np.float32)
    for _ in range(2):
        weight = ndimage.uniform_filter(weight, size, mode="constant")
        amount = ndimage.uniform_filter(amount, size, mode="constant")
    near = weight > 1e-3
    return np.where(near, amount / np.where(near, weight, 1), data).astype(np.float32)


def measure_texture(data: Grid, mean: Grid, around: Mask, affine: Affine) -> Texture:
    """Measure the structure of a volume about its local mean.

    Parameters
    ----------
    data, mean : (x, y, z) float
        The volume, and its `local_mean`.
    around : (x, y, z) bool
        Healthy brain near the place.
    affine : (4, 4)
        Gives the voxel sizes.

    Returns
    -------
    Texture
        SD 0 where nothing is around.
    """
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    known = around & (np.abs(mean) > 1e-6)
    if known.sum() < 2:
        return Texture(0.0, float(sizes.mean()))
    change = np.zeros(data.shape, dtype=np.float32)
    change[known] = np.clip(data[known] / mean[known] - 1, -0.5, 0.5)
    variance = float((change[known] ** 2).mean())
    grains = [_grain(change, known, axis, variance) * sizes[axis] for axis in range(3)]
    return Texture(variance**0.5, float(np.mean(grains)))


def _grain(change: Float[np.ndarray, " x y z"], known: Mask, axis: int, variance: float) -> float:
    """Return the grain in voxels along one axis."""
    one, other = (np.moveaxis(change, axis, 0)[part] for part in (np.s_[1:], np.s_[:-1]))
    both = np.moveaxis(known, axis, 0)
    pairs = both[1:] & both[:-1]
    covariance = float((one * other)[pairs].mean()) if pairs.any() else 0.0
    correlation = np.clip(covariance / max(variance, 1e-12), *_CORRELATION)
    return float(np.sqrt(_GRAIN / -np.log(correlation)))
