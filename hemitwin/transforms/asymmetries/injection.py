"""Asymmetries without lesion: one side's region smaller, larger or brighter than it was."""

import numpy as np
from jaxtyping import Float
from scipy import ndimage

from hemitwin._shapes import Affine, Mask
from hemitwin.transforms.asymmetries.spec import AsymmetrySpec
from hemitwin.transforms.lesions.box import side_mask
from hemitwin.transforms.lesions.mass_effect import (
    MassEffect,
    Push,
    WarpField,
    push_shift_mm,
    push_tissue,
    radial_field,
    reached_box,
)

__all__ = ["asymmetry_push", "asymmetry_region", "inject_asymmetry"]

_TOLERANCE = 1e-4  # of the volume
_ROUNDS = 40
_GIVES_WAY_MM = 6.0  # below a cortex patch
_SAME_REGION = 0.1  # two grids count a region's voxels differently


def inject_asymmetry(
    volume: Float[np.ndarray, " *c x y z"],
    affine: Affine,
    spec: AsymmetrySpec,
    brain_mask: Mask,
    *,
    region: Mask | None = None,
) -> tuple[Float[np.ndarray, " *c x y z"], Mask]:
    """Shrink, widen, thin or brighten a region on one side.

    Volumes change by a smooth deformation without folding that is 0 at the mid-plane, at the
    brain's surface and beyond the spec's reach. Its strength is found so that the region, warped
    as an indicator by linear interpolation, has the spec's change of volume.

    Parameters
    ----------
    volume : (x, y, z) or (c, x, y, z) float
        Not changed.
    affine : (4, 4)
        Voxel index to template RAS+ millimetres.
    spec : AsymmetrySpec
        The asymmetry.
    brain_mask : (x, y, z) bool
        Nothing is written outside it, nor drawn in from there.
    region : (x, y, z) bool, optional
        What changes, for a spec that was drawn for a region; what of it lies on the spec's side.

    Returns
    -------
    changed : same shape and dtype as `volume`
        Equal to `volume` bit for bit outside `mask`.
    mask : (x, y, z) bool
        Where anything may have changed: for a deformation, the region and what gives way.

    Raises
    ------
    ValueError
        If the region is not the one the spec was drawn for, or gives no room for the change.
    """
    changed = volume.copy()
    mask = np.zeros(brain_mask.shape, dtype=bool)
    channels = changed[None] if changed.ndim == 3 else changed
    part = asymmetry_region(affine, spec, brain_mask, region=region)
    if spec.kind == "brightening":
        weight = ndimage.uniform_filter(part.astype(np.float32), 3)[part]
        for data in channels:
            data[part] *= (1 + spec.change_percent / 100 * weight).astype(data.dtype)
        return changed, mask | part
    push = asymmetry_push(affine, spec, brain_mask, part)
    mask[push.box] |= push.moved
    for data in channels:
        data[push.box] = push_tissue(data, brain_mask, push)
    return changed, mask


def asymmetry_region(
    affine: Affine, spec: AsymmetrySpec, brain_mask: Mask, *, region: Mask | None = None
) -> Mask:
    """Return what an asymmetry changes, before it does.

    Parameters
    ----------
    affine, spec, brain_mask, region
        As in `inject_asymmetry`.

    Returns
    -------
    (x, y, z) bool
        The region in brain and side; else the ball, or the cortex patch, about the centre.

    Raises
    ------
    ValueError
        If it is empty, or not the region that the spec was drawn for.
    """
    if spec.of_region != (region is not None):
        msg = (
            f"a region must be handed in for a spec of a region and only then; the spec says "
            f"of_region={spec.of_region}; hand in the region it was drawn for, or none"
        )
        raise ValueError(msg)
    allowed = side_mask(brain_mask, affine, spec.side)
    part = (
        allowed & region
        if region is not None
        else _drawn_region(affine, spec, allowed, brain_mask)
    )
    voxel_mm3 = abs(float(np.linalg.det(affine[:3, :3]))) * spec.native_mm3_per_mm3
    found = float(part.sum()) * voxel_mm3
    slack = _SAME_REGION * spec.volume_mm3 + voxel_mm3
    if found == 0 or (region is not None and abs(found - spec.volume_mm3) > slack):
        msg = (
            f"the region must have the spec's {spec.volume_mm3:.0f} mm3 in brain and side "
            f"{spec.side}, got {found:.0f} mm3; hand in the region and brain it was drawn for"
        )
        raise ValueError(msg)
    return np.asarray(part)


def asymmetry_push(affine: Affine, spec: AsymmetrySpec, brain_mask: Mask, part: Mask) -> Push:
    """Find the displacement that changes a region's volume as the spec says.

    Parameters
    ----------
    affine, spec, brain_mask
        As in `inject_asymmetry`.
    part : (x, y, z) bool
        What `asymmetry_region` returned.

    Returns
    -------
    Push

    Raises
    ------
    ValueError
        If the change is not to be had without folding.
    """
    allowed = side_mask(brain_mask, affine, spec.side)
    if spec.kind == "thinning":
        field = _depth_field(affine, spec, allowed, brain_mask, part)
    else:
        unit = MassEffect(spec.centre_mm, spec.reach_mm, push_shift_mm(1.0, spec.reach_mm))
        field = radial_field(unit, affine, allowed)
    return field.push(_scale(field, part, spec))


def _drawn_region(affine: Affine, spec: AsymmetrySpec, allowed: Mask, brain_mask: Mask) -> Mask:
    region = np.zeros_like(allowed)
    box, points, _ = reached_box(spec.centre_mm, spec.radius_mm, affine, allowed.shape)
    near = _distance(points, spec) <= spec.radius_mm
    if spec.kind in {"thinning", "brightening"}:
        near &= _depth_mm(brain_mask, box, affine, spec.thickness_mm) <= spec.thickness_mm
    region[box] = near & allowed[box]
    return region


def _distance(
    points: Float[np.ndarray, "3 bx by bz"], spec: AsymmetrySpec
) -> Float[np.ndarray, " bx by bz"]:
    centre = np.asarray(spec.centre_mm).reshape(3, 1, 1, 1)
    return np.asarray(np.sqrt(((points - centre) ** 2).sum(axis=0)))


def _depth_mm(
    brain: Mask, box: tuple[slice, slice, slice], affine: Affine, most_mm: float
) -> Float[np.ndarray, " bx by bz"]:
    """Return the depth below the brain's surface, correct up to `most_mm`."""
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    margins = [int(np.ceil(most_mm / size)) + 1 for size in sizes]
    lows = [max(s.start - m, 0) for s, m in zip(box, margins, strict=True)]
    highs = [min(s.stop + m, n) for s, m, n in zip(box, margins, brain.shape, strict=True)]
    wide = tuple(slice(a, b) for a, b in zip(lows, highs, strict=True))
    depth = ndimage.distance_transform_edt(np.pad(brain[wide], 1), sampling=sizes)[
        1:-1, 1:-1, 1:-1
    ]
    inner = tuple(slice(s.start - low, s.stop - low) for s, low in zip(box, lows, strict=True))
    return np.asarray(depth[inner])


def _depth_field(
    affine: Affine, spec: AsymmetrySpec, allowed: Mask, brain_mask: Mask, part: Mask
) -> WarpField:
    """Move the inner border of a cortex patch along the patch's mean inward normal.

    The outermost voxels stay, and so does what lies 6 mm below the patch.
    """
    box, points, _ = reached_box(spec.centre_mm, spec.reach_mm, affine, allowed.shape)
    depth = _depth_mm(brain_mask, box, affine, spec.thickness_mm + _GIVES_WAY_MM)
    lateral = np.maximum(1 - (_distance(points, spec) / spec.reach_mm) ** 2, 0) ** 2
    fixed = min(float(np.linalg.norm(affine[:3, :3], axis=0).max()), 0.75 * spec.thickness_mm)
    side_mm = np.where(depth < spec.thickness_mm, spec.thickness_mm - fixed, _GIVES_WAY_MM)
    below = np.maximum(1 - ((depth - spec.thickness_mm) / side_mm) ** 2, 0) ** 2
    beside = np.clip(points[0] / spec.centre_mm[0], 0, 1)
    strength = lateral * below * beside * beside * (3 - 2 * beside)
    slopes = np.array([np.gradient(depth, axis=axis)[part[box]].mean() for axis in range(3)])
    from_world = np.linalg.inv(affine[:3, :3])
    normal = from_world.T @ slopes  # a gradient, from voxel to world axes
    inward = from_world @ (normal / max(float(np.linalg.norm(normal)), 1e-9))
    direction = np.broadcast_to(inward.reshape(3, 1, 1, 1), (3, *strength.shape))
    return WarpField.along(direction, strength, box, allowed[box], radial=False)


def _scale(field: WarpField, part: Mask, spec: AsymmetrySpec) -> float:
    """Find the scale at which the warped region has the wanted volume, by bisection."""
    inside = part[field.box].astype(np.float32)
    outside = float(part.sum()) - float(inside.sum())  # beyond the reach nothing changes
    wanted = float(part.sum()) * (1 + spec.change_percent / 100) - outside
    index = np.indices(inside.shape, dtype=np.float32)

    def volume(scale: float) -> float:
        at = index + scale * np.where(field.inside, field.steps, 0)
        return float(ndimage.map_coordinates(inside, at, order=1, mode="nearest").sum())

    low, high = (0.0, 1.0) if spec.change_percent > 0 else (0.0, -1.0)
    high *= abs(field.limits()[1 if high > 0 else 0])
    furthest = volume(high)
    if (furthest - wanted) * spec.change_percent < 0:
        most = 100 * ((furthest + outside) / float(part.sum()) - 1)
        msg = (
            f"the region around {spec.centre_mm} mm must change by {spec.change_percent:g} % "
            f"without folding; at most {most:.1f} % is to be had there; ask for less or give it "
            "a longer reach"
        )
        raise ValueError(msg)
    for _ in range(_ROUNDS):
        middle = (low + high) / 2
        found = volume(middle)
        if abs(found - wanted) <= _TOLERANCE * float(part.sum()):
            return middle
        if (found - wanted) * spec.change_percent < 0:
            low = middle
        else:
            high = middle
    return (low + high) / 2
