"""Atlas: the regions of each subject in the scan's own space, and how well they fit."""

from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hemitwin._shapes import Affine, Mask
from hemitwin.atlases import (
    TEMPLATE_SPACE,
    FreeSurferSubject,
    Parcellation,
    save_labels_volume,
    save_table,
)
from hemitwin.pipeline.cohort.brains import find_prepared
from hemitwin.pipeline.preparation.native_space import NativeSpace
from hemitwin.pipeline.regions.atlas_files import PREPARED, write_regions
from hemitwin.pipeline.regions.finder import (
    AtlasRequest,
    RegionFinder,
    atlas_name,
    choose_annotation,
    find_regions,
)
from hemitwin.pipeline.regions.hidden_lesions import find_lesion, tell_of_unclaimed
from hemitwin.pipeline.regions.own_cortex import check_surfaces, find_own_cortex
from hemitwin.pipeline.regions.places import SubjectPlaces
from hemitwin.pipeline.regions.quality import AtlasQuality, fit_by_region
from hemitwin.pipeline.regions.surface_set import surfaces_are_done, write_surface_set
from hemitwin.pipeline.stage.bids import Case, Modality, sidecar_of
from hemitwin.pipeline.stage.dataset import provenance
from hemitwin.pipeline.stage.errors import CaseError
from hemitwin.pipeline.stage.json_files import write_json
from hemitwin.pipeline.stage.names import aligned_atlas_path, fit_table_path, native_atlas_path
from hemitwin.pipeline.stage.records import Record
from hemitwin.pipeline.stage.runner import Outcome, run_cases
from hemitwin.pipeline.stage.sides import side_is_guess
from hemitwin.transforms import Scan, guessed_side, resample_back

__all__ = ["SubjectAtlas", "build_atlases"]


@dataclass(frozen=True)
class SubjectAtlas:
    """One subject's regions.

    Parameters
    ----------
    case : Case
        Whose they are.
    native, aligned : Path
        Label volumes on the scan's own grid and on that of the prepared volume.
    quality : AtlasQuality
        How well they fit.
    """

    case: Case
    native: Path
    aligned: Path
    quality: AtlasQuality


def build_atlases(
    derivatives: Path,
    *,
    labels: tuple[str, ...] | None = None,
    modality: Modality = "T1w",
    request: AtlasRequest | None = None,
    nprocs: int = 1,
) -> Outcome[SubjectAtlas]:
    """Name the regions of each prepared subject, on the scan's own grid.

    Without surfaces of the subject, the template is registered to it (`register_deformation`, at
    2 mm), and each voxel is looked up once in the atlas, at its place there. With them, a voxel
    between white and pial surface takes the label of the nearest column, and what lies below the
    cortex that of the subject's segmentation. Labels are written on the scan's grid and on the
    prepared volume's, with the surfaces over the scan. `parcellate` and `export` then use them.

    Parameters
    ----------
    derivatives : Path
        The folder with the prepared volumes; the files are written into it.
    labels : tuple of str, optional
        Subjects; all that were prepared by default.
    modality : {'T1w', 'T2w', 'FLAIR'}
        Of the prepared volumes.
    request : AtlasRequest, optional
        Which regions, and what leads to them.
    nprocs : int
        Processes.

    Returns
    -------
    Outcome of SubjectAtlas

    Raises
    ------
    UserError
        There is no prepared volume, a folder is not there, or the request contradicts itself.
    """
    request = request or AtlasRequest()
    request.check()
    cases = find_prepared(derivatives, labels=labels, modality=modality)
    if request.annotation is None:
        write_regions(derivatives, request.atlas.name, request.atlas.regions)
    everyone = cases
    if labels is not None:
        everyone = find_prepared(derivatives, modality=modality, quiet=True)
    scans = Counter(case.subject for case in everyone)
    several = frozenset(subject for subject, count in scans.items() if count > 1)
    tell_of_unclaimed(request.hidden, everyone)
    work = partial(_atlas_case, derivatives=derivatives, request=request, several=several)
    return run_cases(work, cases, stage="atlas", out=derivatives, nprocs=nprocs)


def _atlas_case(
    case: Case, derivatives: Path, request: AtlasRequest, several: frozenset[str]
) -> SubjectAtlas:
    native = NativeSpace.of(case, "atlas")
    cortex = find_own_cortex(case, request.surfaces, several=case.subject in several)
    annotation = choose_annotation(case, cortex, request)
    name = atlas_name(request, annotation)
    lesion = find_lesion(case, derivatives, native, request.hidden)
    places = SubjectPlaces(case, derivatives, native, lesion, cortex)
    aligned = aligned_atlas_path(case, derivatives, name)
    target = native_atlas_path(case, derivatives, name)
    record = _record(places, request, annotation)
    done = record.find(sidecar_of(aligned))
    if done is not None and surfaces_are_done(places):
        return SubjectAtlas(case, target, aligned, AtlasQuality.from_dict(done["Quality"]))
    prepared = places.prepared
    if cortex is not None:
        _require_stated_side(case, native)
        check_surfaces(case, cortex.meshes, native, prepared)
    wanted = find_regions(places, request, annotation)
    write_regions(derivatives, name, wanted.regions)
    own = _label_grid(prepared, native.from_template, prepared.data != 0, wanted, TEMPLATE_SPACE)
    near = resample_back(
        (prepared.data != 0).astype(np.float32),
        prepared.affine,
        native.grid,
        native.from_template,
        order=0,
    )
    there = _label_grid(native.grid, np.eye(4), near > 0, wanted, case.modality)
    by_template = (request.atlas, places.deformation) if wanted.by_template else None
    quality = AtlasQuality.of(prepared, own, there, by_template, case.modality)
    fit = fit_table_path(case, derivatives, name)
    record.begin(sidecar_of(aligned))
    save_table(fit, fit_by_region(prepared, own, there, case.modality))
    write_surface_set(places)
    content = _content(places, name, wanted, quality)
    save_labels_volume(target, there)
    write_json(sidecar_of(target), {**content, "GeneratedBy": provenance()})
    save_labels_volume(aligned, own)
    record.write(sidecar_of(aligned), content, [aligned, target, sidecar_of(target), fit])
    return SubjectAtlas(case, target, aligned, quality)


def _require_stated_side(case: Case, native: NativeSpace) -> None:
    """Refuse surfaces, which lie in a stated space, over a scan that does not."""
    if guess := guessed_side(native.grid.notes):
        reason = (
            f"surfaces and their scan must lie in one space, but the scan's {guess}; set its "
            f"sform and prepare it again, or leave the surfaces out"
        )
        raise CaseError(case.name, "atlas", reason)


def _label_grid(
    grid: Scan, native_from_space: Affine, near: Mask, wanted: RegionFinder, space: str
) -> Parcellation:
    voxels = np.argwhere(near)
    to_native = native_from_space @ grid.affine
    points = voxels @ to_native[:3, :3].T + to_native[:3, 3]
    labels = np.zeros(grid.data.shape, dtype=np.int32)
    labels[near] = wanted.label(points)
    return Parcellation(labels, grid.affine, wanted.regions, space)


def _content(
    places: SubjectPlaces, name: str, wanted: RegionFinder, quality: AtlasQuality
) -> dict[str, Any]:
    cortex, lesion = places.cortex, places.lesion
    return {
        "Description": f"Regions of {name}: {wanted.origin}; a projected group parcellation",
        "Sources": [f"bids::{places.case.scan.name}"],
        "Regions": wanted.origin,
        "Segmentation": None
        if cortex is None or cortex.segmentation is None or wanted.by_template
        else cortex.segmentation.name,
        "DeformationKey": places.deformation_key if wanted.by_template else None,
        "LesionMask": None if lesion is None else lesion.path.name,
        "SideIsGuess": side_is_guess(places.case),
        "Quality": quality.to_dict(),
    }


def _record(places: SubjectPlaces, request: AtlasRequest, annotation: str | None) -> Record:
    cortex = places.cortex
    read: tuple[Path, ...] = ()
    if cortex is not None:
        read = cortex.fslr_paths
        if annotation is not None and isinstance(cortex, FreeSurferSubject):
            read = (*cortex.annotation_paths(annotation), *read)
        read = tuple(path for path in read if path.is_file())
        read += () if cortex.segmentation is None else (cortex.segmentation,)
    return Record(
        "atlas",
        computation=4,
        inputs={PREPARED: places.case.scan, **{path.name: path for path in read}},
        settings={
            "deformation": places.deformation_key,
            "native_from_template": places.native.from_template.tolist(),
            "annotation": annotation,
            "side_is_guess": side_is_guess(places.case),
            "atlas": request.atlas.digest,
        },
    )
