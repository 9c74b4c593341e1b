"""Mass effect: tissue pushed outward from a centre, smoothly and without folding.

The displaced volume at y shows what lay at y - h(y) (y - c). For any smooth h this map has the
Jacobian determinant (1 - h)^2 (1 - h - (y - c) . grad h), by the matrix determinant lemma. Here
h = a (1 - |y - c|^2 / R^2)^2 t(x) within the reach R and 0 beyond, where t rises smoothly from 0
at the mid-plane x = 0 to 1 at the centre's distance from it: h falls along every ray from c, so
that with a <= 0.8 the determinant is at least (1 - a)^3 > 0.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import ndimage

from hemitwin._shapes import Affine, Grid, Mask

__all__ = [
    "LARGEST_PUSH",
    "MassEffect",
    "Push",
    "WarpField",
    "push_shift_mm",
    "push_tissue",
    "pushed_box",
    "radial_field",
    "reached_box",
]

_PEAK = 16 / (25 * 5**0.5)  # of q (1 - q^2)^2, at q^2 = 1/5
_LARGEST_AMPLITUDE = 0.8
LARGEST_PUSH = _LARGEST_AMPLITUDE * _PEAK
"""Largest displacement in units of the reach."""

_GUARD_MM = 8.0
_LEAST_JACOBIAN = 0.1


def push_shift_mm(amplitude: float, reach_mm: float) -> float:
    """Return the largest displacement of a push of given height `a` and reach, in mm."""
    return amplitude * _PEAK * reach_mm


@dataclass(frozen=True)
class MassEffect:
    """A push in closed form.

    Attributes
    ----------
    centre_mm : (3,)
        Template RAS+ millimetres.
    reach_mm : float
        Where it ends.
    shift_mm : float
        Its largest displacement.
    """

    centre_mm: tuple[float, float, float]
    reach_mm: float
    shift_mm: float

    @property
    def amplitude(self) -> float:
        """The height `a` of h."""
        return self.shift_mm / (_PEAK * self.reach_mm)

    def strength(self, points_mm: Float[np.ndarray, " 3 *n"]) -> Float[np.ndarray, " *n"]:
        """Return h at points in template RAS+ millimetres, 0 to `amplitude`."""
        centre = np.asarray(self.centre_mm).reshape((3,) + (1,) * (points_mm.ndim - 1))
        square = ((points_mm - centre) ** 2).sum(axis=0) / self.reach_mm**2
        beside = np.clip(points_mm[0] / self.centre_mm[0], 0, 1)  # 0 on the other side
        rise = beside * beside * (3 - 2 * beside)
        return np.asarray(self.amplitude * np.maximum(1 - square, 0) ** 2 * rise)


@dataclass(frozen=True, eq=False)
class Push:
    """A mass effect on a grid's box.

    Attributes
    ----------
    box : (3,) slice
        Where it may act.
    steps : (3, bx, by, bz)
        Source minus target in voxels.
    moved : (bx, by, bz) bool
        Brain that is displaced.
    """

    box: tuple[slice, slice, slice]
    steps: Float[np.ndarray, "3 bx by bz"]
    moved: Mask


@dataclass(frozen=True, eq=False)
class WarpField:
    """A displacement on a grid's box that may be scaled: target y shows source y + s steps.

    Its Jacobian determinant is (1 - s squeeze)^2 (1 - s slope), by the matrix determinant lemma.

    Attributes
    ----------
    box : (3,) slice
        Where it may act.
    steps : (3, bx, by, bz)
        Source minus target in voxels, for the scale 1.
    squeeze, slope : (bx, by, bz)
        Terms of the determinant.
    inside : (bx, by, bz) bool
        Where it may be written.
    """

    box: tuple[slice, slice, slice]
    steps: Float[np.ndarray, "3 bx by bz"]
    squeeze: Grid
    slope: Grid
    inside: Mask

    @classmethod
    def along(
        cls,
        direction: Float[np.ndarray, "3 bx by bz"],
        strength: Grid,
        box: tuple[slice, slice, slice],
        inside: Mask,
        *,
        radial: bool,
    ) -> "WarpField":
        """Displace against `direction` (in voxels; radial: away from a centre) by `strength`."""
        fall = sum(d * g for d, g in zip(direction, _gradient(strength), strict=True))
        squeeze = strength if radial else np.zeros_like(strength)
        return cls(box, -strength * direction, squeeze, np.asarray(squeeze + fall), inside)

    def determinant(self, scale: float) -> Grid:
        """Return the Jacobian determinant of target to source at a scale."""
        return np.asarray((1 - scale * self.squeeze) ** 2 * (1 - scale * self.slope))

    def limits(self) -> tuple[float, float]:
        """Return the scales between which no factor of the determinant falls below 0.1."""
        room = 1 - _LEAST_JACOBIAN
        parts = (self.squeeze[self.inside], self.slope[self.inside])
        lowest = min(float(part.min(initial=-1e-9)) for part in parts)
        highest = max(float(part.max(initial=1e-9)) for part in parts)
        return room / lowest, room / highest

    def push(self, scale: float) -> Push:
        """Return the displacement at a scale."""
        moved = self.inside & (self.steps != 0).any(axis=0) & (scale != 0)
        return Push(self.box, np.asarray(scale * self.steps), moved)


def pushed_box(effect: MassEffect, affine: Affine, allowed: Mask) -> Push:
    """Lay a mass effect over a grid.

    At the surface of `allowed`, where the skull gives no way, the displacement fades to 0 within
    about 8 mm. That fading has no closed form: the determinant is checked on the grid, and the
    push is weakened where it would fall below 0.1.

    Parameters
    ----------
    effect : MassEffect
        The push.
    affine : (4, 4)
        Voxel index to template RAS+ millimetres.
    allowed : (x, y, z) bool
        The brain on the effect's side.

    Returns
    -------
    Push
    """
    field = radial_field(effect, affine, allowed)
    return field.push(min(1.0, field.limits()[1]))


def radial_field(effect: MassEffect, affine: Affine, allowed: Mask) -> WarpField:
    """Return a mass effect, faded at the surface of `allowed`, as a field to be scaled."""
    box, points, away = reached_box(effect.centre_mm, effect.reach_mm, affine, allowed.shape)
    inside = allowed[box]
    strength = effect.strength(points) * _guard(inside, affine)
    return WarpField.along(away, strength, box, inside, radial=True)


def push_tissue(
    data: Grid, brain_mask: Mask, push: Push, *, still: bool = False
) -> Float[np.ndarray, " bx by bz"]:
    """Return the displaced tissue in a push's box, by linear interpolation within the brain.

    What lies outside `brain_mask` is never drawn in, and nothing is written there.

    Parameters
    ----------
    data : (x, y, z) float
        Not changed.
    brain_mask : (x, y, z) bool
        The brain.
    push : Push
        The displacement.
    still : bool
        Blur as the interpolation would, without displacing: a kernel of the same second moment
        f (1 - f) along each axis (f: the source's distance from the voxel below) about each voxel.

    Returns
    -------
    (bx, by, bz) float32
        `data` bit for bit where nothing moves.
    """
    values = np.where(brain_mask[push.box], data[push.box], 0).astype(np.float32)
    weights = brain_mask[push.box].astype(np.float32)
    steps = push.steps[:, push.moved]
    if still:
        fraction = steps - np.floor(steps)
        spread = fraction * (1 - fraction)
        amount, weight = (_spread(part, push.moved, spread) for part in (values, weights))
    else:
        at = np.argwhere(push.moved).T + steps
        amount, weight = (
            ndimage.map_coordinates(part, at, order=1, mode="nearest")
            for part in (values, weights)
        )
    original = data[push.box][push.moved]
    moved = np.where(weight > 0.05, amount / np.maximum(weight, 0.05), original)
    result = data[push.box].copy()
    result[push.moved] = moved
    return np.asarray(result)


def reached_box(
    centre_mm: tuple[float, float, float],
    reach_mm: float,
    affine: Affine,
    shape: tuple[int, ...],
) -> tuple[
    tuple[slice, slice, slice], Float[np.ndarray, "3 bx by bz"], Float[np.ndarray, "3 bx by bz"]
]:
    """Return the box about a centre, its points in mm, and their voxels away from the centre."""
    inverse = np.linalg.inv(affine)
    middle = inverse[:3, :3] @ np.asarray(centre_mm) + inverse[:3, 3]
    reach = reach_mm * np.linalg.norm(inverse[:3, :3], axis=1)
    sizes = np.asarray(shape)
    start = np.clip(np.floor(middle - reach), 0, sizes - 1).astype(int)
    stop = np.clip(np.ceil(middle + reach) + 1, start + 1, sizes).astype(int)
    i, j, k = (slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))
    index = np.indices(tuple(stop - start), dtype=np.float32)
    away = index - (middle - start).reshape(3, 1, 1, 1).astype(np.float32)
    points = np.tensordot(affine[:3, :3].astype(np.float32), away, axes=1)
    points = points + np.asarray(centre_mm, dtype=np.float32).reshape(3, 1, 1, 1)
    return (i, j, k), points, away


def _spread(part: Grid, where: Mask, spread: Float[np.ndarray, "3 n"]) -> Float[np.ndarray, " n"]:
    padded = np.pad(part, 1)
    total = part[where] * (1 - spread.sum(axis=0))
    for axis in range(3):
        for offset in (0, 2):
            window = [slice(1, -1)] * 3
            window[axis] = slice(offset, offset + part.shape[axis])
            total = total + spread[axis] / 2 * padded[tuple(window)][where]
    return np.asarray(total)


def _guard(inside: Mask, affine: Affine) -> Grid:
    """Rise from 0 at a flat surface to 1 about 8 mm below it."""
    size = [max(1, int(_GUARD_MM / s) | 1) for s in np.linalg.norm(affine[:3, :3], axis=0)]
    filled = inside.astype(np.float32)
    for _ in range(2):
        filled = ndimage.uniform_filter(filled, size, mode="nearest")
    rise = np.clip(2 * filled - 1, 0, 1)
    return np.asarray(rise * rise * (3 - 2 * rise))


def _gradient(field: Grid) -> list[Grid]:
    if min(field.shape) < 2:
        return [np.zeros_like(field)] * 3
    return list(np.gradient(field))
