"""Masks of lesions that somebody drew: which file in a folder belongs to which scan."""

from collections.abc import Sequence
from pathlib import Path

from hemitwin._names import TEMPLATE_SPACE
from hemitwin.pipeline.stage.bids import Case, entities_of, visible
from hemitwin.pipeline.stage.errors import CaseError

__all__ = ["is_in_template_space", "lesion_file_of", "unclaimed_lesion_files"]


def lesion_file_of(folder: Path, case: Case, stage: str) -> Path | None:
    """Return a scan's lesion mask: ``<subject>*_mask.nii[.gz]``, with or without ``sub-``.

    Parameters
    ----------
    folder : Path
        Holds masks, in the space of the scans or, with the ``space-`` entity, of the template.
    case : Case
        The scan.
    stage : str
        The verb, for messages.

    Returns
    -------
    Path or None
        None where there is none.

    Raises
    ------
    CaseError
        Several masks fit the scan, or one is in a space that is not known.
    """
    found = [path for path in _masks_of(folder, case) if _is_of_a_lesion(path, case, stage)]
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        reason = f"one lesion mask must fit the scan, got {names}; keep the right one in {folder}"
        raise CaseError(case.name, stage, reason)
    return found[0] if found else None


def is_in_template_space(path: Path) -> bool:
    """Tell whether a mask lies in the template's space; it lies in the scan's, if not."""
    return entities_of(path.name).get("space") == TEMPLATE_SPACE


def unclaimed_lesion_files(folder: Path, cases: Sequence[Case]) -> tuple[str, ...]:
    """Return the names of the masks that fit none of the scans, sorted."""
    claimed = {path for case in cases for path in _masks_of(folder, case)}
    return tuple(sorted(path.name for path in set(_masks(folder, "")) - claimed))


def _masks_of(folder: Path, case: Case) -> list[Path]:
    names = (case.name, case.name.removeprefix("sub-"))
    return sorted(path for name in names for path in _masks(folder, f"{name}_"))


def _masks(folder: Path, beginning: str) -> list[Path]:
    places = ("", "sub-*/anat/", "sub-*/ses-*/anat/")
    return visible(path for one in places for path in folder.glob(f"{one}{beginning}*mask.nii*"))


def _is_of_a_lesion(path: Path, case: Case, stage: str) -> bool:
    """Pass over masks of brains, and refuse those of a space that is not known."""
    entities = entities_of(path.name)
    if entities.get("desc") == "brain":
        return False
    space = entities.get("space", case.modality)
    if space not in {case.modality, "T1w", "orig", TEMPLATE_SPACE}:
        reason = (
            f"a lesion mask must be in the space of the scan or of {TEMPLATE_SPACE}, {path.name} "
            f"is in {space}; resample it"
        )
        raise CaseError(case.name, stage, reason)
    return True
