"""How much of a lesion is in each voxel, computed in the lesion's own box of the grid."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from hemitwin._shapes import Affine, Grid, Mask
from hemitwin.transforms.lesion_field import (
    layer_noise,
    lesion_distance,
    lesion_reach_mm,
    shape_reach_mm,
)
from hemitwin.transforms.lesion_masks import LesionMaskLibrary
from hemitwin.transforms.lesion_spec import LesionSpec

__all__ = ["LesionBox", "lesion_alpha", "lesion_box", "lesion_share_inside", "side_mask"]

_GROWTH = (1.0, 1.5, 2.5, 4.0, 8.0)
_LAYER_ROUGHNESS = 0.12  # of the mean radius


@dataclass(frozen=True, eq=False)
class LesionBox:
    """The part of a grid that holds a lesion.

    Attributes
    ----------
    box : (3,) slice
        Where it lies on the grid.
    alpha : (bx, by, bz) float32
        How much of the lesion is in each voxel, 0 to 1.
    core : (bx, by, bz) float32
        How much of what the shell encloses; `alpha` without a shell.
    centre : (bx, by, bz) float32
        How much of the centre; 0 without one.
    """

    box: tuple[slice, slice, slice]
    alpha: Grid
    core: Grid
    centre: Grid


@dataclass(frozen=True, eq=False)
class _Field:
    """Distances on a box that may reach one voxel beyond the grid."""

    start: tuple[int, int, int]
    points_mm: Float[np.ndarray, "3 bx by bz"]
    distance_mm: Grid
    allowed: Mask


def lesion_alpha(
    affine: Affine,
    spec: LesionSpec,
    brain_mask: Mask,
    *,
    mask_library: LesionMaskLibrary | None = None,
) -> Grid:
    """Return how much of the lesion is in each voxel of the grid, 0 to 1.

    Parameters
    ----------
    affine, spec, brain_mask, mask_library
        As in `lesion_box`, whose `alpha` this is on the whole grid.

    Returns
    -------
    (x, y, z) float32

    Raises
    ------
    ValueError
        If the brain has too few voxels around the centre.
    """
    found = lesion_box(affine, spec, brain_mask, mask_library=mask_library)
    alpha = np.zeros(brain_mask.shape, dtype=np.float32)
    alpha[found.box] = found.alpha
    return alpha


def lesion_box(
    affine: Affine,
    spec: LesionSpec,
    brain_mask: Mask,
    *,
    mask_library: LesionMaskLibrary | None = None,
) -> LesionBox:
    """Return how much of the lesion and of its layers is in each voxel of its box.

    The edge is placed so that the voxels with alpha >= 0.5 have the spec's volume, to the voxel,
    inside the brain and on the lesion's side; the borders of the layers likewise have the spec's
    shares of it.

    Parameters
    ----------
    affine : (4, 4)
        Voxel index to template RAS+ millimetres.
    spec : LesionSpec
        The lesion. Its role plays no part here: a sham's other half is not in it.
    brain_mask : (x, y, z) bool
        Where it may be; for a lesion in white matter, that.
    mask_library : LesionMaskLibrary, optional
        Needed for kind 'mask'.

    Returns
    -------
    LesionBox

    Raises
    ------
    ValueError
        If the brain has too few voxels around the centre.
    """
    wanted = max(1, round(spec.template_mm3 / abs(np.linalg.det(affine[:3, :3]))))
    for growth in _GROWTH:
        reach_mm = growth * lesion_reach_mm(spec, mask_library)
        field = _field(spec, brain_mask, affine, reach_mm=reach_mm, library=mask_library)
        inside = field.distance_mm[field.allowed]
        if inside.size < wanted:
            continue
        level = float(np.partition(inside, wanted - 1)[wanted - 1])
        alpha = np.where(field.allowed, _profile(field.distance_mm - level, spec.edge_mm), 0)
        if not any(np.take(alpha, end, axis).any() for axis in range(3) for end in (0, -1)):
            return _layered(field, alpha.astype(np.float32), spec, wanted)
    msg = (
        f"a lesion of {spec.volume_mm3:.0f} mm3 must fit into the brain on side {spec.side} "
        f"around {spec.centre_mm} mm; it does not; move its centre or make it smaller"
    )
    raise ValueError(msg)


def side_mask(brain_mask: Mask, affine: Affine, side: Literal["L", "R"]) -> Mask:
    """Return the part of a mask on one side of x = 0.

    Examples
    --------
    >>> side_mask(np.ones((2, 1, 1), dtype=bool), np.diag([1.0, 1, 1, 1]), "R").ravel().tolist()
    [False, True]
    """
    if not affine[0, 1:3].any():  # x depends on the first index alone: no need of the whole grid
        x_mm = affine[0, 0] * np.arange(brain_mask.shape[0]) + affine[0, 3]
        on_side = ((x_mm < 0) if side == "L" else (x_mm > 0)).reshape(-1, 1, 1)
    else:
        index = np.ogrid[tuple(slice(n) for n in brain_mask.shape)]
        x_mm = sum(a * i for a, i in zip(affine[0, :3], index, strict=True)) + affine[0, 3]
        on_side = (x_mm < 0) if side == "L" else (x_mm > 0)
    return np.asarray(brain_mask & on_side)


def lesion_share_inside(
    spec: LesionSpec, brain_mask: Mask, affine: Affine, library: LesionMaskLibrary | None
) -> float:
    """Return which share of the lesion's smooth, uncalibrated shape is in brain and side."""
    # The edge's noise moves the share little, and costs more than all the rest.
    kind = "ellipsoid" if spec.kind == "field" else spec.kind
    smooth = spec.model_copy(update={"roughness": 0.0, "edge_mm": 0.0, "kind": kind})
    reach_mm = shape_reach_mm(smooth, library)
    field = _field(smooth, brain_mask, affine, reach_mm=reach_mm, library=library)
    shape = field.distance_mm <= 0
    return float((shape & field.allowed).sum() / max(int(shape.sum()), 1))


def _field(
    spec: LesionSpec,
    brain_mask: Mask,
    affine: Affine,
    *,
    reach_mm: float,
    library: LesionMaskLibrary | None,
) -> _Field:
    inverse = np.linalg.inv(affine)
    centre = inverse[:3, :3] @ np.asarray(spec.centre_mm) + inverse[:3, 3]
    reach = reach_mm * np.linalg.norm(inverse[:3, :3], axis=1) + 1
    start, stop = np.floor(centre - reach).astype(int), np.ceil(centre + reach).astype(int) + 1
    start = np.clip(start, -1, brain_mask.shape)  # one voxel beyond the grid: nothing is allowed
    stop = np.clip(stop, start + 1, np.asarray(brain_mask.shape) + 1)
    index = np.indices(tuple(stop - start)) + start.reshape(3, 1, 1, 1)
    points = np.tensordot(affine[:3, :3], index, axes=1) + affine[:3, 3].reshape(3, 1, 1, 1)
    allowed = _crop(brain_mask, start, stop) & (
        (points[0] < 0) if spec.side == "L" else (points[0] > 0)
    )
    x, y, z = (int(s) for s in start)
    return _Field((x, y, z), points, lesion_distance(points, spec, library, allowed), allowed)


def _crop(
    mask: Mask, start: Int[np.ndarray, "3"], stop: Int[np.ndarray, "3"]
) -> Bool[np.ndarray, " bx by bz"]:
    """Cut out a part that may reach beyond the grid."""
    shape = np.asarray(mask.shape)
    low, high = np.clip(start, 0, shape), np.clip(stop, 0, shape)
    part = mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    return np.pad(part, list(zip(low - start, stop - high, strict=True)))


def _layered(field: _Field, alpha: Grid, spec: LesionSpec, wanted: int) -> LesionBox:
    """Cut to the voxels that hold lesion, and find the layers within."""
    kept = tuple(
        slice(int(held[0]), int(held[-1]) + 1)
        for held in (
            np.flatnonzero(alpha.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)
        )
    )
    i, j, k = (
        slice(part.start + s, part.stop + s) for part, s in zip(kept, field.start, strict=True)
    )
    alpha = np.ascontiguousarray(alpha[kept])
    core, centre = alpha, np.zeros_like(alpha)
    if spec.shell or spec.centre:
        noise = layer_noise(field.points_mm[(slice(None), *kept)], spec)
        distance = field.distance_mm[kept] + _LAYER_ROUGHNESS * spec.mean_radius_mm * noise
        shares = 1.0 - (spec.shell.share if spec.shell else 0.0)
        if spec.shell:
            core = alpha * _innermost(distance, alpha, spec, round(wanted * shares))
        if spec.centre:
            innermost = _innermost(distance, alpha, spec, round(wanted * spec.centre.share))
            centre = np.minimum(core, alpha * innermost)
    return LesionBox((i, j, k), alpha, core, centre)


def _innermost(distance_mm: Grid, alpha: Grid, spec: LesionSpec, count: int) -> Grid:
    inside = distance_mm[alpha >= 0.5]
    rank = min(max(count, 1), inside.size) - 1
    level = float(np.partition(inside, rank)[rank])
    return _profile(distance_mm - level, min(spec.edge_mm, 3.0)).astype(np.float32)


def _profile(distance_mm: Grid, edge_mm: float) -> Grid:
    if edge_mm <= 0:
        return (distance_mm <= 0).astype(np.float32)
    ramp = np.clip(0.5 - distance_mm / edge_mm, 0, 1)
    return np.asarray(ramp * ramp * (3 - 2 * ramp))
