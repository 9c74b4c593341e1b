"""Heat-kernel smoothing on a cortical surface."""

import numpy as np
from jaxtyping import Bool, Float, Int32
from scipy import sparse
from scipy.sparse.linalg import splu

from hemitwin.atlases._kernel_width import sigma_of
from hemitwin.atlases.surfaces import BRAIN_SURFACES, Surface

__all__ = ["smooth_on_surface", "vertex_areas"]

_STEPS = 32


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
    time = sigma_of(fwhm_mm) ** 2 / 2
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
