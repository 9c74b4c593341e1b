"""Surfaces, annotations and segmentations as FreeSurfer and FastSurfer write them."""

from pathlib import Path

import numpy as np
from jaxtyping import Int32
from nibabel.filebasedimages import ImageFileError
from nibabel.freesurfer.io import read_annot, read_geometry
from nibabel.freesurfer.mghformat import MGHImage

from hemitwin._shapes import Affine
from hemitwin.atlases.surfaces import Surface

__all__ = [
    "FREESURFER_SIDES",
    "load_annotation",
    "load_freesurfer_surface",
    "scanner_from_surface",
]

FREESURFER_SIDES = {"L": "lh", "R": "rh"}
"""How FreeSurfer's files begin."""


def scanner_from_surface(reference: Path) -> Affine:
    """Read what moves a subject's surfaces to the world of the scan.

    FreeSurfer keeps vertices in the "tkregister" world of its own volumes, which is centred on
    them.

    Parameters
    ----------
    reference : Path
        ``mri/orig.mgz``, or another volume of the subject on the same grid.

    Returns
    -------
    (4, 4) float
        Surface mm to RAS+ mm of the scan.

    Raises
    ------
    ValueError
        When the file cannot be read.
    """
    try:
        header = MGHImage.from_filename(reference).header
    except (OSError, ValueError, ImageFileError) as error:
        msg = f"{reference} must be a readable MGH volume ({error}); copy it again"
        raise ValueError(msg) from error
    moved: np.ndarray = header.get_vox2ras() @ np.linalg.inv(header.get_vox2ras_tkr())
    return moved


def load_freesurfer_surface(
    path: Path, hemisphere: str, kind: str, *, scanner: Affine | None = None
) -> Surface:
    """Read a mesh in FreeSurfer's own format.

    Parameters
    ----------
    path : Path
        ``surf/lh.white`` and the like.
    hemisphere : str
        "L" or "R".
    kind : str
        One of `SURFACE_KINDS`.
    scanner : (4, 4) float, optional
        From `scanner_from_surface`; spheres, which lie in no brain, are read without it.

    Returns
    -------
    Surface
        Vertices in RAS+ mm of the scan.

    Raises
    ------
    ValueError
        When the file is no mesh.
    """
    try:
        read = read_geometry(path)
    except (OSError, ValueError) as error:
        msg = f"{path} must be a surface in FreeSurfer's format ({error}); copy it again"
        raise ValueError(msg) from error
    vertices, faces = (np.asarray(one) for one in read[:2])
    if scanner is not None:
        vertices = vertices @ scanner[:3, :3].T + scanner[:3, 3]
    return Surface(vertices.astype(np.float32), faces.astype(np.int32), hemisphere, kind)


def load_annotation(
    path: Path,
) -> tuple[Int32[np.ndarray, " n"], tuple[str, ...], tuple[str, ...]]:
    """Read a label of each vertex, with names and colours.

    Parameters
    ----------
    path : Path
        ``label/lh.aparc.annot`` and the like.

    Returns
    -------
    labels : (n,) int32
        Number of the vertex' name; -1 is none.
    names : tuple of str
        As in the file.
    colors : tuple of str
        "#rrggbb".

    Raises
    ------
    ValueError
        When the file is no annotation.
    """
    try:
        labels, table, names = read_annot(path)
    except (OSError, ValueError, IndexError) as error:
        msg = f"{path} must be a FreeSurfer annotation ({error}); copy it again"
        raise ValueError(msg) from error
    colors = tuple("#" + "".join(f"{int(one):02x}" for one in row[:3]) for row in table)
    return labels.astype(np.int32), tuple(name.decode() for name in names), colors
