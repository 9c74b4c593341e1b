"""Real lesion masks as shapes: cropped, centred, and read when first used."""

import hashlib
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Float
from scipy import ndimage

from hemitwin._shapes import Grid
from hemitwin.transforms.loading import load_mask, voxel_sizes

__all__ = ["LesionMaskLibrary", "LesionShape"]

_PAD = 8
_COARSE_MM = 2.0


@dataclass(frozen=True, eq=False)
class LesionShape:
    """One mask as a signed distance, negative inside.

    Attributes
    ----------
    distance_mm : (x, y, z) float32
        On the cropped grid.
    spacing_mm : (3,)
        Its voxel sizes along RAS axes.
    centre_voxel : (3,)
        Centroid of the mask on that grid.
    volume_mm3 : float
        What the mask fills.
    half_width_mm : (3,)
        From the centroid to beyond its farthest voxel, along each axis.
    """

    distance_mm: Grid
    spacing_mm: Float[np.ndarray, "3"]
    centre_voxel: Float[np.ndarray, "3"]
    volume_mm3: float
    half_width_mm: Float[np.ndarray, "3"]

    def distance_at(self, points_mm: Float[np.ndarray, " 3 *n"]) -> Float[np.ndarray, " *n"]:
        """Return the signed distance at points given in millimetres from the centroid.

        Beyond the cropped grid it grows by the distance to it.
        """
        column = (3,) + (1,) * (points_mm.ndim - 1)
        voxels = points_mm / self.spacing_mm.reshape(column) + self.centre_voxel.reshape(column)
        last = np.asarray(self.distance_mm.shape).reshape(column) - 1
        within = np.clip(voxels, 0, last)
        beyond = np.linalg.norm((voxels - within) * self.spacing_mm.reshape(column), axis=0)
        nearby = ndimage.map_coordinates(self.distance_mm, within, order=1)
        return np.asarray(nearby + beyond)


class LesionMaskLibrary:
    """A folder of binary NIfTI masks, one lesion (of one or several parts) each.

    Parameters
    ----------
    folder : Path
        Its `*.nii` and `*.nii.gz` files are the masks, by sorted name; names that begin with a
        dot, such as macOS's ``._mask.nii.gz``, are none.

    Raises
    ------
    FileNotFoundError
        If the folder holds no such file.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        files = sorted([*self.folder.glob("*.nii"), *self.folder.glob("*.nii.gz")])
        names = (file.name for file in files)
        self.names: tuple[str, ...] = tuple(name for name in names if not name.startswith("."))
        if not self.names:
            msg = f"a mask folder must hold NIfTI files, {self.folder} has none; check the path"
            raise FileNotFoundError(msg)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over all masks' names and bytes: what decides which lesions a seed draws.

        It is computed when first asked for, and once.
        """
        lines = (f"{name} {self.digest_of(name)}\n" for name in self.names)
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def digest_of(self, name: str) -> str:
        """Return the SHA-256 of one mask's bytes.

        Raises
        ------
        ValueError
            If there is no such mask.
        """
        with self._path_of(name).open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()

    def load(self, name: str) -> LesionShape:
        """Return one mask as a shape; a file that was replaced is read again.

        Raises
        ------
        ValueError
            If there is no such mask, or it is empty.
        """
        path = self._path_of(name)
        state = path.stat()
        return _load_shape(path, state.st_size, state.st_mtime_ns, state.st_ino)

    def _path_of(self, name: str) -> Path:
        if name not in self.names:
            msg = f"a mask must be one of {len(self.names)} in {self.folder}, got {name!r}"
            raise ValueError(msg)
        return self.folder / name


@lru_cache(maxsize=1024)  # a few hundred masks of some 0.1 MB each
def _load_shape(path: Path, size: int, modified_ns: int, inode: int) -> LesionShape:
    del size, modified_ns, inode  # they tell the cache that the file was replaced
    scan = load_mask(path)
    inside = scan.data > 0.5
    if not inside.any():
        msg = f"a lesion mask must hold voxels above 0.5, {path} has none; remove it"
        raise ValueError(msg)
    box = ndimage.find_objects(inside.astype(np.int8))[0]
    mask = np.pad(inside[box], _PAD)
    spacing = np.asarray(voxel_sizes(scan.affine))
    outer = ndimage.distance_transform_edt(~mask, sampling=spacing)
    inner = ndimage.distance_transform_edt(mask, sampling=spacing)
    volume = float(inside.sum() * np.prod(spacing))
    # A distance is as smooth as it can be: it needs no finer grid than the volumes have.
    steps = np.maximum(np.round(_COARSE_MM / spacing), 1).astype(int)
    distance = (outer - inner).astype(np.float32)[tuple(slice(None, None, n) for n in steps)]
    voxels = np.argwhere(mask)
    centre = voxels.mean(axis=0)
    half_width = (np.abs(voxels - centre).max(axis=0) + 1) * spacing
    kept = np.ascontiguousarray(distance)
    return LesionShape(kept, spacing * steps, centre / steps, volume, half_width)
