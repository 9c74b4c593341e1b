"""A BIDS folder of synthetic people from the bundled template, some with a lesion."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import Field
from scipy.spatial.transform import Rotation

from hemitwin._frozen import Frozen
from hemitwin._shapes import Affine
from hemitwin.atlases import TemplateImage, load_template, save_table, save_volume
from hemitwin.pipeline.stage.errors import CaseError, UserError
from hemitwin.pipeline.stage.json_files import write_json, write_text
from hemitwin.pipeline.stage.runner import run_cases
from hemitwin.transforms import (
    AnatomyConfig,
    LesionConfig,
    deform_anatomy,
    inject_lesion,
    sample_anatomy,
    sample_lesion,
)

__all__ = [
    "CohortConfig",
    "Person",
    "describe_cohort",
    "require_own_people",
    "sample_pose",
    "write_cohort",
]

_README = """\
Synthetic people, made from the symmetric brain template that nilearn bundles: smooth random
deformation (independent on the left and the right), intensity, bias field, noise and pose.
No scan in this folder is of a human being. Patients carry a synthetic lesion; its mask lies in
derivatives/lesions.
"""


class CohortConfig(Frozen):
    """Which people are made."""

    controls: int = Field(default=37, ge=1, description="People without a lesion.")
    patients: int = Field(default=1, ge=0, description="People with a lesion in the scan.")
    resolution_mm: float = Field(default=2.0, gt=0, description="Voxel size of the scans.")
    anatomy: AnatomyConfig = Field(default=AnatomyConfig(), description="How people differ.")
    lesions: LesionConfig = Field(default=LesionConfig(), description="The patients' lesions.")
    rotation_deg: float = Field(default=8.0, ge=0, description="Largest turn about each axis.")
    shift_mm: float = Field(default=8.0, ge=0, description="Largest shift along each axis.")
    seed: int = Field(default=0, ge=0, description="Of everything.")


@dataclass(frozen=True)
class Person:
    """One synthetic person.

    Parameters
    ----------
    name : str
        ``sub-01``, or ``sub-p01`` for a patient.
    number : int
        Decides, with the seed, how the person looks.
    patient : bool
        Whether there is a lesion.
    """

    name: str
    number: int
    patient: bool


def write_cohort(folder: Path, config: CohortConfig, *, nprocs: int = 1) -> tuple[Person, ...]:
    """Write the cohort as a BIDS dataset.

    Parameters
    ----------
    folder : Path
        Gets ``sub-*/anat/sub-*_T1w.nii.gz``, `participants.tsv`, and the patients' lesion masks
        in ``derivatives/lesions``.
    config : CohortConfig
        Same configuration, same people.
    nprocs : int
        Processes.

    Returns
    -------
    tuple of Person
        Controls first.

    Raises
    ------
    UserError
        `folder` holds people of another cohort.
    """
    controls = [Person(f"sub-{k + 1:02d}", k, patient=False) for k in range(config.controls)]
    patients = [
        Person(f"sub-p{k + 1:02d}", config.controls + k, patient=True)
        for k in range(config.patients)
    ]
    people = (*controls, *patients)
    require_own_people(folder, [one.name for one in people])
    template = load_template(config.resolution_mm)
    work = partial(_write_person, folder=folder, config=config, template=template)
    outcome = run_cases(work, people, stage="cohort", out=folder, nprocs=nprocs)
    if outcome.failures:
        first = outcome.failures[0]
        count = len(outcome.failures)
        reason = f"every synthetic person must be made, {count} failed: {first.reason}"
        raise CaseError(first.case, first.stage, reason)
    rows = [
        {"participant_id": one.name, "group": "patient" if one.patient else "control"}
        for one in people
    ]
    describe_cohort(folder, pd.DataFrame(rows), readme=_README)
    return people


def _write_person(
    person: Person, folder: Path, config: CohortConfig, template: TemplateImage
) -> Person:
    rng = np.random.default_rng([config.seed, person.number])
    data = deform_anatomy(template.data, template.affine, sample_anatomy(rng, config.anatomy))
    pose = sample_pose(rng, rotation_deg=config.rotation_deg, shift_mm=config.shift_mm)
    affine = pose @ template.affine
    if person.patient:
        brain = data > 0
        spec = sample_lesion(rng, config.lesions, brain, template.affine)
        data, mask = inject_lesion(data, template.affine, spec, brain)
        lesions = folder / "derivatives" / "lesions" / person.name / "anat"
        save_volume(lesions / f"{person.name}_space-T1w_label-L_mask.nii.gz", mask, affine)
        sidecar = lesions / f"{person.name}_space-T1w_label-L_mask.json"
        write_json(sidecar, {"Sources": ["synthetic"], "Lesion": spec.model_dump(mode="json")})
    save_volume(folder / person.name / "anat" / f"{person.name}_T1w.nii.gz", data, affine)
    return person


def sample_pose(rng: np.random.Generator, *, rotation_deg: float, shift_mm: float) -> Affine:
    """Turn and shift a head in the scanner: the affine tells, no voxel is resampled.

    Parameters
    ----------
    rng : numpy.random.Generator
        All randomness comes from it.
    rotation_deg, shift_mm : float
        Largest turn about, and shift along, each axis.

    Returns
    -------
    (4, 4)
        Template RAS+ millimetres to the scanner's.
    """
    turns = rng.uniform(-rotation_deg, rotation_deg, 3)
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler("xyz", turns, degrees=True).as_matrix()
    pose[:3, 3] = rng.uniform(-shift_mm, shift_mm, 3)
    return pose


def require_own_people(folder: Path, names: Sequence[str]) -> None:
    """Refuse a folder with people whom the cohort's tables would not name.

    Raises
    ------
    UserError
        There is somebody else.
    """
    others = sorted({path.name for path in folder.glob("sub-*")} - set(names))
    if others:
        msg = (
            f"a cohort must have a folder of its own, but {folder} holds {', '.join(others[:8])} "
            f"of another one; choose another folder, or remove this one first"
        )
        raise UserError(msg)


def describe_cohort(folder: Path, participants: pd.DataFrame, *, readme: str) -> None:
    """Write what makes a folder of synthetic scans a BIDS dataset."""
    save_table(folder / "participants.tsv", participants)
    description = {
        "Name": "HemiTwin synthetic cohort",
        "BIDSVersion": "1.11.0",
        "DatasetType": "raw",
        "License": "CC0",
    }
    write_json(folder / "dataset_description.json", description)
    write_text(folder / "README", readme)
