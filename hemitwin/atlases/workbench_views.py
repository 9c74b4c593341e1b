"""What a scene shows: surfaces or slices, and the layers on them."""

from collections.abc import Sequence
from dataclasses import dataclass

from hemitwin.atlases.workbench_files import DataFile

__all__ = ["Overlay", "SurfaceMontage", "View", "VolumeSlices", "WholeBrain"]

_PLANES = ("AXIAL", "CORONAL", "PARASAGITTAL", "ALL")


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
