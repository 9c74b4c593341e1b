"""Smoothing of the 91282 grayordinates: along the cortex, and within each deep structure."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int
from scipy import ndimage

from hemitwin.atlases._kernel_width import sigma_of
from hemitwin.atlases.grayordinates import load_grayordinates
from hemitwin.atlases.surface_smoothing import smooth_on_surface
from hemitwin.atlases.surfaces import Surface

__all__ = ["smooth_grayordinates"]


def smooth_grayordinates(
    values: Float[np.ndarray, " g"], fwhm_mm: float, surfaces: Mapping[str, Surface]
) -> Float[np.ndarray, " g"]:
    """Smooth cortex along its surface and each subcortical structure within its own voxels.

    Cortex by `smooth_on_surface` without the medial wall; voxels by a Gaussian whose weights are
    normalised within the structure, so that nothing is mixed with its neighbours or with what is
    no grayordinate, as ``wb_command -cifti-smoothing`` does.

    Parameters
    ----------
    values : (91282,) float
        One value per grayordinate.
    fwhm_mm : float
        Full width of the kernel at half its maximum, in millimetres.
    surfaces : mapping of str to Surface
        "L" and "R": fsLR 32k meshes that lie in the brain.

    Returns
    -------
    (91282,) float64

    Raises
    ------
    ValueError
        When there are not 91282 values, or a surface is not of fsLR 32k or of the other side.
    """
    places = load_grayordinates()
    if values.shape != (len(places),):
        msg = f"values must be {len(places)} numbers, got shape {values.shape}; see \
grayordinates_from_volume"
        raise ValueError(msg)
    smoothed = values.astype(np.float64)
    for side in ("L", "R"):
        surface = surfaces[side]
        if surface.hemisphere != side or len(surface.vertices) != places.n_vertices:
            msg = (
                f"surface {side} must have that side and {places.n_vertices} vertices, got "
                f"{surface.hemisphere} with {len(surface.vertices)}; take fsLR 32k meshes"
            )
            raise ValueError(msg)
        whole, inside = np.zeros(places.n_vertices), np.zeros(places.n_vertices, dtype=bool)
        chosen = places.vertices(side)
        whole[chosen], inside[chosen] = values[places.cortex(side)], True
        smoothed[places.cortex(side)] = smooth_on_surface(whole, surface, fwhm_mm, inside)[chosen]
    sigma = sigma_of(fwhm_mm) / np.linalg.norm(places.affine[:3, :3], axis=0)
    deep = smoothed[places.subcortex]
    for _, rows in places.structures:
        deep[rows] = _smooth_within(deep[rows], places.voxels[rows], sigma)
    return smoothed


def _smooth_within(
    values: Float[np.ndarray, " v"],
    voxels: Int[np.ndarray, " v 3"],
    sigma_voxels: Float[np.ndarray, "3"],
) -> Float[np.ndarray, " v"]:
    """Smooth one structure in the box around it; each voxel's weights add up to 1."""
    start = voxels.min(axis=0)
    here = tuple((voxels - start).T)
    size = tuple((voxels.max(axis=0) - start + 1).tolist())
    box, mask = np.zeros(size), np.zeros(size)
    box[here], mask[here] = values, 1
    spread, share = (
        ndimage.gaussian_filter(one, sigma_voxels, mode="constant")[here] for one in (box, mask)
    )
    weighted: np.ndarray = spread / share
    return weighted
