"""A subject's folder as FreeSurfer and FastSurfer leave it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Int32

from hemitwin._shapes import Affine
from hemitwin.atlases.formats.freesurfer import (
    FREESURFER_SIDES,
    load_annotation,
    load_freesurfer_surface,
    scanner_from_surface,
)
from hemitwin.atlases.formats.region_rows import regions_of_table
from hemitwin.atlases.region_names import is_no_area, side_of_name, sided_name
from hemitwin.atlases.regions import Region
from hemitwin.atlases.surfaces.meshes import Surface
from hemitwin.atlases.surfaces.ribbon import Ribbon
from hemitwin.atlases.surfaces.spheres import fslr_interpolation, surface_on_fslr

__all__ = ["FreeSurferSubject", "find_freesurfer_subject"]

_KINDS = ("white", "pial")
_REFERENCES = ("orig.mgz", "T1.mgz", "brain.mgz")
_SEGMENTATIONS = (
    "aseg.mgz",
    "aparc+aseg.mgz",
    "aparc.DKTatlas+aseg.mapped.mgz",
    "aparc.DKTatlas+aseg.deep.mgz",
)
_GLASSER = "_ROI"


ReadGeometry = Callable[[Path], tuple[tuple[int, int, int], Affine]]


@dataclass(frozen=True)
class FreeSurferSubject:
    """One subject's surfaces.

    Parameters
    ----------
    folder : Path
        Holds ``surf``, ``label`` and ``mri``.
    read_geometry : callable
        From the path of a volume to its shape and its affine to scanner RAS+ millimetres.
    """

    folder: Path
    read_geometry: ReadGeometry = field(repr=False)

    @property
    def origin(self) -> str:
        """What the surfaces are, in words."""
        return "the subject's own, by FreeSurfer or FastSurfer"

    @property
    def fslr_paths(self) -> tuple[Path, ...]:
        """The files of which the fsLR surfaces are made; some may be missing."""
        kinds = (*_KINDS, "sphere.reg")
        return (*self._surface_paths(kinds), self._reference)

    def annotation_paths(self, name: str) -> tuple[Path, ...]:
        """List the files of which an annotation's ribbon is made; some may be missing."""
        labels = (self.folder / "label" / f"{fs}.{name}.annot" for fs in FREESURFER_SIDES.values())
        return (*self._surface_paths(_KINDS), *labels, self._reference)

    @property
    def segmentation(self) -> Path | None:
        """The volume with the subcortical structures, where there is one."""
        found = (self.folder / "mri" / name for name in _SEGMENTATIONS)
        return next((path for path in found if path.is_file()), None)

    def has_annotation(self, name: str) -> bool:
        """Tell whether both sides have an annotation."""
        return all(path.is_file() for path in self.annotation_paths(name))

    @cached_property
    def meshes(self) -> tuple[Surface, ...]:
        """White and pial surface of both sides on the subject's own meshes, left first.

        Raises
        ------
        ValueError
            A file cannot be read.
        """
        scanner = scanner_from_surface(*self.read_geometry(self._reference))
        return tuple(
            load_freesurfer_surface(
                self.folder / "surf" / f"{fs}.{kind}", side, kind, scanner=scanner
            )
            for side, fs in FREESURFER_SIDES.items()
            for kind in _KINDS
        )

    @cached_property
    def fslr_surfaces(self) -> tuple[Surface, ...]:
        """White, midthickness and pial surface of both sides, on the fsLR 32k mesh.

        None of a subject without ``sphere.reg``.

        Raises
        ------
        ValueError
            A file cannot be read.
        """
        if not all(path.is_file() for path in self._surface_paths(("sphere.reg",))):
            return ()  # nothing says where the fsLR vertices lie
        made = []
        for side, fs in FREESURFER_SIDES.items():
            sphere = load_freesurfer_surface(
                self.folder / "surf" / f"{fs}.sphere.reg", side, "sphere"
            )
            place = fslr_interpolation(sphere)
            white, pial = (place(one.vertices.astype(np.float64)) for one in self._of(side))
            made += [
                surface_on_fslr(points, side, kind)
                for kind, points in (
                    ("white", white),
                    ("midthickness", (white + pial) / 2),
                    ("pial", pial),
                )
            ]
        return tuple(made)

    def annotated(self, name: str) -> tuple[tuple[Ribbon, ...], tuple[Region, ...]]:
        """Return the cortex with an annotation's areas, and the areas.

        Parameters
        ----------
        name : str
            ``aparc``, ``HCP-MMP1`` and the like.

        Returns
        -------
        ribbons : two Ribbon
            Labels are indices of the areas.
        regions : tuple of Region
            ``L_bankssts`` and so on, those of the left first; what is no area (unknown, medial
            wall, corpus callosum) is left out. Names that tell their side are kept.

        Raises
        ------
        ValueError
            A file cannot be read, has areas of the other side, or surfaces and labels are of
            different meshes.
        """
        rows: list[tuple[int, str, str]] = []
        labels: dict[str, Int32[np.ndarray, " n"]] = {}
        for side, fs in FREESURFER_SIDES.items():
            path = self.folder / "label" / f"{fs}.{name}.annot"
            labels[side], areas = _areas(path, side, first=len(rows) + 1)
            rows += areas
        ribbons = tuple(Ribbon.between(*self._of(side), own) for side, own in labels.items())
        table = pd.DataFrame(rows, columns=["index", "name", "color"])
        return ribbons, regions_of_table(table)

    def _of(self, side: str) -> tuple[Surface, Surface]:
        """Return one side's white and pial surface."""
        white, pial = (one for one in self.meshes if one.hemisphere == side)
        return white, pial

    def _surface_paths(self, kinds: Sequence[str]) -> tuple[Path, ...]:
        sides = FREESURFER_SIDES.values()
        return tuple(self.folder / "surf" / f"{fs}.{kind}" for fs in sides for kind in kinds)

    @property
    def _reference(self) -> Path:
        found = [self.folder / "mri" / name for name in _REFERENCES]
        return next((path for path in found if path.is_file()), found[0])


def find_freesurfer_subject(
    folder: Path, names: Sequence[str], *, read_geometry: ReadGeometry
) -> FreeSurferSubject | None:
    """Find a subject's folder in a ``SUBJECTS_DIR``.

    Parameters
    ----------
    folder : Path
        Holds the subjects' folders.
    names : sequence of str
        How the folder may be called, the likeliest first.
    read_geometry : callable
        As `FreeSurferSubject` takes it.
    """
    for name in names:
        if (folder / name / "surf" / "lh.white").is_file():
            return FreeSurferSubject(folder / name, read_geometry)
    return None


def _areas(
    path: Path, side: str, *, first: int
) -> tuple[Int32[np.ndarray, " n"], list[tuple[int, str, str]]]:
    """Read an annotation's labels, and number, name and colour of its areas."""
    labels, names, colors = load_annotation(path)
    present = set(np.unique(labels).tolist())
    number = np.zeros(len(names) + 1, dtype=np.int32)
    rows: list[tuple[int, str, str]] = []
    for key, (area, color) in enumerate(zip(names, colors, strict=True)):
        bare = area.removesuffix(_GLASSER)
        # A table may list both sides' areas: those of the other have no vertex here.
        elsewhere = key not in present and side_of_name(bare) not in {side, "midline"}
        if not is_no_area(bare) and not elsewhere:
            number[key] = first + len(rows)
            rows.append((first + len(rows), sided_name(bare, side, path), color))
    return number[labels], rows  # -1, no name, is the last: 0
