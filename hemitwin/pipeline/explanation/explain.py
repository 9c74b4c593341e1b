"""Explain: why a pair's score is what it is, as volumes with their audit."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hemitwin.atlases import TEMPLATE_SPACE
from hemitwin.interpret import (
    Ledger,
    PairExplanation,
    pointing_game,
    relevance_mass_accuracy,
    relevance_rank_accuracy,
)
from hemitwin.pipeline.cohort.brains import Brain, find_prepared
from hemitwin.pipeline.explanation.map_checks import check_map, check_mirror, labels_of_pair
from hemitwin.pipeline.explanation.map_files import (
    Explained,
    MapContent,
    map_record,
    read_done,
    write_map,
)
from hemitwin.pipeline.explanation.pair_maps import compute_map
from hemitwin.pipeline.explanation.request import MapRequest
from hemitwin.pipeline.explanation.score import choose_score
from hemitwin.pipeline.explanation.two_brains import find_two, require_halves
from hemitwin.pipeline.stage.bids import Case
from hemitwin.pipeline.stage.dataset import describe_dataset
from hemitwin.pipeline.stage.errors import CaseError, UserError
from hemitwin.pipeline.stage.names import map_desc, relevance_path
from hemitwin.pipeline.stage.runner import Outcome, run_cases
from hemitwin.pipeline.training.compared import BRAINS, HALVES
from hemitwin.pipeline.training.runs import Run, lesion_source
from hemitwin.pipeline.training.sources.pairs import LesionSource
from hemitwin.transforms import LesionSpec, split_hemispheres

__all__ = ["Explained", "explain", "explain_case", "explain_two"]


def explain(
    run: Run,
    derivatives: Path,
    *,
    labels: tuple[str, ...] | None = None,
    request: MapRequest | None = None,
    cache: Path | None = None,
) -> Outcome[Explained]:
    """Explain what a network says about the two hemispheres of prepared subjects.

    Parameters
    ----------
    run : Run
        A trained network.
    derivatives : Path
        The folder with the prepared volumes; the maps are written into it.
    labels : tuple of str, optional
        Subjects, with or without ``sub-``; all by default.
    request : MapRequest, optional
        Method, score, checks; LRP of what the head ranks pairs by, by default. With a lesion's
        seed the map is named ``desc-lrplesion``, and the lesion's mask is written beside it.
    cache : Path, optional
        Where the atlas is kept between runs; needed by checks and by ablation.

    Returns
    -------
    Outcome of Explained
        A case that fails, also because its ledger does not close, is a failure in it.

    Raises
    ------
    UserError
        A subject asked for has no prepared volume, or the network does not give the score that is
        asked for, or it compares whole brains.
    """
    request = request or MapRequest()
    require_halves(run, "explain")
    _check_request(run, labels, request, cache)
    cases = find_prepared(derivatives, labels=labels, modality=run.config.volumes.modality)
    describe_dataset(derivatives)
    work = partial(explain_case, run=run, derivatives=derivatives, request=request, cache=cache)
    return run_cases(work, cases, stage="explain", out=derivatives)


def explain_case(
    case: Case,
    run: Run,
    derivatives: Path,
    *,
    request: MapRequest | None = None,
    cache: Path | None = None,
) -> Explained:
    """Explain one prepared volume and write relevance, sidecar and picture.

    Raises
    ------
    CaseError
        The ledger does not close; nothing is written then.
    """
    request = request or MapRequest()
    _check_atlas(request, cache)
    path = relevance_path(case, derivatives, map_desc(case, request.desc))
    record = map_record(run, request, case)
    if (done := read_done(case, path, record, checked=request.check)) is not None:
        return done
    brain = run.load_brain(case)
    spec, mask = None, None
    if request.lesion_seed is not None:
        source = lesion_source(run.config)
        brain, spec, mask = _with_lesion(brain, source, request.lesion_seed)
    left, right = (half[None] for half in HALVES.images(brain))
    found = _compute(run, brain, left, right, request, cache)
    checks = None
    if request.check and cache is not None:
        checks = check_map(run, brain, (left, right), found, request, cache)
        checks["Sanity"].append(check_mirror(run, brain, request, cache).to_dict())
    content = MapContent(
        brain=brain,
        relevance=HALVES.join(brain, (found.relevance_left[0], found.relevance_right[0])),
        found=found,
        flagged=_score(run, left, right) > run.threshold,
        mask=mask,
        spec=spec,
        localisation=_localise(found, brain, mask) if mask is not None else {},
        checks=checks,
    )
    return write_map(path, run, content, request, record)


def explain_two(
    run: Run,
    derivatives: Path,
    subjects: Sequence[str],
    *,
    request: MapRequest | None = None,
    cache: Path | None = None,
) -> Outcome[Explained]:
    """Explain what a network says about two brains: twins, or two scans of one person.

    Parameters
    ----------
    run : Run
        A network that compares brains.
    derivatives : Path
        The folder with the prepared volumes; both maps are written into it, named
        ``desc-lrppair``.
    subjects : two of str
        ``sub-01`` and ``sub-02``, or scans by their full names, ``sub-01_ses-1``.
    request, cache
        As for `explain`; no lesion.

    Returns
    -------
    Outcome of Explained
        One for each brain; both fail together.

    Raises
    ------
    UserError
        The run compares hemispheres, or a brain is not there or not one scan.
    """
    request = (request or MapRequest()).model_copy(update={"paired": True})
    one, other = find_two(run, derivatives, subjects)
    if request.lesion_seed is not None:
        msg = "a lesion must go into a run on hemispheres; leave --lesion-seed out for --pair"
        raise UserError(msg)
    _check_request(run, (one.name, other.name), request, cache)
    describe_dataset(derivatives)
    work = partial(
        _explain_side,
        pair=(one, other),
        run=run,
        derivatives=derivatives,
        request=request,
        cache=cache,
    )
    return run_cases(work, (one, other), stage="explain", out=derivatives)


def _explain_side(
    case: Case,
    pair: tuple[Case, Case],
    run: Run,
    derivatives: Path,
    request: MapRequest,
    cache: Path | None,
) -> Explained:
    path = relevance_path(
        case, derivatives, map_desc(case, request.desc), space=run.config.volumes.space
    )
    record = map_record(run, request, *pair)
    if (done := read_done(case, path, record, checked=request.check)) is not None:
        return done
    brains = [run.load_brain(one) for one in pair]
    left, right = (image[None] for brain in brains for image in BRAINS.images(brain))
    side = 0 if case == pair[0] else 1
    found = _compute(run, brains[side], left, right, request, cache)
    checks = None
    if request.check and cache is not None:
        checks = check_map(run, brains[side], (left, right), found, request, cache)
    content = MapContent(
        brain=brains[side],
        relevance=(found.relevance_left, found.relevance_right)[side][0],
        found=found,
        flagged=_score(run, left, right) > run.threshold,
        checks=checks,
        compared_with=pair[1 - side].name,
        side_ledger=_ledger_of_side(found, side),
    )
    return write_map(path, run, content, request, record)


def _ledger_of_side(found: PairExplanation, side: int) -> Ledger:
    """Balance one brain's map: by itself where that is known, else with the other's as given."""
    known = (found.ledger_left, found.ledger_right)[side]
    if known is not None:
        return known
    maps = (found.relevance_left, found.relevance_right)
    own, other = (float(one.sum(dtype=torch.float64)) for one in (maps[side], maps[1 - side]))
    return replace(found.ledger, input=own, constant=found.ledger.constant + other)


def _compute(
    run: Run,
    brain: Brain,
    left: Tensor,
    right: Tensor,
    request: MapRequest,
    cache: Path | None,
) -> PairExplanation:
    labels = None
    if request.method == "ablation" and cache is not None:
        labels, _ = labels_of_pair(run, brain, cache)
    found = compute_map(run, left, right, request, labels=labels)
    reference = run.reference_of(choose_score(run.config.head, request.target))
    if request.method == "lrp" and not found.ledger.closes(reference):
        # A score that all but cancels: its terms are rounded more coarsely than 1e-4 of it.
        double = copy.deepcopy(run.network).double()
        found = compute_map(run, left.double(), right.double(), request, network=double)
    if not request.open_ledger and not found.ledger.closes(reference):
        reason = (
            f"the ledger must close to 1e-4, got a ratio of {found.ledger.ratio:.6f}; the map "
            f"is not trustworthy and was not written; try lrp.rule=epsilon, or ask for it by name "
            f"with --open-ledger"
        )
        raise CaseError(brain.case.name, "explain", reason)
    return found


def _check_request(
    run: Run, labels: tuple[str, ...] | None, request: MapRequest, cache: Path | None
) -> None:
    choose_score(run.config.head, request.target)
    if request.open_ledger and not labels:
        msg = "maps with an open ledger must be asked for by name; add --participant-label"
        raise UserError(msg)
    _check_atlas(request, cache)
    space = run.config.volumes.space
    if _needs_atlas(request) and space != TEMPLATE_SPACE:
        msg = f"checks and ablation must have {TEMPLATE_SPACE} volumes, not {space}; prepare again"
        raise UserError(msg)


def _needs_atlas(request: MapRequest) -> bool:
    return request.check or request.method == "ablation"


def _check_atlas(request: MapRequest, cache: Path | None) -> None:
    if cache is None and _needs_atlas(request):
        msg = "checks and ablation must know where to keep the atlas; hand in a cache folder"
        raise UserError(msg)


@torch.inference_mode()
def _score(run: Run, left: Tensor, right: Tensor) -> float:
    """Return what the run's threshold is for."""
    device = run.network.device
    return float(run.network(left.to(device), right.to(device)).score)


def _with_lesion(
    brain: Brain, source: LesionSource, seed: int
) -> tuple[Brain, LesionSpec, Tensor]:
    rng = np.random.default_rng([seed, *brain.case.name.encode()])
    spec = source.sample(brain, rng, "L" if rng.integers(2) else "R")
    volume, mask = source.inject(brain, spec)
    return replace(brain, volume=volume), spec, mask


def _localise(found: PairExplanation, brain: Brain, mask: Tensor) -> dict[str, float]:
    """Hold R_left + mirror(R_right) against the mask, mirrored to the left where it is right."""
    halves = split_hemispheres(mask[None].float(), brain.affine)
    truth = ((halves.left + halves.right)[0] > 0).numpy()
    relevance = (found.relevance_left + found.relevance_right)[0, 0].numpy()
    brain_half = split_hemispheres(torch.from_numpy(brain.mask)[None].float(), brain.affine)
    inside = ((brain_half.left + brain_half.right)[0] > 0).numpy()
    return {
        "relevance_mass_accuracy": float(relevance_mass_accuracy(relevance, truth)),
        "relevance_rank_accuracy": float(relevance_rank_accuracy(relevance, truth)),
        "pointing_game": float(pointing_game(relevance, truth)),
        "lesion_share_of_brain": float(truth[inside].mean()),
    }
