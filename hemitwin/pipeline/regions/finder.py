"""Which regions are asked for, and how the points of one subject find them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int32

from hemitwin.atlases import HCPMMP, Atlas, FreeSurferSubject, Region, Ribbon, hcpmmp_atlas
from hemitwin.pipeline.regions.hidden_lesions import MaskSource
from hemitwin.pipeline.regions.own_cortex import OwnCortex
from hemitwin.pipeline.regions.places import SubjectPlaces
from hemitwin.pipeline.stage.bids import Case
from hemitwin.pipeline.stage.errors import CaseError, UserError

__all__ = ["AtlasRequest", "RegionFinder", "atlas_name", "choose_annotation", "find_regions"]

_BY_TEMPLATE = (
    "carried over from the symmetric template by an affine map and a diffeomorphic deformation"
)

Points = Float[np.ndarray, " n 3"]
Labels = Int32[np.ndarray, " n"]

_GLASSER = "HCP-MMP1"
"""The annotation with the areas of the HCP-MMP 1.0."""


@dataclass(frozen=True, eq=False)
class AtlasRequest:
    """Which regions, and what shall lead to them.

    Parameters
    ----------
    atlas : Atlas
        The regions; HCP-MMP 1.0 by default.
    surfaces : Path, optional
        A FreeSurfer or FastSurfer ``SUBJECTS_DIR`` or an HCP tree: the subjects' own surfaces in
        place of a deformation. Those beside an HCP scan are taken without it.
    annotation : str, optional
        The areas of ``label/{lh,rh}.<annotation>.annot`` in place of the atlas, for example
        ``aparc``. Of ``HCP-MMP1``, where the files are there, without asking.
    hidden : MaskSource
        What is kept out of the registration.
    """

    atlas: Atlas = field(default_factory=hcpmmp_atlas)
    surfaces: Path | None = None
    annotation: str | None = None
    hidden: MaskSource = field(default_factory=MaskSource)

    def check(self) -> None:
        """Refuse what cannot be done.

        Raises
        ------
        UserError
            A folder is not there, or the request contradicts itself.
        """
        if self.surfaces is not None and not self.surfaces.is_dir():
            msg = f"the surfaces must be in a folder, got {self.surfaces}; check the path"
            raise UserError(msg)
        if self.annotation is not None and self.surfaces is None:
            msg = "an annotation must come with its surfaces; add --surfaces SUBJECTS_DIR"
            raise UserError(msg)
        if self.annotation is not None and self.atlas.name != HCPMMP:
            msg = "regions must come from one source; leave --atlas or --annotation out"
            raise UserError(msg)
        if self.annotation not in {None, _GLASSER} and self.hidden != MaskSource():
            msg = (
                f"masks must stand with a registration, which the annotation {self.annotation} "
                f"does without; leave --lesion-masks and --anomaly-run out"
            )
            raise UserError(msg)
        self.hidden.check()


@dataclass(frozen=True, eq=False)
class RegionFinder:
    """Regions of one subject, and how a point finds its own.

    Parameters
    ----------
    regions : tuple of Region
        All of the atlas.
    label : callable
        Points of the scan, (n, 3) RAS+ mm, to region indices, (n,) int32.
    origin : str
        Where they come from, in words.
    by_template : bool
        Whether the template was deformed for it.
    """

    regions: tuple[Region, ...]
    label: Callable[[Points], Labels]
    origin: str
    by_template: bool = False


def choose_annotation(case: Case, cortex: OwnCortex | None, request: AtlasRequest) -> str | None:
    """Choose an annotation: the one asked for, or the areas of the HCP-MMP where they are."""
    if isinstance(cortex, FreeSurferSubject):
        asked = request.annotation
        if asked is None and request.atlas.name == HCPMMP and cortex.has_annotation(_GLASSER):
            return _GLASSER
        paths = cortex.fslr_paths if asked is None else cortex.annotation_paths(asked)
        if missing := [str(path) for path in paths if not path.is_file()]:
            reason = f"all of the subject's files must be there, missing: {', '.join(missing)}"
            raise CaseError(case.name, "atlas", reason)
        return asked
    if request.annotation is not None:
        reason = "an annotation must come from a FreeSurfer folder, these are HCP surfaces"
        raise CaseError(case.name, "atlas", reason)
    return None


def atlas_name(request: AtlasRequest, annotation: str | None) -> str:
    """Name the atlas in files."""
    if annotation is None or annotation == _GLASSER:
        return request.atlas.name
    return "".join(one for one in annotation if one.isalnum())


def find_regions(
    places: SubjectPlaces, request: AtlasRequest, annotation: str | None
) -> RegionFinder:
    """Choose the way to the regions: an annotation, the subject's surfaces, or the template.

    Raises
    ------
    CaseError
        The annotation has not the areas that its name promises.
    """
    atlas = request.atlas
    if annotation is not None and isinstance(places.cortex, FreeSurferSubject):
        ribbons, regions = places.cortex.annotated(annotation)
        if annotation == _GLASSER:
            ribbons = _as_hcpmmp(places.case, ribbons, regions)
            label, regions = places.by_ribbons(ribbons, atlas), atlas.regions
        else:
            label = places.by_ribbons(ribbons, None)
        return RegionFinder(regions, label, f"of the annotation {annotation}")
    if places.cortex is not None and atlas.cortex:
        return RegionFinder(atlas.regions, places.by_surfaces(atlas), places.cortex.origin)
    return RegionFinder(atlas.regions, places.by_template(atlas), _BY_TEMPLATE, True)


def _as_hcpmmp(
    case: Case, ribbons: Sequence[Ribbon], regions: tuple[Region, ...]
) -> tuple[Ribbon, ...]:
    """Give an annotation's areas the numbers of the HCP-MMP, by name."""
    index = {one.name: one.index for one in hcpmmp_atlas().regions if one.cortex is not None}
    names = {one.name for one in regions}
    if names != set(index):
        odd = sorted(names ^ set(index))
        reason = (
            f"the annotation {_GLASSER} must have the 360 areas of the HCP-MMP 1.0, it differs in "
            f"{', '.join(odd[:5])}; take it away, or name another with --annotation"
        )
        raise CaseError(case.name, "atlas", reason)
    number = np.zeros(len(regions) + 1, dtype=np.int32)
    for region in regions:
        number[region.index] = index[region.name]
    return tuple(Ribbon(one.white, one.pial, one.faces, number[one.labels]) for one in ribbons)
