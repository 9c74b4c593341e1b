"""Tell skull-stripped scans from whole heads, and find the brain in either."""

from typing import cast

import numpy as np
from scipy import ndimage

from hemitwin._shapes import Affine, Grid, Mask
from hemitwin.transforms.loading import Scan, voxel_sizes
from hemitwin.transforms.resampling import resample_array

__all__ = ["brain_mask", "is_skull_stripped"]

_MM3_PER_LITRE = 1e6
_LARGEST_BRAIN_LITRES = 2.5
_LEAST_BACKGROUND = 0.2
_MOST_ON_SHELL = 0.1
_WORKING_MM = 2.0
_OPENING_MM = (4.0, 5.0, 6.0, 7.0, 8.0, 9.0)
_REGROWTH_MM = 2.0
_CLOSING_MM = 8.0
_BRAIN_LITRES = (0.25, 2.2)
_MOST_OF_HEAD = 0.6


def is_skull_stripped(scan: Scan) -> bool:
    """Tell whether everything but a brain was set to exactly zero.

    Three signs must agree: a fifth or more of the voxels is exactly 0, less than 10 % of the outer
    faces is not, and what is not 0 fills at most 2.5 litres (a brain does; an adult head does not,
    even where its air was zeroed).

    Parameters
    ----------
    scan : Scan
        A T1w scan.

    Returns
    -------
    bool
    """
    inside = scan.data != 0
    litres = inside.sum() * abs(np.linalg.det(scan.affine[:3, :3])) / _MM3_PER_LITRE
    faces = np.concatenate(
        [np.take(inside, i, axis).ravel() for axis in range(3) for i in (0, -1)]
    )
    zeroed = 1 - inside.mean()
    return bool(
        zeroed >= _LEAST_BACKGROUND
        and faces.mean() < _MOST_ON_SHELL
        and litres <= _LARGEST_BRAIN_LITRES
    )


def brain_mask(scan: Scan) -> Mask:
    """Find the brain: what is not zero in a stripped scan, else by threshold and morphology.

    For whole heads the method is a simple one and good for registration and intensity scaling, not
    for volumetry: at 2 mm, voxels above a threshold between dark and bright (Otsu), opened with a
    ball of growing radius until the largest component has parted from scalp and neck (at most 2.2
    litres and 60 % of what is bright), which is then grown back, closed and filled. Expect it to
    lose thin gyri or to keep some dura, eye muscle or neck; look at the quality picture.

    Parameters
    ----------
    scan : Scan
        A T1w scan.

    Returns
    -------
    (x, y, z) bool
        On the scan's own grid; one component without holes.

    Raises
    ------
    ValueError
        If nothing of a brain's size is found.
    """
    if is_skull_stripped(scan):
        return _largest_filled(scan.data != 0)
    shape, voxel_map = _working_grid(scan)
    head = resample_array(scan.data, voxel_map, shape)
    i, j, k = voxel_sizes(scan.affine @ voxel_map)
    mask = _brain_in_head(head, (i, j, k))
    back = resample_array(
        mask.astype(np.float32),
        np.linalg.inv(voxel_map),
        cast("tuple[int, int, int]", scan.data.shape),
    )
    return np.asarray(back >= 0.5)


def _working_grid(scan: Scan) -> tuple[tuple[int, int, int], Affine]:
    """Return shape and voxel map (scan from working) of a 2 mm grid along the same axes."""
    factors = np.maximum(_WORKING_MM / np.asarray(voxel_sizes(scan.affine)), 1.0)
    x, y, z = (int(np.ceil(n / f)) for n, f in zip(scan.data.shape, factors, strict=True))
    return (x, y, z), np.diag([*factors, 1.0])


def _brain_in_head(head: Grid, spacing: tuple[float, float, float]) -> Mask:
    bright = head > _otsu_threshold(head)
    litres_per_voxel = float(np.prod(spacing)) / _MM3_PER_LITRE
    most = min(_BRAIN_LITRES[1], _MOST_OF_HEAD * bright.sum() * litres_per_voxel)
    depth = ndimage.distance_transform_edt(np.pad(bright, 1), sampling=spacing)[1:-1, 1:-1, 1:-1]
    for radius in _OPENING_MM:
        core = _largest(depth > radius)
        grown = bright & (_distance_to(core, spacing) <= radius + _REGROWTH_MM)
        if grown.sum() * litres_per_voxel > most:
            continue
        mask = _largest_filled(_close(grown, spacing))
        if mask.sum() * litres_per_voxel >= _BRAIN_LITRES[0]:
            return mask
    msg = (
        "a whole-head scan must show a brain that parts from the scalp; none of 0.25 to 2.2 "
        "litres was found; strip the skull first (for example with SynthStrip)"
    )
    raise ValueError(msg)


def _otsu_threshold(values: Grid) -> float:
    """Return the threshold that best separates dark from bright (Otsu 1979)."""
    counts, edges = np.histogram(values, 256, (values.min(), np.percentile(values, 99.5)))
    centres = (edges[1:] + edges[:-1]) / 2
    below, mass = np.cumsum(counts)[:-1], np.cumsum(counts * centres)[:-1]
    total, total_mass = counts.sum(), (counts * centres).sum()
    spread = (total_mass * below - mass * total) ** 2 / np.maximum(below * (total - below), 1)
    return float(edges[1 + int(spread.argmax())])


def _largest(mask: Mask) -> Mask:
    labels, _ = ndimage.label(mask)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray((labels == sizes.argmax()) & mask)


def _largest_filled(mask: Mask) -> Mask:
    box = _box(mask)
    part = np.pad(_largest(mask[box]), 1)
    outside, _ = ndimage.label(~part)  # several times faster than scipy's binary_fill_holes
    filled = np.zeros_like(mask)
    filled[box] = (outside != outside[0, 0, 0])[1:-1, 1:-1, 1:-1]
    return filled


def _box(mask: Mask) -> tuple[slice, ...]:
    column = np.any(mask, axis=2)
    lines = (np.any(column, axis=1), np.any(column, axis=0), np.any(mask, axis=(0, 1)))
    ends = [np.flatnonzero(line)[[0, -1]] for line in lines]
    return tuple(slice(int(first), int(last) + 1) for first, last in ends)


def _distance_to(mask: Mask, spacing: tuple[float, float, float]) -> Grid:
    return np.asarray(ndimage.distance_transform_edt(~mask, sampling=spacing))


def _close(mask: Mask, spacing: tuple[float, float, float]) -> Mask:
    pad = int(np.ceil(_CLOSING_MM / min(spacing))) + 1
    wide = _distance_to(np.pad(mask, pad), spacing) <= _CLOSING_MM
    closed = ndimage.distance_transform_edt(wide, sampling=spacing) > _CLOSING_MM
    inner = slice(pad, -pad)
    return np.asarray(closed[inner, inner, inner] | mask)
