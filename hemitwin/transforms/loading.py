"""Read a volume from disk, with its place in the world kept and every defect named.

This is the one reader: whatever a volume is for, it decides which side of it is left.
"""
# mypy: disallow-untyped-calls=False
# nibabel is typed in part only.

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from jaxtyping import Float32, Int32, Shaped
from nibabel.freesurfer.mghformat import MGHImage
from nibabel.nifti1 import Nifti1Header
from nibabel.spatialimages import SpatialImage

from hemitwin._shapes import Affine, Grid
from hemitwin.transforms.nifti_header import SIDE_IS_A_GUESS, compare_forms, millimetres_per_unit
from hemitwin.transforms.unpacking import CEILING_BYTES
from hemitwin.transforms.volume_files import (
    has_no_orientation,
    open_volume,
    read_voxels,
    volume_members,
)

__all__ = [
    "Scan",
    "guessed_side",
    "load_geometry",
    "load_labels",
    "load_mask",
    "load_scan",
    "load_series",
    "load_vectors",
    "load_volume",
    "volume_members",
    "voxel_sizes",
]

logger = logging.getLogger(__name__)

_SERIES_BYTES = 8 * CEILING_BYTES
_SMALLEST_STEP = 1e-6
_LEAST_ORTHOGONALITY = 0.1
_SAME_GRID_MM = 1e-3
_ROUNDING = 1e-3
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

    @property
    def side_is_guess(self) -> bool:
        """Whether its header left open which side is left."""
        return guessed_side(self.notes) is not None


@dataclass(frozen=True, eq=False)
class _Stored:
    """What a file holds, its axes in the order of the file."""

    values: Shaped[np.ndarray, "..."]
    affine: Affine
    notes: tuple[str, ...]


def load_scan(path: Path, *, ceiling_bytes: int = CEILING_BYTES, as_stored: bool = False) -> Scan:
    """Load a scan that is to be prepared, its axes brought into RAS+ order without resampling.

    Stored numbers are scaled by the header's slope and intercept; a slope of 0 or NaN means, as
    in the NIfTI standard, that they are the values. Units other than millimetres are converted or,
    where they can only be a wrong entry, passed over. Each such repair is logged and noted.

    Parameters
    ----------
    path : Path
        NIfTI, in one file or as a pair, or FreeSurfer's MGH; a compressed file is unpacked once,
        in bounded pieces.
    ceiling_bytes : int
        The most voxel data, unpacked, that a file may declare.
    as_stored : bool
        Voxels lie in memory in the order of the file, whose axes are seen in RAS+ order all the
        same: faster for who reads some planes. Else the last axis is contiguous.

    Returns
    -------
    Scan
        The sform is used where its code is set, else the qform. A scan whose header sets neither
        is taken all the same, with a note: which side is left is a guess (see `guessed_side`).

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged, too large, of another format, not one 3D volume, not finite or
        constant, or its affine is unusable, of implausible size or says two things about which
        side is left.
    """
    return _finite_volume(Path(path), "scan", ceiling_bytes, as_stored=as_stored)


def load_volume(
    path: Path, *, ceiling_bytes: int = CEILING_BYTES, as_stored: bool = False
) -> Scan:
    """Load a volume that must lie in a stated space: a prepared one, or a relevance map.

    Parameters
    ----------
    path, ceiling_bytes, as_stored
        As for `load_scan`.

    Returns
    -------
    Scan

    Raises
    ------
    FileNotFoundError, ValueError
        As `load_scan` does, and where the header does not say which side is left.
    """
    scan = _finite_volume(Path(path), "volume", ceiling_bytes, as_stored=as_stored)
    _require_side(Path(path), "volume", scan.notes)
    return scan


def load_mask(path: Path, *, beside: Scan | None = None) -> Scan:
    """Load a mask; it may be empty, and NaN is outside.

    Parameters
    ----------
    path : Path
        As for `load_scan`.
    beside : Scan, optional
        The scan that it comes with, or that scan's grid.

    Returns
    -------
    Scan
        Values as stored: which are inside is for the caller to say.

    Raises
    ------
    FileNotFoundError, ValueError
        As `load_scan` does, but not where it is constant; and where the header does not say which
        side is left, unless the header of the scan beside it does not either and both have the
        same grid: whatever the guess, it is the same for both. A mask that does say is refused
        beside a scan that does not.
    """
    path = Path(path)
    stored = _read(path, "mask")
    data = _in_ras(stored.values, stored.affine)
    data[np.isnan(data)] = 0
    _finite_range(data, path, "mask")
    mask = Scan(data, _ras_affine(stored), path, stored.notes)
    if beside is None or not beside.side_is_guess:
        _require_side(path, "mask", mask.notes)
    elif not (mask.side_is_guess and _same_grid(mask, beside)):
        msg = (
            f"a mask and its scan must lie in one space; the header of {beside.path} does not "
            f"say which side is left, so that {path} may be its mirror image; set the scan's "
            f"sform, or give a mask on the scan's own grid without sform and qform"
        )
        raise ValueError(msg)
    return mask


def load_series(path: Path) -> tuple[Float32[np.ndarray, " n x y z"], Affine]:
    """Load a map, or a series of them; NaN is no value.

    Parameters
    ----------
    path : Path
        As for `load_scan`, of three or four axes.

    Returns
    -------
    volumes : (n, x, y, z) float32
        In RAS+ order; one of a 3D file.
    affine : (4, 4) float64
        Voxel index to RAS+ millimetres.

    Raises
    ------
    FileNotFoundError, ValueError
        As `load_volume` does, but not where a map is constant or holds NaN; and where one holds
        nothing else.
    """
    path = Path(path)
    stored = _read(path, "map", ceiling_bytes=_SERIES_BYTES, axes=4)
    _require_side(path, "map", stored.notes)
    values = stored.values
    series = [values] if values.ndim == 3 else list(np.moveaxis(values, -1, 0))
    turned = [_in_ras(one, stored.affine) for one in series]
    for number, volume in enumerate(turned):
        _require_values(volume, str(path) if len(turned) == 1 else f"volume {number} of {path}")
    return np.stack(turned), _ras_affine(stored)


def load_labels(path: Path) -> tuple[Int32[np.ndarray, " x y z"], Affine]:
    """Load a label volume.

    Parameters
    ----------
    path : Path
        As for `load_scan`.

    Returns
    -------
    labels : (x, y, z) int32
        In RAS+ order; what a scale factor has moved off by up to 0.001 is rounded, and NaN is 0.
    affine : (4, 4) float64
        Voxel index to RAS+ millimetres.

    Raises
    ------
    FileNotFoundError, ValueError
        As `load_volume` does, but not where it is constant; and where it holds anything but whole
        numbers of 32 bits.
    """
    path = Path(path)
    stored = _read(path, "label volume")
    _require_side(path, "label volume", stored.notes)
    values = stored.values
    if values.dtype.kind == "f":
        values = np.where(np.isnan(values), 0, values)
        whole = np.rint(values)
        if not (np.isfinite(values) & np.isclose(values, whole, rtol=0, atol=_ROUNDING)).all():
            msg = (
                f"{path} must hold whole numbers, got others; name a label volume, not "
                f"probabilities"
            )
            raise ValueError(msg)
        values = whole
    if not -(2**31) <= float(values.min()) <= float(values.max()) < 2**31:
        msg = f"{path} must hold labels of 32 bits, got up to {values.max()}; renumber them"
        raise ValueError(msg)
    return _in_ras(values, stored.affine, dtype=np.int32), _ras_affine(stored)


def load_vectors(path: Path) -> tuple[Float32[np.ndarray, " x y z 3"], Affine]:
    """Load a NIfTI field of vectors, as ITK writes it: three numbers along the fifth axis.

    Returns
    -------
    vectors : (x, y, z, 3) float32
        Grid in RAS+ order; components as stored.
    affine : (4, 4) float64
        Voxel index to RAS+ millimetres.

    Raises
    ------
    FileNotFoundError, ValueError
        As `load_volume` does, and where it holds no vectors of three numbers.
    """
    path = Path(path)
    stored = _read(path, "field", ceiling_bytes=_SERIES_BYTES, axes=5)
    _require_side(path, "field", stored.notes)
    if stored.values.ndim != 5 or stored.values.shape[3:] != (1, 3):
        msg = f"{path} must hold vectors of three numbers, got shape {stored.values.shape}"
        raise ValueError(msg)
    parts = [_in_ras(stored.values[..., 0, part], stored.affine) for part in range(3)]
    vectors = np.stack(parts, axis=-1)
    _finite_range(vectors, path, "field")
    return vectors, _ras_affine(stored)


def load_geometry(path: Path) -> tuple[tuple[int, int, int], Affine]:
    """Load a volume's grid, in the order of the file, and no voxel.

    Returns
    -------
    shape : (3,) int
        Voxels along the stored axes.
    affine : (4, 4) float64
        Index along the stored axes to RAS+ millimetres.

    Raises
    ------
    FileNotFoundError, ValueError
        As `load_volume` does, of what a header tells.
    """
    path = Path(path)
    image = open_volume(path, "volume")
    shape = _shape_of(image, path, "volume", axes=3)
    affine, notes = _place(image, path, "volume")
    _require_side(path, "volume", notes)
    i, j, k = shape
    return (i, j, k), affine


def guessed_side(notes: Sequence[str]) -> str | None:
    """Return the one of a scan's notes that says that its header left open which side is left.

    Examples
    --------
    >>> guessed_side(["header sets neither sform nor qform: which side is left is a guess"])
    'header sets neither sform nor qform: which side is left is a guess'
    >>> guessed_side(["header in metres: converted to millimetres"])
    """
    return next((note for note in notes if note.endswith(SIDE_IS_A_GUESS)), None)


def voxel_sizes(affine: Affine) -> tuple[float, float, float]:
    """Return the lengths in millimetres of one step along each voxel axis.

    Examples
    --------
    >>> voxel_sizes(np.diag([1.0, 2.0, 3.0, 1.0]))
    (1.0, 2.0, 3.0)
    """
    i, j, k = np.linalg.norm(affine[:3, :3], axis=0)
    return float(i), float(j), float(k)


def _finite_volume(path: Path, what: str, ceiling_bytes: int, *, as_stored: bool = False) -> Scan:
    stored = _read(path, what, ceiling_bytes=ceiling_bytes)
    volume = stored.values
    if min(volume.shape) < 2:
        msg = f"a {what} must have 2 voxels or more on each axis; {path} has shape {volume.shape}"
        raise ValueError(msg)
    data = _in_ras(volume, stored.affine, as_stored=as_stored)
    low, high = _finite_range(data, path, what)
    if low == high:
        msg = f"a {what} must show something; every voxel of {path} is {low:g}; export it again"
        raise ValueError(msg)
    return Scan(data, _ras_affine(stored), path, stored.notes)


def _read(path: Path, what: str, *, ceiling_bytes: int = CEILING_BYTES, axes: int = 3) -> _Stored:
    """Read a file of so many axes at most, its place first: what is refused is not unpacked."""
    image = open_volume(path, what)
    shape = _shape_of(image, path, what, axes=axes)
    declared = math.prod(shape) * image.get_data_dtype().itemsize
    if declared > ceiling_bytes:
        msg = (
            f"a {what} must hold at most {ceiling_bytes} bytes of voxels; {path} declares "
            f"{declared}, shape {shape}; if it is no mistake, resample it first"
        )
        raise ValueError(msg)
    affine, notes = _place(image, path, what)
    values = read_voxels(image, path, what, declared)
    if values.dtype.kind not in "fiub":
        msg = (
            f"a {what} must hold real numbers; {path} holds {values.dtype}; convert it to grey "
            f"values"
        )
        raise ValueError(msg)
    for note in notes:
        logger.warning("%s: %s", path.name, note)
    return _Stored(values.reshape(shape), affine, notes)


def _shape_of(image: SpatialImage, path: Path, what: str, *, axes: int) -> tuple[int, ...]:
    """Return a volume's shape, without axes of one voxel at its end."""
    shape = tuple(int(length) for length in image.shape)
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if sorted(shape[:3])[:-1] == [1, 1]:
        msg = (
            f"a {what} must be a volume; {path} has shape {image.shape}, values in a row, as "
            f"FreeSurfer saves an overlay of a surface's vertices, which have no place in a grid; "
            f"give the volume that it was sampled from, or bring it to one with mri_surf2vol"
        )
        raise ValueError(msg)
    if not 3 <= len(shape) <= axes or 0 in shape:
        wanted = {3: "one 3D volume", 4: "3D or 4D"}.get(axes, "vectors on a 3D grid")
        msg = (
            f"a {what} must be {wanted}; {path} has shape {image.shape}; extract one volume first"
        )
        raise ValueError(msg)
    return shape


def _place(image: SpatialImage, path: Path, what: str) -> tuple[Affine, tuple[str, ...]]:
    """Return the affine in millimetres, with notes on how it was settled."""
    affine = np.asarray(image.affine, dtype=np.float64)
    _check_affine(affine, path, what)
    header = image.header if isinstance(image.header, Nifti1Header) else None
    factor, unit = millimetres_per_unit(affine, header, path)
    notes = [] if unit is None else [unit]
    if header is not None:
        notes += compare_forms(header, image.shape, path, mm_per_unit=factor)
    if isinstance(image, MGHImage) and has_no_orientation(path):
        notes.append(f"header sets no orientation: {SIDE_IS_A_GUESS}")
    return affine if factor == 1 else np.diag([factor] * 3 + [1.0]) @ affine, tuple(notes)


def _check_affine(affine: Affine, path: Path, what: str) -> None:
    linear = affine[:3, :3]
    finite = bool(np.isfinite(affine).all())
    sizes = voxel_sizes(affine) if finite else (0.0, 0.0, 0.0)
    if min(sizes) >= _SMALLEST_STEP:
        orthogonality = abs(float(np.linalg.det(linear / np.asarray(sizes))))
        if orthogonality >= _LEAST_ORTHOGONALITY:
            return
    msg = (
        f"a {what}'s affine must be invertible; {path} has {linear.tolist()}; "
        "repair its sform or qform"
    )
    raise ValueError(msg)


def _require_side(path: Path, what: str, notes: Sequence[str]) -> None:
    if guess := guessed_side(notes):
        msg = (
            f"a {what} must lie in a stated space; {path}: {guess}; set its sform, for example "
            f"with fslcpgeom from an image on the same grid"
        )
        raise ValueError(msg)


def _finite_range(
    data: Float32[np.ndarray, "*grid"], path: Path, what: str
) -> tuple[float, float]:
    low, high = float(data.min()), float(data.max())
    if not np.isfinite([low, high]).all():
        count = int((~np.isfinite(data)).sum())
        msg = (
            f"a {what} must be finite; {path} has {count} NaN or infinite voxels; repair it first"
        )
        raise ValueError(msg)
    return low, high


def _require_values(data: Grid, name: str) -> None:
    """Refuse a map that is infinite somewhere, or NaN everywhere."""
    if infinite := int(np.isinf(data).sum()):
        msg = (
            f"a map must be finite, or NaN where it has no value; {name} has {infinite} infinite "
            f"voxels; set them to NaN"
        )
        raise ValueError(msg)
    if np.isnan(data).all():
        msg = f"a map must hold a value; every voxel of {name} is NaN; export it again"
        raise ValueError(msg)


def _same_grid(one: Scan, other: Scan) -> bool:
    near = np.allclose(one.affine, other.affine, rtol=0, atol=_SAME_GRID_MM)
    return one.data.shape == other.data.shape and near


def _in_ras(
    volume: Shaped[np.ndarray, " x y z"],
    affine: Affine,
    dtype: type[np.generic] = np.float32,
    *,
    as_stored: bool = False,
) -> Shaped[np.ndarray, " a b c"]:
    orientation = nib.orientations.io_orientation(affine)
    turned = nib.orientations.apply_orientation(volume, orientation)
    with np.errstate(over="ignore"):  # too large for float32 becomes inf, which is refused by name
        if as_stored:
            stored: np.ndarray = turned.astype(dtype, order="K")
            return stored
        data = np.empty(turned.shape, dtype=dtype)
        for first in range(0, turned.shape[1], _SLAB):  # a slab fits into the cache
            data[:, first : first + _SLAB] = turned[:, first : first + _SLAB]
    return data


def _ras_affine(stored: _Stored) -> Affine:
    orientation = nib.orientations.io_orientation(stored.affine)
    back = nib.orientations.inv_ornt_aff(orientation, stored.values.shape[:3])
    return np.asarray(stored.affine @ back, dtype=np.float64)
