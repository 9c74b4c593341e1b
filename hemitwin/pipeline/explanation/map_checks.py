"""Check whether a map depends on what was learnt, on the image, and on the right regions."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from hemitwin._shapes import Batch
from hemitwin.interpret import (
    ComparesPairs,
    PairExplanation,
    PairMaps,
    RegionEffects,
    Verdict,
    check_permutation,
    check_randomisation,
    check_swap,
    known,
    mean_height,
    rank_agreement,
    same_maps,
)
from hemitwin.pipeline.cohort.brains import Brain
from hemitwin.pipeline.explanation.pair_maps import compute_map
from hemitwin.pipeline.explanation.paired_regions import atlas_on_grid
from hemitwin.pipeline.explanation.request import MapRequest
from hemitwin.pipeline.explanation.score import choose_score, pair_score
from hemitwin.pipeline.training.compared import HALVES
from hemitwin.pipeline.training.runs import Run

__all__ = ["check_map", "check_mirror", "labels_of_pair"]

_SEED = 0


def check_map(
    run: Run,
    brain: Brain,
    pair: tuple[Batch, Tensor],
    found: PairExplanation,
    request: MapRequest,
    cache: Path,
) -> dict[str, Any]:
    """Run the sanity checks, and hold the map's regions against what the score depends on.

    Parameters
    ----------
    run : Run
        A trained network.
    brain : Brain
        Where the pair lies: its grid decides the regions.
    pair : two of (1, 1, *spatial) float
        Left and right image as the network sees them.
    found : PairExplanation
        Its map, as `compute_map` gives it.
    request : MapRequest
        How it is explained.
    cache : Path
        Where the atlas is kept between runs.

    Returns
    -------
    dict
        ``Sanity``: a verdict each (swap, input permutation, parameter randomisation with its
        steps). ``Faithfulness``: Spearman's correlation of the regions' relevance and of what
        taking each out does to the score; mean heights of the curves of deletion and insertion,
        most relevant regions first, beside those of a random order.
    """
    left, right = pair
    labels, regions = labels_of_pair(run, brain, cache)

    def explain(model: ComparesPairs, one: Batch, other: Batch) -> PairMaps:
        again = found  # each check starts from the map itself
        if not (model is run.network and one is left and other is right):
            again = compute_map(run, one, other, request, labels=labels, network=model)
        return again.relevance_left.float(), again.relevance_right.float()

    generator = torch.Generator().manual_seed(_SEED)
    randomised, steps = check_randomisation(explain, run.network, left, right, generator=generator)
    verdicts = (
        check_swap(explain, run.network, left, right),
        check_permutation(explain, run.network, left, right, generator=generator),
        randomised,
    )
    return {
        "Sanity": [verdict.to_dict() for verdict in verdicts],
        "RandomisationSteps": {name: known(value) for name, value in steps.items()},
        "Faithfulness": _faithfulness(run, pair, found, request, labels, regions),
    }


def check_mirror(run: Run, brain: Brain, request: MapRequest, cache: Path) -> Verdict:
    """Mirror the whole brain: its map must be the mirrored map.

    Parameters
    ----------
    run, request, cache
        As for `check_map`.
    brain : Brain
        Whose hemispheres are compared.

    Returns
    -------
    Verdict
        Largest difference over the largest relevance.
    """
    labels, _ = labels_of_pair(run, brain, cache)
    mirrored = replace(brain, volume=brain.volume.flip(1), mask=brain.mask[::-1].copy())
    there, back = (_whole_map(run, one, request, labels) for one in (brain, mirrored))
    return same_maps("mirror", (there,), (back.flip(1),), "of the map when the brain is mirrored")


def _whole_map(
    run: Run, brain: Brain, request: MapRequest, labels: Int[Tensor, " *spatial"]
) -> Tensor:
    left, right = HALVES.images(brain)
    found = compute_map(run, left[None], right[None], request, labels=labels)
    return HALVES.join(brain, (found.relevance_left[0], found.relevance_right[0]))


def labels_of_pair(
    run: Run, brain: Brain, cache: Path
) -> tuple[Int[Tensor, " *spatial"], Int[np.ndarray, " regions"]]:
    """Return the atlas on the grid of a pair, of which the left half serves both hemispheres."""
    atlas = atlas_on_grid(run, brain, cache)
    labels = run.config.compared.labels(torch.from_numpy(atlas.labels.astype(np.int64)))
    return labels, np.unique(labels.numpy()[labels.numpy() > 0])


def _faithfulness(
    run: Run,
    pair: tuple[Batch, Tensor],
    found: PairExplanation,
    request: MapRequest,
    labels: Int[Tensor, " *spatial"],
    regions: Int[np.ndarray, " regions"],
) -> dict[str, float | int | None]:
    left, right, places = (one.to(run.network.device) for one in (*pair, labels))
    score = pair_score(choose_score(run.config.head, request.target), run.network, left, right)
    effects = RegionEffects(run.network, left, right, places, regions, score)
    both = (found.relevance_left + found.relevance_right)[0].sum(dim=0).double()
    relevance = np.array([float(both[labels == int(value)].sum()) for value in regions])
    order = np.argsort(-relevance, kind="stable").tolist()
    chance = np.random.default_rng(_SEED).permutation(len(regions)).tolist()
    whole, equal = effects.span()
    walks = {
        "deletion_height": effects.delete(order),
        "deletion_height_by_chance": effects.delete(chance),
        "insertion_height": effects.insert(order),
        "insertion_height_by_chance": effects.insert(chance),
    }
    figures = {
        "rank_agreement": rank_agreement(relevance, effects.ablate()),
        **{name: mean_height(curve, whole, equal) for name, curve in walks.items()},
    }
    return {"regions": len(regions), **{name: known(one) for name, one in figures.items()}}
