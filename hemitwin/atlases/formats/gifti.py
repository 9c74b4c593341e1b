"""GIFTI surfaces, metrics and labels that name their side."""

from collections.abc import Mapping
from pathlib import Path

import nibabel as nib
import numpy as np
from jaxtyping import Float, Int32
from nibabel.gifti.gifti import (
    GiftiDataArray,
    GiftiImage,
    GiftiLabel,
    GiftiLabelTable,
    GiftiMetaData,
)

from hemitwin._atomic import atomic_path
from hemitwin._error_text import error_text
from hemitwin.atlases.regions import Region
from hemitwin.atlases.surfaces.meshes import Surface
from hemitwin.atlases.workbench.palettes import Palette

__all__ = ["load_surface", "save_metric", "save_surface", "save_surface_labels"]

_STRUCTURES = {"L": "CortexLeft", "R": "CortexRight"}
# Workbench's words for (AnatomicalStructureSecondary, GeometricType).
_GEOMETRY = {
    "white": ("GrayWhite", "Anatomical"),
    "midthickness": ("MidThickness", "Anatomical"),
    "pial": ("Pial", "Anatomical"),
    "inflated": ("MidThickness", "Inflated"),
    "very_inflated": ("MidThickness", "VeryInflated"),
    "flat": ("MidThickness", "Flat"),
    "sphere": ("MidThickness", "Spherical"),
}


def load_surface(path: Path, hemisphere: str, *, kind: str = "midthickness") -> Surface:
    """Read a mesh from a `.surf.gii`.

    Parameters
    ----------
    path : Path
        The file.
    hemisphere : str
        "L" or "R": the side that it must say it is of, where it says one.
    kind : str
        One of `SURFACE_KINDS`.

    Returns
    -------
    Surface
        Vertices in the RAS+ millimetres of the scan it belongs to.

    Raises
    ------
    ValueError
        When the file is no mesh, or of the other side.
    """
    try:
        image = GiftiImage.from_filename(path)
        vertices, faces = (
            np.asarray(image.agg_data(f"NIFTI_INTENT_{name}")) for name in ("POINTSET", "TRIANGLE")
        )
    except Exception as error:  # nibabel raises many kinds for a damaged file
        msg = (
            f"a surface must be a readable GIFTI file, {path} is not "
            f"({error_text(error)}); copy it again"
        )
        raise ValueError(msg) from error
    if vertices.ndim != 2 or faces.ndim != 2:
        msg = f"a surface must hold one set of points and of triangles, {path} does not"
        raise ValueError(msg)
    metas = (image.meta, *(array.meta for array in image.darrays))
    said = {meta.get("AnatomicalStructurePrimary") for meta in metas} - {None}
    if said - {_structure(hemisphere)}:
        msg = f"{path} must be of {_structure(hemisphere)}, it says {sorted(map(str, said))}"
        raise ValueError(msg)
    return Surface(vertices.astype(np.float32), faces.astype(np.int32), hemisphere, kind)


def save_surface(
    path: Path, surface: Surface, *, metadata: Mapping[str, str] | None = None
) -> None:
    """Write a mesh as `.surf.gii`.

    Parameters
    ----------
    path : Path
        Ends in `.surf.gii`.
    surface : Surface
        Vertices in RAS+ mm.
    metadata : mapping of str to str, optional
        Further entries of the file, such as Workbench's `ProgramProvenance`.

    Raises
    ------
    ValueError
        When the name does not end in `.surf.gii`.
    """
    _check_name(path, ".surf.gii")
    secondary, geometry = _GEOMETRY[surface.kind]
    meta = GiftiMetaData(
        AnatomicalStructurePrimary=_structure(surface.hemisphere),
        AnatomicalStructureSecondary=secondary,
        GeometricType=geometry,
    )
    points = GiftiDataArray(
        surface.vertices, intent="NIFTI_INTENT_POINTSET", datatype="NIFTI_TYPE_FLOAT32", meta=meta
    )
    triangles = GiftiDataArray(
        surface.faces, intent="NIFTI_INTENT_TRIANGLE", datatype="NIFTI_TYPE_INT32"
    )
    _save(path, surface.hemisphere, [points, triangles], metadata=metadata)


def save_metric(
    path: Path,
    values: Float[np.ndarray, " n"],
    hemisphere: str,
    *,
    name: str,
    palette: Palette | None = None,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write one value per vertex as `.shape.gii`.

    Parameters
    ----------
    path : Path
        Ends in `.shape.gii`.
    values : (n,) float
        In the order of the surface's vertices; written as float32.
    hemisphere : str
        "L" or "R".
    name : str
        The map's name in Workbench.
    palette : Palette or None
        How Workbench colours it.
    metadata : mapping of str to str, optional
        Further entries of the file, such as Workbench's `ProgramProvenance`.

    Raises
    ------
    ValueError
        When the name does not end in `.shape.gii`, or the hemisphere is unknown.
    """
    _check_name(path, ".shape.gii")
    meta = GiftiMetaData(Name=name)
    if palette is not None:
        meta["PaletteColorMapping"] = palette.to_xml()
    array = GiftiDataArray(
        values.astype(np.float32),
        intent="NIFTI_INTENT_SHAPE",
        datatype="NIFTI_TYPE_FLOAT32",
        meta=meta,
    )
    _save(path, hemisphere, [array], metadata=metadata)


def save_surface_labels(
    path: Path,
    labels: Int32[np.ndarray, " n"],
    hemisphere: str,
    *,
    regions: tuple[Region, ...],
    name: str = "HCPMMP1",
) -> None:
    """Write one region index per vertex as `.label.gii`, with names and colours.

    Parameters
    ----------
    path : Path
        Ends in `.label.gii`.
    labels : (n,) int32
        Region indices; 0 is no region.
    hemisphere : str
        "L" or "R".
    regions : tuple of Region
        The table; only regions that occur are written.
    name : str
        The map's name in Workbench.

    Raises
    ------
    ValueError
        When the name does not end in `.label.gii`, or the hemisphere is unknown.
    """
    _check_name(path, ".label.gii")
    array = GiftiDataArray(
        labels,
        intent="NIFTI_INTENT_LABEL",
        datatype="NIFTI_TYPE_INT32",
        meta=GiftiMetaData(Name=name),
    )
    present = set(np.unique(labels).tolist())
    table = GiftiLabelTable()
    table.labels.append(_label(0, "???", (1.0, 1.0, 1.0, 0.0)))
    table.labels.extend(_label(r.index, r.name, r.rgba) for r in regions if r.index in present)
    _save(path, hemisphere, [array], table)


def _label(key: int, name: str, rgba: tuple[float, float, float, float]) -> GiftiLabel:
    label = GiftiLabel(key, *rgba)
    # The class does not declare the name that its own reader sets.
    vars(label)["label"] = name
    return label


def _save(
    path: Path,
    hemisphere: str,
    arrays: list[GiftiDataArray],
    table: GiftiLabelTable | None = None,
    *,
    metadata: Mapping[str, str] | None = None,
) -> None:
    structure = {"AnatomicalStructurePrimary": _structure(hemisphere)}
    meta = GiftiMetaData(structure | dict(metadata or {}))
    image = GiftiImage(meta=meta, labeltable=table, darrays=arrays)
    with atomic_path(path) as temporary:
        nib.save(image, temporary)


def _structure(hemisphere: str) -> str:
    if hemisphere not in _STRUCTURES:
        msg = f"hemisphere must be 'L' or 'R', got {hemisphere!r}; name the true side"
        raise ValueError(msg)
    return _STRUCTURES[hemisphere]


def _check_name(path: Path, suffix: str) -> None:
    if not path.name.endswith(suffix):
        msg = f"Workbench knows files by suffix: the name must end in {suffix}, got {path.name}"
        raise ValueError(msg)
