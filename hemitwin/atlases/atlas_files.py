"""Atlases from files: NIfTI with a table, GIFTI label files of both sides, CIFTI."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast
from xml.parsers.expat import ExpatError

import numpy as np
import pandas as pd
from jaxtyping import Int32
from nibabel.cifti2.cifti2 import Cifti2Image
from nibabel.cifti2.cifti2_axes import BrainModelAxis, LabelAxis
from nibabel.filebasedimages import ImageFileError
from nibabel.gifti.gifti import GiftiImage
from nibabel.imageglobals import LoggingOutputSuppressor
from nibabel.wrapstruct import WrapStructError

from hemitwin.atlases.atlas import Atlas
from hemitwin.atlases.nifti import load_labels
from hemitwin.atlases.parcellation import Parcellation
from hemitwin.atlases.region_names import side_of_name
from hemitwin.atlases.regions import Region
from hemitwin.atlases.surfaces import FSLR_VOLUME_SPACE
from hemitwin.atlases.tables import read_dseg_table, regions_of_table

__all__ = ["load_atlas"]

_SIDES = {"CORTEX_LEFT": "L", "CORTEX_RIGHT": "R"}
_ENTITY = re.compile(r"(?:^|_)atlas-([a-zA-Z0-9]+)")
_SPACE = re.compile(r"(?:^|_)(?:tpl|space)-([a-zA-Z0-9]+)")

Names = Mapping[int, tuple[str, str]]
"""Name and colour by key."""


def load_atlas(
    paths: Sequence[Path],
    *,
    table: Path | None = None,
    name: str | None = None,
    space: str | None = None,
) -> Atlas:
    """Load an atlas from files.

    Parameters
    ----------
    paths : sequence of Path
        One ``.nii`` or ``.nii.gz`` of integers, one ``.dlabel.nii`` on the 91k grayordinates or on
        the fsLR 32k surface, or two ``.label.gii`` of fsLR 32k, in any order.
    table : Path, optional
        The names of a NIfTI file: BIDS ``_dseg.tsv`` (index, name; color, hemisphere, partner,
        cortex where there are). By default the file of that name beside it.
    name : str, optional
        Letters and digits; by default the ``atlas-`` entity of the file's name, or that name's
        letters and digits.
    space : str, optional
        Of a NIfTI file: "MNI152NLin2009aSym" or "MNI152NLin6Asym", by default the ``tpl-`` or
        ``space-`` entity of the file's name.

    Returns
    -------
    Atlas
        Regions are known by their names; sides and partners come from these where the table does
        not tell.

    Raises
    ------
    ValueError
        When the files are no atlas, or of another mesh or space.
    """
    first = paths[0].name if paths else "nothing"
    called = name or _name_of(first)
    if len(paths) == 1 and first.endswith(".dlabel.nii"):
        return _from_cifti(paths[0], called)
    if len(paths) == 1 and first.endswith((".nii", ".nii.gz")):
        return _from_nifti(paths[0], called, table, space)
    if len(paths) == 2 and all(path.name.endswith(".label.gii") for path in paths):
        return _from_gifti(paths, called)
    msg = (
        f"an atlas must be one NIfTI file, one .dlabel.nii or two .label.gii (left and right), "
        f"got {', '.join(path.name for path in paths) or 'nothing'}; name the files of one atlas"
    )
    raise ValueError(msg)


def _from_nifti(path: Path, name: str, table: Path | None, space: str | None) -> Atlas:
    stem = path.name.removesuffix(".gz").removesuffix(".nii")
    table = table or path.with_name(f"{stem}.tsv")
    if not table.is_file():
        msg = (
            f"a NIfTI atlas must have a table of its names (columns index and name), found none "
            f"at {table}; name it with --atlas-table"
        )
        raise ValueError(msg)
    found = _SPACE.search(path.name)
    where = space or (found[1] if found else None)
    if where is None:
        msg = (
            f"the space of {path.name} must be known; name it with --atlas-space, for example "
            f"{FSLR_VOLUME_SPACE}"
        )
        raise ValueError(msg)
    labels, affine = load_labels(path)
    regions = read_dseg_table(table)
    return Atlas(name, regions, voxels=Parcellation(labels, affine, regions, where))


def _from_cifti(path: Path, name: str) -> Atlas:
    try:
        with LoggingOutputSuppressor():  # CIFTI has no voxel sizes, which is no reason to worry
            image = Cifti2Image.from_filename(path)
        labels, places = (image.header.get_axis(number) for number in (0, 1))
        values = np.rint(np.asarray(image.dataobj)[0]).astype(np.int32)
    except (OSError, ValueError, ImageFileError, WrapStructError, ExpatError) as error:
        msg = f"{path} must be a readable CIFTI file ({error}); copy it again"
        raise ValueError(msg) from error
    if not isinstance(labels, LabelAxis) or not isinstance(places, BrainModelAxis):
        msg = f"{path} must hold labels over grayordinates, it does not; make a .dlabel.nii of it"
        raise ValueError(msg)  # noqa: TRY004 (the file's content, not a caller's type)
    names = {
        int(key): (str(text), _hex(color)) for key, (text, color) in labels.label[0].items() if key
    }
    regions = _regions(names)
    cortex: dict[str, Int32[np.ndarray, " n"]] = {}
    for structure, rows, model in places.iter_structures():
        if side := _SIDES.get(str(structure).removeprefix("CIFTI_STRUCTURE_")):
            vertices = np.asarray(cast("BrainModelAxis", model).vertex)
            cortex[side] = np.zeros(places.nvertices[structure], dtype=np.int32)
            cortex[side][vertices] = values[rows]
    inside = places.volume_mask
    if places.volume_shape is None or places.affine is None or not inside.any():
        return Atlas(name, regions, cortex)
    volume = np.zeros(places.volume_shape, dtype=np.int32)
    volume[tuple(places.voxel[inside].T)] = values[inside]
    voxels = Parcellation(volume, places.affine, regions, FSLR_VOLUME_SPACE)
    return Atlas(name, regions, cortex, voxels, smooth=True)


def _from_gifti(paths: Sequence[Path], name: str) -> Atlas:
    sides = {_side_of(path): path for path in paths}
    if set(sides) != {"L", "R"}:
        msg = f"two label files must be of left and right, got {[path.name for path in paths]}"
        raise ValueError(msg)
    read = {side: _read_gifti(sides[side]) for side in ("L", "R")}
    names: dict[int, tuple[str, str]] = {}
    cortex: dict[str, Int32[np.ndarray, " n"]] = {}
    # Both files may number their regions from 1: keys are given anew, names carry the side.
    for side, (labels, table) in read.items():
        there = [key for key in sorted(set(np.unique(labels).tolist())) if key in table]
        number = np.zeros(int(labels.max(initial=0)) + 1, dtype=np.int32)
        for key in there:
            text, color = table[key]
            number[key] = len(names) + 1
            full = text if side_of_name(text) == side else f"{side}_{text}"
            names[len(names) + 1] = (full, color)
        cortex[side] = number[np.maximum(labels, 0)]
    return Atlas(name, _regions(names), cortex)


def _regions(names: Names) -> tuple[Region, ...]:
    rows = [(key, *names[key]) for key in sorted(names)]
    return regions_of_table(pd.DataFrame(rows, columns=["index", "name", "color"]))


def _read_gifti(path: Path) -> tuple[Int32[np.ndarray, " n"], Names]:
    image = GiftiImage.from_filename(path)
    labels = np.asarray(image.darrays[0].data).astype(np.int32)
    table = {
        int(one.key): (str(one.label), _hex(one.rgba))
        for one in image.labeltable.labels
        if one.key > 0
    }
    return labels, table


def _side_of(path: Path) -> str:
    try:
        image = GiftiImage.from_filename(path)
    except (OSError, ValueError, ImageFileError, ExpatError) as error:
        msg = f"{path} must be a readable GIFTI label file ({error}); copy it again"
        raise ValueError(msg) from error
    said = image.meta.get("AnatomicalStructurePrimary")
    if said in {"CortexLeft", "CortexRight"}:
        return str(said).removeprefix("Cortex")[0]
    return side_of_name(path.name.replace("hemi-", ""))


def _name_of(file: str) -> str:
    found = _ENTITY.search(file)
    stem = file.split(".", maxsplit=1)[0]
    return found[1] if found else re.sub(r"[^a-zA-Z0-9]", "", stem)


def _hex(rgba: Sequence[float]) -> str:
    return "#" + "".join(f"{round(255 * float(one)):02x}" for one in rgba[:3])
