"""Simulate lesions: a fixed set of lesioned, control and sham volumes, with its manifest."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from hemitwin._atomic import atomic_path
from hemitwin._shapes import Grid, Mask
from hemitwin.atlases import TEMPLATE_SPACE, save_volume
from hemitwin.pipeline.cohort.brains import find_prepared, native_mm3_of
from hemitwin.pipeline.simulation.manifest import (
    MANIFEST,
    EvaluationSet,
    EvaluationSetConfig,
    Spec,
)
from hemitwin.pipeline.stage.bids import Case, sidecar_of
from hemitwin.pipeline.stage.dataset import describe_dataset, provenance
from hemitwin.pipeline.stage.errors import CaseError, UserError
from hemitwin.pipeline.stage.json_files import digest_file, write_json
from hemitwin.pipeline.stage.records import content_digest
from hemitwin.pipeline.stage.runner import Outcome, run_cases
from hemitwin.pipeline.stage.sides import side_is_guess
from hemitwin.transforms import (
    LesionMaskLibrary,
    LesionSpec,
    Scan,
    Side,
    inject_asymmetry,
    inject_lesion,
    load_volume,
    sample_asymmetry,
    sample_lesion,
)

__all__ = ["MANIFEST", "EvaluationSetConfig", "Spec", "simulate_lesions"]


@dataclass(frozen=True, eq=False)
class _Subject:
    """One prepared volume that lesions are put into."""

    case: Case
    scan: Scan
    mask: Mask
    digest: str
    native_mm3: float


def simulate_lesions(
    prepared: Path,
    out: Path,
    *,
    config: EvaluationSetConfig | None = None,
    labels: tuple[str, ...] | None = None,
    nprocs: int = 1,
) -> Outcome[pd.DataFrame]:
    """Write lesioned, control, sham and unchanged volumes, each with mask and specification.

    A set belongs to one configuration, and can be filled by several calls: the manifest names
    every subject whose volumes are whole and were made from the prepared volume and the lesion
    masks that are there now, whoever is asked for. Who is left out is told.

    Parameters
    ----------
    prepared : Path
        Folder of prepared volumes.
    out : Path
        A folder of its own: ``sub-*/anat/*_desc-<item>_<modality>.nii.gz`` with ``_mask.nii.gz``
        and sidecars, `manifest.tsv` with one row a volume, and `simulation.json`.
    config : EvaluationSetConfig, optional
        What each subject gets. Adding a subject changes no other's volumes.
    labels : tuple of str, optional
        Whose volumes are made; everybody's by default.
    nprocs : int
        Processes.

    Returns
    -------
    Outcome of DataFrame
        The manifest's rows of each case that was asked for.

    Raises
    ------
    UserError
        There is no prepared volume, or `out` is the folder with the prepared volumes, or a set of
        another configuration.
    FileNotFoundError
        The folder of lesion masks has none.
    """
    config = config or EvaluationSetConfig()
    if out.resolve() == prepared.resolve():
        msg = f"the set must get a folder of its own, got {out}, where the prepared volumes lie"
        raise UserError(msg)
    made = EvaluationSet.of(out, config)
    modality = config.lesions.modality
    cases = find_prepared(prepared, labels=labels, modality=modality)
    made.begin()
    describe_dataset(out, source=prepared)
    work = partial(_simulate_case, made=made)
    outcome = run_cases(work, cases, stage="simulate lesions", out=out, nprocs=nprocs)
    everybody = find_prepared(prepared, modality=modality)
    made.write_manifest(everybody, asked={case.name for case in cases})
    return outcome


def _simulate_case(case: Case, made: EvaluationSet) -> pd.DataFrame:
    native_mm3 = native_mm3_of(case)

    def make() -> tuple[dict[str, str], Sequence[Path]]:
        scan = load_volume(case.scan)
        subject = _Subject(case, scan, scan.data > 0, content_digest(case.scan), native_mm3)
        _write_healthy(subject, made)
        try:
            for item, spec in _draw(subject, made.config, made.library):
                _write_item(subject, made, item, spec)
        except ValueError as error:
            raise CaseError(case.name, "simulate lesions", str(error)) from error
        return {"Description": "A subject's part of the set"}, made.files_of(case)

    made.record(case, native_mm3).ensure(made.case_sidecar(case), make)
    return pd.DataFrame(made.rows_of(case))


def _draw(
    subject: _Subject, config: EvaluationSetConfig, library: LesionMaskLibrary | None
) -> Iterator[tuple[str, Spec]]:
    """Draw a subject's specifications, sides in turn; controls and shams match lesions."""
    rng = np.random.default_rng([config.seed, *subject.case.name.encode()])
    first = int(rng.integers(2))
    scale = {"native_mm3_per_mm3": subject.native_mm3}
    lesions = config.lesions.model_copy(update=scale)
    asymmetries = config.asymmetries.model_copy(update=scale)
    drawn = [
        sample_lesion(
            rng,
            lesions,
            subject.mask,
            subject.scan.affine,
            side=_side(first + number),
            mask_library=library,
        )
        for number in range(config.lesions_per_subject)
    ]
    yield from ((f"lesion{k + 1:02d}", spec) for k, spec in enumerate(drawn))
    for role, count in (
        ("control", config.controls_per_subject),
        ("sham", config.shams_per_subject),
    ):
        for number, spec in enumerate(drawn[:count]):
            again = LesionSpec.model_validate(spec.model_dump() | {"role": role})
            yield f"{role}{number + 1:02d}", again
    for number in range(config.asymmetries_per_subject):
        side = _side(first + number)
        yield (
            f"asymmetry{number + 1:02d}",
            sample_asymmetry(rng, asymmetries, subject.mask, subject.scan.affine, side=side),
        )


def _side(number: int) -> Side:
    return "L" if number % 2 else "R"


def _write_healthy(subject: _Subject, made: EvaluationSet) -> None:
    path = made.path(subject.case, "healthy", subject.case.modality)
    sidecar_of(path).unlink(missing_ok=True)
    with atomic_path(path) as temporary:
        shutil.copyfile(subject.case.scan, temporary)
    _write_sidecar(subject, path, {"Label": "normal", "Role": "healthy"})


def _write_item(subject: _Subject, made: EvaluationSet, item: str, spec: Spec) -> None:
    path = made.path(subject.case, item, subject.case.modality)
    volume, mask = _inject(subject, spec, made.library)
    sidecar_of(path).unlink(missing_ok=True)
    save_volume(path, volume, subject.scan.affine, space=TEMPLATE_SPACE)
    mask_path = made.path(subject.case, item, "mask")
    save_volume(mask_path, mask, subject.scan.affine, space=TEMPLATE_SPACE)
    content = {
        "Label": "abnormal" if spec.is_abnormal else "normal",
        "Role": spec.role if isinstance(spec, LesionSpec) else "asymmetry",
        "Specification": spec.model_dump(mode="json"),
        "MaskDigest": digest_file(mask_path),
        "LesionMasksSHA256": made.masks_digest,
    }
    _write_sidecar(subject, path, content)


def _inject(subject: _Subject, spec: Spec, library: LesionMaskLibrary | None) -> tuple[Grid, Mask]:
    data, affine, mask = subject.scan.data, subject.scan.affine, subject.mask
    if isinstance(spec, LesionSpec):
        return inject_lesion(data, affine, spec, mask, mask_library=library)
    return inject_asymmetry(data, affine, spec, mask)


def _write_sidecar(subject: _Subject, path: Path, content: Mapping[str, object]) -> None:
    """Write a volume's sidecar after it."""
    origin = {
        "Sources": [f"bids::{subject.case.scan.name}"],
        "SourceDigest": subject.digest,
        "SpatialReference": f"{TEMPLATE_SPACE}, as bundled with nilearn",
        "SkullStripped": True,
        "SideIsGuess": side_is_guess(subject.case),
        "Quality": {"native_from_template_determinant": subject.native_mm3},
        "GeneratedBy": provenance(),
    }
    write_json(sidecar_of(path), {**content, **origin, "Digest": digest_file(path)})
