"""Tell skull-stripped scans from whole heads, and find the brain in either."""

from dataclasses import dataclass
from typing import cast

import numpy as np
from scipy import ndimage

from hemitwin._shapes import Affine, Grid, Mask
from hemitwin.transforms.alignment.resampling import resample_array
from hemitwin.transforms.intensity import above_darkest
from hemitwin.transforms.loading import Scan, voxel_sizes

__all__ = ["background_value", "brain_mask", "dark_layer", "is_skull_stripped"]

_MM3_PER_LITRE = 1e6
_LARGEST_BRAIN_LITRES = 2.5
_LEAST_BACKGROUND = 0.2
_MOST_ON_SHELL = 0.1
_BACKGROUND_TOLERANCE = 1e-3  # of the range: noise and what interpolation leaves behind
_DARK = 0.3  # of the brightness deep inside
_SURFACE_MM, _BONE_MM, _DEEP_MM = (0.0, 4.0), ((4.0, 8.0), (8.0, 12.0)), 20.0
_MOST_DARK_LAYER = 0.1  # real brains have 0 or less, heads with their air zeroed up to 0.4
_WORKING_MM = 2.0
_OPENING_MM = (4.0, 5.0, 6.0, 7.0, 8.0, 9.0)
_REGROWTH_MM = 2.0
_CLOSING_MM = 8.0
_BRAIN_LITRES = (0.25, 2.2)
_MOST_OF_HEAD = 0.6


def background_value(data: Grid) -> float | None:
    """Find the value around a brain: what the outer faces of a volume are, but for a tenth.

    Parameters
    ----------
    data : (x, y, z) float
        Intensities in any unit.

    Returns
    -------
    float or None
        `None` where the faces are not of one value, up to a thousandth of the volume's range.

    Examples
    --------
    >>> data = np.full((8, 8, 8), -1000.0)
    >>> data[2:6, 2:6, 2:6] = 7.0
    >>> background_value(data)
    -1000.0
    """
    found = _background(data)
    return None if found is None else found[0]


def _background(data: Grid) -> tuple[float, float] | None:
    """Return the background's value, and how far from it a voxel still is background."""
    ends = [np.moveaxis(data, axis, 0)[i] for axis in range(3) for i in (0, -1)]
    faces = np.concatenate([end.ravel() for end in ends])
    value = float(np.median(faces))
    # A few voxels tell the range as well; not the maximum, which may be one hot voxel.
    spread = np.percentile(np.abs(data[::4, ::4, ::4] - value), 99.9)
    tolerance = _BACKGROUND_TOLERANCE * float(spread)
    other = np.abs(faces - value) > tolerance
    return (value, tolerance) if other.mean() < _MOST_ON_SHELL else None


def is_skull_stripped(scan: Scan) -> bool:
    """Tell whether everything but a brain was set to one value.

    Four signs must agree: a fifth or more of the voxels has the value of the outer faces, up to a
    thousandth of the range; less than 10 % of these faces has not; what has not fills at most 2.5
    litres, holes included; and it has no `dark_layer`, as the bone of a head has whose air was
    zeroed.

    Parameters
    ----------
    scan : Scan
        A scan of any contrast.

    Returns
    -------
    bool
    """
    return _stripped_content(scan) is not None


def _stripped_content(scan: Scan) -> Mask | None:
    """Return what is not background where it is a brain, else `None`."""
    background = _background(scan.data)
    if background is None:
        return None
    value, tolerance = background
    content = np.abs(scan.data - value) > tolerance
    voxels_per_litre = _MM3_PER_LITRE / abs(np.linalg.det(scan.affine[:3, :3]))
    most = min((1 - _LEAST_BACKGROUND) * content.size, _LARGEST_BRAIN_LITRES * voxels_per_litre)
    if not 0 < content.sum() <= most:
        return None
    inside = _Inside.of(scan, content)
    if inside.litres > _LARGEST_BRAIN_LITRES or inside.dark_layer() > _MOST_DARK_LAYER:
        return None
    return content


def dark_layer(scan: Scan, mask: Mask) -> float:
    """Say how much more of a mask is dark 4 to 12 mm below its surface than at its surface.

    A brain is darkest at its surface, where fluid and half-filled voxels are, or nowhere; a head
    is bright there (scalp) and dark below (bone), whatever the contrast. Dark is below 0.3 of the
    median deeper than 20 mm.

    Parameters
    ----------
    scan : Scan
        Intensities in any unit.
    mask : (x, y, z) bool
        What is taken for a brain, on the scan's grid; not empty.

    Returns
    -------
    float
        The larger share of dark voxels 4 to 8 and 8 to 12 mm deep, less that up to 4 mm deep; 0
        where voxels are too large, or the mask is too small, to tell these layers.
    """
    return _Inside.of(scan, mask).dark_layer()


@dataclass(frozen=True, eq=False)
class _Inside:
    """The largest part of a mask, filled, thinned out to voxels of up to 2 mm."""

    brightness: Grid
    filled: Mask
    spacing: tuple[float, float, float]

    @classmethod
    def of(cls, scan: Scan, mask: Mask) -> "_Inside":
        sizes = voxel_sizes(scan.affine)
        steps = [max(1, int(_WORKING_MM / size)) for size in sizes]
        if not mask[:: steps[0], :: steps[1], :: steps[2]].any():
            steps = [1, 1, 1]
        thinned = tuple(slice(None, None, step) for step in steps)
        whole = _largest(mask[thinned])
        box = _box(whole)
        background = background_value(scan.data)
        bright = above_darkest(scan.data[thinned][box], whole[box], background=background)
        i, j, k = (size * step for size, step in zip(sizes, steps, strict=True))
        return cls(np.pad(bright, 1), _filled_in_slices(np.pad(whole[box], 1)), (i, j, k))

    @property
    def litres(self) -> float:
        return float(self.filled.sum() * np.prod(self.spacing)) / _MM3_PER_LITRE

    def dark_layer(self) -> float:
        depth = ndimage.distance_transform_edt(self.filled, sampling=self.spacing)
        depth = np.round(depth, 3)  # voxels of 4 mm may have 4.0000002
        layers = [(depth > low) & (depth <= high) for low, high in (_SURFACE_MM, *_BONE_MM)]
        deep = depth > _DEEP_MM
        if not all(layer.any() for layer in (*layers, deep)):
            return 0.0
        dark = self.brightness < _DARK * np.median(self.brightness[deep])
        surface, *below = (float(dark[layer].mean()) for layer in layers)
        return max(below) - surface


def _filled_in_slices(mask: Mask) -> Mask:
    """Fill what is closed in a slice along any axis: a skull that is cut off below, too.

    No voxel on the volume's faces may be in the mask.
    """
    filled = mask.copy()
    for axis in range(3):
        plane = ndimage.generate_binary_structure(3, 1)
        for end in (0, 2):
            plane[tuple(end if a == axis else 1 for a in range(3))] = False
        parts, _ = ndimage.label(~mask, plane)
        outside = np.moveaxis(parts, axis, 0)[:, :1, :1]
        filled |= parts != np.moveaxis(outside, 0, axis)
    return filled


def brain_mask(scan: Scan) -> Mask:
    """Find the brain: what is not background in a stripped scan, else by threshold and morphology.

    For whole heads the method is a simple one and good for registration and intensity scaling, not
    for volumetry: at 2 mm, voxels above a threshold between dark and bright (Otsu), opened with a
    ball of growing radius until the largest component has parted from scalp and neck (at most 2.2
    litres and 60 % of what is bright), which is then grown back, closed and filled. Expect it to
    lose thin gyri or to keep some dura, eye muscle or neck; look at the quality picture. It was
    made for T1w scans: where fluid is bright, scalp and brain seldom part, and it finds nothing.

    Parameters
    ----------
    scan : Scan
        A scan of any contrast if skull-stripped, else a T1w scan or one with fluid as dark.

    Returns
    -------
    (x, y, z) bool
        On the scan's own grid; one component without holes.

    Raises
    ------
    ValueError
        If nothing of a brain's size is found.
    """
    content = _stripped_content(scan)
    if content is not None:
        return _largest_filled(content)
    shape, voxel_map = _working_grid(scan)
    # From its minimum on: a grid that reaches beyond the scan is filled with 0, which is dark.
    head = resample_array(scan.data - scan.data.min(), voxel_map, shape)
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
        if not core.any():
            break
        grown = bright & (_distance_to(core, spacing) <= radius + _REGROWTH_MM)
        if grown.sum() * litres_per_voxel > most:
            continue
        mask = _largest_filled(_close(grown, spacing))
        if _BRAIN_LITRES[0] <= mask.sum() * litres_per_voxel <= _BRAIN_LITRES[1]:
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
