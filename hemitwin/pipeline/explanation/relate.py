"""Relate: which region here is matched with which region there."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from hemitwin.atlases import TEMPLATE_SPACE, hcpmmp_atlas
from hemitwin.interpret import RegionMatches, match_regions
from hemitwin.pipeline.cohort.brains import find_prepared
from hemitwin.pipeline.explanation.directions import Directions
from hemitwin.pipeline.explanation.paired_regions import PairedRegions
from hemitwin.pipeline.explanation.relation_files import (
    Related,
    RelationContent,
    read_related,
    write_related,
)
from hemitwin.pipeline.explanation.two_brains import find_two, require_halves
from hemitwin.pipeline.stage.bids import Case
from hemitwin.pipeline.stage.dataset import describe_dataset
from hemitwin.pipeline.stage.errors import CaseError, UserError
from hemitwin.pipeline.stage.names import relations_path
from hemitwin.pipeline.stage.runner import Outcome, run_cases
from hemitwin.pipeline.training.runs import Run, result_record

__all__ = ["Related", "relate", "relate_two"]

_LARGEST_ERROR = 1e-4


def relate(
    run: Run,
    derivatives: Path,
    *,
    cache: Path,
    labels: tuple[str, ...] | None = None,
    directions: int | None = None,
) -> Outcome[Related]:
    """Share the similarity of the two hemispheres of prepared subjects out to pairs of regions.

    Parameters
    ----------
    run : Run
        A network that compares hemispheres.
    derivatives : Path
        The folder with the prepared volumes; tables and matrices are written into it.
    cache : Path
        Where the atlas is kept between runs.
    labels : tuple of str, optional
        Subjects, with or without ``sub-``; all by default.
    directions : int, optional
        Explain only so many principal directions of the embeddings of the training fold's brains
        in `derivatives`; by default all, which neglects nothing.

    Returns
    -------
    Outcome of Related
        A case that fails, also because its ledgers do not close, is a failure in it.

    Raises
    ------
    UserError
        The run compares brains, a subject asked for has no prepared volume, or `derivatives` does
        not hold the training brains for so many directions.
    """
    require_halves(run, "relate")
    chosen = Directions.of(run, derivatives, directions)
    cases = find_prepared(derivatives, labels=labels, modality=run.config.volumes.modality)
    describe_dataset(derivatives)
    work = partial(
        _relate_case, other=None, run=run, derivatives=derivatives, cache=cache, chosen=chosen
    )
    return run_cases(work, cases, stage="relate", out=derivatives)


def relate_two(
    run: Run,
    derivatives: Path,
    subjects: Sequence[str],
    *,
    cache: Path,
    directions: int | None = None,
) -> Outcome[Related]:
    """Share the similarity of two brains out to pairs of regions.

    Parameters
    ----------
    run : Run
        A network that compares brains.
    derivatives : Path
        The folder with the prepared volumes; the files are written into it, named
        ``desc-bilrppair``.
    subjects : two of str
        ``sub-01`` and ``sub-02``, or scans by their full names, ``sub-01_ses-1``.
    cache, directions
        As for `relate`.

    Returns
    -------
    Outcome of Related
        One, of the first brain: its regions are the rows, those of the second the columns.

    Raises
    ------
    UserError
        The run compares hemispheres, a brain is not there or not one scan, or the brains lie in a
        space in which the atlas is not known; or as `relate` says of directions.
    """
    if run.config.volumes.space != TEMPLATE_SPACE:
        msg = (
            f"relate must have brains in {TEMPLATE_SPACE}, where the atlas is known, but "
            f"{run.folder} takes {run.config.volumes.space}; prepare and train in that space"
        )
        raise UserError(msg)
    one, other = find_two(run, derivatives, subjects)
    chosen = Directions.of(run, derivatives, directions)
    describe_dataset(derivatives)
    work = partial(
        _relate_case, other=other, run=run, derivatives=derivatives, cache=cache, chosen=chosen
    )
    return run_cases(work, (one,), stage="relate", out=derivatives)


def _relate_case(
    case: Case, other: Case | None, run: Run, derivatives: Path, cache: Path, chosen: Directions
) -> Related:
    cases = (case,) if other is None else (case, other)
    desc = "bilrp" if other is None else "bilrppair"
    path = relations_path(case, derivatives, desc, space=run.config.volumes.space)
    record = result_record(
        "relate",
        run,
        cases,
        computation=1,
        settings={"directions": chosen.sources, "atlas": hcpmmp_atlas().digest},
    )
    if (done := read_related(case, path, record)) is not None:
        return done
    brains = [run.load_brain(one) for one in cases]
    regions = PairedRegions.of(run, brains[0], cache)
    left, right = (image for brain in brains for image in run.config.compared.images(brain))
    found = match_regions(
        run.network,
        left[None].to(run.network.device),
        right[None].to(run.network.device),
        labels_left=regions.labels_left,
        labels_right=regions.labels_right,
        regions=regions.values,
        directions=chosen.vectors,
        config=run.config.lrp,
    )
    _check(case, found)
    return write_related(path, run, RelationContent(cases, found, regions, chosen.words), record)


def _check(case: Case, found: RegionMatches) -> None:
    if not found.ledger_error <= _LARGEST_ERROR:
        reason = (
            f"every ledger must close to {_LARGEST_ERROR:g} of the largest component, got "
            f"{found.ledger_error:.2g}; the matrix is not trustworthy and was not written; try "
            f"lrp.rule=epsilon"
        )
        raise CaseError(case.name, "relate", reason)
    if 0.0 in {found.similarity, float(found.matrix.sum())}:
        reason = (
            "the two embeddings must have a similarity, but there is none to share out, got 0; "
            "look whether the network has learnt anything"
        )
        raise CaseError(case.name, "relate", reason)
