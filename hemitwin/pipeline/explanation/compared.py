"""Which brains a verb compares: the two halves of each, or the two that ``--pair`` names."""

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from hemitwin._shapes import Volume
from hemitwin.pipeline.cohort.brains import Brain, find_prepared, load_brain
from hemitwin.pipeline.stage.bids import Case, Pairing
from hemitwin.pipeline.stage.errors import UserError
from hemitwin.pipeline.training.brain_data import standard_brain
from hemitwin.pipeline.training.pairs import split_brain
from hemitwin.pipeline.training.runs import Run
from hemitwin.transforms import HemispherePair, rejoin

__all__ = ["compared_images", "find_two", "join_maps", "load_for", "require_halves"]


def require_halves(run: Run, verb: str) -> None:
    """Refuse a run that compares brains where no two are named.

    Raises
    ------
    UserError
        The run compares brains.
    """
    if run.config.pairs is not None:
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
    if run.config.pairs is None:
        msg = f"--pair must be given with a run on pairs of brains, {run.folder} compares halves"
        raise UserError(msg)
    one, other = (_find_one(run, derivatives, name) for name in subjects)
    return one, other


def _find_one(run: Run, derivatives: Path, name: str) -> Case:
    subject = name.removeprefix("sub-").split("_")[0]
    data = run.config.data
    found = find_prepared(derivatives, labels=(subject,), modality=data.modality, space=data.space)
    full = name if name.startswith("sub-") else f"sub-{name}"
    exact = [case for case in found if case.name == full]
    cases = exact or [case for case in found if case.subject == full]
    if len(cases) != 1:
        known = ", ".join(case.name for case in found)
        msg = f"--pair must name one scan each, {name} fits {len(cases)} of {known}; give its name"
        raise UserError(msg)
    return cases[0]


def join_maps(
    pair: HemispherePair, left: Float[Tensor, "1 1 *half"], right: Float[Tensor, "1 1 *half"]
) -> Volume:
    """Lay the maps of both hemispheres where they belong; the mid-line has none.

    Parameters
    ----------
    pair : HemispherePair
        What was explained.
    left, right : (1, 1, *half) float
        Relevance of both halves.

    Returns
    -------
    (1, X, Y, Z) float
    """
    midline = None if pair.midline is None else torch.zeros_like(pair.midline)
    return rejoin(HemispherePair(left[0], right[0], midline, pair.left_affine, pair.right_affine))


def load_for(run: Run, case: Case) -> Brain:
    """Load a prepared volume as a run takes it."""
    pairing: Pairing = "hemispheres" if run.config.pairs is None else "brains"
    return load_brain(case, run.config.data.resolution_mm, pairing=pairing)


def compared_images(run: Run, brain: Brain) -> tuple[Volume, ...]:
    """Return what the network compares of one brain: both halves, or the whole."""
    if run.config.pairs is not None:
        return (standard_brain(brain),)
    pair = split_brain(brain, brain.volume)
    return pair.left, pair.right
