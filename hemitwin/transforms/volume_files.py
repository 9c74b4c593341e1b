"""The files of a volume: which formats are taken, which files belong together, read whole."""
# mypy: disallow-untyped-calls=False
# nibabel is typed in part only.

import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import cast

import numpy as np
from isal.igzip_lib import IsalError
from jaxtyping import Shaped
from nibabel.analyze import AnalyzeImage
from nibabel.arrayproxy import ArrayProxy
from nibabel.cifti2.cifti2 import Cifti2Image
from nibabel.filebasedimages import FileBasedImage, ImageFileError
from nibabel.fileholders import FileHolder
from nibabel.filename_parser import TypesFilenamesError, splitext_addext
from nibabel.freesurfer.mghformat import MGHError, MGHHeader, MGHImage
from nibabel.imageclasses import all_image_classes
from nibabel.nifti1 import Nifti1Image, Nifti1Pair
from nibabel.nifti2 import Nifti2Image, Nifti2Pair
from nibabel.openers import ImageOpener
from nibabel.spatialimages import HeaderDataError, SpatialImage
from nibabel.wrapstruct import WrapStructError

from hemitwin._error_text import error_text
from hemitwin.transforms.unpacking import check_header_size, unpack

__all__ = ["has_no_orientation", "open_volume", "read_voxels", "volume_members"]

_TAKEN = (Nifti1Image, Nifti1Pair, Nifti2Image, Nifti2Pair, MGHImage)
"""Formats whose header has a place to say which side is left, and that are tested here."""

_COMPRESSED = {".gz", ".mgz"}
_UNREADABLE: tuple[type[Exception], ...] = (
    EOFError,
    cast("type[Exception]", IsalError),  # its stub takes the class for an exception
    OSError,
    ImageFileError,
    HeaderDataError,
    WrapStructError,
    zlib.error,
    MGHError,
    TypesFilenamesError,
    ValueError,
    KeyError,  # an MGH header's code of no type
    TypeError,  # an MGH header that is cut off
    OverflowError,
)


def volume_members(path: Path) -> tuple[Path, ...]:
    """Name the files that a volume consists of.

    Parameters
    ----------
    path : Path
        A volume; of a pair, either file.

    Returns
    -------
    tuple of Path
        Header and image of a ``.hdr``/``.img`` pair, compressed as the named one is, whether they
        are there or not; any other file alone.

    Examples
    --------
    >>> [one.name for one in volume_members(Path("a.img.gz"))]
    ['a.hdr.gz', 'a.img.gz']
    >>> [one.name for one in volume_members(Path("a.nii.gz"))]
    ['a.nii.gz']
    """
    suffix = splitext_addext(path, Nifti1Pair._compressed_suffixes)[1]  # noqa: SLF001
    if suffix.lower() not in Nifti1Pair.valid_exts:
        return (path,)
    files = Nifti1Pair.filespec_to_file_map(path)
    return tuple(Path(cast("str", files[name].filename)) for name in ("header", "image"))


def open_volume(path: Path, what: str) -> SpatialImage:
    """Read a volume's header, in a format that can say which side is left.

    Parameters
    ----------
    path : Path
        NIfTI-1 or NIfTI-2, in one file or as a pair, or FreeSurfer's MGH.
    what : str
        What it should be, for messages: "scan".

    Returns
    -------
    SpatialImage
        Its voxels are not read yet.

    Raises
    ------
    FileNotFoundError
        If the file, or the other one of a pair, is not there.
    ValueError
        If the format is another one, or the header damaged or too long.
    """
    members = volume_members(path)
    for member in members:
        if not member.is_file():
            msg = (
                f"a {what} must exist; there is no file {member}; check the path and its spelling"
            )
            raise FileNotFoundError(msg)
    with _readable(path, what):
        check_header_size(members[0])
        kind = _format_of(path)
    if kind not in _TAKEN:
        raise ValueError(_reason_against(kind, path, what))
    with _readable(path, what):
        if kind is not MGHImage:
            return cast("SpatialImage", kind.from_filename(path))
        with ImageOpener(str(path)) as opened:  # by its name, nibabel would leave it open
            return MGHImage.from_stream(opened.fobj)


def read_voxels(
    image: SpatialImage, path: Path, what: str, declared_bytes: int
) -> Shaped[np.ndarray, "..."]:
    """Read the voxels of a volume whose header was read, scaled as it says.

    nibabel stops before the checksum at the end of a compressed file, so that damage would go
    unnoticed: such a file is unpacked here, whole and no further than declared.

    Parameters
    ----------
    image : SpatialImage
        From `open_volume`.
    path, what
        As there.
    declared_bytes : int
        What the header says the voxels take.

    Raises
    ------
    ValueError
        If a file is damaged, cut off, or larger than declared.
    """
    files = dict(type(image).filespec_to_file_map(path))
    content = b""
    with _readable(path, what):
        for name, holder in files.items():
            member = Path(cast("str", holder.filename))
            if member.suffix.lower() in _COMPRESSED:
                content = unpack(member, declared_bytes)
                files[name] = FileHolder(fileobj=BytesIO(content))
            elif isinstance(image, MGHImage):
                files[name] = FileHolder(fileobj=BytesIO(member.read_bytes()))
        stored = type(image).from_file_map(files).dataobj
        if len(files) == 1 and isinstance(stored, ArrayProxy):
            return _as_unpacked(stored, content)
        return np.asanyarray(stored)


def _as_unpacked(stored: ArrayProxy, content: bytes) -> Shaped[np.ndarray, "..."]:
    """Look at voxels where they were unpacked to, if they are neither scaled nor cut off.

    nibabel would copy them first.
    """
    taken = math.prod(stored.shape) * stored.dtype.itemsize
    is_plain = (stored.slope, stored.inter) == (1, 0)
    if not is_plain or len(content) < stored.offset + taken:
        return np.asanyarray(stored)
    layout = (stored.shape, stored.dtype, content, stored.offset)
    return np.ndarray(*layout, order="F" if stored.order == "F" else "C")


def has_no_orientation(path: Path) -> bool:
    """Tell whether an MGH file's header leaves open how its voxels lie.

    nibabel fills in a place of its own for those.
    """
    with ImageOpener(str(path)) as stream:
        head = stream.read(MGHHeader._hdrdtype.itemsize)  # noqa: SLF001 (the file's layout)
    return int(np.ndarray((), MGHHeader._hdrdtype, head)["goodRASFlag"]) == 0  # noqa: SLF001


@contextmanager
def _readable(path: Path, what: str) -> Iterator[None]:
    """Name the file in what nibabel and zlib raise about it."""
    try:
        yield
    except _UNREADABLE as error:
        msg = (
            f"a {what} must be a whole, readable image; {path} is not ({error_text(error)}); "
            f"copy it again"
        )
        raise ValueError(msg) from error


def _format_of(path: Path) -> type[FileBasedImage] | None:
    sniffed = None
    for kind in all_image_classes:
        fits, sniffed = kind.path_maybe_image(path, sniffed)
        if fits:
            return kind
    return None


def _reason_against(kind: type[FileBasedImage] | None, path: Path, what: str) -> str:
    if kind is None:
        return (
            f"a {what} must be a whole, readable image; {path} is in no format that is known; "
            f"copy it again"
        )
    if issubclass(kind, AnalyzeImage):
        return (
            f"a {what} must say which side is left; {path} is in Analyze format, which says "
            f"nothing of it; convert it to NIfTI (fslchfiletype NIFTI_GZ), find out which side is "
            f"left (a marker, another scan of the same person), and set its sform accordingly"
        )
    if kind is Cifti2Image:
        return (
            f"a {what} must be a volume; {path} is a CIFTI file, whose values lie on surfaces and "
            f"in structures; give a .dscalar.nii of maps or a .dlabel.nii of labels where "
            f"grayordinates are taken, or make a volume with wb_command -cifti-separate"
        )
    name = kind.__name__.removesuffix("Image")
    return (
        f"a {what} must be NIfTI (.nii, .nii.gz, .hdr with .img) or FreeSurfer's .mgh or .mgz; "
        f"{path} is {name}; convert it, and check which side is left"
    )
