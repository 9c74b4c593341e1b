"""Read one scan from disk, with its place in the world kept and every defect named."""
# mypy: disallow-untyped-calls=False
# nibabel is typed in part only.

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import nibabel as nib
import numpy as np
from isal.igzip_lib import IsalError
from jaxtyping import Shaped
from nibabel.filebasedimages import ImageFileError, SerializableImage
from nibabel.nifti1 import Nifti1Header
from nibabel.spatialimages import HeaderDataError, SpatialImage
from nibabel.wrapstruct import WrapStructError

from hemitwin._error_text import error_text
from hemitwin._shapes import Affine, Grid
from hemitwin.transforms.nifti_header import compare_forms, millimetres_per_unit
from hemitwin.transforms.unpacking import CEILING_BYTES, check_header_size, unpack

__all__ = ["Scan", "load_scan", "voxel_sizes"]

logger = logging.getLogger(__name__)

_COMPRESSED = {".gz", ".mgz"}
_UNREADABLE: tuple[type[Exception], ...] = (
    EOFError,
    cast("type[Exception]", IsalError),  # its stub takes the class for an exception
    OSError,
    ImageFileError,
    HeaderDataError,
    WrapStructError,
)
_SMALLEST_STEP = 1e-6
_LEAST_ORTHOGONALITY = 0.1
_SLAB = 8


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
    notes : tuple of str
        What its header left open or got wrong, and how that was settled.
    """

    data: Grid
    affine: Affine
    path: Path | None = None
    notes: tuple[str, ...] = ()


def load_scan(path: Path, *, ceiling_bytes: int = CEILING_BYTES) -> Scan:
    """Load a 3D volume and bring its axes into RAS+ order without resampling.

    Stored numbers are scaled by the header's slope and intercept; a slope of 0 or NaN means, as
    in the NIfTI standard, that they are the values. Units other than millimetres are converted or,
    where they can only be a wrong entry, passed over. Each such repair is logged and noted.

    Parameters
    ----------
    path : Path
        Any format nibabel reads; a compressed file is unpacked once, in bounded pieces.
    ceiling_bytes : int
        The most voxel data, unpacked, that a file may declare.

    Returns
    -------
    Scan
        The sform is used where its code is set, else the qform.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged, too large, not one 3D volume, not finite or constant, or its affine
        is unusable, of implausible size or says two things about which side is left.
    """
    path = Path(path)
    if not path.is_file():
        msg = f"a scan must exist; there is no file {path}; check the path and its spelling"
        raise FileNotFoundError(msg)
    image, data = _read(path, ceiling_bytes)
    volume = _single_volume(data, path)
    affine, notes = _place(image, path)
    _check_values(volume, path)
    for note in notes:
        logger.warning("%s: %s", path.name, note)
    return _to_ras(volume, affine, path, notes)


def voxel_sizes(affine: Affine) -> tuple[float, float, float]:
    """Return the lengths in millimetres of one step along each voxel axis.

    Examples
    --------
    >>> voxel_sizes(np.diag([1.0, 2.0, 3.0, 1.0]))
    (1.0, 2.0, 3.0)
    """
    i, j, k = np.linalg.norm(affine[:3, :3], axis=0)
    return float(i), float(j), float(k)


@contextmanager
def _readable(path: Path, *more: type[Exception]) -> Iterator[None]:
    """Name the file in what nibabel and zlib raise about it."""
    try:
        yield
    except (*_UNREADABLE, *more) as error:
        msg = (
            f"a scan must be a whole, readable image; {path} is not "
            f"({error_text(error)}); copy it again"
        )
        raise ValueError(msg) from error


def _read(path: Path, ceiling_bytes: int) -> tuple[SpatialImage, Shaped[np.ndarray, "..."]]:
    with _readable(path):
        check_header_size(path)
    with _readable(path, ValueError):
        image = nib.load(path)
    shape = image.shape if isinstance(image, SpatialImage) else ()
    if not isinstance(image, SpatialImage) or len(shape) < 3 or set(shape[3:]) - {1}:
        msg = f"a scan must be one 3D volume; {path} has shape {shape}; extract one volume first"
        raise ValueError(msg)
    declared = math.prod(shape) * image.get_data_dtype().itemsize
    if declared > ceiling_bytes:
        msg = (
            f"a scan must hold at most {ceiling_bytes} bytes of voxels; {path} declares "
            f"{declared}, shape {shape}; if it is no mistake, resample it first"
        )
        raise ValueError(msg)
    if path.suffix in _COMPRESSED and isinstance(image, SerializableImage):
        # nibabel stops before the checksum at the end of the file: damage would go unnoticed
        with _readable(path):
            content = unpack(path, declared)
        with _readable(path, ValueError):
            image = type(image).from_bytes(content)
    with _readable(path, ValueError):
        return image, np.asanyarray(image.dataobj)


def _single_volume(data: Shaped[np.ndarray, "..."], path: Path) -> Shaped[np.ndarray, " x y z"]:
    """Return three axes; whole numbers as they are, since they become float32 when turned."""
    if data.dtype.kind not in "fiub":
        msg = (
            f"a scan must hold real numbers; {path} holds {data.dtype}; convert it to grey values"
        )
        raise ValueError(msg)
    volume = data.reshape(data.shape[:3])
    if volume.dtype.kind != "f":
        return volume
    with np.errstate(over="ignore"):  # too large for float32 becomes inf, which is refused by name
        return volume.astype(np.float32, copy=False)


def _check_values(volume: Shaped[np.ndarray, " x y z"], path: Path) -> None:
    if volume.size == 0 or min(volume.shape) < 2:
        msg = f"a scan must have 2 voxels or more on each axis; {path} has shape {volume.shape}"
        raise ValueError(msg)
    low, high = float(volume.min()), float(volume.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        count = int((~np.isfinite(volume)).sum())
        msg = f"a scan must be finite; {path} has {count} NaN or infinite voxels; repair it first"
        raise ValueError(msg)
    if low == high:
        msg = f"a scan must show something; every voxel of {path} is {low:g}; export it again"
        raise ValueError(msg)


def _place(image: SpatialImage, path: Path) -> tuple[Affine, tuple[str, ...]]:
    """Return the affine in millimetres, with notes on how it was settled."""
    affine = np.asarray(image.affine, dtype=np.float64)
    _check_affine(affine, path)
    header = image.header if isinstance(image.header, Nifti1Header) else None
    factor, unit = millimetres_per_unit(affine, header, path)
    notes = [] if unit is None else [unit]
    if header is not None:
        notes += compare_forms(header, image.shape, path, mm_per_unit=factor)
    return affine if factor == 1 else np.diag([factor] * 3 + [1.0]) @ affine, tuple(notes)


def _check_affine(affine: Affine, path: Path) -> None:
    linear = affine[:3, :3]
    finite = bool(np.isfinite(affine).all())
    sizes = voxel_sizes(affine) if finite else (0.0, 0.0, 0.0)
    if min(sizes) >= _SMALLEST_STEP:
        orthogonality = abs(float(np.linalg.det(linear / np.asarray(sizes))))
        if orthogonality >= _LEAST_ORTHOGONALITY:
            return
    msg = (
        f"a scan's affine must be invertible; {path} has {linear.tolist()}; "
        "repair its sform or qform"
    )
    raise ValueError(msg)


def _to_ras(
    volume: Shaped[np.ndarray, " x y z"], affine: Affine, path: Path, notes: tuple[str, ...]
) -> Scan:
    orientation = nib.orientations.io_orientation(affine)
    turned = nib.orientations.apply_orientation(volume, orientation)
    back = nib.orientations.inv_ornt_aff(orientation, volume.shape)
    data = np.empty(turned.shape, dtype=np.float32)
    for first in range(0, turned.shape[1], _SLAB):  # a slab fits into the cache: twice as quick
        data[:, first : first + _SLAB] = turned[:, first : first + _SLAB]
    return Scan(data, np.asarray(affine @ back, dtype=np.float64), path, notes)
