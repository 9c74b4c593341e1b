"""Unpack a compressed image, up to what it declares, its checksum held against its content."""
# mypy: disallow-untyped-calls=False
# nibabel is typed in part only.

from pathlib import Path

from isal import isal_zlib
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header
from nibabel.openers import ImageOpener

__all__ = ["CEILING_BYTES", "check_header_size", "unpack"]

CEILING_BYTES = 2 * 1024**3
"""The most voxel data that is read, unpacked: a head at 0.3 mm in float32 is 1.5 GiB."""

_HEADERS = (Nifti1Header, Nifti2Header)
_HEADER_BYTES = 540  # NIfTI-2, the longer one
_SURROUNDINGS_BYTES = 16 * 1024**2  # header, extensions and what follows the voxels
_GZIP_WITH_CHECKSUM = 31  # zlib's code: it then reads gzip's frame and holds its CRC and length


def check_header_size(path: Path) -> None:
    """Refuse a NIfTI file whose header announces more than 16 MiB before its voxels.

    Extensions are read together with the header: this is looked at first, in the first 540 bytes.

    Raises
    ------
    ValueError
        If it does.
    """
    with ImageOpener(str(path)) as stream:
        head = stream.read(_HEADER_BYTES)
    for kind in _HEADERS:
        if len(head) >= kind.sizeof_hdr and kind.may_contain_header(head):
            offset = float(kind(head[: kind.sizeof_hdr], check=False)["vox_offset"])
            if not offset <= _SURROUNDINGS_BYTES:  # NaN as well
                msg = (
                    f"an image's voxels must begin within {_SURROUNDINGS_BYTES} bytes; the header "
                    f"of {path} says {offset:.0f}; export the image again"
                )
                raise ValueError(msg)


def unpack(path: Path, expected_bytes: int) -> bytes:
    """Unpack a gzip file, and stop as soon as it turns out larger than it may be.

    Parameters
    ----------
    path : Path
        One or several gzip members; zeros may follow.
    expected_bytes : int
        Size of the voxel data as the header declares it; 16 MiB more are allowed for header,
        extensions and trailer.

    Returns
    -------
    bytes
        The whole content.

    Raises
    ------
    ValueError
        If the content is larger.
    EOFError, isal.igzip_lib.IsalError
        If the file is cut off or damaged, its checksum included.
    """
    limit = expected_bytes + _SURROUNDINGS_BYTES
    packed, total = path.read_bytes(), 0
    members: list[bytes] = []
    while packed or not members:
        unpacker = isal_zlib.decompressobj(_GZIP_WITH_CHECKSUM)
        # In one go, so that nothing has to be joined; one byte over the limit tells enough.
        content = unpacker.decompress(packed, limit - total + 1)
        members.append(content)
        total += len(content)
        if total > limit:
            msg = (
                f"a compressed image must unpack to what its header declares, "
                f"{expected_bytes} bytes of voxels; {path} holds more than {limit} bytes; "
                "do not trust this file, get it again from its source"
            )
            raise ValueError(msg)
        if not unpacker.eof:
            msg = "the compressed stream ends before its end mark"
            raise EOFError(msg)
        packed = unpacker.unused_data.lstrip(b"\0")
    return members[0] if len(members) == 1 else b"".join(members)
