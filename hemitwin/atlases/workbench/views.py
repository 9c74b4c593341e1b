"""What Connectome Workbench opens and shows: files, and views of surfaces, slices or both."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["DataFile", "Overlay", "SurfaceMontage", "View", "VolumeSlices", "WholeBrain"]

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
_PLANES = ("AXIAL", "CORONAL", "PARASAGITTAL", "ALL")


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


@dataclass(frozen=True)
class Overlay:
    """One layer of a picture.

    Attributes
    ----------
    file : DataFile
        A metric, label, volume or CIFTI file; its own metadata hold its palette.
    opacity : float
        0 to 1.
    """

    file: DataFile
    opacity: float = 1.0


@dataclass(frozen=True)
class SurfaceMontage:
    """Both hemispheres, lateral and medial, or as flat maps.

    Attributes
    ----------
    name : str
        The scene's name.
    left, right : DataFile
        Surfaces to draw on.
    overlays : tuple of Overlay
        The first is on top.
    flat : bool
        Whether the surfaces are flat maps, which have one view a side.
    """

    name: str
    left: DataFile
    right: DataFile
    overlays: tuple[Overlay, ...]
    flat: bool = False

    @property
    def files(self) -> tuple[DataFile, ...]:
        """All files the scene opens."""
        return _unique([self.left, self.right, *(overlay.file for overlay in self.overlays)])


@dataclass(frozen=True)
class VolumeSlices:
    """Slices of volumes, one or a montage.

    Attributes
    ----------
    name : str
        The scene's name.
    overlays : tuple of Overlay
        The first is on top; the last is the anatomy below.
    position_mm : (x, y, z) floats
        RAS+ mm of the volumes' space, through which the slices go.
    plane : str
        "AXIAL", "CORONAL", "PARASAGITTAL" or "ALL" (three beside each other).
    montage : (rows, columns, spacing) ints or None
        Several slices, `spacing` slices apart; not with "ALL".
    """

    name: str
    overlays: tuple[Overlay, ...]
    position_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    plane: str = "ALL"
    montage: tuple[int, int, int] | None = None

    def __post_init__(self) -> None:
        """Check the plane."""
        if self.plane not in _PLANES or (self.plane == "ALL" and self.montage):
            msg = f"plane must be one of {_PLANES}, a montage has one plane; got {self.plane!r}"
            raise ValueError(msg)

    @property
    def files(self) -> tuple[DataFile, ...]:
        """All files the scene opens."""
        return _unique([overlay.file for overlay in self.overlays])


@dataclass(frozen=True)
class WholeBrain:
    """Surfaces and slices of one world in one picture.

    Attributes
    ----------
    name : str
        The scene's name.
    surfaces : tuple of DataFile
        Midthickness surfaces, of one side or of both: what lies behind them is hidden.
    overlays : tuple of Overlay
        Metrics for the surfaces, volumes for the slices; the first is on top.
    position_mm : (x, y, z) floats
        RAS+ mm, through which the slices go.
    planes : tuple of str
        Which slices: of "AXIAL", "CORONAL" and "PARASAGITTAL".
    seen_from : (x, y, z) floats
        Direction, in RAS+, from which the brain is looked at; not from right above or below.
    """

    name: str
    surfaces: tuple[DataFile, ...]
    overlays: tuple[Overlay, ...]
    position_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    planes: tuple[str, ...] = _PLANES[:3]
    seen_from: tuple[float, float, float] = (-1.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        """Check surfaces, planes and direction."""
        if not set(self.planes) <= set(_PLANES[:3]) or not any(self.seen_from[:2]):
            msg = (
                f"planes must be of {_PLANES[:3]} and the view not from above, got {self.planes} "
                f"from {self.seen_from}"
            )
            raise ValueError(msg)
        sides = [surface.hemisphere for surface in self.surfaces]
        if not sides or len(set(sides)) < len(sides):
            msg = f"surfaces must be one a side, got {sides}; choose one kind for each"
            raise ValueError(msg)

    @property
    def files(self) -> tuple[DataFile, ...]:
        """All files the scene opens."""
        return _unique([*self.surfaces, *(overlay.file for overlay in self.overlays)])


View = SurfaceMontage | VolumeSlices | WholeBrain
"""What a scene can show."""


def _unique(files: Sequence[DataFile]) -> tuple[DataFile, ...]:
    return tuple(dict.fromkeys(files))
