"""From one spherical mesh to another: how FreeSurfer's surfaces come to the fsLR 32k mesh."""

import functools
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import KDTree

from hemitwin.atlases.hcp_files import fsaverage_sphere
from hemitwin.atlases.surfaces.meshes import Surface, load_fslr_surface

__all__ = ["Interpolation", "fslr_interpolation", "interpolate_on_sphere", "surface_on_fslr"]

_CANDIDATES = 24
_QUERIES_AT_ONCE = 8192


@dataclass(frozen=True, eq=False)
class Interpolation:
    """Points of one mesh as weighted means of three vertices of another.

    Attributes
    ----------
    vertices : (n, 3) int
        Vertex numbers of the source mesh.
    weights : (n, 3) float
        Barycentric; each row adds up to 1.
    """

    vertices: Int[np.ndarray, "n 3"]
    weights: Float[np.ndarray, "n 3"]

    def __call__(self, values: Float[np.ndarray, "m columns"]) -> Float[np.ndarray, "n columns"]:
        """Interpolate what is known at the source's vertices, coordinates for example."""
        found: np.ndarray = np.einsum("ij,ijk->ik", self.weights, values[self.vertices])
        return found


def interpolate_on_sphere(
    points: Float[np.ndarray, "n 3"],
    sphere: Float[np.ndarray, "m 3"],
    faces: Int[np.ndarray, "f 3"],
) -> Interpolation:
    """Find the triangle of a sphere that holds each point, and the point's place in it.

    Parameters
    ----------
    points : (n, 3) float
        Directions from the centre; their lengths do not matter.
    sphere : (m, 3) float
        Vertices of a mesh about the centre.
    faces : (f, 3) int
        Its triangles.

    Returns
    -------
    Interpolation
        Barycentric, as ``wb_command -surface-resample ... BARYCENTRIC``.

    Examples
    --------
    >>> corners = np.eye(3)
    >>> found = interpolate_on_sphere(np.ones((1, 3)), corners, np.array([[0, 1, 2]]))
    >>> found.weights.round(3).tolist()
    [[0.333, 0.333, 0.333]]
    """
    unit, directions = _unit(sphere), _unit(points)
    corners = unit[faces]
    tree = KDTree(_unit(corners.mean(axis=1)))
    # Rows give the barycentric weights of a direction, up to a factor; flat triangles have none.
    inverse = np.linalg.pinv(corners.transpose(0, 2, 1))
    count = min(_CANDIDATES, len(faces))
    vertices = np.empty((len(points), 3), dtype=np.int64)
    weights = np.empty((len(points), 3))
    for start in range(0, len(points), _QUERIES_AT_ONCE):
        rows = slice(start, start + _QUERIES_AT_ONCE)
        nearby = tree.query(directions[rows], k=count)[1].reshape(-1, count)
        found = np.einsum("ikab,ib->ika", inverse[nearby], directions[rows])
        found /= found.sum(axis=2, keepdims=True)
        # Within one triangle all three are positive; elsewhere the best is as good as inside.
        best = found.min(axis=2).argmax(axis=1)
        each = np.arange(len(best))
        inside = np.clip(found[each, best], 0, None)
        weights[rows] = inside / inside.sum(axis=1, keepdims=True)
        vertices[rows] = faces[nearby[each, best]]
    return Interpolation(vertices, weights)


def fslr_interpolation(registered: Surface) -> Interpolation:
    """Find where the fsLR 32k vertices lie on a subject's FreeSurfer mesh.

    The way of the HCP's pipelines: the subject's ``sphere.reg`` is moved from the fsaverage sphere
    to that of fsLR by the meshes of Van Essen et al. 2012 (doi:10.1093/cercor/bhr291), where the
    standard 32k mesh is laid over it.

    Parameters
    ----------
    registered : Surface
        ``lh.sphere.reg`` or ``rh.sphere.reg``.

    Returns
    -------
    Interpolation
        From the subject's vertices to the 32492 of fsLR.
    """
    side = registered.hemisphere
    fsaverage, faces, moved = _fsaverage_sphere(side)
    place = interpolate_on_sphere(registered.vertices.astype(np.float64), fsaverage, faces)
    own = _unit(place(moved))
    standard = load_fslr_surface(side, "sphere").vertices.astype(np.float64)
    return interpolate_on_sphere(standard, own, registered.faces)


def surface_on_fslr(vertices: Float[np.ndarray, "n 3"], hemisphere: str, kind: str) -> Surface:
    """Make a surface of the places of the fsLR 32k vertices.

    Parameters
    ----------
    vertices : (32492, 3) float
        RAS+ mm.
    hemisphere, kind : str
        As of `Surface`.

    Returns
    -------
    Surface
        With the standard mesh's triangles.

    Raises
    ------
    ValueError
        When there are not 32492 vertices.
    """
    standard = load_fslr_surface(hemisphere)
    if vertices.shape != standard.vertices.shape:
        msg = (
            f"a surface on the fsLR 32k mesh must have {len(standard.vertices)} vertices, got "
            f"{len(vertices)}; take the files of fsaverage_LR32k"
        )
        raise ValueError(msg)
    return Surface(vertices.astype(np.float32), standard.faces, hemisphere, kind)


@functools.cache
def _fsaverage_sphere(
    side: str,
) -> tuple[Float[np.ndarray, "n 3"], Int[np.ndarray, "f 3"], Float[np.ndarray, "n 3"]]:
    """Return the fsaverage sphere, its triangles, and its vertices on the sphere of fsLR."""
    vertices, faces, moved = fsaverage_sphere(side)
    return vertices.astype(np.float64), faces.astype(np.int64), moved.astype(np.float64)


def _unit(vectors: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
    units: np.ndarray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return units
