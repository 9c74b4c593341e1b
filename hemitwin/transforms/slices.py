"""Cut 2D pictures out of volumes, always the same way up."""

from typing import Literal

import numpy as np
from jaxtyping import Shaped

from hemitwin._shapes import Affine, Mask

__all__ = ["Plane", "slice_positions", "slice_volume"]

Plane = Literal["axial", "coronal", "sagittal"]
_NORMAL = {"sagittal": 0, "coronal": 1, "axial": 2}


def slice_volume(
    volume: Shaped[np.ndarray, " x y z"], affine: Affine, plane: Plane, position_mm: float
) -> Shaped[np.ndarray, " rows columns"]:
    """Return the slice nearest to a position, row 0 on top.

    Neurological display: axial slices have anterior on top and left on the left, coronal ones
    superior on top and left on the left, sagittal ones superior on top and anterior on the right.
    A mirrored right hemisphere (negative x step) is shown as stored: it looks like a left one.

    Parameters
    ----------
    volume : (x, y, z)
        Any values.
    affine : (4, 4)
        Voxel index to RAS+ millimetres, axes along the world's.
    plane : 'axial', 'coronal' or 'sagittal'
        Orientation.
    position_mm : float
        World coordinate along the plane's normal (z, y or x), at most half a voxel outside.

    Returns
    -------
    (rows, columns), same dtype
        A copy.

    Raises
    ------
    ValueError
        If the affine is rotated, the plane unknown or the position outside the volume.

    Examples
    --------
    >>> slice_volume(np.arange(8).reshape(2, 2, 2), np.eye(4), "axial", 0.0).tolist()
    [[2, 6], [0, 4]]
    """
    axis = _checked_axis(affine, plane)
    index = round((position_mm - affine[axis, 3]) / affine[axis, axis])
    if not 0 <= index < volume.shape[axis]:
        ends = affine[axis, 3] + affine[axis, axis] * np.array([0, volume.shape[axis] - 1])
        msg = (
            f"a {plane} position must lie within {ends.min():g} to {ends.max():g} mm, got "
            f"{position_mm:g}; choose one of slice_positions"
        )
        raise ValueError(msg)
    return np.ascontiguousarray(np.take(volume, index, axis).T[::-1])


def slice_positions(mask: Mask, affine: Affine, plane: Plane, step_mm: float) -> tuple[float, ...]:
    """Return positions `step_mm` apart that cut the mask, from low to high.

    Parameters
    ----------
    mask : (x, y, z) bool
        What has to be seen, for example the brain.
    affine : (4, 4)
        Voxel index to RAS+ millimetres, axes along the world's.
    plane : 'axial', 'coronal' or 'sagittal'
        Orientation.
    step_mm : float
        Distance of the slices, rounded to whole voxels, at least one.

    Returns
    -------
    tuple of float
        World coordinates of voxel centres.

    Raises
    ------
    ValueError
        If the affine is rotated, the plane unknown, or the step not positive.

    Examples
    --------
    >>> slice_positions(np.ones((2, 2, 5), dtype=bool), np.eye(4), "axial", 2.0)
    (0.0, 2.0, 4.0)
    """
    axis = _checked_axis(affine, plane)
    if not step_mm > 0:
        msg = f"the step between slices must be positive, got {step_mm:g} mm; try 4"
        raise ValueError(msg)
    others = tuple({0, 1, 2} - {axis})
    indices = np.flatnonzero(mask.any(axis=others))
    stride = max(1, round(step_mm / abs(affine[axis, axis])))
    chosen = range(int(indices[0]), int(indices[-1]) + 1, stride) if indices.size else ()
    return tuple(sorted(float(affine[axis, axis] * i + affine[axis, 3]) for i in chosen))


def _checked_axis(affine: Affine, plane: str) -> int:
    if plane not in _NORMAL:
        msg = f"plane must be one of {', '.join(sorted(_NORMAL))}; got {plane!r}"
        raise ValueError(msg)
    linear = affine[:3, :3]
    steps = np.diag(linear)
    off = np.abs(linear - np.diag(steps)).max()
    if off > 1e-3 * np.abs(steps).min() or (steps[1:] <= 0).any() or steps[0] == 0:
        msg = f"the affine must run along RAS axes, got {linear.tolist()}; prepare the scan first"
        raise ValueError(msg)
    return _NORMAL[plane]
