"""Move voxel values between grids, once, in world coordinates and without aliasing."""

from typing import Literal, cast

import numpy as np
from jaxtyping import Shaped
from scipy import ndimage

from hemitwin._shapes import Affine, Grid
from hemitwin.transforms.loading import Scan

__all__ = ["resample", "resample_array", "resample_back"]

Order = Literal[0, 1, 3]
"""Nearest, linear or cubic interpolation."""

_FWHM_PER_SIGMA = 2.354820045
_PAD_VOXELS = 4


def resample(
    scan: Scan,
    target_shape: tuple[int, int, int],
    target_affine: Affine,
    moving_from_fixed: Affine,
    *,
    order: Order = 1,
) -> Grid:
    """Resample a scan onto a template grid, once, from its original voxels.

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
    does not alias. Only the part of the source that the target touches is filtered.

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
    steps = np.linalg.norm(source_from_target[:3, :3], axis=1)
    sigma = np.sqrt(np.maximum(steps**2 - 1, 0)) / _FWHM_PER_SIGMA if order else np.zeros(3)
    start, stop = _touched(data.shape, source_from_target, target_shape, sigma)
    if (stop <= start).any():
        return np.zeros(target_shape, dtype=np.float32)
    part = data[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))]
    part = part.astype(np.float32, copy=False)
    if sigma.max() > 0.2:  # below, the kernel is one voxel
        part = ndimage.gaussian_filter(part, sigma, mode="constant", truncate=3.0)
    offset = source_from_target[:3, 3] - start
    moved = ndimage.affine_transform(
        part, source_from_target[:3, :3], offset, target_shape, order=order, output=np.float32
    )
    return np.asarray(moved)


def _touched(
    shape: tuple[int, ...],
    source_from_target: Affine,
    target_shape: tuple[int, int, int],
    sigma: Shaped[np.ndarray, "3"],
) -> tuple[Shaped[np.ndarray, "3"], Shaped[np.ndarray, "3"]]:
    corners = np.array(list(np.ndindex(2, 2, 2))) * (np.array(target_shape) - 1)
    reached = corners @ source_from_target[:3, :3].T + source_from_target[:3, 3]
    margin = _PAD_VOXELS + 3 * sigma
    start = np.clip(np.floor(reached.min(0) - margin), 0, shape).astype(int)
    stop = np.clip(np.ceil(reached.max(0) + margin) + 1, 0, shape).astype(int)
    return start, stop
