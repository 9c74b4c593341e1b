"""Atlas: the regions of each subject, carried over by a deformation, with figures of how well."""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from scipy import ndimage

from hemitwin._shapes import Affine, Grid, Mask
from hemitwin.atlases import (
    BRAIN_SURFACES,
    TEMPLATE_SPACE,
    Parcellation,
    hcpmmp_regions,
    hcpmmp_atlas,
    load_fslr_surface,
    save_labels_volume,
    save_surface,
    template_grid,
    template_on_grid,
    warp_surface,
)
from hemitwin.pipeline.atlas_quality import AtlasQuality
from hemitwin.pipeline.bids import Case, Modality, sidecar_of
from hemitwin.pipeline.cohort import find_prepared
from hemitwin.pipeline.errors import CaseError, UserError
from hemitwin.pipeline.map_files import atlas_versions
from hemitwin.pipeline.native_space import NativeSpace
from hemitwin.pipeline.outputs import (
    digest_file,
    digest_json,
    provenance,
    read_json,
    read_matching_sidecar,
    write_json,
)
from hemitwin.pipeline.runner import Outcome, run_cases
from hemitwin.transforms import (
    Deformation,
    Scan,
    load_scan,
    register_deformation,
    resample,
    resample_back,
)

__all__ = [
    "SubjectAtlas",
    "build_atlases",
    "native_atlas_path",
    "native_surfaces",
    "own_atlas",
    "surface_path",
]

_WORKING_MM = 2.0
_TISSUE, _CLOSING = 0.5, 3
# Raise it whenever the labels of a subject change: it is part of every key.
_ALGORITHM = 1


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
    lesion_masks: Path | None = None,
    nprocs: int = 1,
) -> Outcome[SubjectAtlas]:
    """Carry the HCP-MMP regions over to each prepared subject.

    The template is registered to the subject (`register_deformation`, at 2 mm), each voxel is
    looked up once in the atlas, on the scan's own grid and on the prepared volume's, and the group
    surfaces are moved over the scan. `parcellate` and `export` then use them.

    Parameters
    ----------
    derivatives : Path
        The folder with the prepared volumes; the files are written into it.
    labels : tuple of str, optional
        Subjects; all that were prepared by default.
    modality : {'T1w', 'T2w', 'FLAIR'}
        Of the prepared volumes.
    lesion_masks : Path, optional
        A folder with ``<subject>*_mask.nii[.gz]`` in the space of the scans; what lies in a mask
        does not pull.
    nprocs : int
        Processes.

    Returns
    -------
    Outcome of SubjectAtlas

    Raises
    ------
    UserError
        There is no prepared volume, or the folder of masks is not there.
    """
    if lesion_masks is not None and not lesion_masks.is_dir():
        msg = f"the lesion masks must be in a folder, got {lesion_masks}; check the path"
        raise UserError(msg)
    cases = find_prepared(derivatives, labels=labels, modality=modality)
    work = partial(_atlas_case, derivatives=derivatives, lesion_masks=lesion_masks)
    log_folder = derivatives / "logs"
    return run_cases(work, cases, stage="atlas", log_folder=log_folder, nprocs=nprocs)


def own_atlas(case: Case, derivatives: Path) -> Parcellation | None:
    """Read a subject's own regions on the prepared grid, where `build_atlases` wrote them."""
    path = _aligned_path(case, derivatives)
    if read_matching_sidecar(path) is None:
        return None
    scan = load_scan(path)
    labels = np.rint(scan.data).astype(np.int32)
    return Parcellation(labels, scan.affine, hcpmmp_regions(), TEMPLATE_SPACE)


def native_surfaces(case: Case, derivatives: Path) -> tuple[tuple[Path, str], ...]:
    """List the group surfaces over the subject's scan that `build_atlases` wrote, with sides."""
    if read_matching_sidecar(native_atlas_path(case, derivatives)) is None:
        return ()
    return tuple(
        (surface_path(case, derivatives, side, kind), side)
        for side in ("L", "R")
        for kind in BRAIN_SURFACES
    )


def native_atlas_path(case: Case, derivatives: Path) -> Path:
    """Name a subject's label volume on the scan's own grid."""
    return case.path(derivatives, f"space-{case.modality}_atlas-HCPMMP1_dseg.nii.gz")


def _aligned_path(case: Case, derivatives: Path) -> Path:
    # Another modality's registration is another one: T1w has the plain name.
    desc = "" if case.modality == "T1w" else f"_desc-{case.modality}"
    return case.path(derivatives, f"space-{TEMPLATE_SPACE}_atlas-HCPMMP1{desc}_dseg.nii.gz")


def surface_path(case: Case, derivatives: Path, side: str, kind: str) -> Path:
    """Name a group surface over a subject's scan."""
    return case.path(derivatives, f"hemi-{side}_space-{case.modality}_den-32k_{kind}.surf.gii")


def _atlas_case(case: Case, derivatives: Path, lesion_masks: Path | None) -> SubjectAtlas:
    native = NativeSpace.of(case, "atlas")
    mask = None if lesion_masks is None else _find_mask(case, lesion_masks)
    aligned, target = _aligned_path(case, derivatives), native_atlas_path(case, derivatives)
    key = _key(case, mask)
    done = read_matching_sidecar(aligned, key=key)
    if done is not None and read_matching_sidecar(target, key=key) is not None:
        return SubjectAtlas(case, target, aligned, AtlasQuality.from_dict(done["Quality"]))
    prepared = load_scan(case.scan)
    deformation = _register(prepared, native, mask)
    own = _label_grid(
        prepared.data.shape, prepared.affine, np.eye(4), deformation, prepared.data != 0
    )
    there = _label_native(native, deformation, prepared, case.modality)
    quality = AtlasQuality.of(prepared, own, there, deformation, case.modality)
    for side in ("L", "R"):
        for kind in BRAIN_SURFACES:
            _write_surface(
                surface_path(case, derivatives, side, kind), side, kind, native, deformation
            )
    content = {
        "Description": "HCP-MMP 1.0 regions and 19 subcortical structures, carried over from the "
        "symmetric template by an affine map and a diffeomorphic deformation; a projected group "
        "parcellation",
        "Sources": [f"bids::{case.scan.name}"],
        "LesionMask": None if mask is None else mask.name,
        "Quality": quality.to_dict(),
        "GeneratedBy": provenance(),
    }
    for path, parcels in ((target, there), (aligned, own)):
        sidecar_of(path).unlink(missing_ok=True)
        save_labels_volume(path, parcels)
        write_json(sidecar_of(path), {**content, "Key": key, "Digest": digest_file(path)})
    return SubjectAtlas(case, target, aligned, quality)


def _key(case: Case, mask: Path | None) -> str:
    return digest_json(
        {
            "algorithm": _ALGORITHM,
            "prepared": digest_file(case.scan),
            "native": read_json(sidecar_of(case.scan))["NativeFromTemplate"],
            "mask": None if mask is None else digest_file(mask),
            "versions": atlas_versions(),
        }
    )


def _find_mask(case: Case, folder: Path) -> Path | None:
    found = sorted(
        path
        for where in ("", "sub-*/anat/", "sub-*/ses-*/anat/")
        for path in folder.glob(f"{where}{case.name}_*mask.nii*")
    )
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        reason = f"one lesion mask must fit the scan, got {names}; keep the right one in {folder}"
        raise CaseError(case.name, "atlas", reason)
    return found[0] if found else None


def _register(prepared: Scan, native: NativeSpace, mask: Path | None) -> Deformation:
    """Register on a 2 mm grid, or the prepared one where it is coarser."""
    shape, affine = prepared.data.shape, prepared.affine
    brain = prepared.data
    if abs(affine[0, 0]) < _WORKING_MM:
        shape, affine = template_grid(_WORKING_MM)
        brain = resample(prepared, shape, affine, np.eye(4))
    lesion = None
    if mask is not None:
        lesion = resample(load_scan(mask), shape, affine, native.from_template, order=0) > 0.5
    return register_deformation(brain, _template(shape, affine), affine, lesion=lesion)


def _template(shape: tuple[int, int, int], affine: Affine) -> Grid:
    """Return the template without the fluid around it, which stripped scans do not have."""
    image, grey, white = (
        template_on_grid(shape, affine, kind=kind) for kind in ("T1w", "gm", "wm")
    )
    tissue = ndimage.binary_opening(grey + white > _TISSUE)
    inside = ndimage.binary_fill_holes(ndimage.binary_closing(tissue, iterations=_CLOSING))
    return np.where(inside, image, np.float32(0))


def _label_grid(
    shape: tuple[int, int, int],
    affine: Affine,
    template_from_space: Affine,
    deformation: Deformation,
    near: Mask,
) -> Parcellation:
    voxels = np.argwhere(near)
    to_aligned = template_from_space @ affine
    points = voxels @ to_aligned[:3, :3].T + to_aligned[:3, 3]
    labels = np.zeros(shape, dtype=np.int32)
    labels[near] = hcpmmp_atlas().label_points(deformation.to_template(points))
    return Parcellation(labels, affine, hcpmmp_regions(), TEMPLATE_SPACE)


def _label_native(
    native: NativeSpace, deformation: Deformation, prepared: Scan, space: str
) -> Parcellation:
    inside = (prepared.data != 0).astype(np.float32)
    near = resample_back(inside, prepared.affine, native.grid, native.from_template, order=0) > 0
    found = _label_grid(
        native.grid.data.shape,
        native.grid.affine,
        np.linalg.inv(native.from_template),
        deformation,
        near,
    )
    return replace(found, space=space)


def _write_surface(
    path: Path, side: str, kind: str, native: NativeSpace, deformation: Deformation
) -> None:
    surface = load_fslr_surface(side, kind, space=TEMPLATE_SPACE)
    aligned = deformation.from_template(surface.vertices.astype(np.float64))
    own = replace(surface, vertices=aligned.astype(np.float32))
    save_surface(path, warp_surface(own, native.from_template))
