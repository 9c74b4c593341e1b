"""Prepare: align every scan of a BIDS folder to the symmetric template, resampled once."""

import os
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from hemitwin._shapes import Affine, Grid, Mask
from hemitwin.atlases import (
    TEMPLATE_SPACE,
    TemplateImage,
    load_template,
    save_volume,
    template_grid,
)
from hemitwin.pipeline.bids import Case, find_scans, sidecar_of
from hemitwin.pipeline.errors import CaseError
from hemitwin.pipeline.outputs import (
    describe_dataset,
    digest_file,
    digest_json,
    provenance,
    read_matching_sidecar,
    write_json,
)
from hemitwin.pipeline.pictures import picture_of_prepared
from hemitwin.pipeline.runner import Outcome, run_cases
from hemitwin.pipeline.transform_files import write_itk_affine
from hemitwin.transforms import (
    Scan,
    brain_mask,
    is_skull_stripped,
    load_scan,
    refine_midplane,
    register_similarity,
    resample,
    robust_scale,
)

__all__ = ["PREPARED", "PrepareConfig", "Prepared", "prepare", "prepare_case"]

PREPARED = f"space-{TEMPLATE_SPACE}_desc-prepared_T1w"
"""The end of a prepared volume's name, without its suffix."""

_REGISTRATION_MM = 4.0
_MIDPLANE_MM = 2.0


class PrepareConfig(BaseModel):
    """What decides a prepared volume."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    resolution_mm: float = Field(default=2.0, gt=0, le=8, description="Voxel size in mm.")


@dataclass(frozen=True)
class Prepared:
    """One case's result.

    Parameters
    ----------
    case : str
        The case's name.
    volume : Path
        The prepared volume.
    skipped : bool
        The same scan had been prepared before with the same settings.
    """

    case: str
    volume: Path
    skipped: bool


@dataclass(frozen=True)
class _Aligned:
    data: Grid
    mask: Mask
    affine: Affine
    native_from_template: Affine
    skull_stripped: bool
    native_brain_mm3: float


def prepare(
    bids: Path,
    out: Path,
    *,
    labels: tuple[str, ...] | None = None,
    config: PrepareConfig | None = None,
    nprocs: int = 1,
) -> Outcome[Prepared]:
    """Prepare the T1w scans of a BIDS folder.

    Parameters
    ----------
    bids : Path
        The raw dataset.
    out : Path
        The derivatives' folder.
    labels : tuple of str, optional
        Subjects, with or without ``sub-``; all by default.
    config : PrepareConfig, optional
        Settings.
    nprocs : int
        Processes.

    Returns
    -------
    Outcome of Prepared
        A scan that fails is a failure in it; the others are done.

    Raises
    ------
    UserError
        The dataset is missing or holds none of the subjects asked for.
    """
    cases = find_scans(bids, labels=labels)
    describe_dataset(out, source=bids)
    work = partial(prepare_case, out=out, config=config or PrepareConfig())
    return run_cases(work, cases, stage="prepare", log_folder=out / "logs", nprocs=nprocs)


def prepare_case(case: Case, out: Path, config: PrepareConfig) -> Prepared:
    """Prepare one scan: align, refine the mid-plane, resample once, scale, write.

    Raises
    ------
    CaseError
        The scan is missing or cannot be read or aligned; nothing is written then.
    """
    volume = case.path(out, f"{PREPARED}.nii.gz")
    if not case.scan.is_file():
        reason = f"a T1w scan must be there, expected {case.scan}; add it or leave the subject out"
        raise CaseError(case.name, "prepare", reason)
    key = _key(case, config)
    if read_matching_sidecar(volume, key=key) is not None:
        return Prepared(case.name, volume, skipped=True)
    try:
        scan = load_scan(case.scan)
        aligned = _align(scan, config)
    except (ValueError, FileNotFoundError) as error:
        raise CaseError(case.name, "prepare", str(error)) from error
    _write(case, out, scan, aligned, key)
    return Prepared(case.name, volume, skipped=False)


def _key(case: Case, config: PrepareConfig) -> str:
    settings = {"config": config.model_dump(), "version": provenance()["packages"]}
    return digest_json({"scan": digest_file(case.scan), **settings})


@cache
def _template(resolution_mm: float) -> TemplateImage:
    return load_template(resolution_mm)


def _align(scan: Scan, config: PrepareConfig) -> _Aligned:
    stripped = is_skull_stripped(scan)
    mask = brain_mask(scan)
    brain = Scan(np.where(mask, scan.data, 0).astype(np.float32), scan.affine, scan.path)
    template = _template(_MIDPLANE_MM)
    native = register_similarity(brain, template.data, template.affine, moving_mask=mask)
    coarse = resample(brain, template.data.shape, template.affine, native)
    native = native @ refine_midplane(coarse, template.affine)
    shape, affine = template_grid(config.resolution_mm)
    data = resample(brain, shape, affine, native)
    inside = resample(Scan(mask.astype(np.float32), scan.affine, scan.path), shape, affine, native)
    kept = inside >= 0.5
    # Dividing by the brain's share takes the background out of the voxels at the brain's edge: a
    # dark rim would differ between the halves more than many a lesion.
    data = np.where(kept, data / np.maximum(inside, 0.5), 0).astype(np.float32)
    native_mm3 = float(mask.sum()) * abs(float(np.linalg.det(scan.affine[:3, :3])))
    return _Aligned(robust_scale(data, kept), kept, affine, native, stripped, native_mm3)


def _quality(scan: Scan, aligned: _Aligned) -> dict[str, Any]:
    """Give the figures that tell a bad alignment from a good one."""
    template = _template(abs(float(aligned.affine[0, 0])))
    both = aligned.mask | (template.data > 0)
    voxel_mm3 = abs(float(np.linalg.det(aligned.affine[:3, :3])))
    scale = abs(float(np.linalg.det(aligned.native_from_template[:3, :3])))
    mirror = aligned.data[::-1]
    return {
        "skull_stripped_input": aligned.skull_stripped,
        "native_brain_ml": aligned.native_brain_mm3 / 1000,
        "brain_coverage": float(aligned.mask.sum() * voxel_mm3 * scale / aligned.native_brain_mm3),
        "template_similarity": float(np.corrcoef(aligned.data[both], template.data[both])[0, 1]),
        "mirror_similarity": float(np.corrcoef(aligned.data[both], mirror[both])[0, 1]),
        "native_from_template_determinant": scale,
        "native_voxel_mm": [
            round(float(v), 4) for v in np.linalg.norm(scan.affine[:3, :3], axis=0)
        ],
    }


def _write(case: Case, out: Path, scan: Scan, aligned: _Aligned, key: str) -> None:
    volume = case.path(out, f"{PREPARED}.nii.gz")
    # The sidecar goes first and comes last: while it is away, the case is not done.
    sidecar_of(volume).unlink(missing_ok=True)
    save_volume(volume, aligned.data, aligned.affine, space=TEMPLATE_SPACE)
    stem = f"from-T1w_to-{TEMPLATE_SPACE}_mode-image_xfm"
    write_itk_affine(case.path(out, f"{stem}.txt"), aligned.native_from_template)
    picture_of_prepared(
        case.path(out, "desc-prepared_T1w.png"), aligned.data, aligned.affine, title=case.name
    )
    content = {
        "Description": "T1w scan aligned to the symmetric template by a similarity transform",
        "Sources": [f"bids:raw:{case.folder(Path()).as_posix()}/{case.scan.name}"],
        "SourcePath": os.path.relpath(case.scan.resolve(), volume.parent.resolve()),
        "SpatialReference": f"{TEMPLATE_SPACE}, as bundled with nilearn",
        "SkullStripped": True,
        "NativeShape": list(scan.data.shape),
        "NativeAffine": scan.affine.tolist(),
        "NativeFromTemplate": aligned.native_from_template.tolist(),
        "Quality": _quality(scan, aligned),
        "GeneratedBy": provenance(),
        "Key": key,
        "Digest": digest_file(volume),
    }
    write_json(sidecar_of(volume), content)
