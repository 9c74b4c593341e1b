"""A subject's own cortical surfaces: where they are found, and that they belong to the scan."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from hemitwin.atlases import (
    BRAIN_SURFACES,
    FreeSurferSubject,
    Surface,
    find_freesurfer_subject,
    label_at,
    load_surface,
    surface_on_fslr,
)
from hemitwin.pipeline.preparation.native_space import NativeSpace
from hemitwin.pipeline.stage.bids import Case, sidecar_of, visible
from hemitwin.pipeline.stage.errors import CaseError
from hemitwin.pipeline.stage.json_files import read_json
from hemitwin.transforms import Scan, load_geometry

__all__ = ["HcpSubject", "OwnCortex", "check_surfaces", "find_own_cortex"]

_SEGMENTATIONS = ("aparc+aseg.nii.gz", "aseg.nii.gz", "wmparc.nii.gz")
_LEAST_INSIDE, _LEAST_ON_SIDE = 0.95, 0.9


@dataclass(frozen=True)
class HcpSubject:
    """Surfaces of the HCP's pipelines, on the fsLR 32k mesh.

    Parameters
    ----------
    midthickness : two of Path
        ``fsaverage_LR32k/<S>.{L,R}.midthickness[_MSMAll].32k_fs_LR.surf.gii``; white and pial lie
        beside them.
    """

    midthickness: tuple[Path, ...]

    @property
    def origin(self) -> str:
        """What the surfaces are, in words."""
        return "the subject's own, by the HCP's pipelines"

    @property
    def fslr_paths(self) -> tuple[Path, ...]:
        """The surfaces, left first, from inside outwards; some may be missing."""
        return tuple(
            path.with_name(path.name.replace(".midthickness", f".{kind}"))
            for path in self.midthickness
            for kind in BRAIN_SURFACES
        )

    @property
    def segmentation(self) -> Path | None:
        """The volume with the subcortical structures, where there is one."""
        folder = self.midthickness[0].parent.parent
        found = (folder / name for name in _SEGMENTATIONS)
        return next((path for path in found if path.is_file()), None)

    @property
    def meshes(self) -> tuple[Surface, ...]:
        """The surfaces on the subject's own meshes, which are these."""
        return self.fslr_surfaces

    @cached_property
    def fslr_surfaces(self) -> tuple[Surface, ...]:
        """White, midthickness and pial surface of both sides.

        Raises
        ------
        ValueError
            A file cannot be read, or is of the wrong side or mesh.
        """
        kinds = [(side, kind) for side in ("L", "R") for kind in BRAIN_SURFACES]
        read = (
            load_surface(path, side, kind=kind)
            for path, (side, kind) in zip(self.fslr_paths, kinds, strict=True)
        )
        return tuple(surface_on_fslr(one.vertices, one.hemisphere, one.kind) for one in read)


OwnCortex = HcpSubject | FreeSurferSubject
"""Where a subject's own surfaces come from."""


def find_own_cortex(case: Case, folder: Path | None, *, several: bool = False) -> OwnCortex | None:
    """Find a subject's own surfaces.

    Parameters
    ----------
    case : Case
        Of a prepared volume. Surfaces that its sidecar names (an HCP tree's) are taken where no
        folder is given.
    folder : Path or None
        A FreeSurfer or FastSurfer ``SUBJECTS_DIR``, with folders called as the scan or the
        subject is (``sub-01_ses-1``, ``sub-01``, ``01``), or an HCP tree.
    several : bool
        Whether the subject has several scans: then a folder must be called as the scan is.

    Returns
    -------
    HcpSubject, FreeSurferSubject or None
        None where there are none.

    Raises
    ------
    CaseError
        A folder is given and the subject has no surfaces there.
    """
    if folder is None:
        return _named_by_sidecar(case)
    called = [case.name] if several else [case.name, case.subject]
    names = list(dict.fromkeys([*called, *(name.removeprefix("sub-") for name in called)]))
    found = find_freesurfer_subject(folder, names, read_geometry=load_geometry)
    if found is not None:
        return found
    for name in names:
        for matching in ("_MSMAll", ""):
            meshes = folder / name / "T1w" / "fsaverage_LR32k"
            ends = (f"*.{side}.midthickness{matching}.32k_fs_LR.surf.gii" for side in "LR")
            both = tuple(path for end in ends for path in visible(meshes.glob(end))[:1])
            if len(both) == 2:
                return HcpSubject(both)
    reason = (
        f"surfaces must be in {folder} as {' or '.join(names)} with surf/lh.white (FreeSurfer, "
        f"FastSurfer) or T1w/fsaverage_LR32k (HCP), found none; check the path, or leave the "
        f"subject out"
    )
    raise CaseError(case.name, "atlas", reason)


def check_surfaces(
    case: Case, surfaces: tuple[Surface, ...], native: NativeSpace, prepared: Scan
) -> None:
    """Refuse surfaces that do not lie in the brain of the scan, or on the other side of it.

    Raises
    ------
    CaseError
        Too many vertices lie beside it, or beyond the mid-plane.
    """
    native_affine = native.from_template @ prepared.affine
    inside = (prepared.data != 0).astype(np.int32)
    back = np.linalg.inv(native.from_template)
    for surface in surfaces:
        there = label_at(inside, native_affine, surface.vertices)
        x = surface.vertices @ back[0, :3] + back[0, 3]
        own = x < 0 if surface.hemisphere == "L" else x > 0
        if own.mean() < _LEAST_ON_SIDE:
            reason = (
                f"surfaces must lie on their side, but {1 - own.mean():.0%} of the "
                f"{surface.hemisphere} {surface.kind} vertices do not; check which scan and which "
                f"side they are of, and the scan's header"
            )
            raise CaseError(case.name, "atlas", reason)
        if there.mean() < _LEAST_INSIDE:
            reason = (
                f"surfaces must lie in the scan's brain, but {1 - there.mean():.0%} of the "
                f"{surface.hemisphere} {surface.kind} vertices do not; give those that were made "
                f"from this very scan"
            )
            raise CaseError(case.name, "atlas", reason)


def _named_by_sidecar(case: Case) -> HcpSubject | None:
    content: dict[str, Any] = read_json(sidecar_of(case.scan), remedy="prepare it again")
    named = content.get("Surfaces")
    if not named:
        return None
    paths = tuple((case.scan.parent / named[side]).resolve() for side in ("L", "R"))
    found = HcpSubject(paths)
    return found if all(path.is_file() for path in found.fslr_paths) else None
