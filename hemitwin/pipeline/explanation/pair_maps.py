"""Compute one map of one pair, by any method, with its ledger."""

from dataclasses import replace

import torch
from jaxtyping import Int
from torch import Tensor

from hemitwin._shapes import Batch
from hemitwin.interpret import (
    AttributionConfig,
    ComparesPairs,
    Ledger,
    PairExplanation,
    attribute_pair,
    explain_pair,
    explain_score,
)
from hemitwin.pipeline.explanation.request import MapRequest
from hemitwin.pipeline.explanation.score import choose_score, pair_score
from hemitwin.pipeline.training.runs import Run

__all__ = ["compute_map"]


def compute_map(
    run: Run,
    left: Batch,
    right: Tensor,
    request: MapRequest,
    *,
    labels: Int[Tensor, " *spatial"] | None = None,
    network: ComparesPairs | None = None,
) -> PairExplanation:
    """Explain a pair's score.

    Parameters
    ----------
    run : Run
        A trained network with its settings.
    left, right : (1, 1, *spatial) float32
        The pair as the network sees it; it is carried to the network's device.
    request : MapRequest
        Method and score.
    labels : (*spatial) int, optional
        Regions, for the ablation.
    network : ComparesPairs, optional
        Another one of the same kind, to be explained in place of the run's.

    Returns
    -------
    PairExplanation
        On the CPU. Of a method that does not conserve the score, what the map leaves is booked as
        a constant.

    Raises
    ------
    UserError
        The head does not give the score that is asked for.
    """
    device = run.network.device
    found = _explained(
        run,
        (left.to(device), right.to(device)),
        request,
        None if labels is None else labels.to(device),
        run.network if network is None else network,
    )
    return replace(
        found,
        relevance_left=found.relevance_left.cpu(),
        relevance_right=found.relevance_right.cpu(),
    )


def _explained(
    run: Run,
    pair: tuple[Batch, Tensor],
    request: MapRequest,
    labels: Int[Tensor, " *spatial"] | None,
    model: ComparesPairs,
) -> PairExplanation:
    left, right = pair
    head = run.config.head
    name = choose_score(head, request.target)
    if request.method == "lrp" and name == "distance" and head.metric == "euclidean":
        return explain_pair(model, left, right, run.config.lrp)
    score = pair_score(name, model, left, right)
    if request.method == "lrp":
        return explain_score(model, left, right, score, run.config.lrp)
    regions = None if labels is None else (labels, labels)
    config = AttributionConfig(method=request.method)
    one, other = attribute_pair(model, left, right, score, config, regions=regions)
    with torch.inference_mode():
        value = float(score(model(left, right)))
    total = float(one.sum(dtype=torch.float64) + other.sum(dtype=torch.float64))
    return PairExplanation(one, other, value, Ledger(total, 0.0, 0.0, value - total, value))
