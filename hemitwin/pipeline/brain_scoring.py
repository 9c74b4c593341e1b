"""Score pairs of brains with a network, and beside it without one."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from hemitwin.models import Reference, SiameseNetwork
from hemitwin.pipeline.baselines import brain_baselines, brain_volumes
from hemitwin.pipeline.brain_data import IndexedPairs, standard_brain
from hemitwin.pipeline.brain_task import score_embedded
from hemitwin.pipeline.cohort.brains import Brain
from hemitwin.pipeline.cohort.demographics import Demographics

__all__ = ["DEVIATION_BASELINE", "embed_brains", "score_brain_pairs"]

DEVIATION_BASELINE = "deviation_unlikeness"
"""How unlike two brains' deviations from the training brains are: no network."""


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
