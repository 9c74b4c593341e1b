"""Which regions have the most relevance over a group, with what its families leave open."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from scipy.stats import rankdata

from hemitwin.pipeline.group.config import Part
from hemitwin.pipeline.stage.errors import UserError
from hemitwin.pipeline.statistics.bootstrap import Clusters, Estimate, unavailable

__all__ = ["Ranking", "rank_regions", "shares_of"]

_TOP = 10
_NEIGHBOURS = 40


@dataclass(frozen=True, eq=False)
class Ranking:
    """The regions of a group of maps, the first rank first.

    Parameters
    ----------
    table : DataFrame
        A row a region: name, hemisphere, cortex; share (of a map's relevance, mean over the
        group), enrichment (share of all regions' relevance over the share of their volume: 1 is as
        much as its size suggests) and, of each, rank with its 95 % interval over families and the
        share of draws in which the region is among the first ten; volume_matched_p.
    stability : Estimate
        Spearman correlation of a draw's shares with the group's: mean over draws, and interval.
    subcortical : Estimate
        Enrichment of all subcortical voxels less that of all cortical ones, mean over families.
    subcortical_d : Estimate
        That over its SD (n - 1) over families: Cohen's d of a paired difference.
    regions_d : float
        Cohen's d of the regions' enrichment, subcortical against cortical, with regions as units:
        it says nothing about people.
    cases, families : int
        How many.
    drawn : (draws, regions) float
        Mean enrichment of each draw, regions in the maps' order; none of one family.
    """

    table: pd.DataFrame
    stability: Estimate
    subcortical: Estimate
    subcortical_d: Estimate
    regions_d: float
    cases: int
    families: int
    drawn: Float[np.ndarray, "draws regions"]


def shares_of(table: pd.DataFrame, part: Part) -> pd.DataFrame:
    """
    Take each region's share of one map's relevance, and of its volume.

    Parameters
    ----------
    table : DataFrame
        As `relevance_by_region` gives it: regions, then the rest.
    part : {'positive', 'negative', 'signed'}
        What is counted. Signed relevance is divided by the sum of magnitudes.

    Returns
    -------
    DataFrame
        Regions alone, by name: `share` of what the whole map has; `within`, the share of what all
        regions have; and `volume`, the share of all regions' volume.

    Raises
    ------
    UserError
        The map has no relevance of this part.
    """
    counted = table[table["index"] >= 0]
    positive = counted["positive"].to_numpy(float)
    signed = counted["sum"].to_numpy(float)
    values = {"positive": positive, "negative": positive - signed, "signed": signed}[part]
    sizes = 2 * positive - signed if part == "signed" else values
    regions = (counted["index"] > 0).to_numpy()
    if sizes[regions].sum() <= 0:
        msg = (
            f"a map must have {part} relevance to be ranked by it, found none in any region; "
            f"choose another part"
        )
        raise UserError(msg)
    volumes = counted["volume_mm3"].to_numpy(float)[regions]
    return pd.DataFrame(
        {
            "share": values[regions] / sizes.sum(),
            "within": values[regions] / sizes[regions].sum(),
            "volume": volumes / volumes.sum(),
        },
        index=counted["name"][regions],
    )


def rank_regions(
    maps: list[pd.DataFrame],
    regions: pd.DataFrame,
    families: list[str],
    *,
    draws: int = 2000,
    seed: int = 0,
) -> Ranking:
    """
    Rank regions by the mean over a group of maps, with a bootstrap over families.

    Parameters
    ----------
    maps : list of DataFrame
        One a case, as `shares_of` gives it.
    regions : DataFrame
        index, name, hemisphere, cortex of the regions, in the maps' order.
    families : list of str
        One a case; relatives, and the scans of one person, share one.
    draws, seed : int
        Of the bootstrap.

    Returns
    -------
    Ranking

    Raises
    ------
    UserError
        The maps' regions differ.

    Notes
    -----
    Sums grow with a region's size and means favour small deep nuclei, so that both are ranked, and
    `volume_matched_p` holds each region's enrichment against the forty nearest in volume:
    (1 + those with at least as much) / 41.
    """
    if any(list(one.index) != list(regions["name"]) for one in maps):
        msg = (
            "all maps must have the same regions, found tables that differ; run "
            "'hemitwin parcellate' again for all"
        )
        raise UserError(msg)
    share, within, volume = (
        np.stack([one[column].to_numpy(float) for one in maps])
        for column in ("share", "within", "volume")
    )
    enrichment = np.divide(within, volume, out=np.zeros_like(within), where=volume > 0)
    clusters = Clusters.of(families)
    weights = np.concatenate(list(clusters.weights_in_parts(draws, seed)))
    weights /= weights.sum(axis=1, keepdims=True)
    table = regions[["index", "name", "hemisphere", "cortex"]].reset_index(drop=True)
    table["volume_share"] = volume.mean(axis=0)
    draws_of = {"share": weights @ share, "enrichment": weights @ enrichment}
    for name, values in (("share", share), ("enrichment", enrichment)):
        mean, drawn = values.mean(axis=0), draws_of[name]
        ranks = _ranks(drawn)
        low, high = np.quantile(ranks, [0.025, 0.975], axis=0)
        table[name] = mean
        table[f"{name}_low"], table[f"{name}_high"] = np.quantile(drawn, [0.025, 0.975], axis=0)
        table[f"rank_by_{name}"] = _ranks(mean[None])[0]
        table[f"rank_by_{name}_low"], table[f"rank_by_{name}_high"] = low, high
        table[f"top_{_TOP}_by_{name}"] = (ranks <= _TOP).mean(axis=0)
    table["volume_matched_p"] = _matched(table["volume_share"], table["enrichment"])
    cortical = table["cortex"].notna().to_numpy()
    one = len(set(families)) < 2
    few = unavailable("it needs two families")
    d = difference = few if one else unavailable("the atlas does not tell cortex from the rest")
    if not one and cortical.any() and not cortical.all():
        d, difference = _contrast(within, volume, cortical, clusters, weights)
    return Ranking(
        table.sort_values("rank_by_share", kind="stable").reset_index(drop=True),
        few if one else _stability(share, weights),
        difference,
        d,
        _cohens_d(table["enrichment"].to_numpy(float), ~cortical),
        len(maps),
        clusters.count,
        draws_of["enrichment"][: 0 if one else None],
    )


def _ranks(values: Float[np.ndarray, "draws regions"]) -> Float[np.ndarray, "draws regions"]:
    return np.asarray(rankdata(-values, axis=1), dtype=float)


def _matched(volume: "pd.Series[float]", enrichment: "pd.Series[float]") -> list[float]:
    sizes, values = np.log(volume.clip(lower=1e-12).to_numpy()), enrichment.to_numpy()
    found = []
    for row in range(len(sizes)):
        distance = np.abs(sizes - sizes[row])
        distance[row] = np.inf
        nearest = np.argsort(distance, kind="stable")[:_NEIGHBOURS]
        found.append(float((1 + (values[nearest] >= values[row]).sum()) / (1 + len(nearest))))
    return found


def _stability(
    share: Float[np.ndarray, "cases regions"], weights: Float[np.ndarray, "draws cases"]
) -> Estimate:
    """Correlate each draw's ranks with the group's."""
    group = _ranks(share.mean(axis=0)[None])
    drawn = _ranks(weights @ share)
    centred = drawn - drawn.mean(axis=1, keepdims=True)
    own = group - group.mean()
    product = (centred * own).sum(axis=1)
    values = product / np.sqrt((centred**2).sum(axis=1) * (own**2).sum())
    return Estimate.of(float(values.mean()), values)


def _contrast(
    within: Float[np.ndarray, "cases regions"],
    volume: Float[np.ndarray, "cases regions"],
    cortical: Bool[np.ndarray, " regions"],
    clusters: Clusters,
    weights: Float[np.ndarray, "draws cases"],
) -> tuple[Estimate, Estimate]:
    """Hold what lies below the cortex against it, family by family."""
    inside, outside = (
        within[:, chosen].sum(axis=1) / volume[:, chosen].sum(axis=1)
        for chosen in (~cortical, cortical)
    )
    members = np.eye(clusters.count)[clusters.first]
    size = members.sum(axis=0)
    by_family = (members.T @ (inside - outside)) / size
    times = (weights @ (members / size)) * clusters.count
    times /= times.sum(axis=1, keepdims=True)
    means = times @ by_family
    # The families of a draw are a sample, too: n - 1, as in the figure itself and in `_cohens_d`.
    free = clusters.count / (clusters.count - 1)
    # Of a draw without two families, or of families that are alike, there is no spread.
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.sqrt(free * np.maximum(times @ by_family**2 - means**2, 0))
        effect = np.where(spread > 0, means / spread, np.nan)
        own_spread = by_family.std(ddof=1)
        own = by_family.mean() / own_spread if own_spread > 0 else np.nan
    return Estimate.of(float(own), effect), Estimate.of(float(by_family.mean()), means)


def _cohens_d(values: Float[np.ndarray, " n"], first: Bool[np.ndarray, " n"]) -> float:
    one, other = values[first], values[~first]
    if min(len(one), len(other)) < 2:
        return float("nan")
    pooled = ((len(one) - 1) * one.var(ddof=1) + (len(other) - 1) * other.var(ddof=1)) / (
        len(values) - 2
    )
    return float((one.mean() - other.mean()) / np.sqrt(pooled)) if pooled > 0 else float("nan")
