"""A lesion as a field over space: signed distance to its edge, and texture, in millimetres.

Noise lives on a lattice in the lesion's own millimetres, so that one spec is the same lesion on
every grid.
"""

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from hemitwin.transforms.lesions.mask_library import LesionMaskLibrary
from hemitwin.transforms.lesions.smooth_noise import lattice_noise, spline_noise
from hemitwin.transforms.lesions.spec import LesionSpec

__all__ = [
    "layer_noise",
    "lesion_distance",
    "lesion_half_width_mm",
    "lesion_texture",
]

_LATTICE = 24
_FINE_LATTICE = 48
_ROUGHNESS_GRAIN = 0.6  # of the mean radius
_FIELD_GRAIN = 0.8  # of the mean radius
_FIELD_SD = 0.45
_STREAMS = {"edge": 0, "texture": 1, "field": 2, "foci": 3, "layers": 4, "matched": 5}


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
    distance = _smooth_distance(local, spec, library)
    if spec.kind == "field":
        grain = _FIELD_GRAIN * radius
        noise = lattice_noise(local, grain, _generator(spec, "field"), knots=_LATTICE)
        distance = distance - _FIELD_SD * radius * noise
    elif spec.roughness > 0:
        grain = _ROUGHNESS_GRAIN * radius
        # Generic lesions keep the exact spline: their bytes are promised.
        field = spline_noise if spec.pathology == "generic" else lattice_noise
        noise = field(local, grain, _generator(spec, "edge"), knots=_LATTICE)
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
    local = _local(points_mm, spec)
    if spec.texture_from == "surroundings":
        rng = _generator(spec, "matched")
        return lattice_noise(local, spec.texture_mm, rng, knots=_FINE_LATTICE)
    return spline_noise(local, spec.texture_mm, _generator(spec, "texture"), knots=_LATTICE)


def layer_noise(
    points_mm: Float[np.ndarray, " 3 *n"], spec: LesionSpec
) -> Float[np.ndarray, " *n"]:
    """Return smooth noise, SD about 1, that bends the borders between a lesion's layers."""
    local = _local(points_mm, spec)
    grain = _ROUGHNESS_GRAIN * spec.mean_radius_mm
    return lattice_noise(local, grain, _generator(spec, "layers"), knots=_LATTICE)


def lesion_half_width_mm(
    spec: LesionSpec, library: LesionMaskLibrary | None
) -> Float[np.ndarray, "3"]:
    """Return how far from the centre, along each template axis, the uncalibrated lesion ends."""
    if spec.kind == "foci":
        offsets, radii = _foci(spec)
        reach = (np.linalg.norm(offsets, axis=1) + radii).max() + spec.edge_mm
        return np.full(3, reach)
    if spec.kind == "mask":
        shape = _library(spec, library).load(str(spec.mask_name))
        growth = float(np.cbrt(spec.template_mm3 / shape.volume_mm3))
        # The corners of a turned box.
        half_width = np.abs(_turn(spec)) @ shape.half_width_mm * growth
    else:
        # A turned ellipsoid.
        half_width = np.linalg.norm(_turn(spec) * _radii_mm(spec), axis=1)
    spare = 1.5 if spec.kind == "field" else 1 + 2 * spec.roughness
    return np.asarray(half_width * spare + spec.edge_mm)


def _smooth_distance(
    local: Float[np.ndarray, " 3 *n"], spec: LesionSpec, library: LesionMaskLibrary | None
) -> Float[np.ndarray, " *n"]:
    if spec.kind == "mask":
        shape = _library(spec, library).load(str(spec.mask_name))
        growth = float(np.cbrt(spec.template_mm3 / shape.volume_mm3))
        return np.asarray(growth * shape.distance_at(local / growth), dtype=np.float64)
    if spec.kind == "foci":
        return _foci_distance(local, spec)
    radius = spec.mean_radius_mm
    scaled = local / _radii_mm(spec).reshape((3,) + (1,) * (local.ndim - 1))
    reduced = np.linalg.norm(scaled, axis=0)
    if spec.kind == "field":  # a bowl, as steep as a distance at the mean radius
        return np.asarray(radius * (reduced**2 - 1) / 2)
    return np.asarray(radius * (reduced - 1))


def _foci_distance(
    local: Float[np.ndarray, " 3 *n"], spec: LesionSpec
) -> Float[np.ndarray, " *n"]:
    nearest = np.full(local.shape[1:], np.inf)
    for offset, radius in zip(*_foci(spec), strict=True):
        away = local - offset.reshape((3,) + (1,) * (local.ndim - 1))
        nearest = np.minimum(nearest, np.sqrt((away**2).sum(axis=0)) - radius)
    return nearest


def _foci(spec: LesionSpec) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, " n"]]:
    """Return offsets evenly distributed in a ball, and radii whose balls have the volume."""
    rng = _generator(spec, "foci")
    direction = rng.standard_normal((spec.foci, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    offsets = spec.spread_mm * np.cbrt(rng.random((spec.foci, 1))) * direction
    relative = rng.uniform(0.6, 1.4, spec.foci)
    scale = np.cbrt(spec.template_mm3 * 3 / (4 * np.pi) / (relative**3).sum())
    return offsets, relative * scale


def _generator(spec: LesionSpec, stream: str) -> np.random.Generator:
    return np.random.default_rng([spec.seed, _STREAMS[stream]])


def _local(points_mm: Float[np.ndarray, " 3 *n"], spec: LesionSpec) -> Float[np.ndarray, " 3 *n"]:
    centred = points_mm - np.asarray(spec.centre_mm).reshape((3,) + (1,) * (points_mm.ndim - 1))
    return np.asarray(np.tensordot(_turn(spec).T, centred, axes=1))


def _turn(spec: LesionSpec) -> Float[np.ndarray, "3 3"]:
    return np.asarray(Rotation.from_euler("xyz", spec.rotation_deg, degrees=True).as_matrix())


def _radii_mm(spec: LesionSpec) -> Float[np.ndarray, "3"]:
    ratios = np.asarray(spec.radii_ratio)
    return np.asarray(spec.mean_radius_mm * ratios / np.cbrt(ratios.prod()))


def _library(spec: LesionSpec, library: LesionMaskLibrary | None) -> LesionMaskLibrary:
    if library is None:
        msg = f"a lesion from mask {spec.mask_name!r} must have a mask library, got none; pass it"
        raise ValueError(msg)
    return library
