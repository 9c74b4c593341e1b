"""Surfaces, annotations and segmentations as FreeSurfer and FastSurfer write them."""

from pathlib import Path

import numpy as np
from jaxtyping import Int, Int32
from nibabel.freesurfer.io import read_annot, read_geometry

from hemitwin._error_text import error_text
from hemitwin._shapes import Affine
from hemitwin.atlases.surfaces.meshes import Surface

__all__ = [
    "FREESURFER_SIDES",
    "load_annotation",
    "load_freesurfer_surface",
    "scanner_from_surface",
]

FREESURFER_SIDES = {"L": "lh", "R": "rh"}
"""How FreeSurfer's files begin."""


def scanner_from_surface(shape: tuple[int, int, int], affine: Affine) -> Affine:
    """Give what moves a subject's surfaces to the world of the scan.

    FreeSurfer keeps vertices in the "tkregister" world of its own volumes: RAS directions for a
    coronal volume, and its origin in the volume's middle, whatever the header says.

    Parameters
    ----------
    shape, affine
        The grid of ``mri/orig.mgz``, or of another volume of the subject, in the order of the
        file: voxels along its axes, and their index to RAS+ mm of the scan.

    Returns
    -------
    (4, 4) float
        Surface mm to RAS+ mm of the scan.

    Examples
    --------
    >>> coronal = np.array([[-1.0, 0, 0, 128], [0, 0, 1, -128], [0, -1, 0, 128], [0, 0, 0, 1]])
    >>> np.array_equal(scanner_from_surface((256, 256, 256), coronal), np.eye(4))
    True
    """
    i, j, k = np.linalg.norm(affine[:3, :3], axis=0)
    x, y, z = np.array(shape) * (i, j, k) / 2
    surface = np.array([[-i, 0, 0, x], [0, 0, k, -z], [0, -j, 0, y], [0, 0, 0, 1]])
    moved: np.ndarray = affine @ np.linalg.inv(surface)
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
        msg = (
            f"{path} must be a surface in FreeSurfer's format ({error_text(error)}); copy it again"
        )
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
        Number of the vertex' name; -1 is none, or a value that the colour table lacks.
    names : tuple of str
        As in the file.
    colors : tuple of str
        "#rrggbb".

    Raises
    ------
    ValueError
        When the file is no annotation, or has no colour table without gaps.
    """
    try:
        # By its own look-up, nibabel names a value that is in no row after the next row.
        values, table, coded = read_annot(path, orig_ids=True)
        names = tuple(name.decode() for name in coded)
    except Exception as error:  # nibabel raises it bare where there is no colour table
        msg = (
            f"{path} must be a FreeSurfer annotation with a colour table ({error_text(error)}); "
            f"copy it again, or make it anew with mris_label2annot --ctab"
        )
        raise ValueError(msg) from error
    if not names or len(names) != len(table):
        msg = (
            f"{path} must name each of its {len(table)} colours, it names {len(names)}; make it "
            f"anew with mris_label2annot --ctab"
        )
        raise ValueError(msg)
    colors = tuple("#" + "".join(f"{int(one):02x}" for one in row[:3]) for row in table)
    return _rows_of(values, table[:, -1]), names, colors


def _rows_of(
    values: Int[np.ndarray, " n"], codes: Int[np.ndarray, " rows"]
) -> Int32[np.ndarray, " n"]:
    """Find the row of each value; -1 where there is none, and for 0, FreeSurfer's "no label"."""
    order = np.argsort(codes)
    nearest = order[np.searchsorted(codes, values, sorter=order).clip(max=len(codes) - 1)]
    found: np.ndarray = np.where((codes[nearest] == values) & (values != 0), nearest, -1)
    return found.astype(np.int32)
