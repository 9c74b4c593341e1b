"""Which brains a verb compares: the two halves of each, or the two that ``--pair`` names."""

from collections.abc import Sequence
from pathlib import Path

from hemitwin.pipeline.cohort.brains import find_prepared
from hemitwin.pipeline.stage.bids import Case
from hemitwin.pipeline.stage.errors import UserError
from hemitwin.pipeline.training.compared import BRAINS, HALVES
from hemitwin.pipeline.training.runs import Run

__all__ = ["find_two", "require_halves"]


def require_halves(run: Run, verb: str) -> None:
    """Refuse a run that compares brains where no two are named.

    Raises
    ------
    UserError
        The run compares brains.
    """
    if run.config.compared is BRAINS:
        msg = (
            f"{verb} must be told which two brains to compare, because {run.folder} compares "
            f"brains; add --pair SUB1 SUB2"
        )
        raise UserError(msg)


def find_two(run: Run, derivatives: Path, subjects: Sequence[str]) -> tuple[Case, Case]:
    """Find the two prepared scans that ``--pair`` names.

    Parameters
    ----------
    run : Run
        A network that compares brains.
    derivatives : Path
        The folder with the prepared volumes.
    subjects : two of str
        ``sub-01`` and ``sub-02``, or scans by their full names, ``sub-01_ses-1``.

    Returns
    -------
    two of Case

    Raises
    ------
    UserError
        The run compares hemispheres, or none or several scans fit a name.
    """
    if run.config.compared is HALVES:
        msg = f"--pair must be given with a run on pairs of brains, {run.folder} compares halves"
        raise UserError(msg)
    one, other = (_find_one(run, derivatives, name) for name in subjects)
    return one, other


def _find_one(run: Run, derivatives: Path, name: str) -> Case:
    subject = name.removeprefix("sub-").split("_")[0]
    data = run.config.volumes
    found = find_prepared(derivatives, labels=(subject,), modality=data.modality, space=data.space)
    full = name if name.startswith("sub-") else f"sub-{name}"
    exact = [case for case in found if case.name == full]
    cases = exact or [case for case in found if case.subject == full]
    if len(cases) != 1:
        known = ", ".join(case.name for case in found)
        msg = f"--pair must name one scan each, {name} fits {len(cases)} of {known}; give its name"
        raise UserError(msg)
    return cases[0]
