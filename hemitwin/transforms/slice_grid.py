"""The pixel grid of 2D pictures, and how a volume is sampled on it."""

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy import sparse

from hemitwin._names import Plane
from hemitwin._shapes import Affine, Grid
from hemitwin.transforms.alignment.resampling import axis_weights, resample, smoothing_for
from hemitwin.transforms.loading import Scan
from hemitwin.transforms.slices import CutPlanes, slice_volume

__all__ = ["Picture", "SliceGrid"]

Picture = Float[np.ndarray, " rows columns"]
PixelMask = Bool[np.ndarray, " rows columns"]
Points = Float[np.ndarray, " n"]

_AXES = {"axial": (0, 1), "coronal": (0, 2), "sagittal": (1, 2)}
"""World axes along columns (from low to high) and rows (from high to low)."""
_FRACTIONS = 1024  # of a voxel: a power of 2, so that mirrored weights are the same
_LEAST = 1e-6  # share of what is known, for a mean of it


@dataclass(frozen=True)
class SliceGrid:
    """Square pixels on one plane's slices, the same at every position.

    Parameters
    ----------
    plane : 'axial', 'coronal' or 'sagittal'
        Orientation; rows and columns as `slice_volume` shows them.
    shape : (2,) int
        Rows and columns.
    pixel_mm : float
        Edge of a pixel, in mm of the space of positions.
    centre_mm : (3,) float
        RAS+ millimetres of the middle of the picture; the entry along the normal is not used.

    Examples
    --------
    >>> scan = Scan(np.arange(8.0, dtype=np.float32).reshape(2, 2, 2), np.eye(4))
    >>> SliceGrid("axial", (4, 2), 1.0, (0.5, 0.5, 0.0)).sample(scan, 0.0).tolist()
    [[0.0, 0.0], [2.0, 6.0], [0.0, 4.0], [0.0, 0.0]]
    """

    plane: Plane
    shape: tuple[int, int]
    pixel_mm: float
    centre_mm: tuple[float, float, float]

    def affine(self, position_mm: float) -> Affine:
        """Return voxel index to RAS+ mm of the slice as a volume, one voxel along its normal."""
        affine = np.diag([self.pixel_mm] * 3 + [1.0])
        affine[:3, 3] = position_mm  # along the normal
        for axis, count in zip(_AXES[self.plane], self.shape[::-1], strict=True):
            affine[axis, 3] = self.centre_mm[axis] - (count - 1) / 2 * self.pixel_mm
        return affine

    def sample(
        self, scan: Scan, position_mm: float, moving_from_fixed: Affine | None = None
    ) -> Picture:
        """Sample a volume once at a slice's pixels, linearly and without aliasing.

        Parameters
        ----------
        scan : Scan
            The volume. Without a transform its axes run along the world's, and between two of its
            planes the slice is as `slice_volume` gives it.
        position_mm : float
            Coordinate along the plane's normal, in the space of positions.
        moving_from_fixed : (4, 4), optional
            RAS+ mm of the space of positions to the scan's RAS+ mm.

        Returns
        -------
        (rows, columns) float32
            Row 0 on top; 0 outside the volume.

        Raises
        ------
        ValueError
            Without a transform, where the affine is rotated or the position lies outside.
        """
        if moving_from_fixed is None:
            picture = slice_volume(scan.data, scan.affine, self.plane, position_mm)
            return self._laid_on(picture, scan.affine)
        slab = resample(scan, self._slab, self.affine(position_mm), moving_from_fixed)
        return self._upright(slab)

    def sample_above(self, scan: Scan, position_mm: float) -> tuple[Picture, Picture]:
        """Sample a volume as `sample` does without a transform, and where it is above 0.

        Parameters
        ----------
        scan, position_mm
            As for `sample`.

        Returns
        -------
        values, share : (rows, columns) float32
            What `sample` returns of the volume, and of 1 in voxels above 0 and 0 in others.

        Raises
        ------
        ValueError
            Where the affine is rotated or the position lies outside.
        """
        cut = CutPlanes.of(scan.data, scan.affine, self.plane, position_mm)
        values, share = (self._laid_on(one, scan.affine) for one in (cut.picture(), cut.share()))
        return values, share

    def share_above(self, scan: Scan, position_mm: float) -> Picture:
        """Return the second of what `sample_above` returns."""
        cut = CutPlanes.of(scan.data, scan.affine, self.plane, position_mm)
        return self._laid_on(cut.share(), scan.affine)

    def sample_known(
        self,
        scan: Scan,
        position_mm: float,
        moving_from_fixed: Affine,
        *,
        background: float,
        within: PixelMask,
    ) -> tuple[Picture, Picture]:
        """Sample a volume as `sample` does, and what of each pixel is not background.

        Parameters
        ----------
        scan, position_mm, moving_from_fixed
            As for `sample`.
        background : float
            A value that stands for no value at all.
        within : (rows, columns) bool
            The pixels that are wanted; the others are 0 and have no share.

        Returns
        -------
        values : (rows, columns) float32
            Mean of what is known; 0 where nothing is.
        share : (rows, columns) float32
            From 0 to 1; 0 outside the volume.
        """
        shape = self._slab
        voxels = np.linalg.inv(scan.affine) @ moving_from_fixed @ self.affine(position_mm)
        if smoothing_for(np.linalg.norm(voxels[:3, :3], axis=1)).any():
            known = Scan((scan.data != background).astype(np.float32), scan.affine)
            above = Scan(scan.data - np.float32(background), scan.affine)
            to = (shape, self.affine(position_mm), moving_from_fixed)
            share, values = (self._upright(resample(one, *to)) for one in (known, above))
            wanted = within & (share > _LEAST)
            mean = np.divide(values, share, out=np.zeros_like(values), where=wanted)
            return mean + np.float32(background) * wanted, share * within
        columns, rows = _AXES[self.plane]
        flat = np.flatnonzero(within)  # nonzero of a picture takes ten times as long
        row, column = np.divmod(flat.astype(np.int32), self.shape[1])
        row = self.shape[0] - 1 - row  # row 0 is the highest
        x, y, z = (
            (voxels[axis, 3] + voxels[axis, columns] * np.arange(self.shape[1])).take(column)
            + (voxels[axis, rows] * np.arange(self.shape[0])).take(row)
            for axis in range(3)
        )
        found = np.zeros((2, within.size), dtype=np.float32)
        found[:, flat] = _read_known(scan.data, (x, y, z), background)
        return found[0].reshape(self.shape), found[1].reshape(self.shape)

    @property
    def _slab(self) -> tuple[int, int, int]:
        """Voxels of the slice as a volume."""
        shape = [1, 1, 1]
        for axis, count in zip(_AXES[self.plane], self.shape[::-1], strict=True):
            shape[axis] = count
        return shape[0], shape[1], shape[2]

    def _upright(self, slab: Grid) -> Picture:
        return np.ascontiguousarray(slab.reshape(self.shape[::-1]).T[::-1])

    def _laid_on(self, picture: np.ndarray, affine: Affine) -> Picture:
        steps = np.array([self.pixel_mm / affine[axis, axis] for axis in _AXES[self.plane]])
        sigmas = smoothing_for(np.abs(steps))
        for number, (axis, step) in enumerate(zip(_AXES[self.plane], steps, strict=True)):
            along_rows = number == 1
            count, wanted = picture.shape[1 - number], self.shape[1 - number]
            middle = (self.centre_mm[axis] - affine[axis, 3]) / affine[axis, axis]
            middle = count - 1 - middle if along_rows else middle  # row 0 is the highest
            first = middle - step * (wanted - 1) / 2
            line = _Line(count, wanted, float(first), float(step), float(sigmas[number]))
            weights = _weights(line)
            if weights is not None:
                picture = weights @ picture if along_rows else (weights @ picture.T).T
        return np.ascontiguousarray(picture, dtype=np.float32)


class _Line(NamedTuple):
    """Pixels along one axis: how many of how many voxels, from where on, in voxels."""

    voxels: int
    wanted: int
    first: float
    step: float
    sigma: float


@lru_cache(maxsize=64)  # the same for all slices of a plane
def _weights(line: _Line) -> sparse.csr_array | None:
    """Return the share of each voxel in each pixel; None where they are the same."""
    places = line.first + line.step * np.arange(line.wanted)
    places = np.round(places * _FRACTIONS) / _FRACTIONS
    if np.array_equal(places, np.arange(line.voxels)) and not line.sigma:
        return None
    return axis_weights(line.voxels, places, line.sigma)


def _read_known(
    data: Grid, places: tuple[Points, Points, Points], background: float
) -> Float[np.ndarray, "2 n"]:
    """Interpolate linearly between those of the eight nearest voxels that are known.

    Several times faster than `scipy.ndimage` for the pixels of a brain, whose number is given.
    """
    inside = np.ones(len(places[0]), dtype=bool)
    order = np.argsort(data.strides)[::-1]  # neighbours along the last axis share a cache line
    data, places = data.transpose(order), (places[order[0]], places[order[1]], places[order[2]])
    for place, length in zip(places, data.shape, strict=True):
        if place.size and not (place.min() >= 0 and place.max() < length - 1):
            inside &= (place >= 0) & (place < length - 1)
    kept = places if inside.all() else tuple(place[inside] for place in places)
    lows = [place.astype(np.int32) for place in kept]  # none is below 0
    rests = [(place - low).astype(np.float32) for place, low in zip(kept, lows, strict=True)]
    plane, line = data.shape[1] * data.shape[2], data.shape[2]
    corner = lows[0].astype(np.intp) * plane + (lows[1] * line + lows[2])
    flat = np.ascontiguousarray(data).reshape(-1)
    nearest = [flat[i * plane + j * line + k :].take(corner) for i, j, k in np.ndindex(2, 2, 2)]
    found = np.zeros((2, len(inside)), dtype=np.float32)
    found[:, inside] = _mean_of_known(nearest, rests, background)
    return found


def _mean_of_known(
    nearest: list[np.ndarray], rests: list[np.ndarray], background: float
) -> Float[np.ndarray, "2 n"]:
    """Weigh eight neighbours by nearness, the last axis first, and write over them."""
    partly = np.zeros(len(rests[0]), dtype=bool)
    for values in nearest:
        partly |= values == background
    some = np.flatnonzero(partly)  # few: a rim
    total, known = np.zeros((2, len(some)), dtype=np.float32)
    shares = [(1 - rest[some], rest[some]) for rest in rests]
    for values, (i, j, k) in zip(nearest, np.ndindex(2, 2, 2), strict=True):
        of_some = values[some]
        weight = shares[0][i] * shares[1][j] * shares[2][k] * (of_some != background)
        known += weight
        total += weight * of_some
    for rest in reversed(rests):
        lows, steps = nearest[::2], nearest[1::2]
        for low, step in zip(lows, steps, strict=True):  # in place: memory is what takes the time
            np.subtract(step, low, out=step)
            np.multiply(step, rest, out=step)
            np.add(low, step, out=low)
        nearest = lows
    mean, share = nearest[0], np.ones_like(nearest[0])
    mean[some] = np.divide(total, known, out=np.zeros_like(total), where=known > _LEAST)
    share[some] = known
    return np.stack([mean, share])
