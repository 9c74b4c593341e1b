"""How much of a lesion is in each voxel, computed in the lesion's own box of the grid."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from hemitwin._shapes import Affine, Grid, Mask
from hemitwin.transforms.lesions.field import layer_noise, lesion_distance, lesion_half_width_mm
from hemitwin.transforms.lesions.mask_library import LesionMaskLibrary
from hemitwin.transforms.lesions.spec import LesionSpec, Side

__all__ = [
    "LesionBox",
    "lesion_alpha",
    "lesion_box",
    "lesion_offsets",
    "share_inside",
    "side_mask",
]

_GROWTH = (1.0, 1.5, 2.5, 4.0, 8.0)
_SAMPLE = 30_000
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
class _Edge:
    """Points where there is lesion, and how far from its edge they lie."""

    points_mm: Float[np.ndarray, "3 n"]
    distance_mm: Float[np.ndarray, " n"]


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
        half_width_mm = growth * lesion_half_width_mm(spec, mask_library)
        start, allowed = _box_around(spec, half_width_mm, brain_mask, affine)
        if allowed.sum() < wanted:
            continue
        points = _points_mm(allowed, start, affine)
        distance = lesion_distance(points, spec, mask_library)
        level = float(np.partition(distance, wanted - 1)[wanted - 1])
        alpha = np.zeros(allowed.shape, dtype=np.float32)
        alpha[allowed] = _profile(distance - level, spec.edge_mm)
        if not any(np.take(alpha, end, axis).any() for axis in range(3) for end in (0, -1)):
            inside = alpha[allowed] > 0
            edge = _Edge(points[:, inside], distance[inside])
            return _layered(start, alpha, edge, spec, wanted)
    msg = (
        f"a lesion of {spec.volume_mm3:.0f} mm3 must fit into the brain on side {spec.side} "
        f"around {spec.centre_mm} mm; it does not; move its centre or make it smaller"
    )
    raise ValueError(msg)


def side_mask(brain_mask: Mask, affine: Affine, side: Side) -> Mask:
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


def lesion_offsets(
    spec: LesionSpec, affine: Affine, library: LesionMaskLibrary | None
) -> Int[np.ndarray, "n 3"]:
    """Return voxels of the lesion's smooth, uncalibrated shape, counted from its centre.

    They hold for every centre that is a voxel's: a place can be tried without a new shape.

    Parameters
    ----------
    spec : LesionSpec
        Its centre plays no part.
    affine : (4, 4)
        Voxel index to template RAS+ millimetres.
    library : LesionMaskLibrary or None
        Where `spec.mask_name` is found.

    Returns
    -------
    (n, 3) int
    """
    # The edge's noise moves the shape little, and costs more than all the rest.
    kind = "ellipsoid" if spec.kind == "field" else spec.kind
    smooth = spec.model_copy(
        update={"roughness": 0.0, "edge_mm": 0.0, "kind": kind, "centre_mm": (0.0, 0.0, 0.0)}
    )
    inverse = np.linalg.inv(affine)
    reach = np.abs(inverse[:3, :3]) @ lesion_half_width_mm(smooth, library) + 1
    most = np.ceil(reach).astype(int)
    step = 1
    if spec.kind == "mask":  # parts far from one another: a share needs no more than a sample
        step = max(1, round((np.prod(2.0 * most + 1) / _SAMPLE) ** (1 / 3)))
    most -= most % step
    index = np.indices(tuple(2 * most // step + 1)).reshape(3, -1) * step - most.reshape(3, 1)
    points = affine[:3, :3] @ index
    return np.asarray(index[:, lesion_distance(points, smooth, library) <= 0].T)


def share_inside(
    voxel: Int[np.ndarray, "3"], offsets: Int[np.ndarray, "n 3"], allowed: Mask
) -> float:
    """Return which share of a shape about a voxel lies where it is allowed.

    What lies beyond the grid by more than a voxel does not count at all.
    """
    places = voxel + offsets
    shape = np.asarray(allowed.shape)
    within = ((places >= 0) & (places < shape)).all(axis=1)
    near = ((places >= -1) & (places <= shape)).all(axis=1)
    i, j, k = places[within].T
    return float(allowed[i, j, k].sum() / max(int(near.sum()), 1))


def _box_around(
    spec: LesionSpec,
    half_width_mm: Float[np.ndarray, "3"],
    brain_mask: Mask,
    affine: Affine,
) -> tuple[Int[np.ndarray, "3"], Bool[np.ndarray, " bx by bz"]]:
    """Return where a box around the centre starts, and where in it the lesion may be."""
    inverse = np.linalg.inv(affine)
    centre = inverse[:3, :3] @ np.asarray(spec.centre_mm) + inverse[:3, 3]
    reach = np.abs(inverse[:3, :3]) @ half_width_mm + 1
    start, stop = np.floor(centre - reach).astype(int), np.ceil(centre + reach).astype(int) + 1
    start = np.clip(start, -1, brain_mask.shape)  # one voxel beyond the grid: nothing is allowed
    stop = np.clip(stop, start + 1, np.asarray(brain_mask.shape) + 1)
    moved = affine.copy()
    moved[:3, 3] += affine[:3, :3] @ start
    return start, side_mask(_crop(brain_mask, start, stop), moved, spec.side)


def _points_mm(
    where: Mask, start: Int[np.ndarray, "3"], affine: Affine
) -> Float[np.ndarray, "3 n"]:
    index = np.argwhere(where).T + start.reshape(3, 1)
    return np.asarray(np.tensordot(affine[:3, :3], index, axes=1) + affine[:3, 3:])


def _crop(
    mask: Mask, start: Int[np.ndarray, "3"], stop: Int[np.ndarray, "3"]
) -> Bool[np.ndarray, " bx by bz"]:
    """Cut out a part that may reach beyond the grid."""
    shape = np.asarray(mask.shape)
    low, high = np.clip(start, 0, shape), np.clip(stop, 0, shape)
    part = mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    return np.pad(part, list(zip(low - start, stop - high, strict=True)))


def _layered(
    start: Int[np.ndarray, "3"], alpha: Grid, edge: _Edge, spec: LesionSpec, wanted: int
) -> LesionBox:
    """Cut to the voxels that hold lesion, and find the layers within."""
    kept = tuple(
        slice(int(held[0]), int(held[-1]) + 1)
        for held in (
            np.flatnonzero(alpha.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)
        )
    )
    i, j, k = (
        slice(part.start + int(s), part.stop + int(s)) for part, s in zip(kept, start, strict=True)
    )
    alpha = np.ascontiguousarray(alpha[kept])
    core, centre = alpha, np.zeros_like(alpha)
    if spec.shell or spec.centre:
        held = alpha > 0
        noise = layer_noise(edge.points_mm, spec)
        distance = edge.distance_mm + _LAYER_ROUGHNESS * spec.mean_radius_mm * noise
        if spec.shell:
            share = 1.0 - spec.shell.share
            core = alpha.copy()
            core[held] *= _innermost(distance, alpha[held], spec, round(wanted * share))
        if spec.centre:
            innermost = _innermost(distance, alpha[held], spec, round(wanted * spec.centre.share))
            centre[held] = np.minimum(core[held], alpha[held] * innermost)
    return LesionBox((i, j, k), alpha, core, centre)


def _innermost(
    distance_mm: Float[np.ndarray, " n"],
    alpha: Float[np.ndarray, " n"],
    spec: LesionSpec,
    count: int,
) -> Float[np.ndarray, " n"]:
    inside = distance_mm[alpha >= 0.5]
    rank = min(max(count, 1), inside.size) - 1
    level = float(np.partition(inside, rank)[rank])
    return _profile(distance_mm - level, min(spec.edge_mm, 3.0)).astype(np.float32)


def _profile(distance_mm: Float[np.ndarray, " n"], edge_mm: float) -> Float[np.ndarray, " n"]:
    if edge_mm <= 0:
        return (distance_mm <= 0).astype(np.float32)
    ramp = np.clip(0.5 - distance_mm / edge_mm, 0, 1)
    return np.asarray(ramp * ramp * (3 - 2 * ramp))
