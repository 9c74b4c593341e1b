"""Draw random asymmetries for a brain."""

import numpy as np
from jaxtyping import Float
from scipy import ndimage

from hemitwin._shapes import Affine, Mask
from hemitwin.transforms.asymmetries.injection import asymmetry_push, asymmetry_region
from hemitwin.transforms.asymmetries.spec import AsymmetryConfig, AsymmetryKind, AsymmetrySpec
from hemitwin.transforms.lesions.box import side_mask
from hemitwin.transforms.lesions.spec import SIDES, Side

__all__ = ["sample_asymmetry"]

_TRIES = 40
_LATERAL_MM = 12.0
_VENTRICLE_MM = (14.0, -14.0, 16.0)
"""Body of the lateral ventricle in the symmetric template, by eye."""
_VENTRICLE_SPREAD_MM = 2.0


def sample_asymmetry(
    rng: np.random.Generator,
    config: AsymmetryConfig,
    brain_mask: Mask,
    affine: Affine,
    *,
    side: Side | None = None,
    region: Mask | None = None,
) -> AsymmetrySpec:
    """Draw an asymmetry that the brain has room for.

    Parameters
    ----------
    rng : numpy.random.Generator
        All randomness comes from it.
    config : AsymmetryConfig
        Shares and ranges.
    brain_mask : (x, y, z) bool
        Where the brain is.
    affine : (4, 4)
        Voxel index to template RAS+ millimetres.
    side : 'L' or 'R', optional
        Drawn where not given.
    region : (x, y, z) bool, optional
        What is to change, say a ventricle or an area; hand it to `inject_asymmetry` too. Without
        it: a ball anywhere, a patch of the lateral cortex, or (wider ventricle) a ball about the
        body of the template's lateral ventricle.

    Returns
    -------
    AsymmetrySpec

    Raises
    ------
    ValueError
        If no place has room for the change.
    """
    chosen = side or SIDES[int(rng.integers(2))]
    kinds = list(config.kinds)
    weights = np.array([config.kinds[kind] for kind in kinds])
    kind = kinds[int(rng.choice(len(kinds), p=weights / weights.sum()))]
    allowed = side_mask(brain_mask, affine, chosen)
    voxels = _centres(kind, brain_mask, allowed, affine)
    if len(voxels) == 0 or (region is not None and not (region & allowed).any()):
        msg = f"brain and region must hold voxels on side {chosen}, got none; check the masks"
        raise ValueError(msg)
    reason = ""
    for _ in range(_TRIES):
        place = _place(rng, config, kind, voxels)
        if region is not None:
            place |= _place_of(region & allowed, affine, config)
        elif kind == "ventricle":
            side_sign = -1.0 if chosen == "L" else 1.0
            jitter = rng.uniform(-_VENTRICLE_SPREAD_MM, _VENTRICLE_SPREAD_MM, 3)
            centre = np.array(_VENTRICLE_MM) * [side_sign, 1.0, 1.0] + jitter
            place |= {"centre_mm": tuple(centre.tolist())}
        try:
            return _measured(place | {"kind": kind, "side": chosen}, affine, brain_mask, region)
        except ValueError as error:
            reason = str(error)
    msg = f"an asymmetry must fit somewhere; {_TRIES} places had no room, the last: {reason}"
    raise ValueError(msg)


def _centres(
    kind: AsymmetryKind, brain_mask: Mask, allowed: Mask, affine: Affine
) -> Float[np.ndarray, "n 3"]:
    """Return where centres may be, in mm: anywhere, or the lateral surface for the cortex."""
    if kind in {"thinning", "brightening"}:
        allowed = allowed & ~ndimage.binary_erosion(brain_mask)
    found = np.argwhere(allowed) @ affine[:3, :3].T + affine[:3, 3]
    if kind in {"thinning", "brightening"}:
        found = found[np.abs(found[:, 0]) > _LATERAL_MM]
    return np.asarray(found)


def _place(
    rng: np.random.Generator,
    config: AsymmetryConfig,
    kind: AsymmetryKind,
    centres: Float[np.ndarray, "n 3"],
) -> dict[str, object]:
    radius_mm = float(rng.uniform(*config.radius_mm))
    return {
        "centre_mm": tuple(centres[int(rng.integers(len(centres)))].tolist()),
        "radius_mm": radius_mm,
        "reach_mm": radius_mm * config.reach,
        "thickness_mm": config.thickness_mm,
        "change_percent": float(rng.uniform(*config.percent[kind])),
        "native_mm3_per_mm3": config.native_mm3_per_mm3,
    }


def _place_of(region: Mask, affine: Affine, config: AsymmetryConfig) -> dict[str, object]:
    """Return centre, radius and reach of a region."""
    points = np.argwhere(region) @ affine[:3, :3].T + affine[:3, 3]
    centre = points.mean(axis=0)
    farthest = float(np.linalg.norm(points - centre, axis=1).max()) + 1.0
    mm3 = len(points) * abs(float(np.linalg.det(affine[:3, :3])))
    radius = (3 * mm3 / (4 * np.pi)) ** (1 / 3)
    reach = max(config.reach * radius, 1.25 * farthest)
    return {"centre_mm": tuple(centre.tolist()), "radius_mm": radius, "reach_mm": reach}


def _measured(
    place: dict[str, object], affine: Affine, brain_mask: Mask, region: Mask | None
) -> AsymmetrySpec:
    """Fill in the volume before the change, and try whether the change is to be had."""
    native = float(str(place["native_mm3_per_mm3"]))
    voxel_mm3 = abs(float(np.linalg.det(affine[:3, :3]))) * native
    draft = AsymmetrySpec.model_validate(place | {"volume_mm3": voxel_mm3})
    if region is not None:
        allowed = side_mask(brain_mask & region, affine, draft.side)
        volume = float(allowed.sum()) * voxel_mm3
        draft = draft.model_copy(update={"of_region": True, "volume_mm3": volume})
    part = asymmetry_region(affine, draft, brain_mask, region=region)
    if draft.kind != "brightening":
        asymmetry_push(affine, draft, brain_mask, part)
    return draft.model_copy(update={"volume_mm3": float(part.sum()) * voxel_mm3})
