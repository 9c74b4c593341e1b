"""Cortical surfaces: loading, moving, and reading volumes at their vertices."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32, Int32, Num
from nibabel.gifti.gifti import GiftiImage

from hemitwin._shapes import Affine
from hemitwin.atlases.hcp_files import hcp_file
from hemitwin.atlases.surfaces.offset import template_from_fslr
from hemitwin.atlases.templates import TEMPLATE_SPACE
from hemitwin.atlases.world import check_affine, check_volume, sample_at

__all__ = [
    "BRAIN_SURFACES",
    "FSLR_VOLUME_SPACE",
    "SURFACE_KINDS",
    "Surface",
    "fslr_surface_file",
    "load_fslr_surface",
    "project_to_surface",
    "warp_surface",
]

FSLR_VOLUME_SPACE = "MNI152NLin6Asym"
"""The space of the HCP's volumes, in which the S1200 surfaces lie."""

BRAIN_SURFACES = ("white", "midthickness", "pial")
"""Those that lie in the brain, from inside outwards."""

SURFACE_KINDS = (*BRAIN_SURFACES, "inflated", "very_inflated", "flat", "sphere")
"""What `load_fslr_surface` can load."""

_WITHOUT_MSM = ("flat", "sphere")


@dataclass(frozen=True, eq=False)
class Surface:
    """A triangle mesh of one hemisphere.

    Attributes
    ----------
    vertices : (n, 3) float32
        RAS+ millimetres.
    faces : (m, 3) int32
        Vertex numbers, counter-clockwise from outside.
    hemisphere : str
        "L" or "R".
    kind : str
        One of `SURFACE_KINDS`.
    """

    vertices: Float32[np.ndarray, " n 3"]
    faces: Int32[np.ndarray, " m 3"]
    hemisphere: str
    kind: str

    def __post_init__(self) -> None:
        """Check side, kind and vertex numbers."""
        if self.hemisphere not in {"L", "R"}:
            msg = f"hemisphere must be 'L' or 'R', got {self.hemisphere!r}; name the true side"
            raise ValueError(msg)
        if self.kind not in SURFACE_KINDS:
            msg = f"kind must be one of {SURFACE_KINDS}, got {self.kind!r}; choose one of them"
            raise ValueError(msg)
        if self.faces.size and not 0 <= self.faces.min() <= self.faces.max() < len(self.vertices):
            msg = f"faces must number vertices 0 to {len(self.vertices) - 1}; check the mesh"
            raise ValueError(msg)


def load_fslr_surface(
    hemisphere: str, kind: str = "midthickness", *, space: str = FSLR_VOLUME_SPACE
) -> Surface:
    """Load the HCP S1200 group-average surface (fsLR, 32492 vertices).

    Parameters
    ----------
    hemisphere : str
        "L" or "R".
    kind : str
        One of `SURFACE_KINDS`.
    space : str
        Where white, midthickness and pial shall lie: MNI152NLin6Asym, as they come, or
        `TEMPLATE_SPACE`, by `template_from_fslr`. The other kinds lie in no brain.

    Returns
    -------
    Surface
        In RAS+ millimetres of that space.

    Raises
    ------
    ValueError
        When the hemisphere, the kind or the space is unknown.
    """
    if space not in {FSLR_VOLUME_SPACE, TEMPLATE_SPACE}:
        msg = f"space must be {FSLR_VOLUME_SPACE} or {TEMPLATE_SPACE}, got {space!r}; choose one"
        raise ValueError(msg)
    image = GiftiImage.from_filename(fslr_surface_file(hemisphere, kind))
    vertices, faces = image.agg_data(("pointset", "triangle"))
    if space == TEMPLATE_SPACE and kind in BRAIN_SURFACES:
        vertices = template_from_fslr(vertices.astype(np.float64))
    return Surface(vertices.astype(np.float32), faces.astype(np.int32), hemisphere, kind)


def fslr_surface_file(hemisphere: str, kind: str) -> Path:
    """Locate the file of a group-average surface.

    Parameters
    ----------
    hemisphere, kind : str
        As for `load_fslr_surface`.

    Raises
    ------
    ValueError
        When the hemisphere or the kind is unknown.
    """
    if hemisphere not in {"L", "R"} or kind not in SURFACE_KINDS:
        msg = f"surface must be L or R and one of {SURFACE_KINDS}, got {hemisphere!r}, {kind!r}"
        raise ValueError(msg)
    suffix = "" if kind in _WITHOUT_MSM else "_MSMAll"
    return hcp_file(f"S1200.{hemisphere}.{kind}{suffix}.32k_fs_LR.surf.gii")


def project_to_surface(
    volume: Num[np.ndarray, " x y z"], affine: Affine, surface: Surface
) -> Float[np.ndarray, " n"]:
    """Read a volume trilinearly at every vertex, in world space.

    Values are densities (per voxel): the projection of a relevance map shows where relevance is,
    its sum over vertices is not the explained score.

    Parameters
    ----------
    volume : (x, y, z) array
        Values per voxel.
    affine : (4, 4) float
        Voxel index to RAS+ mm of the space the surface is in.
    surface : Surface
        A surface that lies in the brain (white, midthickness or pial).

    Returns
    -------
    (n,) float32
        One value per vertex; 0 outside the field of view.

    Raises
    ------
    ValueError
        When the volume is not finite and 3D, the affine singular, or the surface inflated.
    """
    check_volume(volume)
    check_affine(affine)
    if surface.kind not in BRAIN_SURFACES:
        msg = f"surface must lie in the brain, got {surface.kind!r}; use 'midthickness'"
        raise ValueError(msg)
    return sample_at(volume, affine, surface.vertices)


def warp_surface(surface: Surface, target_from_source: Affine) -> Surface:
    """Move a surface by an affine map, for example over a native scan.

    Parameters
    ----------
    surface : Surface
        In the source space.
    target_from_source : (4, 4) float
        RAS+ mm of the source space to RAS+ mm of the target space.

    Returns
    -------
    Surface
        A map that mirrors also turns the triangles, so that their outside stays outside.

    Raises
    ------
    ValueError
        When the matrix is singular.
    """
    check_affine(target_from_source)
    moved = surface.vertices @ target_from_source[:3, :3].T + target_from_source[:3, 3]
    mirrored = np.linalg.det(target_from_source[:3, :3]) < 0
    faces = surface.faces[:, ::-1].copy() if mirrored else surface.faces
    return replace(surface, vertices=moved.astype(np.float32), faces=faces)
