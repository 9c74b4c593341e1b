"""Atlases from files: NIfTI with a table, GIFTI label files of both sides, CIFTI."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int32

from hemitwin._shapes import Affine
from hemitwin.atlases.atlas import Atlas
from hemitwin.atlases.formats.cifti_atlas import atlas_of_cifti
from hemitwin.atlases.formats.gifti_atlas import atlas_of_gifti
from hemitwin.atlases.formats.tables import dseg_table_of, read_dseg_table
from hemitwin.atlases.parcellation import Parcellation
from hemitwin.atlases.regions import Region
from hemitwin.atlases.surfaces.meshes import FSLR_VOLUME_SPACE

__all__ = ["load_atlas"]

LabelReader = Callable[[Path], tuple[Int32[np.ndarray, " x y z"], Affine]]
"""Gives a file's labels, and voxel index to RAS+ mm: this room places no volume by itself."""

_ENTITY = re.compile(r"(?:^|_)atlas-([a-zA-Z0-9]+)")
_SPACE = re.compile(r"(?:^|_)(?:tpl|space)-([a-zA-Z0-9]+)")


def load_atlas(
    paths: Sequence[Path],
    *,
    read_labels: LabelReader,
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
    read_labels : callable
        Reads the label volume of a NIfTI file: `hemitwin.transforms.load_labels`.
    table : Path, optional
        The names of a NIfTI file: BIDS ``_dseg.tsv`` (index, name; color, hemisphere, partner,
        cortex where there are). By default the file of that name beside it, with or without its
        ``res-``.
    name : str, optional
        Letters and digits; by default the ``atlas-`` entity of the file's name, or that name's
        letters and digits.
    space : str, optional
        Of a NIfTI file: "MNI152NLin2009aSym" or "MNI152NLin6Asym", by default the ``tpl-`` or
        ``space-`` entity of the file's name.

    Returns
    -------
    Atlas
        Regions are known by their names; sides and partners come from these where the table has no
        column of them. Labels of surfaces that name no area (the medial wall, the background, the
        unknown) are no regions.

    Raises
    ------
    FileNotFoundError
        When a file is not there.
    ValueError
        When the files are no atlas, or of another mesh or space.
    """
    first = paths[0].name if paths else "nothing"
    called = name or _name_of(first)
    both = len(paths) == 2 and all(path.name.endswith(".label.gii") for path in paths)
    if not both and not (len(paths) == 1 and first.endswith((".nii", ".nii.gz"))):
        msg = (
            f"an atlas must be one NIfTI file, one .dlabel.nii or two .label.gii (left and "
            f"right), got {', '.join(path.name for path in paths) or 'nothing'}; name the files "
            f"of one atlas"
        )
        raise ValueError(msg)
    if missing := [str(path) for path in paths if not path.is_file()]:
        msg = f"an atlas' files must be there, missing: {', '.join(missing)}; check the paths"
        raise FileNotFoundError(msg)
    if both:
        return atlas_of_gifti(paths, called)
    if first.endswith(".dlabel.nii"):
        return atlas_of_cifti(paths[0], called)
    labels, affine = read_labels(paths[0])  # first of all: it knows what is no volume
    regions, where = _names_of(paths[0], table, space)
    return Atlas(called, regions, voxels=Parcellation(labels, affine, regions, where))


def _names_of(path: Path, table: Path | None, space: str | None) -> tuple[tuple[Region, ...], str]:
    """Give the regions of a NIfTI file, and its space."""
    table = table or dseg_table_of(path)
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
    return read_dseg_table(table), where


def _name_of(file: str) -> str:
    found = _ENTITY.search(file)
    stem = file.split(".", maxsplit=1)[0]
    return found[1] if found else re.sub(r"[^a-zA-Z0-9]", "", stem)
