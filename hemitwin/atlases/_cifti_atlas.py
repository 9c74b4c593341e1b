"""An atlas from a CIFTI file of labels."""

from pathlib import Path
from typing import cast
from xml.parsers.expat import ExpatError

import numpy as np
from jaxtyping import Int32
from nibabel.cifti2.cifti2 import Cifti2Image
from nibabel.cifti2.cifti2_axes import BrainModelAxis, LabelAxis
from nibabel.filebasedimages import ImageFileError
from nibabel.imageglobals import LoggingOutputSuppressor
from nibabel.wrapstruct import WrapStructError

from hemitwin._error_text import error_text
from hemitwin.atlases._label_tables import hex_color, regions_of_names
from hemitwin.atlases.atlas import Atlas
from hemitwin.atlases.parcellation import Parcellation
from hemitwin.atlases.region_names import is_no_area
from hemitwin.atlases.surfaces import FSLR_VOLUME_SPACE

__all__ = ["atlas_of_cifti"]

_SIDES = {"CORTEX_LEFT": "L", "CORTEX_RIGHT": "R"}

Labels = Int32[np.ndarray, " n"]
Vertices = Int32[np.ndarray, " v"]


def atlas_of_cifti(path: Path, name: str) -> Atlas:
    """Read a ``.dlabel.nii`` of one map.

    Raises
    ------
    ValueError
        When the file cannot be read, holds no labels over grayordinates or several maps, or is no
        atlas.
    """
    labels, places, values = _read(path)
    names = {int(key): (str(one[0]), hex_color(one[1])) for key, one in labels.label[0].items()}
    none = [key for key, (text, _) in names.items() if key == 0 or is_no_area(text)]
    values = np.where(np.isin(values, none), 0, values).astype(np.int32)
    regions = regions_of_names({key: one for key, one in names.items() if key not in none})
    cortex = _cortex(places, values)
    inside = places.volume_mask
    if places.volume_shape is None or places.affine is None or not inside.any():
        return Atlas(name, regions, cortex)
    volume = np.zeros(places.volume_shape, dtype=np.int32)
    volume[tuple(places.voxel[inside].T)] = values[inside]
    voxels = Parcellation(volume, places.affine, regions, FSLR_VOLUME_SPACE)
    return Atlas(name, regions, cortex, voxels, smooth=True)


def _read(path: Path) -> tuple[LabelAxis, BrainModelAxis, Labels]:
    try:
        with LoggingOutputSuppressor():  # CIFTI has no voxel sizes, which is no reason to worry
            image = Cifti2Image.from_filename(path)
        labels, places = (image.header.get_axis(number) for number in (0, 1))
        values = np.rint(np.asarray(image.dataobj)[0]).astype(np.int32)
    except (OSError, ValueError, ImageFileError, WrapStructError, ExpatError) as error:
        msg = f"{path} must be a readable CIFTI file ({error_text(error)}); copy it again"
        raise ValueError(msg) from error
    if not isinstance(labels, LabelAxis) or not isinstance(places, BrainModelAxis):
        msg = f"{path} must hold labels over grayordinates, it does not; make a .dlabel.nii of it"
        raise ValueError(msg)  # noqa: TRY004 (the file's content, not a caller's type)
    if len(labels) != 1:
        msg = (
            f"{path} must hold one map of labels, got {len(labels)}: "
            f"{', '.join(map(str, labels.name))}; take one out with wb_command -cifti-merge "
            f"OUT.dlabel.nii -cifti {path.name} -column 1"
        )
        raise ValueError(msg)
    return labels, places, values


def _cortex(places: BrainModelAxis, values: Labels) -> dict[str, Vertices]:
    cortex: dict[str, Vertices] = {}
    for structure, rows, model in places.iter_structures():
        if side := _SIDES.get(str(structure).removeprefix("CIFTI_STRUCTURE_")):
            vertices = np.asarray(cast("BrainModelAxis", model).vertex)
            cortex[side] = np.zeros(places.nvertices[structure], dtype=np.int32)
            cortex[side][vertices] = values[rows]
    return cortex
