"""Gaussian smoothing in millimetres: of volumes, along a surface, and of the grayordinates."""

import math
from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Float, Int, Int32, Num
from scipy import ndimage, sparse
from scipy.sparse.linalg import splu

from hemitwin._shapes import Affine
from hemitwin.atlases.grayordinates import load_grayordinates
from hemitwin.atlases.surfaces.meshes import BRAIN_SURFACES, Surface
from hemitwin.atlases.world import check_affine, check_volume

__all__ = ["smooth_grayordinates", "smooth_on_surface", "smooth_volume", "vertex_areas"]

_FWHM_PER_SIGMA = math.sqrt(8 * math.log(2))
_MOST_SHEAR = 1e-4
_STEPS = 32


def smooth_volume(
    volume: Num[np.ndarray, " x y z"], affine: Affine, fwhm_mm: float
) -> Float[np.ndarray, " x y z"]:
    """Smooth a volume by a Gaussian that is round in millimetres, whatever the voxels.

    The background is smoothed like the rest and what lies beyond the grid is 0, so the sum, which
    for relevance is the explained score, is kept but for what flows over the grid's edge.

    Parameters
    ----------
    volume : (x, y, z) array
        Values per voxel.
    affine : (4, 4) float
        Voxel index to RAS+ mm; rotated, mirrored and with voxels of any lengths, not sheared.
    fwhm_mm : float
        Full width of the kernel at half its maximum, in millimetres.

    Returns
    -------
    (x, y, z) float32

    Raises
    ------
    ValueError
        When the width is not positive, the volume not finite and 3D, or the affine sheared.

    Examples
    --------
    >>> volume = np.zeros((11, 11, 11))
    >>> volume[5, 5, 5] = 1
    >>> smoothed = smooth_volume(volume, np.diag([1.0, 2.0, 2.0, 1.0]), 3.0)
    >>> round(float(smoothed.sum()), 4), bool(smoothed[7, 5, 5] == smoothed[5, 5, 5])
    (1.0, False)
    """
    sigma = _sigma_of(fwhm_mm)
    check_volume(volume)
    check_affine(affine)
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    axes = affine[:3, :3] / lengths
    if not np.allclose(axes.T @ axes, np.eye(3), atol=_MOST_SHEAR):
        msg = (
            "affine must have voxel axes at right angles, got a sheared one: "
            f"{affine.tolist()}; resample the volume to a grid without shear first"
        )
        raise ValueError(msg)
    smoothed: np.ndarray = ndimage.gaussian_filter(
        volume.astype(np.float64), sigma / lengths, mode="constant"
    )
    return smoothed.astype(np.float32)


def smooth_on_surface(
    values: Float[np.ndarray, "*maps n"],
    surface: Surface,
    fwhm_mm: float,
    inside: Bool[np.ndarray, " n"] | None = None,
) -> Float[np.ndarray, "*maps n"]:
    """Let values diffuse over a surface, as heat would.

    Heat-kernel smoothing (Chung et al. 2005, doi:10.1016/j.neuroimage.2004.12.052) by implicit
    diffusion: on the plane the kernel is a Gaussian of variance sigma^2 = fwhm^2 / (8 ln 2) along
    each axis, so heat diffuses for the time sigma^2 / 2. The Laplacian is that of linear finite
    elements (cotangents), with a third of each triangle's area for each of its corners; the
    integral over the surface is kept. Nothing flows through the edge of `inside`.

    Parameters
    ----------
    values : (..., n) float
        One value a vertex; leading axes are maps, smoothed with one factorisation.
    surface : Surface
        One whose distances are those of the brain: white, midthickness or pial.
    fwhm_mm : float
        Full width of the kernel at half its maximum, in millimetres along the surface.
    inside : (n,) bool, optional
        The cortex without the medial wall; every vertex by default.

    Returns
    -------
    (..., n) float64
        0 outside `inside`, as Workbench's own smoothing gives.

    Raises
    ------
    ValueError
        When the width is not positive, the surface lies in no brain, or a length is another one.
    """
    time = _sigma_of(fwhm_mm) ** 2 / 2
    kept = np.ones(len(surface.vertices), dtype=bool) if inside is None else inside
    _check(values, surface, kept)
    faces = surface.faces[kept[surface.faces].all(axis=1)]
    # Vertices without a triangle inside have no neighbours: they keep their values.
    used = np.unique(faces)
    number = np.zeros(len(kept), dtype=np.int32)
    number[used] = np.arange(len(used))
    points = surface.vertices[used].astype(np.float64)
    areas = _areas(points, number[faces])
    smoothed = np.where(kept, values, 0).astype(np.float64)
    heat = smoothed[..., used].reshape(-1, len(used)).T
    heat = _diffuse(heat, areas[:, None], _stiffness(points, number[faces]), time)
    smoothed[..., used] = heat.T.reshape(*values.shape[:-1], len(used))
    return smoothed


def _diffuse(
    heat: Float[np.ndarray, " n maps"],
    areas: Float[np.ndarray, " n 1"],
    stiffness: sparse.csr_array,
    time: float,
) -> Float[np.ndarray, " n maps"]:
    """Go `time` forward in implicit steps, which are stable and share one factorisation."""
    mass = sparse.diags_array(areas[:, 0])
    step = splu(sparse.csc_array(mass + time / _STEPS * stiffness))
    for _ in range(_STEPS):
        heat = step.solve(areas * heat)
    # A mode that heat damps by exp(-x) is damped by exp(-x + x^2 / 2n) in n such steps, which
    # would make the kernel 3 % too narrow: the square is taken out again.
    twice = stiffness @ (stiffness @ heat / areas) / areas
    corrected: np.ndarray = heat - time**2 / 2 / _STEPS * twice
    return corrected


def vertex_areas(surface: Surface) -> Float[np.ndarray, " n"]:
    """Give each vertex a third of the area of its triangles.

    Parameters
    ----------
    surface : Surface
        Any mesh.

    Returns
    -------
    (n,) float64
        Square millimetres; they add up to the surface's area.
    """
    return _areas(surface.vertices.astype(np.float64), surface.faces)


def _areas(
    points: Float[np.ndarray, " n 3"], faces: Int32[np.ndarray, " m 3"]
) -> Float[np.ndarray, " n"]:
    first, second, third = (points[faces[:, corner]] for corner in range(3))
    double = np.linalg.norm(np.cross(second - first, third - first), axis=1)
    areas: np.ndarray = np.bincount(
        faces.ravel(), weights=np.repeat(double / 6, 3), minlength=len(points)
    )
    return areas


def _stiffness(
    points: Float[np.ndarray, " n 3"], faces: Int32[np.ndarray, " m 3"]
) -> sparse.csr_array:
    """Build the positive semi-definite Laplacian of linear elements; its rows add up to 0."""
    rows, columns, weights = [], [], []
    for here, there, opposite in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        to_here = points[faces[:, here]] - points[faces[:, opposite]]
        to_there = points[faces[:, there]] - points[faces[:, opposite]]
        double = np.linalg.norm(np.cross(to_here, to_there), axis=1)
        dot = np.einsum("ij,ij->i", to_here, to_there)
        # A triangle without area has no cotangent; it conducts nothing.
        half_cotangent = np.divide(dot, 2 * double, out=np.zeros_like(dot), where=double > 0)
        rows += [faces[:, here], faces[:, there]]
        columns += [faces[:, there], faces[:, here]]
        weights += [half_cotangent, half_cotangent]
    places = np.concatenate(rows), np.concatenate(columns)
    size = (len(points), len(points))
    conductance = sparse.coo_array((np.concatenate(weights), places), shape=size).tocsr()
    return sparse.csr_array(sparse.diags_array(conductance.sum(axis=1)) - conductance)


def _check(values: np.ndarray, surface: Surface, inside: np.ndarray) -> None:
    if surface.kind not in BRAIN_SURFACES:
        msg = f"surface must lie in the brain, got {surface.kind!r}; use 'midthickness'"
        raise ValueError(msg)
    count = len(surface.vertices)
    if values.shape[-1:] != (count,) or inside.shape != (count,):
        msg = (
            f"values and inside must have one entry for each of {count} vertices, got shapes "
            f"{values.shape} and {inside.shape}; take the surface of the same mesh"
        )
        raise ValueError(msg)
    if not np.isfinite(values).all():
        msg = "values must be finite, got NaN or infinity; replace them before smoothing"
        raise ValueError(msg)


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
    sigma = _sigma_of(fwhm_mm) / np.linalg.norm(places.affine[:3, :3], axis=0)
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


def _sigma_of(fwhm_mm: float) -> float:
    """Give the standard deviation of a Gaussian of this full width at half maximum.

    Raises
    ------
    ValueError
        When the width is not positive and finite.
    """
    if not 0 < fwhm_mm < math.inf:
        msg = f"fwhm_mm must be a positive number of millimetres, got {fwhm_mm}; 4 to 8 is usual"
        raise ValueError(msg)
    return fwhm_mm / _FWHM_PER_SIGMA
