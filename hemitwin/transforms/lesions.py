"""Put a lesion into a volume, with the exact mask."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from hemitwin._shapes import Affine, Grid, Mask
from hemitwin.transforms.lesion_field import lesion_distance, lesion_reach_mm, lesion_texture
from hemitwin.transforms.lesion_masks import LesionMaskLibrary
from hemitwin.transforms.lesion_spec import LesionSpec

__all__ = ["inject_lesion", "lesion_alpha", "lesion_share_inside", "side_mask"]

_GROWTH = (1.0, 1.5, 2.5, 4.0, 8.0)


@dataclass(frozen=True, eq=False)
class _Box:
    """The part of a grid (possibly beyond its ends) that may hold a lesion."""

    start: tuple[int, int, int]
    distance_mm: Grid
    allowed: Mask


def inject_lesion(
    volume: Float[np.ndarray, " *c x y z"],
    affine: Affine,
    spec: LesionSpec,
    brain_mask: Mask,
    *,
    mask_library: LesionMaskLibrary | None = None,
) -> tuple[Float[np.ndarray, " *c x y z"], Mask]:
    """Put a lesion into a volume: v becomes v (1 + alpha (contrast + texture noise)).

    Parameters
    ----------
    volume : (x, y, z) or (c, x, y, z) float
        Not changed.
    affine : (4, 4)
        Voxel index to template RAS+ millimetres.
    spec : LesionSpec
        The lesion; the same one on every grid.
    brain_mask : (x, y, z) bool
        The lesion stays inside it and on its side.
    mask_library : LesionMaskLibrary, optional
        Needed for kind 'mask'.

    Returns
    -------
    lesioned : same shape and dtype as `volume`
        Equal to `volume` bit for bit outside `mask`.
    mask : (x, y, z) bool
        Where alpha > 0.

    Raises
    ------
    ValueError
        If the lesion does not fit, or its mask is not to be had.
    """
    alpha = lesion_alpha(affine, spec, brain_mask, mask_library=mask_library)
    mask = alpha > 0
    points = np.argwhere(mask).T
    world = affine[:3, :3] @ points + affine[:3, 3:]
    change = spec.contrast + spec.texture * lesion_texture(world, spec)
    factor = np.maximum(1 + alpha[mask] * change, 0)
    lesioned = volume.copy()
    lesioned[..., mask] = (lesioned[..., mask] * factor).astype(volume.dtype)
    return lesioned, mask


def lesion_alpha(
    affine: Affine,
    spec: LesionSpec,
    brain_mask: Mask,
    *,
    mask_library: LesionMaskLibrary | None = None,
) -> Grid:
    """Return how much of the lesion is in each voxel, 0 to 1.

    The edge is placed so that the voxels with alpha >= 0.5 have the spec's volume, to the voxel,
    inside the brain and on the lesion's side.

    Parameters
    ----------
    affine : (4, 4)
        Voxel index to template RAS+ millimetres.
    spec : LesionSpec
        The lesion.
    brain_mask : (x, y, z) bool
        Where it may be.
    mask_library : LesionMaskLibrary, optional
        Needed for kind 'mask'.

    Returns
    -------
    (x, y, z) float32

    Raises
    ------
    ValueError
        If the brain has too few voxels around the centre.
    """
    allowed = side_mask(brain_mask, affine, spec.side)
    wanted = max(1, round(spec.template_mm3 / abs(np.linalg.det(affine[:3, :3]))))
    for growth in _GROWTH:
        box = _box(spec, allowed, affine, growth=growth, library=mask_library)
        inside = box.distance_mm[box.allowed]
        if inside.size < wanted:
            continue
        level = float(np.partition(inside, wanted - 1)[wanted - 1])
        alpha = np.where(box.allowed, _profile(box.distance_mm - level, spec.edge_mm), 0)
        if not any(np.take(alpha, end, axis).any() for axis in range(3) for end in (0, -1)):
            return _paint(alpha, box.start, brain_mask.shape)
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
    index = np.ogrid[tuple(slice(n) for n in brain_mask.shape)]
    x_mm = sum(a * i for a, i in zip(affine[0, :3], index, strict=True)) + affine[0, 3]
    return np.asarray(brain_mask & ((x_mm < 0) if side == "L" else (x_mm > 0)))


def lesion_share_inside(
    spec: LesionSpec, allowed: Mask, affine: Affine, library: LesionMaskLibrary | None
) -> float:
    """Return which share of the lesion's shape, smooth and uncalibrated, lies in `allowed`."""
    # The edge's noise moves the share little, and costs more than all the rest.
    smooth = spec.model_copy(update={"roughness": 0.0})
    box = _box(smooth, allowed, affine, growth=1.0, library=library)
    shape = box.distance_mm <= 0
    return float((shape & box.allowed).sum() / max(int(shape.sum()), 1))


def _box(
    spec: LesionSpec,
    allowed: Mask,
    affine: Affine,
    *,
    growth: float,
    library: LesionMaskLibrary | None,
) -> _Box:
    inverse = np.linalg.inv(affine)
    centre = inverse[:3, :3] @ np.asarray(spec.centre_mm) + inverse[:3, 3]
    reach = growth * lesion_reach_mm(spec, library) * np.linalg.norm(inverse[:3, :3], axis=1) + 1
    start, stop = np.floor(centre - reach).astype(int), np.ceil(centre + reach).astype(int) + 1
    start = np.clip(start, -1, allowed.shape)  # one voxel beyond the grid: nothing allowed there
    stop = np.clip(stop, start + 1, np.asarray(allowed.shape) + 1)
    index = np.indices(tuple(stop - start)) + start.reshape(3, 1, 1, 1)
    points = np.tensordot(affine[:3, :3], index, axes=1) + affine[:3, 3].reshape(3, 1, 1, 1)
    padded = np.pad(allowed, 1)[
        tuple(slice(a + 1, b + 1) for a, b in zip(start, stop, strict=True))
    ]
    x, y, z = (int(s) for s in start)
    return _Box((x, y, z), lesion_distance(points, spec, library), padded)


def _profile(distance_mm: Grid, edge_mm: float) -> Grid:
    if edge_mm <= 0:
        return (distance_mm <= 0).astype(np.float32)
    ramp = np.clip(0.5 - distance_mm / edge_mm, 0, 1)
    return np.asarray(ramp * ramp * (3 - 2 * ramp))


def _paint(
    alpha: Float[np.ndarray, " bx by bz"], start: tuple[int, int, int], shape: tuple[int, ...]
) -> Grid:
    padded = np.zeros(tuple(n + 2 for n in shape), dtype=np.float32)
    where = tuple(slice(a + 1, a + 1 + n) for a, n in zip(start, alpha.shape, strict=True))
    padded[where] = alpha
    return np.ascontiguousarray(padded[1:-1, 1:-1, 1:-1])
