"""Simulate lesions: a fixed set of lesioned, control and sham volumes, with its manifest."""

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, model_validator

from hemitwin._atomic import atomic_path
from hemitwin._shapes import Grid, Mask
from hemitwin.atlases import TEMPLATE_SPACE, save_table, save_volume
from hemitwin.pipeline.bids import Case, sidecar_of
from hemitwin.pipeline.case_sides import side_is_guess
from hemitwin.pipeline.cohort import find_prepared, native_mm3_of
from hemitwin.pipeline.errors import CaseError, UserError
from hemitwin.pipeline.outputs import (
    describe_dataset,
    digest_file,
    digest_json,
    provenance,
    read_matching_sidecar,
    write_json,
)
from hemitwin.pipeline.runner import Outcome, run_cases
from hemitwin.transforms import (
    AsymmetryConfig,
    AsymmetrySpec,
    LesionConfig,
    LesionMaskLibrary,
    LesionSpec,
    Scan,
    inject_asymmetry,
    inject_lesion,
    load_volume,
    sample_asymmetry,
    sample_lesion,
)

__all__ = ["MANIFEST", "EvaluationSetConfig", "Spec", "simulate_lesions"]

MANIFEST = "manifest.tsv"

Spec = LesionSpec | AsymmetrySpec
"""What was done to one volume."""


class EvaluationSetConfig(BaseModel):
    """What each subject gets, beside its volume as it is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    lesions_per_subject: int = Field(default=4, ge=0, description="Lesions, one a volume.")
    controls_per_subject: int = Field(
        default=1, ge=0, description="The first lesions again, blurred alike, without contrast."
    )
    shams_per_subject: int = Field(
        default=1, ge=0, description="The first lesions again, in both hemispheres."
    )
    asymmetries_per_subject: int = Field(
        default=0, ge=0, description="Atrophy, wide ventricles and the like, one a volume."
    )
    lesions: LesionConfig = Field(default=LesionConfig(), description="Their ranges.")
    asymmetries: AsymmetryConfig = Field(default=AsymmetryConfig(), description="Their ranges.")
    lesion_masks: Path | None = Field(default=None, description="Folder of real lesion masks.")
    seed: int = Field(default=0, ge=0, description="With a case's name it decides the draw.")

    @model_validator(mode="after")
    def _matched_ones_have_a_lesion(self) -> "EvaluationSetConfig":
        most = max(self.controls_per_subject, self.shams_per_subject)
        if most > self.lesions_per_subject:
            msg = (
                f"controls and shams repeat lesions, so there must be at least {most} "
                f"lesions_per_subject, got {self.lesions_per_subject}; raise it"
            )
            raise ValueError(msg)
        if set(self.lesions.roles) != {"lesion"}:
            msg = "lesions.roles must be lesions alone; set controls_per_subject and the like"
            raise ValueError(msg)
        return self


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

    Parameters
    ----------
    prepared : Path
        Folder of prepared volumes.
    out : Path
        A folder of its own: ``sub-*/anat/*_desc-<item>_<modality>.nii.gz`` with ``_mask.nii.gz``
        and sidecars, and `manifest.tsv` with one row a volume.
    config : EvaluationSetConfig, optional
        What each subject gets. Adding a subject changes no other's volumes.
    labels : tuple of str, optional
        Subjects; all by default.
    nprocs : int
        Processes.

    Returns
    -------
    Outcome of DataFrame
        Each case's rows of the manifest.

    Raises
    ------
    UserError
        There is no prepared volume, or `out` is the folder with the prepared volumes.
    """
    config = config or EvaluationSetConfig()
    if out.resolve() == prepared.resolve():
        msg = f"the set must get a folder of its own, got {out}, where the prepared volumes lie"
        raise UserError(msg)
    modality = config.lesions.modality
    cases = find_prepared(prepared, labels=labels, modality=modality)
    describe_dataset(out, source=prepared)
    work = partial(_simulate_case, out=out, config=config)
    outcome = run_cases(
        work, cases, stage="simulate lesions", log_folder=out / "logs", nprocs=nprocs
    )
    if outcome.results:
        save_table(out / MANIFEST, pd.concat(outcome.results, ignore_index=True))
        write_json(out / "simulation.json", config.model_dump(mode="json"))
    return outcome


def _simulate_case(case: Case, out: Path, config: EvaluationSetConfig) -> pd.DataFrame:
    scan = load_volume(case.scan)
    native_mm3 = native_mm3_of(case)
    subject = _Subject(case, scan, scan.data > 0, digest_file(case.scan), native_mm3)
    library = LesionMaskLibrary(config.lesion_masks) if config.lesion_masks else None
    rows = [_write_healthy(subject, out)]
    try:
        for item, spec in _draw(subject, config, library):
            rows.append(_write_item(subject, out, item, spec, library))
    except ValueError as error:
        raise CaseError(case.name, "simulate lesions", str(error)) from error
    return pd.DataFrame(rows)


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


def _side(number: int) -> Literal["L", "R"]:
    return "L" if number % 2 else "R"


def _write_healthy(subject: _Subject, out: Path) -> dict[str, object]:
    path = _path(subject.case, out, "healthy", subject.case.modality)
    key = digest_json({"source": subject.digest})
    if read_matching_sidecar(path, key=key) is None:
        sidecar_of(path).unlink(missing_ok=True)
        with atomic_path(path) as temporary:
            shutil.copyfile(subject.case.scan, temporary)
        _write_sidecar(subject, path, key, {"Label": "normal", "Role": "healthy"})
    return _row(subject, out, path, "healthy", None)


def _write_item(
    subject: _Subject, out: Path, item: str, spec: Spec, library: LesionMaskLibrary | None
) -> dict[str, object]:
    path = _path(subject.case, out, item, subject.case.modality)
    specification = spec.model_dump(mode="json")
    versions = provenance()["packages"]
    key = digest_json({"source": subject.digest, "spec": specification, "versions": versions})
    if read_matching_sidecar(path, key=key) is None:
        volume, mask = _inject(subject, spec, library)
        sidecar_of(path).unlink(missing_ok=True)
        save_volume(path, volume, subject.scan.affine, space=TEMPLATE_SPACE)
        mask_path = _path(subject.case, out, item, "mask")
        save_volume(mask_path, mask, subject.scan.affine, space=TEMPLATE_SPACE)
        content = {
            "Label": _label(spec),
            "Role": _role(spec),
            "Specification": specification,
            "MaskDigest": digest_file(mask_path),
        }
        _write_sidecar(subject, path, key, content)
    return _row(subject, out, path, item, spec)


def _inject(subject: _Subject, spec: Spec, library: LesionMaskLibrary | None) -> tuple[Grid, Mask]:
    data, affine, mask = subject.scan.data, subject.scan.affine, subject.mask
    if isinstance(spec, LesionSpec):
        return inject_lesion(data, affine, spec, mask, mask_library=library)
    return inject_asymmetry(data, affine, spec, mask)


def _write_sidecar(subject: _Subject, path: Path, key: str, content: Mapping[str, object]) -> None:
    """Write the sidecar last: without one that matches, a volume is made again."""
    origin = {
        "Sources": [f"bids::{subject.case.scan.name}"],
        "SourceDigest": subject.digest,
        "SpatialReference": f"{TEMPLATE_SPACE}, as bundled with nilearn",
        "SkullStripped": True,
        "SideIsGuess": side_is_guess(subject.case),
        "Quality": {"native_from_template_determinant": subject.native_mm3},
        "GeneratedBy": provenance(),
    }
    write_json(sidecar_of(path), {**content, **origin, "Key": key, "Digest": digest_file(path)})


def _path(case: Case, out: Path, item: str, suffix: str) -> Path:
    return case.path(out, f"space-{TEMPLATE_SPACE}_desc-{item}_{suffix}.nii.gz")


def _label(spec: Spec | None) -> str:
    return "abnormal" if spec is not None and spec.is_abnormal else "normal"


def _role(spec: Spec) -> str:
    return spec.role if isinstance(spec, LesionSpec) else "asymmetry"


def _row(
    subject: _Subject, out: Path, path: Path, item: str, spec: Spec | None
) -> dict[str, object]:
    row: dict[str, object] = {
        "participant_id": subject.case.subject,
        "case": subject.case.name,
        "item": item,
        "file": path.relative_to(out).as_posix(),
        "label": _label(spec),
        "role": "healthy" if spec is None else _role(spec),
        "kind": None,
        "side": None,
        "volume_mm3": None,
        "seed": None,
        "sha256": digest_file(path),
        "source_sha256": subject.digest,
    }
    if spec is not None:
        kind = spec.pathology if isinstance(spec, LesionSpec) else spec.kind
        known = {"kind": kind, "side": spec.side, "volume_mm3": spec.volume_mm3}
        row |= {**known, "seed": getattr(spec, "seed", None)}
    return row
