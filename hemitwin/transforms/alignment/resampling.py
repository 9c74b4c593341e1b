"""Move voxel values between grids, once, in world coordinates and without aliasing."""

from typing import Literal, cast

import numpy as np
from jaxtyping import Shaped
from scipy import ndimage, sparse

from hemitwin._shapes import Affine, Grid
from hemitwin.transforms.loading import Scan

__all__ = [
    "FWHM_PER_SIGMA",
    "axis_weights",
    "resample",
    "resample_array",
    "resample_back",
    "smoothing_for",
]

Order = Literal[0, 1, 3]
"""Nearest, linear or cubic interpolation."""

FWHM_PER_SIGMA = 2.354820045
"""Full width at half maximum of a Gaussian, in its standard deviations: sqrt(8 ln 2)."""

_PAD_VOXELS = 4
_TRUNCATE = 3.0
_LEAST_SIGMA = 0.2  # below, the kernel is one voxel


def resample(
    scan: Scan,
    target_shape: tuple[int, int, int],
    target_affine: Affine,
    moving_from_fixed: Affine,
    *,
    order: Order = 1,
) -> Grid:
    """Resample a scan onto a template grid, once, from its original voxels.

    Where the grids' axes are the same, as without registration, linear resampling goes along one
    axis after the other, which is several times faster and equal up to rounding.

    Parameters
    ----------
    scan : Scan
        The native scan.
    target_shape : (3,) int
        Voxels of the target grid.
    target_affine : (4, 4)
        Target voxel index to template RAS+ millimetres.
    moving_from_fixed : (4, 4)
        Template RAS+ millimetres to native RAS+ millimetres.
    order : int
        0 nearest (labels), 1 linear, 3 cubic.

    Returns
    -------
    (x, y, z) float32
        0 outside the scan's field of view.
    """
    voxel_map = np.linalg.inv(scan.affine) @ moving_from_fixed @ target_affine
    linear = voxel_map[:3, :3]
    if order == 1 and (linear == np.diag(np.diag(linear))).all():
        return _resample_axes(scan.data, voxel_map, target_shape)
    return resample_array(scan.data, voxel_map, target_shape, order=order)


def resample_back(
    volume: Grid,
    affine: Affine,
    native: Scan,
    moving_from_fixed: Affine,
    *,
    order: Order = 1,
    preserve_sum: bool = False,
) -> Shaped[np.ndarray, " nx ny nz"]:
    """Put a map made in template space onto the native scan's grid.

    Parameters
    ----------
    volume : (x, y, z) float
        The map in template space.
    affine : (4, 4)
        Its voxel index to template RAS+ millimetres.
    native : Scan
        Gives the grid.
    moving_from_fixed : (4, 4)
        Template RAS+ millimetres to native RAS+ millimetres.
    order : int
        0 for labels, 1 for maps.
    preserve_sum : bool
        Treat values as amounts per voxel (relevance): each is multiplied by the share of a
        template voxel that a native voxel covers (the determinant), so that the sum stays what it
        was, up to interpolation and what lies outside the field of view. Else values are kept.

    Returns
    -------
    (nx, ny, nz) float32
        0 where the template grid does not reach.
    """
    template_from_native = np.linalg.inv(affine) @ np.linalg.inv(moving_from_fixed) @ native.affine
    shape = cast("tuple[int, int, int]", native.data.shape)
    moved = resample_array(volume, template_from_native, shape, order=order)
    if preserve_sum:
        moved *= np.float32(abs(np.linalg.det(template_from_native[:3, :3])))
    return moved


def resample_array(
    data: Grid, source_from_target: Affine, target_shape: tuple[int, int, int], *, order: Order = 1
) -> Shaped[np.ndarray, " tx ty tz"]:
    """Sample an array at the voxels of another grid; 0 outside.

    Where the target's voxels are larger than the source's, a Gaussian whose width makes up the
    difference (full width at half maximum added in squares) is applied first, so that fine detail
    does not alias. Only the part of the source that the target touches, and that is not 0, is
    filtered.

    Parameters
    ----------
    data : (x, y, z) float
        Values on the source grid.
    source_from_target : (4, 4)
        Target voxel index to source voxel index.
    target_shape : (3,) int
        Voxels of the target grid.
    order : int
        0 nearest, without filter; 1 linear; 3 cubic.

    Returns
    -------
    (tx, ty, tz) float32

    Examples
    --------
    >>> resample_array(np.ones((4, 4, 4)), np.eye(4), (4, 4, 4)).sum().item()
    64.0
    """
    sigma = _sigma(source_from_target) if order else np.zeros(3)
    start, stop = _touched(data.shape, source_from_target, target_shape, sigma)
    if (stop <= start).any():
        return np.zeros(target_shape, dtype=np.float32)
    part = _filtered(data[_slices(start, stop)].astype(np.float32, copy=False), sigma)
    offset = source_from_target[:3, 3] - start
    moved = ndimage.affine_transform(
        part, source_from_target[:3, :3], offset, target_shape, order=order, output=np.float32
    )
    return np.asarray(moved)


def _filtered(part: Grid, sigma: Shaped[np.ndarray, "3"]) -> Grid:
    """Smooth what is not 0: to the last bit the same as smoothing everything."""
    if not sigma.any():
        return part
    box = _slices(*_content(part, sigma))
    smooth = np.zeros_like(part)
    smooth[box] = ndimage.gaussian_filter(part[box], sigma, mode="constant", truncate=_TRUNCATE)
    return smooth


def _resample_axes(
    data: Grid, source_from_target: Affine, target_shape: tuple[int, int, int]
) -> Shaped[np.ndarray, " tx ty tz"]:
    """Do what `resample_array` does, linearly, for a diagonal matrix: one axis at a time."""
    sigma = _sigma(source_from_target)
    start, stop = _content(data, sigma)
    if (stop <= start).any():
        return np.zeros(target_shape, dtype=np.float32)
    moved = data[_slices(start, stop)]
    for axis in range(3):
        step, offset = source_from_target[axis, axis], source_from_target[axis, 3] - start[axis]
        places = offset + step * np.arange(target_shape[axis])
        weights = axis_weights(moved.shape[axis], places, float(sigma[axis]))
        first = np.moveaxis(moved, axis, 0)
        product = weights @ first.reshape(len(first), -1)
        moved = np.moveaxis(product.reshape(-1, *first.shape[1:]), 0, axis)
    return np.ascontiguousarray(moved, dtype=np.float32)


def axis_weights(
    count: int, places: Shaped[np.ndarray, " target"], sigma: float
) -> sparse.csr_array:
    """Say how much of each of `count` source voxels along an axis is in each target voxel.

    Parameters
    ----------
    count : int
        Source voxels.
    places : (target,) float
        Where the target voxels lie, in source voxels.
    sigma : float
        Standard deviation of the Gaussian before it, in source voxels (`smoothing_for`).

    Returns
    -------
    (target, count) sparse float32
        Linear interpolation; 0 outside.
    """
    filtered = np.eye(count)
    if sigma > 0:
        filtered = ndimage.gaussian_filter1d(
            filtered, sigma, axis=0, mode="constant", truncate=_TRUNCATE
        )
    low = np.clip(np.floor(places).astype(int), 0, count - 1)
    share = (places - low)[:, None]
    weights = (1 - share) * filtered[low] + share * filtered[np.minimum(low + 1, count - 1)]
    weights[(places < 0) | (places > count - 1)] = 0
    # Few voxels count in each: sparse products do no needless work, and start no threads.
    return sparse.csr_array(weights.astype(np.float32))


def smoothing_for(steps: Shaped[np.ndarray, " n"]) -> Shaped[np.ndarray, " n"]:
    """Give the widths that keep larger target voxels from aliasing, in source voxels.

    Parameters
    ----------
    steps : (n,) float
        Edges of a target voxel along each axis, in source voxels.

    Returns
    -------
    (n,) float
        Standard deviations; all 0 where none is worth it.
    """
    sigma = np.sqrt(np.maximum(steps**2 - 1, 0)) / FWHM_PER_SIGMA
    return np.asarray(sigma) if sigma.max() > _LEAST_SIGMA else np.zeros(len(sigma))


def _sigma(source_from_target: Affine) -> Shaped[np.ndarray, "3"]:
    return smoothing_for(np.linalg.norm(source_from_target[:3, :3], axis=1))


def _slices(
    start: Shaped[np.ndarray, "3"], stop: Shaped[np.ndarray, "3"]
) -> tuple[slice, slice, slice]:
    x, y, z = (slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))
    return x, y, z


def _content(
    data: Grid, sigma: Shaped[np.ndarray, "3"]
) -> tuple[Shaped[np.ndarray, "3"], Shaped[np.ndarray, "3"]]:
    """Find the box of what is not 0, and as far around it as a filter would spread that."""
    inside = data != 0
    column = inside.any(axis=2)
    lines = (column.any(axis=1), column.any(axis=0), inside.any(axis=(0, 1)))
    spans = [np.flatnonzero(line) for line in lines]
    if not spans[0].size:
        return np.zeros(3, dtype=int), np.zeros(3, dtype=int)
    margin = np.floor(_TRUNCATE * sigma + 0.5).astype(int) + 2
    first, last = (np.array([span[end] for span in spans]) for end in (0, -1))
    return np.maximum(first - margin, 0), np.minimum(last + margin + 1, data.shape)


def _touched(
    shape: tuple[int, ...],
    source_from_target: Affine,
    target_shape: tuple[int, int, int],
    sigma: Shaped[np.ndarray, "3"],
) -> tuple[Shaped[np.ndarray, "3"], Shaped[np.ndarray, "3"]]:
    corners = np.array(list(np.ndindex(2, 2, 2))) * (np.array(target_shape) - 1)
    reached = corners @ source_from_target[:3, :3].T + source_from_target[:3, 3]
    margin = _PAD_VOXELS + _TRUNCATE * sigma
    start = np.clip(np.floor(reached.min(0) - margin), 0, shape).astype(int)
    stop = np.clip(np.ceil(reached.max(0) + margin) + 1, 0, shape).astype(int)
    return start, stop
