"""Read one scan from disk, with its place in the world kept and every defect named."""
# mypy: disallow-untyped-calls=False
# nibabel is typed in part only.

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from jaxtyping import Shaped
from nibabel.filebasedimages import ImageFileError, SerializableImage
from nibabel.spatialimages import SpatialImage

from hemitwin._shapes import Affine, Grid

__all__ = ["Scan", "load_scan", "voxel_sizes"]

_COMPRESSED = {".gz", ".mgz"}
_SMALLEST_VOXEL_MM = 1e-3
_LEAST_ORTHOGONALITY = 0.1


@dataclass(frozen=True, eq=False)
class Scan:
    """One 3D volume in RAS+ voxel order.

    Attributes
    ----------
    data : (x, y, z) float32
        Intensities as stored, finite.
    affine : (4, 4) float64
        Voxel index to native RAS+ millimetres; may be oblique.
    path : Path or None
        Where it came from.
    """

    data: Grid
    affine: Affine
    path: Path | None = None


def load_scan(path: Path) -> Scan:
    """Load a 3D volume and bring its axes into RAS+ order without resampling.

    Parameters
    ----------
    path : Path
        Any format nibabel reads; a compressed file is unpacked once.

    Returns
    -------
    Scan
        The sform is used where its code is set, else the qform.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged, not one 3D volume, not finite, constant, or its affine is unusable.
    """
    path = Path(path)
    if not path.is_file():
        msg = f"a scan must exist; there is no file {path}; check the path and its spelling"
        raise FileNotFoundError(msg)
    data, affine = _read(path)
    volume = _single_volume(data, path)
    _check_affine(affine, path)
    _check_values(volume, path)
    return _to_ras(volume, affine, path)


def voxel_sizes(affine: Affine) -> tuple[float, float, float]:
    """Return the lengths in millimetres of one step along each voxel axis.

    Examples
    --------
    >>> voxel_sizes(np.diag([1.0, 2.0, 3.0, 1.0]))
    (1.0, 2.0, 3.0)
    """
    i, j, k = np.linalg.norm(affine[:3, :3], axis=0)
    return float(i), float(j), float(k)


def _read(path: Path) -> tuple[Shaped[np.ndarray, "..."], Affine]:
    try:
        image = _volume_image(path)
        data = np.asanyarray(image.dataobj)
    except (EOFError, zlib.error, OSError, ImageFileError) as error:
        msg = f"a scan must be a whole, readable image; {path} is not ({error}); copy it again"
        raise ValueError(msg) from error
    return data, np.asarray(image.affine, dtype=np.float64)


def _volume_image(path: Path) -> SpatialImage:
    image = nib.load(path)
    shape = image.shape if isinstance(image, SpatialImage) else ()
    if not isinstance(image, SpatialImage) or len(shape) < 3 or set(shape[3:]) - {1}:
        msg = f"a scan must be one 3D volume; {path} has shape {shape}; extract one volume first"
        raise ValueError(msg)
    if path.suffix in _COMPRESSED and isinstance(image, SerializableImage):
        # nibabel stops before the checksum at the end of the file: damage would go unnoticed
        return type(image).from_bytes(gzip.decompress(path.read_bytes()))
    return image


def _single_volume(data: Shaped[np.ndarray, "..."], path: Path) -> Grid:
    if data.dtype.kind not in "fiub":
        msg = (
            f"a scan must hold real numbers; {path} holds {data.dtype}; convert it to grey values"
        )
        raise ValueError(msg)
    with np.errstate(over="ignore"):  # too large for float32 becomes inf, which is refused by name
        return data.reshape(data.shape[:3]).astype(np.float32)


def _check_values(volume: Grid, path: Path) -> None:
    low, high = float(volume.min(initial=np.inf)), float(volume.max(initial=-np.inf))
    if volume.size == 0 or min(volume.shape) < 2:
        msg = f"a scan must have 2 voxels or more on each axis; {path} has shape {volume.shape}"
        raise ValueError(msg)
    if not (np.isfinite(low) and np.isfinite(high)):
        count = int((~np.isfinite(volume)).sum())
        msg = f"a scan must be finite; {path} has {count} NaN or infinite voxels; repair it first"
        raise ValueError(msg)
    if low == high:
        msg = f"a scan must show something; every voxel of {path} is {low:g}; export it again"
        raise ValueError(msg)


def _check_affine(affine: Affine, path: Path) -> None:
    linear = affine[:3, :3]
    finite = bool(np.isfinite(affine).all())
    sizes = voxel_sizes(affine) if finite else (0.0, 0.0, 0.0)
    if min(sizes) >= _SMALLEST_VOXEL_MM:
        orthogonality = abs(float(np.linalg.det(linear / np.asarray(sizes))))
        if orthogonality >= _LEAST_ORTHOGONALITY:
            return
    msg = (
        f"a scan's affine must be invertible; {path} has {linear.tolist()}; "
        "repair its sform or qform"
    )
    raise ValueError(msg)


def _to_ras(volume: Grid, affine: Affine, path: Path) -> Scan:
    image = nib.as_closest_canonical(nib.Nifti1Image(volume, affine))
    data = np.ascontiguousarray(np.asanyarray(image.dataobj), dtype=np.float32)
    return Scan(data, np.asarray(image.affine, dtype=np.float64), path)
