"""NIfTI volumes, with the extension in which Connectome Workbench keeps colours and names."""

import xml.etree.ElementTree as ET
from pathlib import Path

import nibabel as nib
import numpy as np
from jaxtyping import Bool, Float, Num
from nibabel.nifti1 import Nifti1Extension, Nifti1Image

from hemitwin._atomic import atomic_path
from hemitwin._shapes import Affine
from hemitwin.atlases.parcellation import Parcellation
from hemitwin.atlases.workbench.palettes import Palette
from hemitwin.atlases.world import check_affine, check_volume

__all__ = ["save_labels_volume", "save_volume", "save_volumes"]

_CARET_EXTENSION = 30
_MNI_CODE, _ALIGNED_CODE, _SCANNER_CODE = 4, 2, 1


def save_volume(
    path: Path,
    data: Num[np.ndarray, " x y z"] | Bool[np.ndarray, " x y z"],
    affine: Affine,
    *,
    space: str = "T1w",
    description: str = "",
    palette: Palette | None = None,
) -> None:
    """Write a volume as NIfTI-1, whole or not at all.

    Parameters
    ----------
    path : Path
        Ends in `.nii` or `.nii.gz`.
    data : (x, y, z) array
        Booleans are written as uint8, integers as the smallest of uint8, int16 and int32 that
        holds them, and floats as float32; never scaled.
    affine : (4, 4) float
        Voxel index to RAS+ mm of `space`.
    space : str
        "T1w" (native) or a template's name; sets the header's xform codes.
    description : str
        At most 79 ASCII characters.
    palette : Palette or None
        How Workbench colours it.

    Raises
    ------
    ValueError
        When the volume is not finite and 3D, the affine singular, or the name not NIfTI.
    """
    check_volume(data)
    information = [("VolumeType", "Anatomy" if palette is None else "Functional")]
    extension = None if palette is None else _extension(information, palette.to_element())
    _save(path, data, affine, space=space, description=description, extension=extension)


def save_volumes(
    path: Path,
    data: Float[np.ndarray, " x y z n"],
    affine: Affine,
    *,
    space: str = "T1w",
    description: str = "",
) -> None:
    """Write several volumes as one 4D NIfTI-1, whole or not at all.

    Parameters
    ----------
    path, affine, space, description
        As for `save_volume`.
    data : (x, y, z, n) float
        Written as float32.

    Raises
    ------
    ValueError
        As `save_volume` does.
    """
    check_volume(data[..., 0])
    if not np.isfinite(data).all():
        msg = "volumes must be finite; they hold NaN or infinity; mask them first"
        raise ValueError(msg)
    _save(path, data, affine, space=space, description=description, extension=None)


def save_labels_volume(path: Path, parcellation: Parcellation) -> None:
    """Write a parcellation as an integer NIfTI with Workbench's label table.

    Parameters
    ----------
    path : Path
        Ends in `.nii` or `.nii.gz`.
    parcellation : Parcellation
        Other programs see plain integers; write the names beside it with `save_dseg_table`.

    Raises
    ------
    ValueError
        When the name is not NIfTI.
    """
    table = ET.Element("LabelTable")
    _add_label(table, 0, "???", (1.0, 1.0, 1.0, 0.0))
    for region in parcellation.regions:
        _add_label(table, region.index, region.name, region.rgba)
    extension = _extension([("VolumeType", "Label")], table)
    _save(
        path,
        parcellation.labels,
        parcellation.affine,
        space=parcellation.space,
        description="labels",
        extension=extension,
    )


def _save(
    path: Path,
    data: np.ndarray,
    affine: Affine,
    *,
    space: str,
    description: str,
    extension: Nifti1Extension | None,
) -> None:
    check_affine(affine)
    if not path.name.endswith((".nii", ".nii.gz")):
        msg = f"a volume's name must end in .nii or .nii.gz, got {path.name}; rename it"
        raise ValueError(msg)
    stored = data.astype(_stored_dtype(data))
    image = Nifti1Image(stored, affine)
    image.header.set_data_dtype(stored.dtype)
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = description.encode("ascii", "replace")[:79]
    code = _SCANNER_CODE if space == "T1w" else _MNI_CODE if space[:3] == "MNI" else _ALIGNED_CODE
    image.set_sform(affine, code)
    # A sheared affine has no quaternion: then only the sform is valid.
    image.set_qform(affine, code if _is_orthogonal(affine) else 0, strip_shears=True)
    if extension is not None:
        image.header.extensions.append(extension)
    with atomic_path(path) as temporary:
        nib.save(image, temporary)


def _stored_dtype(data: np.ndarray) -> np.dtype:
    if data.dtype == np.bool_:
        return np.dtype(np.uint8)
    if np.issubdtype(data.dtype, np.floating):
        return np.dtype(np.float32)
    low, high = (int(data.min()), int(data.max())) if data.size else (0, 0)
    for candidate in (np.uint8, np.int16, np.int32):
        if np.iinfo(candidate).min <= low and high <= np.iinfo(candidate).max:
            return np.dtype(candidate)
    msg = f"integers must fit 32 bits, got {low} to {high}; renumber the labels"
    raise ValueError(msg)


def _is_orthogonal(affine: Affine) -> bool:
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return bool(np.allclose(axes.T @ axes, np.eye(3), atol=1e-5))


def _extension(information: list[tuple[str, str]], content: ET.Element) -> Nifti1Extension:
    root = ET.Element("CaretExtension")
    volume = ET.SubElement(root, "VolumeInformation", Index="0")
    if content.tag == "LabelTable":
        volume.append(content)
    ET.SubElement(volume, "StudyMetaDataLinkSet")
    if content.tag != "LabelTable":
        volume.append(content)
    for tag, text in information:
        ET.SubElement(volume, tag).text = text
    xml = ET.tostring(root, encoding="UTF-8", xml_declaration=True)
    return Nifti1Extension(_CARET_EXTENSION, xml)


def _add_label(
    table: ET.Element, key: int, name: str, rgba: tuple[float, float, float, float]
) -> None:
    red, green, blue, alpha = (f"{value:.6g}" for value in rgba)
    label = ET.SubElement(
        table, "Label", Key=str(key), Red=red, Green=green, Blue=blue, Alpha=alpha
    )
    label.text = name
