"""HCP subject trees: structural images as the minimal preprocessing pipelines leave them."""

import re
from collections.abc import Sequence
from pathlib import Path

from hemitwin.pipeline.stage.bids import Alignment, Case, Modality, normalise_labels, visible
from hemitwin.pipeline.stage.errors import UserError

__all__ = ["HCP_TEMPLATE", "find_hcp_scans", "is_hcp_tree"]

HCP_TEMPLATE = "MNI152NLin6Asym"
"""The asymmetric template that ``MNINonLinear`` was normalised to."""

_FOLDER = re.compile(r"(?P<subject>[a-zA-Z0-9]+)(?:_(?P<session>[a-zA-Z0-9]+)_MR)?")
_STRUCTURAL = ("T1w", "MNINonLinear")


def is_hcp_tree(folder: Path) -> bool:
    """Tell whether `folder` is an HCP subject's folder or holds some."""
    return bool(_subject_folders(folder))


def find_hcp_scans(
    folder: Path,
    *,
    labels: Sequence[str] | None = None,
    modality: Modality = "T1w",
    space: str | None = None,
) -> tuple[Case, ...]:
    """Find one modality's scans in an HCP tree.

    The ACPC-aligned image is taken, with the brain extracted where that file is there and else
    with FreeSurfer's mask; the surfaces in ``fsaverage_LR32k`` beside it are noted.
    ``MNINonLinear`` is taken when its space is asked for, or when a subject has nothing else; it
    is marked as non-linearly normalised.

    Parameters
    ----------
    folder : Path
        Holds subjects (``100307/T1w/...``), or is one.
    labels : sequence of str, optional
        Subjects wanted, with or without ``sub-``; all by default.
    modality : str
        "T1w" or "T2w".
    space : str, optional
        "MNI152NLin6Asym" (or "MNINonLinear") for the normalised image, "ACPC" by default.

    Returns
    -------
    tuple of Case
        ``100307`` is ``sub-100307``, ``HCA6002236_V1_MR`` is ``sub-HCA6002236_ses-V1``.

    Raises
    ------
    UserError
        There is no subject, one that was asked for is missing, or the space is none of these.
    """
    if space not in {None, "ACPC", HCP_TEMPLATE, "MNINonLinear"}:
        msg = f"--space of an HCP tree must be ACPC or {HCP_TEMPLATE}, got {space}; choose one"
        raise UserError(msg)
    normalised = space in {HCP_TEMPLATE, "MNINonLinear"}
    cases = tuple(_case(one, modality, normalised=normalised) for one in _subject_folders(folder))
    wanted = normalise_labels(labels) or tuple(dict.fromkeys(case.subject for case in cases))
    unknown = sorted(set(wanted) - {case.subject for case in cases})
    if unknown or not cases:
        msg = (
            f"{folder} must hold the HCP subjects asked for, each with a folder T1w, but "
            f"{', '.join(unknown) or 'none'} is there not; check path and labels"
        )
        raise UserError(msg)
    return tuple(case for case in cases if case.subject in wanted)


def _subject_folders(folder: Path) -> list[Path]:
    if _is_subject(folder):
        return [folder]
    return sorted(one for one in folder.glob("*") if one.is_dir() and _is_subject(one))


def _is_subject(folder: Path) -> bool:
    named = _FOLDER.fullmatch(folder.resolve().name)
    return bool(named) and any((folder / name).is_dir() for name in _STRUCTURAL)


def _case(folder: Path, modality: Modality, *, normalised: bool) -> Case:
    found = _FOLDER.fullmatch(folder.resolve().name)
    subject = f"sub-{found['subject']}" if found else folder.name
    name = f"{subject}_ses-{found['session']}" if found and found["session"] else subject
    acpc, mni = folder / "T1w", folder / "MNINonLinear"
    choices: list[tuple[Path, Path | None, Alignment]] = [
        (acpc / f"{modality}_acpc_dc_restore_brain.nii.gz", None, "acpc"),
        (acpc / f"{modality}_acpc_dc_restore.nii.gz", acpc / "brainmask_fs.nii.gz", "acpc"),
    ]
    warped: list[tuple[Path, Path | None, Alignment]] = [
        (mni / f"{modality}_restore_brain.nii.gz", None, "nonlinear"),
        (mni / f"{modality}_restore.nii.gz", mni / "brainmask_fs.nii.gz", "nonlinear"),
    ]
    choices = warped if normalised else [*choices, *warped]
    here = [one for one in choices if one[0].is_file()]
    scan, mask, alignment = here[0] if here else choices[0]
    return Case(
        subject,
        name,
        scan,
        modality=modality,
        alignment=alignment,
        space=HCP_TEMPLATE if alignment == "nonlinear" else None,
        mask=mask if mask is not None and mask.is_file() else None,
        uri=f"hcp:{folder.resolve().name}/{scan.parent.name}/{scan.name}",
        surfaces=_surfaces(scan.parent),
    )


def _surfaces(folder: Path) -> tuple[Path, ...]:
    """Find both mid-thickness surfaces of one world, those of the newer matching first."""
    for matching in ("_MSMAll", ""):
        names = (f"*.{side}.midthickness{matching}.32k_fs_LR.surf.gii" for side in "LR")
        found = [visible((folder / "fsaverage_LR32k").glob(name)) for name in names]
        if all(found):
            return found[0][0], found[1][0]
    return ()
