"""An atlas from a CIFTI file of labels."""

from pathlib import Path
from typing import cast

import numpy as np
from jaxtyping import Int32
from nibabel.cifti2.cifti2 import Cifti2Image
from nibabel.cifti2.cifti2_axes import BrainModelAxis, LabelAxis
from nibabel.imageglobals import LoggingOutputSuppressor

from hemitwin._error_text import error_text
from hemitwin.atlases.atlas import Atlas
from hemitwin.atlases.formats.region_rows import hex_color, regions_of_names
from hemitwin.atlases.parcellation import Parcellation
from hemitwin.atlases.region_names import is_no_area
from hemitwin.atlases.surfaces.meshes import FSLR_VOLUME_SPACE

__all__ = ["atlas_of_cifti"]

_SIDES = {"CORTEX_LEFT": "L", "CORTEX_RIGHT": "R"}

Labels = Int32[np.ndarray, " n"]
Vertices = Int32[np.ndarray, " v"]


def atlas_of_cifti(path: Path, name: str) -> Atlas:
    """Read a ``.dlabel.nii`` of one map.

    Raises
    ------
    ValueError
        When the file cannot be read, holds no labels over grayordinates or several maps, has
        voxels of a structure on the other side of the brain, or is no atlas.
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
    _require_sides(path, places)
    volume = np.zeros(places.volume_shape, dtype=np.int32)
    volume[tuple(places.voxel[inside].T)] = values[inside]
    voxels = Parcellation(volume, places.affine, regions, FSLR_VOLUME_SPACE)
    return Atlas(name, regions, cortex, voxels, smooth=True)


def _read(path: Path) -> tuple[LabelAxis, BrainModelAxis, Labels]:
    try:
        with LoggingOutputSuppressor():  # CIFTI has no voxel sizes, which is no reason to worry
            image = Cifti2Image.from_filename(path)
        labels, places = (image.header.get_axis(number) for number in (0, 1))
        volume = image.header.get_index_map(1).volume
        values = np.rint(np.asarray(image.dataobj)[0]).astype(np.int32)
    except Exception as error:  # nibabel raises many kinds for a damaged file
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
    if volume is not None:  # nibabel passes over the unit that the matrix is in
        exponent = volume.transformation_matrix_voxel_indices_ijk_to_xyz.meter_exponent
        places.affine = np.diag([10.0 ** (exponent + 3)] * 3 + [1.0]) @ places.affine
    return labels, places, values


def _require_sides(path: Path, places: BrainModelAxis) -> None:
    """Hold the affine of the voxels against the sides that their structures are named for."""
    for structure, rows, _ in places.iter_structures():
        side = str(structure).rpartition("_")[2]
        voxels = places.voxel[rows][places.volume_mask[rows]]
        if side not in {"LEFT", "RIGHT"} or not len(voxels) or places.affine is None:
            continue
        x_mm = float((voxels @ places.affine[0, :3] + places.affine[0, 3]).mean())
        if (x_mm < 0) != (side == "LEFT"):
            msg = (
                f"the structures of {path} must lie on their side, but {structure} lies at x = "
                f"{x_mm:.3g} mm, where left is below 0; correct the affine in the file, or make "
                f"it again with wb_command -cifti-create-label"
            )
            raise ValueError(msg)


def _cortex(places: BrainModelAxis, values: Labels) -> dict[str, Vertices]:
    cortex: dict[str, Vertices] = {}
    for structure, rows, model in places.iter_structures():
        if side := _SIDES.get(str(structure).removeprefix("CIFTI_STRUCTURE_")):
            vertices = np.asarray(cast("BrainModelAxis", model).vertex)
            cortex[side] = np.zeros(places.nvertices[structure], dtype=np.int32)
            cortex[side][vertices] = values[rows]
    return cortex
