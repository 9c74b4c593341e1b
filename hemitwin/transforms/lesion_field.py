"""A lesion as a field over space: signed distance to its edge, and texture, in millimetres.

Noise lives on a lattice in the lesion's own millimetres, so that one spec is the same lesion on
every grid.
"""

import numpy as np
from jaxtyping import Float
from scipy import ndimage
from scipy.spatial.transform import Rotation

from hemitwin.transforms.lesion_masks import LesionMaskLibrary
from hemitwin.transforms.lesion_spec import LesionSpec

__all__ = ["lesion_distance", "lesion_reach_mm", "lesion_texture"]

_LATTICE = 24
_ROUGHNESS_GRAIN = 0.6  # of the mean radius


def lesion_distance(
    points_mm: Float[np.ndarray, " 3 *n"], spec: LesionSpec, library: LesionMaskLibrary | None
) -> Float[np.ndarray, " *n"]:
    """Return the approximate signed distance to the lesion's edge, negative inside.

    Parameters
    ----------
    points_mm : (3, *n)
        Template RAS+ millimetres.
    spec : LesionSpec
        The lesion; its volume is only approximate here and calibrated by `lesion_alpha`.
    library : LesionMaskLibrary or None
        Where `spec.mask_name` is found.

    Returns
    -------
    (*n,) float64
        Millimetres.

    Raises
    ------
    ValueError
        If the spec names a mask and no library was given.
    """
    local = _local(points_mm, spec)
    radius = spec.mean_radius_mm
    if spec.kind == "mask":
        distance = _mask_distance(local, spec, library)
    else:
        ratios = np.asarray(spec.radii_ratio)
        radii = radius * ratios / np.cbrt(ratios.prod())
        scaled = local / radii.reshape((3,) + (1,) * (local.ndim - 1))
        distance = radius * (np.linalg.norm(scaled, axis=0) - 1)
    if spec.roughness > 0:
        noise = _noise(local, _ROUGHNESS_GRAIN * radius, np.random.default_rng([spec.seed, 0]))
        distance = distance + spec.roughness * radius * noise
    return distance


def lesion_texture(
    points_mm: Float[np.ndarray, " 3 *n"], spec: LesionSpec
) -> Float[np.ndarray, " *n"]:
    """Return smooth noise of mean 0 and a standard deviation of about 1.

    Parameters
    ----------
    points_mm : (3, *n)
        Template RAS+ millimetres.
    spec : LesionSpec
        Gives the seed and the grain `texture_mm`.

    Returns
    -------
    (*n,) float64
    """
    return _noise(_local(points_mm, spec), spec.texture_mm, np.random.default_rng([spec.seed, 1]))


def lesion_reach_mm(spec: LesionSpec, library: LesionMaskLibrary | None) -> float:
    """Return a distance from the centre beyond which the uncalibrated lesion has ended."""
    if spec.kind == "mask":
        shape = _library(spec, library).load(str(spec.mask_name))
        extent = np.asarray(shape.distance_mm.shape) * shape.spacing_mm
        return float(np.linalg.norm(extent) / 2 * np.cbrt(spec.template_mm3 / shape.volume_mm3))
    ratios = np.asarray(spec.radii_ratio)
    longest = float(ratios.max() / np.cbrt(ratios.prod()))
    return spec.mean_radius_mm * longest * (1 + 2 * spec.roughness) + spec.edge_mm


def _local(points_mm: Float[np.ndarray, " 3 *n"], spec: LesionSpec) -> Float[np.ndarray, " 3 *n"]:
    turn = Rotation.from_euler("xyz", spec.rotation_deg, degrees=True).as_matrix()
    centred = points_mm - np.asarray(spec.centre_mm).reshape((3,) + (1,) * (points_mm.ndim - 1))
    return np.asarray(np.tensordot(turn.T, centred, axes=1))


def _mask_distance(
    local: Float[np.ndarray, " 3 *n"], spec: LesionSpec, library: LesionMaskLibrary | None
) -> Float[np.ndarray, " *n"]:
    shape = _library(spec, library).load(str(spec.mask_name))
    growth = float(np.cbrt(spec.template_mm3 / shape.volume_mm3))
    return growth * shape.distance_at(local / growth)


def _library(spec: LesionSpec, library: LesionMaskLibrary | None) -> LesionMaskLibrary:
    if library is None:
        msg = f"a lesion from mask {spec.mask_name!r} must have a mask library, got none; pass it"
        raise ValueError(msg)
    return library


def _noise(
    local: Float[np.ndarray, " 3 *n"], grain_mm: float, rng: np.random.Generator
) -> Float[np.ndarray, " *n"]:
    """Sum cubic B-splines of white noise on a lattice of `grain_mm`, mirrored at its ends.

    White noise needs no prefilter: the splines smooth it, and the constant brings the standard
    deviation back to 1 (the square of a cubic B-spline integrates to 151/315 along each axis).
    """
    lattice = rng.standard_normal((_LATTICE,) * 3)
    at = local / grain_mm + (_LATTICE - 1) / 2
    noise = ndimage.map_coordinates(lattice, at, order=3, mode="mirror", prefilter=False)
    return np.asarray(noise / (151 / 315) ** 1.5)
