"""Groups of regions against all others, and against maps as smooth that know no groups."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from hemitwin.atlases import Region
from hemitwin.pipeline.statistics.paired_tests import false_discovery_rates

__all__ = ["SUBCORTEX", "contrast_groups", "partner_rows"]

SUBCORTEX = "subcortical"
"""What the group of all regions without a cortex is called."""


def contrast_groups(
    regions: Sequence[Region],
    enrichment: Float[np.ndarray, " regions"],
    drawn: Float[np.ndarray, "draws regions"],
    surrogates: Float[np.ndarray, "nulls regions"],
) -> pd.DataFrame:
    """Hold the mean enrichment of each group of regions against that of all other regions.

    Parameters
    ----------
    regions : sequence of Region
        Of the map, in its order.
    enrichment : (regions,) float
        Mean over the group of people.
    drawn : (draws, regions) float
        The same of each draw of families; none where there is one family only.
    surrogates : (nulls, regions) float
        Of the first, as `homotopic_surrogates` gives them; there may be none.

    Returns
    -------
    DataFrame
        One row a group: grouping (``subcortex``, ``cortex``, ``network``), group, n_regions;
        enrichment (mean over its regions, each of which counts once) with its 95 % interval over
        families; difference from all other regions; p_spatial, two-sided: (1 + surrogates with at
        least as large a difference) / (1 + surrogates); q_spatial, within the grouping.

    Notes
    -----
    p_spatial has places as units: it says that a map as smooth and as symmetric as this one would
    seldom meet the group so well by chance. It says nothing about people; the interval does.
    """
    rows = []
    for grouping, group, inside in _groups(regions):
        difference = _difference(enrichment[None], inside)[0]
        null = np.abs(_difference(surrogates, inside))
        # A tolerance: a surrogate exactly as far must count, whatever the rounding.
        extreme = int((null >= np.abs(difference) - 1e-12).sum())
        among = drawn[:, inside].mean(axis=1)
        rows.append(
            {
                "grouping": grouping,
                "group": group,
                "n_regions": int(inside.sum()),
                "enrichment": enrichment[inside].mean(),
                "enrichment_low": np.quantile(among, 0.025) if len(among) else np.nan,
                "enrichment_high": np.quantile(among, 0.975) if len(among) else np.nan,
                "difference": difference,
                "p_spatial": (1 + extreme) / (1 + len(null)) if len(null) else np.nan,
            }
        )
    table = pd.DataFrame(rows)
    table["q_spatial"] = np.nan
    for _, part in table.groupby("grouping"):
        q_values = false_discovery_rates(part["p_spatial"].to_numpy(float))
        table.loc[part.index, "q_spatial"] = q_values
    return table


def partner_rows(regions: Sequence[Region]) -> Int[np.ndarray, " regions"]:
    """Give the row of each region's homotopic partner; its own where it has none."""
    row = {region.name: number for number, region in enumerate(regions)}
    return np.array([row[region.partner or region.name] for region in regions])


def _groups(regions: Sequence[Region]) -> Iterator[tuple[str, str, Bool[np.ndarray, " regions"]]]:
    """Yield every group that has regions and leaves others."""
    below = np.array([region.cortex is None for region in regions])
    if below.any() and not below.all():
        yield "subcortex", SUBCORTEX, below
    for grouping in ("cortex", "network"):
        names = [getattr(region, grouping) for region in regions]
        for name in sorted({one for one in names if one is not None}):
            inside = np.array([one == name for one in names])
            if not inside.all():
                yield grouping, name, inside


def _difference(
    maps: Float[np.ndarray, "maps regions"], inside: Bool[np.ndarray, " regions"]
) -> Float[np.ndarray, " maps"]:
    found: np.ndarray = maps[:, inside].mean(axis=1) - maps[:, ~inside].mean(axis=1)
    return found
