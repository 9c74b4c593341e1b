"""An atlas from the GIFTI label files of both sides."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int32
from nibabel.gifti.gifti import GiftiImage
from nibabel.nifti1 import intent_codes

from hemitwin._error_text import error_text
from hemitwin.atlases.atlas import Atlas
from hemitwin.atlases.formats.region_rows import Names, hex_color, regions_of_names
from hemitwin.atlases.region_names import is_no_area, side_of_name, sided_name

__all__ = ["atlas_of_gifti"]

_STRUCTURES = {"CortexLeft": "L", "CortexRight": "R"}
_LABEL = intent_codes.code["NIFTI_INTENT_LABEL"]

Labels = Int32[np.ndarray, " n"]


def atlas_of_gifti(paths: Sequence[Path], name: str) -> Atlas:
    """Read two ``.label.gii``, in any order.

    Raises
    ------
    ValueError
        When a file cannot be read, holds other than one array of labels, has labels without a name
        or areas of the other side, or the files are not of left and right.
    """
    images = {path: _read(path) for path in paths}
    sides = {_side_of(path, image): path for path, image in images.items()}
    if set(sides) != {"L", "R"}:
        msg = (
            f"two label files must be of left and right, got {[str(path) for path in paths]} of "
            f"{' and '.join(sorted(sides))}; name one of each side, or set their structure with "
            f"wb_command -set-structure"
        )
        raise ValueError(msg)
    names: dict[int, tuple[str, str]] = {}
    cortex: dict[str, Labels] = {}
    # Both files may number their regions from 1: keys are given anew, names carry the side.
    for side in ("L", "R"):
        path = sides[side]
        cortex[side], own = _areas(path, images[path], side, first=len(names) + 1)
        names |= own
    return Atlas(name, regions_of_names(names), cortex)


def _areas(
    path: Path, image: GiftiImage, side: str, *, first: int
) -> tuple[Labels, dict[int, tuple[str, str]]]:
    """Give the areas that occur new numbers; keys below 1 are none, as Workbench has it."""
    labels, table = _labels(path, image), _table(image)
    areas: dict[int, tuple[str, str]] = {}
    numbered = np.zeros_like(labels)
    for key in np.unique(labels[labels > 0]).tolist():
        if key not in table:
            msg = f"every label must have a region, {path} has {key} without; complete its table"
            raise ValueError(msg)
        text, color = table[key]
        if not is_no_area(text):
            number = first + len(areas)
            areas[number] = (sided_name(text, side, path), color)
            numbered[labels == key] = number
    return numbered, areas


def _labels(path: Path, image: GiftiImage) -> Labels:
    arrays = [array for array in image.darrays if array.intent == _LABEL]
    if len(arrays) != 1:
        msg = (
            f"{path} must hold one array of labels, got {len(arrays)} in {len(image.darrays)} "
            f"arrays; name a label file, or take one out with wb_command -label-merge "
            f"OUT.label.gii -label {path.name} -column 1"
        )
        raise ValueError(msg)
    return np.asarray(arrays[0].data).astype(np.int32)


def _table(image: GiftiImage) -> Names:
    return {int(one.key): (str(one.label), hex_color(one.rgba)) for one in image.labeltable.labels}


def _read(path: Path) -> GiftiImage:
    try:
        image: GiftiImage = GiftiImage.from_filename(path)
    except Exception as error:  # nibabel raises many kinds for a damaged file
        msg = f"{path} must be a readable GIFTI label file ({error_text(error)}); copy it again"
        raise ValueError(msg) from error
    return image


def _side_of(path: Path, image: GiftiImage) -> str:
    """Read the side out of the file, or, where that does not tell, out of its name."""
    metas = (image.meta, *(array.meta for array in image.darrays))
    said = {meta.get("AnatomicalStructurePrimary") for meta in metas}
    told = {_STRUCTURES[one] for one in said if one in _STRUCTURES}
    if len(told) > 1:
        msg = f"{path} must be of one side, it says left and right; set it with -set-structure"
        raise ValueError(msg)
    return told.pop() if told else side_of_name(path.name.replace("hemi-", ""))
