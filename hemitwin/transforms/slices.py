"""Cut 2D pictures out of volumes, always the same way up."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Shaped

from hemitwin._names import Plane
from hemitwin._shapes import Affine, Mask

__all__ = ["CutPlanes", "Plane", "slice_positions", "slice_volume"]

_NORMAL = {"sagittal": 0, "coronal": 1, "axial": 2}
_FRACTIONS = 1024  # of a voxel: a power of 2, so that a weight and its rest are exact


def slice_volume(
    volume: Shaped[np.ndarray, " x y z"], affine: Affine, plane: Plane, position_mm: float
) -> Shaped[np.ndarray, " rows columns"]:
    """Return the slice at a position, row 0 on top.

    Neurological display: axial slices have anterior on top and left on the left, coronal ones
    superior on top and left on the left, sagittal ones superior on top and anterior on the right.
    A mirrored right hemisphere (negative x step) is shown as stored: it looks like a left one.

    Between two voxel centres the slice is the mean of both voxels' planes, each weighted by its
    nearness, to 1/1024 of a voxel: on a grid that is even about the mid-plane, the slices of a
    symmetric volume at x and -x are the same, bit for bit.

    Parameters
    ----------
    volume : (x, y, z)
        Intensities; labels only at voxel centres, which are not averaged.
    affine : (4, 4)
        Voxel index to RAS+ millimetres, axes along the world's.
    plane : 'axial', 'coronal' or 'sagittal'
        Orientation.
    position_mm : float
        World coordinate along the plane's normal (z, y or x), at most half a voxel outside.

    Returns
    -------
    (rows, columns)
        A copy; of the volume's dtype at voxel centres.

    Raises
    ------
    ValueError
        If the affine is rotated, the plane unknown or the position outside the volume.

    Examples
    --------
    >>> slice_volume(np.arange(8).reshape(2, 2, 2), np.eye(4), "axial", 0.0).tolist()
    [[2, 6], [0, 4]]
    >>> slice_volume(np.arange(8).reshape(2, 2, 2), np.eye(4), "axial", 0.5).tolist()
    [[2.5, 6.5], [0.5, 4.5]]
    """
    return CutPlanes.of(volume, affine, plane, position_mm).picture()


@dataclass(frozen=True, eq=False)
class CutPlanes:
    """The planes of voxels that a position lies in or between.

    Parameters
    ----------
    planes : (1 or 2, a, b)
        Copies, by the remaining axes of the volume.
    beyond : float
        Weight of the second plane, below 1; the first has the rest.

    Examples
    --------
    What a slice shows of a volume, and of where it is above 0:

    >>> volume = np.arange(8.0).reshape(2, 2, 2)
    >>> cut = CutPlanes.of(volume, np.eye(4), "axial", 0.5)
    >>> cut.picture().tolist(), cut.share().tolist()
    ([[2.5, 6.5], [0.5, 4.5]], [[1.0, 1.0], [0.5, 1.0]])
    """

    planes: Shaped[np.ndarray, " n a b"]
    beyond: float

    @classmethod
    def of(
        cls, volume: Shaped[np.ndarray, " x y z"], affine: Affine, plane: Plane, position_mm: float
    ) -> "CutPlanes":
        """Read them; `slice_volume` says what must hold."""
        axis = _checked_axis(affine, plane)
        last = volume.shape[axis] - 1
        index = _index_of(affine, axis, position_mm)
        if not -0.5 <= index <= last + 0.5:
            ends = affine[axis, 3] + affine[axis, axis] * np.array([0, last])
            msg = (
                f"a {plane} position must lie within {ends.min():g} to {ends.max():g} mm, got "
                f"{position_mm:g}; choose one of slice_positions"
            )
            raise ValueError(msg)
        low = math.floor(min(max(index, 0), last))
        beyond = min(max(index, 0), last) - low
        wanted = slice(low, low + 2 if beyond else low + 1)
        # Both in one pass: along the last axis they lie side by side, and reaching them takes.
        return cls(np.moveaxis(volume, axis, 0)[wanted].copy(order="K"), beyond)

    def picture(self) -> Shaped[np.ndarray, " rows columns"]:
        """Return the slice, row 0 on top."""
        return _upright(_between(self.planes, self.beyond))

    def share(self) -> Float32[np.ndarray, " rows columns"]:
        """Return how much of each pixel is above 0, from 0 to 1."""
        return _upright(_between((self.planes > 0).astype(np.float32), self.beyond))


def _between(planes: Shaped[np.ndarray, " n a b"], beyond: float) -> Shaped[np.ndarray, " a b"]:
    mean: np.ndarray = (1 - beyond) * planes[0] + beyond * planes[1] if beyond else planes[0]
    return mean


def _upright(plane: Shaped[np.ndarray, " a b"]) -> Shaped[np.ndarray, " rows columns"]:
    return np.ascontiguousarray(plane.T[::-1])


def slice_positions(mask: Mask, affine: Affine, plane: Plane, step_mm: float) -> tuple[float, ...]:
    """Return those of the plane's fixed positions that cut the mask, from low to high.

    The positions are the same for every volume of a space, whatever its grid and its mask:
    coronal and axial ones are the whole multiples of the step, sagittal ones the odd multiples of
    half of it, so that each has its mirror on the other side and none lies on the mid-plane.

    Parameters
    ----------
    mask : (x, y, z) bool
        What has to be seen, for example the brain.
    affine : (4, 4)
        Voxel index to RAS+ millimetres, axes along the world's.
    plane : 'axial', 'coronal' or 'sagittal'
        Orientation.
    step_mm : float
        Distance of the slices.

    Returns
    -------
    tuple of float
        World coordinates. A sagittal one is there with its mirror or not at all: where one of
        both misses the mask, neither is.

    Raises
    ------
    ValueError
        If the affine is rotated, the plane unknown, or the step not positive.

    Examples
    --------
    >>> mask, affine = np.ones((4, 4, 4), dtype=bool), np.diag([2.0, 2.0, 2.0, 1.0])
    >>> affine[:3, 3] = -3, -3, -3
    >>> slice_positions(mask, affine, "axial", 2.0)
    (-2.0, 0.0, 2.0)
    >>> slice_positions(mask, affine, "sagittal", 2.0)
    (-3.0, -1.0, 1.0, 3.0)
    """
    axis = _checked_axis(affine, plane)
    if not step_mm > 0:
        msg = f"the step between slices must be positive, got {step_mm:g} mm; try 4"
        raise ValueError(msg)
    others = tuple({0, 1, 2} - {axis})
    seen = np.asarray(mask.any(axis=others))
    first = 0.5 if plane == "sagittal" else 0.0
    ends = (affine[axis, 3] + affine[axis, axis] * np.array([0, len(seen) - 1])) / step_mm
    lattice = range(math.ceil(ends.min() - first), math.floor(ends.max() - first) + 1)
    positions = [(number + first) * step_mm for number in lattice]
    cut = {place for place in positions if _cuts(seen, _index_of(affine, axis, place))}
    if plane == "sagittal":
        cut = {place for place in cut if -place in cut}
    return tuple(sorted(cut))


def _index_of(affine: Affine, axis: int, position_mm: float) -> float:
    """Give a position in voxels, so rounded that mirrored ones share their weights exactly."""
    index = (position_mm - affine[axis, 3]) / affine[axis, axis]
    return round(float(index) * _FRACTIONS) / _FRACTIONS


def _cuts(seen: Bool[np.ndarray, " n"], index: float) -> bool:
    """Tell whether the nearest voxel is seen; of two that are equally near, either one."""
    return bool(seen[[math.ceil(index - 0.5), math.floor(index + 0.5)]].any())


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
