"""Which voxels lie between a subject's own white and pial surfaces, and in whose area."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int, Int32
from scipy.spatial import KDTree

from hemitwin.atlases.surfaces.meshes import Surface

__all__ = ["Ribbon", "label_in_ribbons"]

_DEPTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
_REACH_MM = 3.0
_WIDE_MM = 1.2
_LEAST_THICKNESS_MM = 1e-3


@dataclass(frozen=True, eq=False)
class Ribbon:
    """The cortex of one hemisphere: a white and a pial surface of the same mesh, and its labels.

    Attributes
    ----------
    white, pial : (n, 3) float
        RAS+ mm, of one world.
    faces : (m, 3) int
        Triangles of both.
    labels : (n,) int32
        Region index of each vertex; 0 is no region.

    Raises
    ------
    ValueError
        When the surfaces are of different meshes.
    """

    white: Float[np.ndarray, "n 3"]
    pial: Float[np.ndarray, "n 3"]
    faces: Int[np.ndarray, "m 3"]
    labels: Int32[np.ndarray, " n"]

    def __post_init__(self) -> None:
        """Check that all is of one mesh."""
        counts = {len(self.white), len(self.pial), len(self.labels)}
        if len(counts) > 1 or (self.faces.size and self.faces.max() >= len(self.white)):
            msg = (
                f"white surface, pial surface and labels must have the same vertices, got "
                f"{len(self.white)}, {len(self.pial)} and {len(self.labels)}; take one subject's"
            )
            raise ValueError(msg)

    @classmethod
    def between(cls, white: Surface, pial: Surface, labels: Int32[np.ndarray, " n"]) -> "Ribbon":
        """Lay labels between two surfaces of one mesh."""
        inner, outer = (one.vertices.astype(np.float64) for one in (white, pial))
        return cls(inner, outer, white.faces, labels)

    @cached_property
    def columns(
        self,
    ) -> tuple[Float[np.ndarray, "k 3"], Float[np.ndarray, "k 3"], Int32[np.ndarray, " k"]]:
        """List the lines from white to pial: at vertices, and on wide meshes amid edges, too."""
        edges = np.sort(self.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
        edges = np.unique(edges, axis=0)
        one, other = (self.white[edges[:, end]] for end in (0, 1))
        if not len(edges) or np.linalg.norm(one - other, axis=1).mean() < _WIDE_MM:
            return self.white, self.pial, self.labels
        white, pial = (
            np.concatenate([mesh, mesh[edges].mean(axis=1)]) for mesh in (self.white, self.pial)
        )
        return white, pial, np.concatenate([self.labels, self.labels[edges[:, 0]]])

    @cached_property
    def layers(self) -> KDTree:
        """Points of all lines, depth after depth: grids of one subject are looked up in turn."""
        white, pial, _ = self.columns
        return KDTree(np.concatenate([white + depth * (pial - white) for depth in _DEPTHS]))


def label_in_ribbons(
    points_mm: Float[np.ndarray, "n 3"], ribbons: Sequence[Ribbon]
) -> Int32[np.ndarray, " n"]:
    """Name the area of the points that lie in the cortex.

    The line from white to pial that comes nearest to a point decides: a point beyond its ends is
    white matter or fluid, else it has the line's label.

    Parameters
    ----------
    points_mm : (n, 3) float
        RAS+ mm of the surfaces' world.
    ribbons : sequence of Ribbon
        Of both hemispheres; where two hold a point, the nearer one's label is taken.

    Returns
    -------
    (n,) int32
        Region indices; 0 is no cortex.
    """
    labels = np.zeros(len(points_mm), dtype=np.int32)
    nearest = np.full(len(points_mm), np.inf)
    for ribbon in ribbons:
        low, high = ribbon.pial.min(axis=0) - 1, ribbon.pial.max(axis=0) + 1
        near = np.flatnonzero(((points_mm >= low) & (points_mm <= high)).all(axis=1))
        distance, found = _label(points_mm[near], ribbon)
        closer = distance < nearest[near]
        labels[near[closer]] = found[closer]
        nearest[near[closer]] = distance[closer]
    return labels


def _label(
    points: Float[np.ndarray, "n 3"], ribbon: Ribbon
) -> tuple[Float[np.ndarray, " n"], Int32[np.ndarray, " n"]]:
    """Return each point's distance from its line, infinite outside the cortex, and its label."""
    white, pial, labels = ribbon.columns
    found_at = ribbon.layers.query(points, distance_upper_bound=_REACH_MM)
    distance, nearest = (np.asarray(one) for one in found_at)
    inside = np.isfinite(distance)
    line = nearest[inside] % len(white)
    along = pial[line] - white[line]
    length = np.maximum((along**2).sum(axis=1), _LEAST_THICKNESS_MM**2)
    depth = ((points[inside] - white[line]) * along).sum(axis=1) / length
    held = (depth >= 0) & (depth <= 1)
    found = np.zeros(len(points), dtype=np.int32)
    found[inside] = np.where(held, labels[line], 0)
    distance[np.flatnonzero(inside)[~held]] = np.inf
    return distance, found
