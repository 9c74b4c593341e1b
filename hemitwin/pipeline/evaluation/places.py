"""Where lesions are, and where arithmetic looks for them: those missed, invisible or not found."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from hemitwin.models import NormativeAsymmetry, Reference
from hemitwin.pipeline.evaluation.score_table import ScoreTable
from hemitwin.pipeline.statistics.bootstrap import Estimate
from hemitwin.pipeline.training.sources.pairs import ScoredPair

__all__ = ["found_places", "places_of"]

Map = Float[Tensor, "h y z"]

_SIDES = (
    ("right_side", "side_found", "known_place"),
    ("map_right_side", "map_side", "map_inside"),
)
"""A figure, the column of sides that it is of, and the one that has a value where one is asked."""


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
    pairs = [pair for group in groups for pair in group]
    found = [_map(normative, pair) for pair in pairs if pair.role == "healthy"]
    healthy = torch.stack(found) if found else torch.zeros(0, *normative.norms.mean.shape)
    rows = [_row(normative, reference, pair, healthy) for pair in pairs]
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
        ``known_place``, an AUC; ``peak_inside`` and ``right_side``, shares; and of a network's own
        map ``map_inside`` and ``map_right_side``.
    """
    rows = table.rows
    found: dict[str, Estimate] = {}
    for name in ("known_place", "peak_inside", "map_inside"):
        found |= _mean(table, name, rows.get(name), draws, seed)
    for name, column, asked in _SIDES:
        if column in rows and rows[column].notna().any():
            right = (rows[column] == rows["side"]).astype(float).where(rows[asked].notna())
            found |= _mean(table, name, right, draws, seed)
    return found


def _mean(
    table: ScoreTable, name: str, values: "pd.Series[float] | None", draws: int, seed: int
) -> dict[str, Estimate]:
    if values is None or values.isna().all():
        return {}
    some = table.where(values.notna().to_numpy(bool))
    return {name: some.clusters.mean(values.dropna().to_numpy(float), draws, seed)}


def _row(
    normative: NormativeAsymmetry,
    reference: Reference | None,
    pair: ScoredPair,
    healthy: Float[Tensor, "pairs h y z"],
) -> tuple[float | None, float | None, str | None]:
    if pair.changed is None or not pair.lesioned or not pair.changed.any():
        return None, None, None
    found = _map(normative, pair)
    own = found[pair.changed].mean().abs()
    others = healthy[:, pair.changed].mean(dim=1).abs()
    known = (own > others).float() + (own == others).float() / 2
    peak = np.unravel_index(int(found.abs().argmax()), found.shape)
    side = None if reference is None else _side(reference, pair, peak)
    return float(known.mean()), float(pair.changed[peak]), side


def _map(normative: NormativeAsymmetry, pair: ScoredPair) -> Map:
    left, right = (half[None].to(normative.norms.mean.device) for half in (pair.left, pair.right))
    with torch.inference_mode():
        return normative.map(left, right)[0, 0].cpu()


def _side(reference: Reference, pair: ScoredPair, place: tuple[np.intp, ...]) -> str | None:
    halves = torch.stack([pair.left, pair.right]).to(reference.mean.device)
    with torch.inference_mode():
        left, right = (float(one[0][place].abs()) for one in reference.deviation(halves))
    return None if left == right else "L" if left > right else "R"
