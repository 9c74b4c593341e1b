"""BIDS derivatives: preprocessed scans with their brain masks and the space they lie in."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hemitwin.pipeline.preparation.alignment import alignment_of_matrix
from hemitwin.pipeline.preparation.bids_filter import Filter, keep_matching
from hemitwin.pipeline.stage.bids import Alignment, Case, Modality, entities_of, find_scans
from hemitwin.pipeline.stage.errors import UserError
from hemitwin.transforms import read_itk_affine

__all__ = ["find_derivatives"]

_NATIVE = {"T1w", "T2w", "FLAIR", "orig", "scanner"}
_ACPC = {"ACPC", "T1wACPC"}
_DROPPED = ("space", "res", "den", "desc", "label")
_SUFFIXES = (".nii.gz", ".nii")


def find_derivatives(
    folder: Path,
    *,
    labels: Sequence[str] | None = None,
    modality: Modality = "T1w",
    space: str | None = None,
    wanted: Filter | None = None,
) -> tuple[Case, ...]:
    """Find one modality's scans in a folder that fMRIPrep, sMRIPrep or the like wrote.

    ``desc-preproc`` is taken where it is there, else what has no ``desc``. A ``desc-brain_mask``
    with the same entities is the brain. A scan with a ``space-`` entity of a template is taken as
    non-linearly normalised, as these programs do, unless an ITK affine of at most nine degrees of
    freedom (``from-T1w_to-<space>_mode-image_xfm.txt`` or ``.mat``) lies beside it.

    Parameters
    ----------
    folder : Path
        ``sub-*/[ses-*/]anat`` below it.
    labels : sequence of str, optional
        Subjects, with or without ``sub-``; all by default.
    modality : str
        The suffix.
    space : str, optional
        The ``space-`` entity; by default the scan's own space (no entity, or ``space-T1w``).
    wanted : mapping, optional
        A filter; it may choose the ``desc`` or ``res``.

    Returns
    -------
    tuple of Case
        A subject without such a scan is there with that as its problem.

    Raises
    ------
    UserError
        No subject has a scan in this space; the message names the spaces that are there.
    """
    cases: list[Case] = []
    spaces: set[str] = set()
    for subject in dict.fromkeys(case.subject for case in find_scans(folder, labels=labels)):
        every = _scans_of(folder, subject, modality)
        spaces |= {case.space or "none" for case in every}
        here = [case for case in every if _lies_in(case, space)]
        chosen = _one_a_name(_preferred(keep_matching(here, wanted or {}), wanted or {}))
        cases += [_described(case) for case in chosen] or [_missing(folder, subject, modality)]
    if spaces and not any(case.scan.is_file() for case in cases):
        msg = (
            f"{folder} must hold {modality} scans in the space {space or 'of the scan (none)'}, "
            f"but has them in {', '.join(sorted(spaces))} only; see --space"
        )
        raise UserError(msg)
    return tuple(cases)


def _scans_of(folder: Path, subject: str, modality: Modality) -> list[Case]:
    cases = []
    for where in ("anat", "ses-*/anat"):
        for suffix in _SUFFIXES:
            ending = f"_{modality}{suffix}"
            for path in sorted((folder / subject).glob(f"{where}/{subject}_*{ending}")):
                stem = path.name.removesuffix(ending)
                parts = [p for p in stem.split("_") if p.split("-")[0] not in _DROPPED]
                uri = f"bids:derivatives:{path.relative_to(folder).as_posix()}"
                space = entities_of(stem).get("space")
                cases.append(Case(subject, "_".join(parts), path, modality, space=space, uri=uri))
    return cases


def _missing(folder: Path, subject: str, modality: Modality) -> Case:
    where = folder / subject / "anat"
    problem = (
        f"a {modality} scan in the space and with the entities asked for must be there, found "
        f"none below {where.parent}; leave the subject out, or see --space and the filter"
    )
    return Case(subject, subject, where, modality, problem=problem)


def _lies_in(case: Case, space: str | None) -> bool:
    return case.space in {None, *_NATIVE} if space in {None, *_NATIVE} else case.space == space


def _preferred(cases: Sequence[Case], wanted: Filter) -> list[Case]:
    """Take desc-preproc before no desc, and leave other versions to those who ask for them."""
    if "desc" in wanted:
        return list(cases)
    described = {case: entities_of(_stem(case.scan)).get("desc") for case in cases}
    preprocessed = [case for case, desc in described.items() if desc == "preproc"]
    names = {case.name for case in preprocessed}
    rest = [case for case, desc in described.items() if desc is None and case.name not in names]
    return preprocessed + rest


def _one_a_name(cases: Sequence[Case]) -> list[Case]:
    chosen: dict[str, Case] = {}
    for case in sorted(cases, key=lambda case: case.name):
        if case.name in chosen:
            both = f"{chosen[case.name].scan} and {case.scan}"
            problem = f"one file must be the scan {case.name}, got {both}; see --bids-filter-file"
            case = replace(case, problem=problem)  # noqa: PLW2901
        chosen[case.name] = case
    return list(chosen.values())


def _described(case: Case) -> Case:
    """Add the mask beside a scan, and how the scan lies."""
    stem = _stem(case.scan)
    parts = [part for part in stem.split("_") if not part.startswith("desc-")]
    masks = (case.scan.with_name("_".join([*parts, f"desc-brain_mask{s}"])) for s in _SUFFIXES)
    mask = next((path for path in masks if path.is_file()), None)
    if case.space is None or case.space in _NATIVE:
        return replace(case, mask=mask, space=None)
    if case.space in _ACPC:
        return replace(case, mask=mask, space=None, alignment="acpc")
    return replace(case, mask=mask, alignment=_alignment_beside(case))


def _alignment_beside(case: Case) -> Alignment:
    """Read how the scan came to its template, where an affine beside it tells."""
    name = f"{case.name}_from-{case.modality}_to-{case.space}_mode-image_xfm"
    beside = (case.scan.with_name(f"{name}{suffix}") for suffix in (".txt", ".mat"))
    path = next((path for path in beside if path.is_file()), None)
    if path is None:
        return "nonlinear"
    try:
        return alignment_of_matrix(read_itk_affine(path))
    except ValueError:  # not one affine, or warped
        return "nonlinear"


def _stem(scan: Path) -> str:
    return scan.name.rsplit("_", 1)[0]
