"""CIFTI-2 files over the 91k grayordinates, over the 379 regions and over their pairs."""
# mypy: disallow-untyped-calls=False
# nibabel is typed in part only.

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np
from jaxtyping import Float
from nibabel.cifti2.cifti2 import Cifti2Image, Cifti2MetaData
from nibabel.cifti2.cifti2_axes import BrainModelAxis, LabelAxis, ParcelsAxis, ScalarAxis
from nibabel.imageglobals import LoggingOutputSuppressor
from nibabel.nifti1 import Nifti1Extension
from nibabel.nifti2 import Nifti2Header, Nifti2Image

from hemitwin._atomic import atomic_path
from hemitwin._error_text import error_text
from hemitwin.atlases.grayordinates import grayordinate_labels, load_grayordinates
from hemitwin.atlases.regions import hcpmmp_regions
from hemitwin.atlases.workbench.palettes import Palette

__all__ = [
    "load_dense_scalars",
    "save_dense_labels",
    "save_dense_scalar",
    "save_parcel_connectivity",
    "save_parcel_scalar",
]

# NIfTI intents: code, parameters, and the name that the CIFTI-2 standard asks for.
_PARCELS = (3003, (), "ConnParcels")
_DENSE_SCALAR = (3006, (), "ConnDenseScalar")
_DENSE_LABEL = (3007, (), "ConnDenseLabel")
_PARCEL_SCALAR = (3008, (), "ConnParcelScalr")
_PALETTE = "PaletteColorMapping"
_CORTEX = {"L": "CIFTI_STRUCTURE_CORTEX_LEFT", "R": "CIFTI_STRUCTURE_CORTEX_RIGHT"}


def load_dense_scalars(path: Path) -> Float[np.ndarray, "maps g"]:
    """Read the maps of a ``.dscalar.nii`` on the 91k grayordinates.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    (maps, 91282) float32

    Raises
    ------
    ValueError
        When the file cannot be read, has other grayordinates, or a map of it holds an infinite
        value or none at all.
    """
    try:
        with LoggingOutputSuppressor():  # CIFTI has no voxel sizes, which is no reason to worry
            image = Cifti2Image.from_filename(path)
        stored = np.asarray(image.dataobj)
        places = image.header.get_axis(1)
    except Exception as error:  # nibabel raises many kinds for a damaged file
        msg = f"{path} must be a readable CIFTI file ({error_text(error)}); copy it again"
        raise ValueError(msg) from error
    if places != _dense_axis():
        msg = (
            f"{path} must hold maps over the 91282 grayordinates of the HCP, got "
            f"{stored.shape[-1]} others; resample it with wb_command -cifti-resample"
        )
        raise ValueError(msg)
    return _real_maps(path, stored)


def _real_maps(path: Path, stored: np.ndarray) -> Float[np.ndarray, "maps g"]:
    if stored.dtype.kind not in "fiub":
        msg = f"{path} must hold real numbers, got {stored.dtype}; write the maps anew"
        raise ValueError(msg)
    with np.errstate(over="ignore"):  # too large for float32 is infinite, which is refused by name
        values = stored.astype(np.float32)
    for number, one in enumerate(values):
        nothing = bool(np.isnan(one).all())
        if nothing or np.isinf(one).any():
            msg = (
                f"a map must be finite, or NaN where it has no value; map {number} of {path} "
                f"{'is NaN everywhere' if nothing else 'is infinite somewhere'}; write it anew"
            )
            raise ValueError(msg)
    return values


def save_dense_scalar(
    path: Path,
    values: Float[np.ndarray, " g"],
    *,
    name: str,
    palette: Palette | None = None,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write one value per grayordinate as `.dscalar.nii`.

    Parameters
    ----------
    path : Path
        Ends in `.dscalar.nii`.
    values : (91282,) float
        As `grayordinates_from_volume` gives them; written as float32.
    name : str
        The map's name.
    palette : Palette or None
        How Workbench colours it.
    metadata : mapping of str to str, optional
        Entries of the file, such as Workbench's `ProgramProvenance`.

    Raises
    ------
    ValueError
        When the length or the name is wrong.
    """
    places = load_grayordinates()
    _check(path, ".dscalar.nii", values, len(places))
    maps = (_xml_of(_scalar_axis(name, palette)), _grayordinates_xml())
    _save(path, values[None], maps, _DENSE_SCALAR, metadata)


def save_dense_labels(path: Path, *, name: str = "HCPMMP1") -> None:
    """Write the 379 regions over the grayordinates as `.dlabel.nii`.

    Parameters
    ----------
    path : Path
        Ends in `.dlabel.nii`.
    name : str
        The map's name.

    Raises
    ------
    ValueError
        When the name does not end in `.dlabel.nii`.
    """
    places, labels = load_grayordinates(), grayordinate_labels()
    _check(path, ".dlabel.nii", labels, len(places))
    table = {0: ("???", (1.0, 1.0, 1.0, 0.0))}
    table |= {region.index: (region.name, region.rgba) for region in hcpmmp_regions()}
    maps = (_xml_of(LabelAxis([name], [table])), _grayordinates_xml())
    _save(path, labels[None], maps, _DENSE_LABEL)


def save_parcel_scalar(
    path: Path,
    values: Float[np.ndarray, " regions"],
    *,
    name: str,
    palette: Palette | None = None,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write one value per region as `.pscalar.nii`.

    Parameters
    ----------
    path : Path
        Ends in `.pscalar.nii`.
    values : (379,) float
        In the order of `hcpmmp_regions`, as `parcellate_dense` gives them.
    name : str
        The map's name.
    palette : Palette or None
        How Workbench colours it.
    metadata : mapping of str to str, optional
        Entries of the file, such as Workbench's `ProgramProvenance`.

    Raises
    ------
    ValueError
        When the length or the name is wrong.
    """
    _check(path, ".pscalar.nii", values, len(hcpmmp_regions()))
    maps = (_xml_of(_scalar_axis(name, palette)), _regions_xml(1))
    _save(path, values[None], maps, _PARCEL_SCALAR, metadata)


def save_parcel_connectivity(
    path: Path,
    matrix: Float[np.ndarray, "regions regions"],
    *,
    palette: Palette | None = None,
) -> None:
    """Write one value per pair of regions as `.pconn.nii`.

    Parameters
    ----------
    path : Path
        Ends in `.pconn.nii`.
    matrix : (379, 379) float
        Rows and columns in the order of `hcpmmp_regions`; written as float32. Rows are rows for
        Workbench, which paints that of the region that is selected; nibabel, for which a CIFTI
        row runs along the first axis, reads the transpose.
    palette : Palette or None
        How Workbench colours all rows; the file has one palette and no names of maps.

    Raises
    ------
    ValueError
        When the shape or the name is wrong, or a value is not finite.
    """
    count = len(hcpmmp_regions())
    _check(path, ".pconn.nii", matrix, count, count)
    metadata = {} if palette is None else {_PALETTE: palette.to_xml()}
    _save(path, matrix.T, (_regions_xml(0, 1),), _PARCELS, metadata)


def _scalar_axis(name: str, palette: Palette | None) -> ScalarAxis:
    meta = {} if palette is None else {_PALETTE: palette.to_xml()}
    return ScalarAxis([name], [meta])


@cache  # a second to build, and never changed
def _dense_axis() -> BrainModelAxis:
    """Build the axis in one go: nibabel checks every element at each concatenation."""
    places = load_grayordinates()
    sizes = {_CORTEX[side]: len(places.vertices(side)) for side in _CORTEX}
    sizes |= {_cifti_name(name): rows.stop - rows.start for name, rows in places.structures}
    vertex, voxel = np.full(len(places), -1), np.full((len(places), 3), -1)
    voxel[places.subcortex] = places.voxels
    for side in _CORTEX:
        vertex[places.cortex(side)] = places.vertices(side)
    return BrainModelAxis(
        np.repeat(list(sizes), list(sizes.values())),
        voxel=voxel,
        vertex=vertex,
        affine=places.affine,
        volume_shape=places.shape,
        nvertices=dict.fromkeys(_CORTEX.values(), places.n_vertices),
    )


def _parcels_axis() -> ParcelsAxis:
    places, labels = load_grayordinates(), grayordinate_labels()
    vertices = [
        {
            _CORTEX[side]: chosen
            for side in _CORTEX
            if (chosen := places.vertices(side)[labels[places.cortex(side)] == r.index]).size
        }
        for r in hcpmmp_regions()
    ]
    subcortex = labels[places.subcortex]
    return ParcelsAxis(
        [region.name for region in hcpmmp_regions()],
        [places.voxels[subcortex == region.index] for region in hcpmmp_regions()],
        vertices,
        affine=places.affine,
        volume_shape=places.shape,
        nvertices=dict.fromkeys(_CORTEX.values(), places.n_vertices),
    )


def _cifti_name(name: str) -> str:
    if name == "brainStem":
        return "CIFTI_STRUCTURE_BRAIN_STEM"
    structure, side = name.split("_")
    words = "DIENCEPHALON_VENTRAL" if structure == "diencephalon" else structure.upper()
    return f"CIFTI_STRUCTURE_{words}_{side.upper()}"


def _check(path: Path, suffix: str, values: np.ndarray, *shape: int) -> None:
    if not path.name.endswith(suffix):
        msg = f"Workbench knows files by suffix: the name must end in {suffix}, got {path.name}"
        raise ValueError(msg)
    if values.shape != shape or not np.isfinite(values).all():
        wanted = " x ".join(map(str, shape))
        msg = f"{suffix} needs {wanted} finite values, got shape {values.shape}; check the order"
        raise ValueError(msg)


@cache
def _grayordinates_xml() -> bytes:
    """Describe the columns of a dense file: megabytes, the same in every one."""
    return _xml_of(_dense_axis(), 1)


@cache
def _regions_xml(*dimensions: int) -> bytes:
    """Describe the regions along the dimensions of a file that they are."""
    return _xml_of(_parcels_axis(), *dimensions)


def _xml_of(
    axis: BrainModelAxis | LabelAxis | ParcelsAxis | ScalarAxis, *dimensions: int
) -> bytes:
    first, *others = dimensions or (0,)
    mapping = axis.to_mapping(first)
    mapping.applies_to_matrix_dimension.extend(others)
    xml: bytes = mapping.to_xml()
    return xml


def _save(
    path: Path,
    matrix: np.ndarray,
    maps: tuple[bytes, ...],
    intent: tuple[int, tuple[()], str],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write the file that `Cifti2Image` would, which builds its XML anew, seconds each time."""
    own = Cifti2MetaData(dict(metadata)).to_xml() if metadata else b""
    xml = b'<CIFTI Version="2.0"><Matrix>' + own + b"".join(maps) + b"</Matrix></CIFTI>"
    header = Nifti2Header()
    header.set_intent(*intent)
    header.extensions.append(Nifti1Extension("cifti", xml))
    header["pixdim"][:4] = 1  # or nibabel warns: none of these axes has a voxel size
    values = matrix.astype(np.float32)
    with atomic_path(path) as temporary:
        nib.save(Nifti2Image(values.reshape(1, 1, 1, 1, *values.shape), None, header), temporary)
