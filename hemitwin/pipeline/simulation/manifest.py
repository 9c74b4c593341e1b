"""A set of simulated lesions: its configuration, its folder, and what names its volumes."""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import Field, ValidationError, model_validator

from hemitwin._frozen import Frozen
from hemitwin.atlases import TEMPLATE_SPACE, save_table
from hemitwin.pipeline.stage.bids import Case, find_scans, sidecar_of
from hemitwin.pipeline.stage.errors import UserError, reading
from hemitwin.pipeline.stage.json_files import read_json, write_json
from hemitwin.pipeline.stage.records import Record, content_digest
from hemitwin.transforms import (
    AsymmetryConfig,
    AsymmetrySpec,
    LesionConfig,
    LesionMaskLibrary,
    LesionSpec,
)

__all__ = [
    "MANIFEST",
    "EvaluationSet",
    "EvaluationSetConfig",
    "Spec",
    "items_in",
    "specification_of",
]

logger = logging.getLogger(__name__)

MANIFEST = "manifest.tsv"
_SETTINGS = "simulation.json"
_MASKS = "lesion_masks_sha256"
_NAMED = 8

Spec = LesionSpec | AsymmetrySpec
"""What was done to one volume."""


class EvaluationSetConfig(Frozen):
    """What each subject gets, beside its volume as it is."""

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

    @property
    def items(self) -> tuple[str, ...]:
        """What each subject gets, in the manifest's order."""
        counts = {
            "lesion": self.lesions_per_subject,
            "control": self.controls_per_subject,
            "sham": self.shams_per_subject,
            "asymmetry": self.asymmetries_per_subject,
        }
        drawn = (f"{kind}{k + 1:02d}" for kind, count in counts.items() for k in range(count))
        return ("healthy", *drawn)


@dataclass(frozen=True)
class EvaluationSet:
    """A set's folder, its configuration, and the masks that its lesions have.

    Parameters
    ----------
    folder : Path
        Where it lies.
    config : EvaluationSetConfig
        The one that it belongs to.
    library : LesionMaskLibrary, optional
        The configuration's masks.
    """

    folder: Path
    config: EvaluationSetConfig
    library: LesionMaskLibrary | None

    @classmethod
    def of(cls, folder: Path, config: EvaluationSetConfig) -> "EvaluationSet":
        """Open the masks that a configuration names.

        Raises
        ------
        FileNotFoundError
            There are none.
        """
        library = LesionMaskLibrary(config.lesion_masks) if config.lesion_masks else None
        return cls(folder, config, library)

    @property
    def masks_digest(self) -> str | None:
        """What lesions that are drawn from masks depend on; None where there are no masks."""
        return self.library.digest if self.library else None

    def path(self, case: Case, item: str, suffix: str) -> Path:
        """Return where an item's volume or mask lies."""
        return case.path(self.folder, f"space-{TEMPLATE_SPACE}_desc-{item}_{suffix}.nii.gz")

    def case_sidecar(self, case: Case) -> Path:
        """Return where it is written down what a subject's volumes were made from."""
        return case.path(self.folder, "simulation.json")

    def record(self, case: Case, native_mm3_per_mm3: float) -> Record:
        """Return what decides a subject's volumes."""
        settings = self.config.model_dump(mode="json", exclude={"lesion_masks"})
        settings |= {_MASKS: self.masks_digest, "native_mm3_per_mm3": native_mm3_per_mm3}
        return Record(
            "simulate lesions", computation=1, inputs={"volume": case.scan}, settings=settings
        )

    def files_of(self, case: Case) -> list[Path]:
        """Return all of a subject's volumes, masks and sidecars."""
        volumes = [self.path(case, item, case.modality) for item in self.config.items]
        masks = [self.path(case, item, "mask") for item in self.config.items if item != "healthy"]
        return [*volumes, *masks, *map(sidecar_of, volumes)]

    def begin(self) -> None:
        """Bind the folder to the configuration.

        Masks are told by their content, wherever they lie. Where the same folder has others now,
        volumes are made again, subject by subject.

        Raises
        ------
        UserError
            The folder holds a set of another configuration.
        """
        self._require_own()
        self._write_settings()

    def write_manifest(self, everybody: Sequence[Case], *, asked: Collection[str]) -> None:
        """Write the rows of every subject whose volumes are whole and of what is there now.

        Parameters
        ----------
        everybody : sequence of Case
            The prepared volumes at hand. Subjects whose volume is gone stay: nothing speaks
            against them.
        asked : collection of str
            Names of the cases that were just made, or failed: of the others it is told who is
            left out.
        """
        rows, left_out = [], []
        volumes = {case.name: case.scan for case in everybody}
        for case in self._cases():
            found = self.rows_of(case)
            sources = {row["source_sha256"] for row in found}
            volume = volumes.get(case.name)
            current = volume is None or sources == {content_digest(volume)}
            if len(found) == len(self.config.items) and current:
                rows += found
            elif case.name not in asked:
                left_out.append(case.name)
        if left_out:
            logger.warning(
                "%s: %s left out of %s, because volumes are missing, or were made from another "
                "prepared volume or other lesion masks than are there now; simulate them again",
                self.folder,
                ", ".join([*left_out[:_NAMED], *(["..."] if len(left_out) > _NAMED else [])]),
                MANIFEST,
            )
        if rows:
            save_table(self.folder / MANIFEST, pd.DataFrame(rows))
            self._write_settings()
        else:  # nothing is bound yet: the next call may have another configuration
            (self.folder / MANIFEST).unlink(missing_ok=True)
            (self.folder / _SETTINGS).unlink(missing_ok=True)

    def rows_of(self, case: Case) -> list[dict[str, object]]:
        """Read a case's rows from its volumes' sidecars; fewer where something is missing."""
        rows = []
        for item in self.config.items:
            path = self.path(case, item, case.modality)
            if not (path.is_file() and sidecar_of(path).is_file()):
                continue
            try:
                content = read_json(sidecar_of(path))
                if item == "healthy" or content.get("LesionMasksSHA256") == self.masks_digest:
                    rows.append(_row(case, path.relative_to(self.folder), item, content))
            except ValueError as error:  # damaged: as good as missing
                logger.warning("%s", error)
        return rows

    def _cases(self) -> list[Case]:
        modality = self.config.lesions.modality
        tail = f"space-{TEMPLATE_SPACE}_desc-healthy_{modality}"
        found = find_scans(self.folder, tail=tail) if any(self.folder.glob("sub-*")) else ()
        return [replace(case, modality=modality) for case in found if case.scan.is_file()]

    def _write_settings(self) -> None:
        content = {**self.config.model_dump(mode="json"), _MASKS: self.masks_digest}
        write_json(self.folder / _SETTINGS, content)

    def _require_own(self) -> None:
        path = self.folder / _SETTINGS
        if not path.is_file():
            return
        content = read_json(path)
        masks = content.pop(_MASKS, None)
        try:
            there = EvaluationSetConfig.model_validate(content).model_dump()
        except ValidationError:
            there = content
        asked = self.config.model_dump()
        changed = [name for name in asked if there.get(name) != asked[name]]
        if masks is not None and masks == self.masks_digest:
            changed = [name for name in changed if name != "lesion_masks"]
        if changed:
            msg = (
                f"a set must have one configuration, but {path} has another {', '.join(changed)} "
                f"than is asked for; choose another folder, or remove this one first"
            )
            raise UserError(msg)


def items_in(folder: Path) -> int | None:
    """Return how many volumes each subject of a set has; None where it was not written down."""
    path = folder / _SETTINGS
    if not path.is_file():
        return None
    with reading(path, "simulate the set again"):
        content = {name: value for name, value in read_json(path).items() if name != _MASKS}
        return len(EvaluationSetConfig.model_validate(content).items)


def specification_of(content: Mapping[str, Any]) -> Spec | None:
    """Read what was done to a volume from its sidecar; None for one as it is."""
    specification = content.get("Specification")
    if specification is None:
        return None
    model = AsymmetrySpec if content["Role"] == "asymmetry" else LesionSpec
    return model.model_validate(specification)


def _row(case: Case, path: Path, item: str, content: Mapping[str, Any]) -> dict[str, object]:
    row: dict[str, object] = {
        "participant_id": case.subject,
        "case": case.name,
        "item": item,
        "file": path.as_posix(),
        "label": content["Label"],
        "role": content["Role"],
        "kind": None,
        "side": None,
        "volume_mm3": None,
        "seed": None,
        "sha256": content["Digest"],
        "source_sha256": content["SourceDigest"],
    }
    if (spec := specification_of(content)) is not None:
        kind = spec.pathology if isinstance(spec, LesionSpec) else spec.kind
        known = {"kind": kind, "side": spec.side, "volume_mm3": spec.volume_mm3}
        row |= {**known, "seed": getattr(spec, "seed", None)}
    return row
