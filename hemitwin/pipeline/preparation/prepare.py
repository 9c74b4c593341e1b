"""Prepare: align every scan of a source to the symmetric template, resampled once."""

import os
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from hemitwin._shapes import Affine, Grid, Mask
from hemitwin.atlases import (
    TEMPLATE_SPACE,
    TemplateImage,
    load_template,
    save_volume,
    template_grid,
)
from hemitwin.pipeline.preparation.alignment import (
    output_space,
    reason_against,
    scan_from_template,
)
from hemitwin.pipeline.preparation.brain_masks import brain_of, require_head
from hemitwin.pipeline.preparation.config import PrepareConfig, SourceConfig
from hemitwin.pipeline.preparation.quality import flags_of, quality_figures, write_quality_table
from hemitwin.pipeline.preparation.sources import find_sources
from hemitwin.pipeline.preparation.subject_surfaces import checked_surfaces
from hemitwin.pipeline.stage.bids import Case, Pairing, sidecar_of
from hemitwin.pipeline.stage.dataset import describe_dataset
from hemitwin.pipeline.stage.errors import CaseError, UserError
from hemitwin.pipeline.stage.names import prepared_tail
from hemitwin.pipeline.stage.pictures import picture_of_prepared
from hemitwin.pipeline.stage.records import VOXELS, Record, digest_voxels
from hemitwin.pipeline.stage.runner import Outcome, run_cases
from hemitwin.transforms import (
    Scan,
    above_darkest,
    background_value,
    guessed_side,
    is_skull_stripped,
    load_scan,
    resample,
    robust_scale,
    volume_members,
    write_itk_affine,
)

__all__ = ["PrepareConfig", "Prepared", "cases_to_prepare", "prepare", "prepare_case"]

_MIDPLANE_MM = 2.0

_DESCRIPTIONS = {
    "native": "aligned to the symmetric template by a similarity transform",
    "acpc": "taken as aligned on its AC-PC line, scaled to the symmetric template's volume",
    "similarity": "taken as aligned to a symmetric template by at most nine degrees of freedom",
    "affine": "taken as aligned to a template by an affine transform",
    "nonlinear": "taken as non-linearly normalised to a template",
}


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
    brain: Scan
    data: Grid
    mask: Mask
    affine: Affine
    native_from_template: Affine
    skull_stripped: bool
    native_brain_mm3: float


def prepare(
    source: Path,
    out: Path,
    *,
    labels: tuple[str, ...] | None = None,
    config: PrepareConfig | None = None,
    sources: SourceConfig | None = None,
    nprocs: int = 1,
) -> Outcome[Prepared]:
    """Prepare the scans of a BIDS folder, of derivatives, of an HCP tree or of a list.

    Parameters
    ----------
    source : Path
        See `find_sources`.
    out : Path
        The derivatives' folder.
    labels : tuple of str, optional
        Subjects, with or without ``sub-``; all by default.
    config : PrepareConfig, optional
        Settings.
    sources : SourceConfig, optional
        Which of the source's scans are meant; by default the native T1w scans.
    nprocs : int
        Processes.

    Returns
    -------
    Outcome of Prepared
        A scan that fails is a failure in it; the others are done.

    Raises
    ------
    UserError
        The source is missing, holds none of the subjects asked for, or none of its scans can be
        taken as they are aligned.
    """
    config = config or PrepareConfig()
    cases = cases_to_prepare(source, labels=labels, pairing=config.pairing, sources=sources)
    describe_dataset(out, source=source)
    work = partial(prepare_case, out=out, config=config)
    outcome = run_cases(work, cases, stage="prepare", out=out, nprocs=nprocs)
    write_quality_table(out)
    return outcome


def cases_to_prepare(
    source: Path,
    *,
    labels: tuple[str, ...] | None = None,
    pairing: Pairing = "hemispheres",
    sources: SourceConfig | None = None,
) -> tuple[Case, ...]:
    """Find what `prepare` works on; parameters and errors are the same."""
    cases = find_sources(source, labels=labels, config=sources)
    reasons = [reason_against(case, pairing) for case in cases]
    if all(reasons):
        raise UserError(next(filter(None, reasons)))
    return cases


def prepare_case(case: Case, out: Path, config: PrepareConfig) -> Prepared:
    """Prepare one scan: align, refine the mid-plane, resample once, scale, write.

    Raises
    ------
    CaseError
        The scan is missing or cannot be taken, read or aligned; nothing is written then.
    """
    volume = case.path(out, f"{prepared_tail(case.modality, output_space(case))}.nii.gz")
    if reason := case.problem or _absence(case) or reason_against(case, config.pairing):
        raise CaseError(case.name, "prepare", reason)
    record = _record(case, config)
    if record.find(sidecar_of(volume)) is not None:
        return Prepared(case.name, volume, skipped=True)
    try:
        scan = load_scan(case.scan)
        _require_stated_side(case, scan)
        aligned = _align(case, scan, config)
    except (ValueError, FileNotFoundError) as error:
        raise CaseError(case.name, "prepare", str(error)) from error
    _write(case, out, scan, aligned, record, config.pairing)
    return Prepared(case.name, volume, skipped=False)


def _files(case: Case) -> dict[str, tuple[Path, ...]]:
    """Name the files that a case is made from; header and image of a pair are both among them."""
    given = {f"{case.modality} scan": case.scan, "mask": case.mask, "transform": case.transform}
    return {name: volume_members(path) for name, path in given.items() if path is not None}


def _absence(case: Case) -> str | None:
    """Say which of a case's files is not there."""
    for name, members in _files(case).items():
        for path in members:
            if path.is_symlink() and not path.exists():
                return (
                    f"a {name} must be there, but {path} is a link to nothing; fetch its content"
                )
            if not path.is_file():
                return f"a {name} must be there, expected {path}; add it or leave the subject out"
    return None


def _require_stated_side(case: Case, scan: Scan) -> None:
    """Refuse a scan that is said to lie in a space, and whose own header says nothing of it."""
    taken = case.alignment if case.transform is None else "with a transform"
    if taken != "native" and (guess := guessed_side(scan.notes)):
        msg = (
            f"a scan that is taken as aligned ({taken}) must say where it lies; {scan.path}: "
            f"{guess}; set its sform, or give the scan as it came from the scanner"
        )
        raise ValueError(msg)


def _record(case: Case, config: PrepareConfig) -> Record:
    files = {"scan": case.scan, "mask": case.mask, "transform": case.transform}
    files |= dict(zip(("left surface", "right surface"), case.surfaces, strict=False))
    return Record(
        "prepare",
        computation=4,
        inputs={name: path for name, path in files.items() if path is not None},
        settings={
            "alignment": case.alignment,
            "space": case.space,
            "modality": case.modality,
            **config.model_dump(),
        },
    )


@cache
def _template(resolution_mm: float) -> TemplateImage:
    return load_template(resolution_mm)


def _align(case: Case, scan: Scan, config: PrepareConfig) -> _Aligned:
    require_head(scan)
    stripped = is_skull_stripped(scan)
    mask = brain_of(case, scan)
    bright = above_darkest(scan.data, mask, background=background_value(scan.data))
    brain = Scan(bright, scan.affine, scan.path)
    template = _template(_MIDPLANE_MM)
    native = scan_from_template(case, brain, mask, template, pairing=config.pairing)
    shape, affine = template_grid(config.resolution_mm)
    data = resample(brain, shape, affine, native)
    inside = resample(Scan(mask.astype(np.float32), scan.affine, scan.path), shape, affine, native)
    kept = inside >= 0.5
    # Dividing by the brain's share takes the background out of the voxels at the brain's edge: a
    # dark rim would differ between the halves more than many a lesion.
    data = np.where(kept, data / np.maximum(inside, 0.5), 0).astype(np.float32)
    native_mm3 = float(mask.sum()) * abs(float(np.linalg.det(scan.affine[:3, :3])))
    return _Aligned(brain, robust_scale(data, kept), kept, affine, native, stripped, native_mm3)


def _quality(scan: Scan, aligned: _Aligned) -> dict[str, Any]:
    """Give the figures that tell a bad alignment from a good one."""
    figures = quality_figures(
        aligned.brain,
        aligned.data,
        aligned.mask,
        aligned.native_from_template,
        _template(abs(float(aligned.affine[0, 0]))),
        aligned.native_brain_mm3,
    )
    determinant = abs(float(np.linalg.det(aligned.native_from_template[:3, :3])))
    return {
        "skull_stripped_input": aligned.skull_stripped,
        **figures,
        "native_from_template_determinant": determinant,
        "native_voxel_mm": [
            round(float(v), 4) for v in np.linalg.norm(scan.affine[:3, :3], axis=0)
        ],
    }


def _write(
    case: Case, out: Path, scan: Scan, aligned: _Aligned, record: Record, pairing: Pairing
) -> None:
    volume = case.path(out, f"{prepared_tail(case.modality, output_space(case))}.nii.gz")
    space = output_space(case)
    record.begin(sidecar_of(volume))
    save_volume(volume, aligned.data, aligned.affine, space=space)
    transform = case.path(out, f"from-{case.modality}_to-{space}_mode-image_xfm.txt")
    write_itk_affine(transform, aligned.native_from_template)
    picture = case.path(out, f"desc-prepared_{case.modality}.png")
    picture_of_prepared(picture, aligned.data, aligned.affine, title=case.name)
    raw = f"bids:raw:{case.folder(Path()).as_posix()}/{case.scan.name}"
    quality = _quality(scan, aligned)
    bundled = f"{space}, as bundled with nilearn" if space == TEMPLATE_SPACE else space
    content = {
        "Description": f"{case.modality} scan {_DESCRIPTIONS[case.alignment]}",
        "Sources": [case.uri or raw],
        "SourcePath": os.path.relpath(case.scan.resolve(), volume.parent.resolve()),
        "SpatialReference": bundled,
        "SkullStripped": True,
        "NativeShape": list(scan.data.shape),
        "NativeAffine": scan.affine.tolist(),
        "NativeFromTemplate": aligned.native_from_template.tolist(),
        "Alignment": _alignment(case, pairing),
        "HeaderNotes": list(scan.notes),
        "Surfaces": checked_surfaces(case, scan, volume.parent),
        "Quality": quality,
        VOXELS: digest_voxels(Scan(aligned.data, aligned.affine)),
        "Flags": flags_of(quality, modality=case.modality, notes=scan.notes),
    }
    record.write(sidecar_of(volume), content, [volume, transform, picture])


def _alignment(case: Case, pairing: Pairing) -> dict[str, Any]:
    """Describe what was taken as given and what was done."""
    return {
        "Taken": case.alignment,
        "Space": case.space,
        "Transform": case.transform.name if case.transform else None,
        "Mask": case.mask.name if case.mask else None,
        "Pairing": pairing,
        "Registered": case.alignment == "native" and case.transform is None,
        "MidplaneRefined": pairing == "hemispheres",
    }
