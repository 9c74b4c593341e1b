"""Score pairs with a network, and beside it without one."""

from collections.abc import Sequence

import pandas as pd
import torch

from hemitwin.models import SiameseNetwork
from hemitwin.pipeline.baselines import hemisphere_baselines
from hemitwin.pipeline.cohort.split import Fold, Split
from hemitwin.pipeline.data import PairBatch, batch_of
from hemitwin.pipeline.pairs import ScoredPair, mirror_difference

__all__ = ["score_pairs"]


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
