"""Where lesions are, and where arithmetic looks for them: those missed, invisible or not found."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from hemitwin.models import NormativeAsymmetry, Reference
from hemitwin.pipeline.evaluation.score_table import ScoreTable
from hemitwin.pipeline.statistics.bootstrap import Estimate
from hemitwin.pipeline.training.sources.halves import batch_of
from hemitwin.pipeline.training.sources.pairs import ScoredPair

__all__ = ["found_places", "places_of"]

Maps = Float[Tensor, "pairs h y z"]
Place = Bool[Tensor, "h y z"]


def places_of(
    normative: NormativeAsymmetry,
    groups: Sequence[Sequence[ScoredPair]],
    *,
    reference: Reference | None = None,
) -> pd.DataFrame:
    """Look for each lesion at its place, and where the arithmetic's map is highest.

    Parameters
    ----------
    normative : NormativeAsymmetry
        Its map is what is looked at.
    groups : sequence of sequences of ScoredPair
        One inner sequence a subject.
    reference : Reference, optional
        Tells which half is the unusual one.

    Returns
    -------
    DataFrame
        One row a pair, in order. ``known_place``: a matched filter, the size of the map's mean
        over the lesion, as the share of the healthy pairs for which it is smaller at this place;
        its mean over lesions is the AUC for who knows where to look. ``peak_inside``: whether the
        map is highest, either way, within the lesion. ``side_found``: L or R, the half that is
        farther from the reference at that peak. Nothing of pairs without a lesion, nor of one that
        is smaller than a voxel.
    """
    healthy = torch.cat(
        [_maps(normative, [pair]) for group in groups for pair in group if pair.role == "healthy"]
        or [torch.zeros(0, *normative.norms.mean.shape)]
    )
    rows = [row for group in groups for row in _rows(normative, reference, group, healthy)]
    return pd.DataFrame(rows, columns=["known_place", "peak_inside", "side_found"])


def found_places(table: ScoreTable, *, draws: int = 2000, seed: int = 0) -> dict[str, Estimate]:
    """Average what `places_of` says of a table's lesions; nothing where it says nothing.

    Parameters
    ----------
    table : ScoreTable
        Pairs with its columns.
    draws, seed : int
        Of the bootstrap over families.

    Returns
    -------
    dict of str to Estimate
        ``known_place``, an AUC; ``peak_inside`` and ``right_side``, shares.
    """
    if "known_place" not in table.rows:
        return {}
    some = table.where(table.rows["known_place"].notna().to_numpy(bool))
    if some.rows.empty:
        return {}
    right = some.rows["side_found"] == some.rows["side"]
    values = {
        "known_place": some.rows["known_place"],
        "peak_inside": some.rows["peak_inside"],
        "right_side": right if some.rows["side_found"].notna().any() else None,
    }
    weights = np.concatenate(list(some.clusters.weights_in_parts(draws, seed)))
    return {
        name: _mean(column.to_numpy(float), weights)
        for name, column in values.items()
        if column is not None
    }


def _mean(values: Float[np.ndarray, " n"], weights: Float[np.ndarray, "draws n"]) -> Estimate:
    with np.errstate(invalid="ignore"):  # a draw of people without a lesion
        return Estimate.of(float(values.mean()), weights @ values / weights.sum(1))


def _rows(
    normative: NormativeAsymmetry,
    reference: Reference | None,
    group: Sequence[ScoredPair],
    healthy: Maps,
) -> Iterator[tuple[float | None, float | None, str | None]]:
    for pair, found in zip(group, _maps(normative, group), strict=True):
        if pair.changed is None or not pair.lesioned or not pair.changed.any():
            yield None, None, None
            continue
        own = found[pair.changed].mean().abs()
        others = healthy[:, pair.changed].mean(dim=1).abs()
        known = (own > others).float() + (own == others).float() / 2
        peak = np.unravel_index(int(found.abs().argmax()), found.shape)
        side = None if reference is None else _side(reference, pair, peak)
        yield float(known.mean()), float(pair.changed[peak]), side


def _maps(normative: NormativeAsymmetry, pairs: Sequence[ScoredPair]) -> Maps:
    batch = batch_of(pairs).to(normative.norms.mean.device)
    with torch.inference_mode():
        return normative.map(batch.left, batch.right)[:, 0].cpu()


def _side(reference: Reference, pair: ScoredPair, place: tuple[np.intp, ...]) -> str | None:
    halves = torch.stack([pair.left, pair.right]).to(reference.mean.device)
    with torch.inference_mode():
        left, right = (float(one[0][place].abs()) for one in reference.deviation(halves))
    return None if left == right else "L" if left > right else "R"
