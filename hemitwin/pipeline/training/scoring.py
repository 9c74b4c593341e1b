"""Score pairs with a network, and beside it without one."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from hemitwin.models import Reference, SiameseNetwork
from hemitwin.pipeline.cohort.brains import Brain
from hemitwin.pipeline.cohort.demographics import Demographics
from hemitwin.pipeline.cohort.split import Fold, Split
from hemitwin.pipeline.training.baselines import (
    brain_baselines,
    brain_volumes,
    hemisphere_baselines,
)
from hemitwin.pipeline.training.brain_data import IndexedPairs, standard_brain
from hemitwin.pipeline.training.brain_task import score_embedded
from hemitwin.pipeline.training.data import PairBatch, batch_of
from hemitwin.pipeline.training.pairs import ScoredPair, mirror_difference

__all__ = ["DEVIATION_BASELINE", "embed_brains", "score_brain_pairs", "score_pairs"]

DEVIATION_BASELINE = "deviation_unlikeness"
"""How unlike two brains' deviations from the training brains are: no network."""


def score_pairs(
    network: SiameseNetwork,
    pairs: Sequence[Sequence[ScoredPair]],
    *,
    split: Split,
    fold: Fold,
) -> pd.DataFrame:
    """Score pairs in float32, of one fold only.

    Parameters
    ----------
    network : SiameseNetwork
        In evaluation mode.
    pairs : sequence of sequences of ScoredPair
        One inner sequence a subject; it is one batch.
    split : Split
        The folds that the network was trained with.
    fold : Fold
        Where every pair must come from.

    Returns
    -------
    DataFrame
        One row a pair: subject, lesioned, role, side, volume_mm3, contrast and its unit
        (contrast_from), distance, `score` where the head has a logit, and what needs no network:
        the voxel-wise mirror difference (mirror_mean, mirror_peak; with a reference
        mirror_deviation, see `Reference.asymmetry`) and the halves' volumes (half_volume,
        half_tissue_volumes).

    Raises
    ------
    UserError
        A subject lies in another fold, or in none.
    """
    split.require([pair.subject for group in pairs for pair in group], fold)
    rows = []
    for group in pairs:
        batch = batch_of(group).to(network.device)
        with torch.inference_mode():
            output = network(batch.left, batch.right)
        deviation = _deviation(network, batch)
        for k, (pair, distance, score) in enumerate(
            zip(group, output.distance, output.score, strict=True)
        ):
            plain = mirror_difference(pair.left, pair.right)
            rows.append(
                {
                    "subject": pair.subject,
                    "lesioned": pair.lesioned,
                    "role": pair.role,
                    "side": pair.spec.side if pair.spec else None,
                    "volume_mm3": pair.spec.volume_mm3 if pair.spec else 0.0,
                    "contrast": getattr(pair.spec, "contrast", 0.0),
                    "contrast_from": getattr(pair.spec, "contrast_from", None),
                    "distance": float(distance),
                    **({} if output.logit is None else {"score": float(score)}),
                    "mirror_mean": plain["mean"],
                    "mirror_peak": plain["peak"],
                    **({} if deviation is None else {"mirror_deviation": float(deviation[k])}),
                    **hemisphere_baselines(pair),
                }
            )
    return pd.DataFrame(rows)


def _deviation(network: SiameseNetwork, batch: PairBatch) -> torch.Tensor | None:
    if network.reference is None:
        return None
    return network.reference.asymmetry(batch.left, batch.right)


def embed_brains(network: SiameseNetwork, brains: Sequence[Brain]) -> torch.Tensor:
    """Embed each brain once, in float32.

    Returns
    -------
    (n, D) float32
        In the order of the brains, on the network's device.
    """
    with torch.inference_mode():
        return torch.cat([network.embed(_seen(network, brain)) for brain in brains])


def _seen(network: SiameseNetwork, brain: Brain) -> torch.Tensor:
    return standard_brain(brain)[None].to(network.device)


def score_brain_pairs(
    network: SiameseNetwork,
    brains: Sequence[Brain],
    embeddings: torch.Tensor,
    *,
    pairs: pd.DataFrame,
    demographics: Demographics,
) -> pd.DataFrame:
    """Add the network's scores and the baselines to a table of pairs.

    Parameters
    ----------
    network : SiameseNetwork
        In evaluation mode.
    brains : sequence of Brain
        All that the pairs name.
    embeddings : (n, D) float32
        What `embed_brains` makes of them.
    pairs : DataFrame
        As `brain_pairs` gives it.
    demographics : Demographics
        Age and sex, where known.

    Returns
    -------
    DataFrame
        The pairs with ``distance``, ``score`` where the head has a logit, with a reference
        ``deviation_unlikeness``, 1 less the correlation of both brains' deviations, and the
        columns of `brain_baselines`. It names relatives.
    """
    indexed = IndexedPairs.of(pairs, brains)
    scores = score_embedded(network, embeddings, indexed)
    kept = ("distance", "score") if network.head.gives_logit else ("distance",)
    columns = {name: scores[name] for name in kept}
    if network.reference is not None:
        columns[DEVIATION_BASELINE] = _unlikeness(network, network.reference, brains, indexed)
    volumes = {brain.case.name: brain_volumes(brain) for brain in brains}
    return pd.concat(
        [
            pairs,
            pd.DataFrame(columns, index=pairs.index),
            brain_baselines(pairs, volumes, demographics),
        ],
        axis=1,
    )


def _unlikeness(
    network: SiameseNetwork,
    reference: Reference,
    brains: Sequence[Brain],
    pairs: IndexedPairs,
) -> Float[np.ndarray, " n"]:
    with torch.inference_mode():
        rows = torch.cat([reference.profile(_seen(network, brain)) for brain in brains])
        likeness = [
            float(rows[k] @ rows[m]) for k, m in zip(pairs.first, pairs.second, strict=True)
        ]
    return 1.0 - np.array(likeness)
