"""What Connectome Workbench calls the files it opens."""

import os
from dataclasses import dataclass
from pathlib import Path

__all__ = ["DataFile"]

_TYPES = {
    ".surf.gii": "SURFACE",
    ".label.gii": "LABEL",
    ".shape.gii": "METRIC",
    ".func.gii": "METRIC",
    ".dscalar.nii": "CONNECTIVITY_DENSE_SCALAR",
    ".dlabel.nii": "CONNECTIVITY_DENSE_LABEL",
    ".pscalar.nii": "CONNECTIVITY_PARCEL_SCALAR",
    ".pconn.nii": "CONNECTIVITY_PARCEL",
    ".nii.gz": "VOLUME",
    ".nii": "VOLUME",
}


@dataclass(frozen=True)
class DataFile:
    """A file to be opened, with the side it belongs to.

    Attributes
    ----------
    path : Path
        Absolute, or relative to the present folder.
    hemisphere : str or None
        "L" or "R" for GIFTI files, None for volumes and CIFTI files.

    Raises
    ------
    ValueError
        When the suffix is unknown, or a GIFTI file names no side.

    Examples
    --------
    >>> DataFile(Path("a.dscalar.nii")).type
    'CONNECTIVITY_DENSE_SCALAR'
    """

    path: Path
    hemisphere: str | None = None

    def __post_init__(self) -> None:
        """Check suffix and side."""
        if not self.path.name.endswith(tuple(_TYPES)):
            msg = f"file must end in one of {list(_TYPES)}, got {self.path.name}; rename it"
            raise ValueError(msg)
        sides = {"L", "R"} if self.path.suffix == ".gii" else {None}
        if self.hemisphere not in sides:
            msg = (
                f"hemisphere must be L or R for GIFTI and None otherwise, "
                f"got {self.hemisphere!r} for {self.path.name}"
            )
            raise ValueError(msg)

    @property
    def type(self) -> str:
        """Workbench's name of the file's type."""
        return next(kind for suffix, kind in _TYPES.items() if self.path.name.endswith(suffix))

    def relative_to(self, folder: Path) -> str:
        """Give the path as seen from `folder`, with forward slashes."""
        return Path(os.path.relpath(self.path.absolute(), folder.absolute())).as_posix()
