"""How often is a group of regions called enriched on maps that are only smooth?

    python benchmarks/spatial_nulls.py [--maps 100] [--draws 199]

Maps are Gaussian fields with an exponential covariance over the centres of the 379 regions: with
sides of their own, alike, or mostly alike and skewed (exponential of the field). Each is held
against the 22 cortices, the 12 networks and the subcortex at p <= 0.05, by permuting regions, by
surrogates that keep the variogram (Burt et al. 2020), and by those that keep the likeness of the
two sides, too: `hemitwin rank` uses the last. Also: how near the surrogates' variogram is to the
map's, how like the map they are, and the time of 1000.
"""

import argparse
from collections.abc import Iterator
from time import perf_counter

import numpy as np
import pandas as pd
from scipy.spatial.distance import cdist

from hemitwin.atlases import hcpmmp_regions, hcpmmp_volume, region_centres, template_grid
from hemitwin.pipeline.group.region_groups import contrast_groups, partner_rows
from hemitwin.pipeline.statistics.spatial_nulls import (
    Variogram,
    homotopic_surrogates,
    surrogate_maps,
)

REACHES_MM = (15.0, 40.0)
Values = np.ndarray
SIDES = {"of their own": 0.0, "alike": 1.0, "mostly alike, skewed": 0.7}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--maps", type=int, default=100)
    parser.add_argument("--draws", type=int, default=199)
    arguments = parser.parse_args()
    centres = region_centres(hcpmmp_volume(*template_grid(2.0), cache_dir=None))
    rows = [
        row
        for reach in REACHES_MM
        for sides in SIDES
        for row in judge(centres, reach, sides, arguments.maps, arguments.draws)
    ]
    print(pd.DataFrame(rows).round(3).to_string(index=False))
    rng = np.random.default_rng(0)
    for reach in REACHES_MM:
        print(fidelity(rng, centres, reach))


def fields(rng: np.random.Generator, centres: Values, reach: float, count: int) -> Values:
    covariance = np.exp(-cdist(centres, centres) / reach)
    factor = np.linalg.cholesky(covariance + 1e-9 * np.eye(len(centres)))
    return rng.standard_normal((count, len(centres))) @ factor.T


def judge(
    centres: Values, reach: float, sides: str, maps: int, draws: int
) -> Iterator[dict[str, object]]:
    rng, regions = np.random.default_rng(0), hcpmmp_regions()
    partners = partner_rows(regions)
    values = fields(rng, centres, reach, maps)
    values = SIDES[sides] * (values + values[:, partners]) / np.sqrt(2) + (
        1 - SIDES[sides]
    ) * fields(rng, centres, reach, maps)
    if "skewed" in sides:
        values = np.exp(values)
    methods = {
        "regions permuted": lambda one, _: rng.permuted(np.tile(one, (draws, 1)), axis=1),
        "variogram": lambda one, seed: surrogate_maps(one, centres, draws=draws, seed=seed),
        "variogram and sides": lambda one, seed: homotopic_surrogates(
            one, centres, partners, draws=draws, seed=seed
        ),
    }
    nobody = np.empty((0, len(regions)))
    for method, draw in methods.items():
        tables = [
            contrast_groups(regions, one, nobody, draw(one, seed))
            for seed, one in enumerate(values)
        ]
        called = pd.concat(tables).assign(called=lambda table: table["p_spatial"] <= 0.05)
        shares = called.groupby("grouping")["called"].mean().to_dict()
        yield {"reach_mm": reach, "sides": sides, "null": method, **shares}


def fidelity(rng: np.random.Generator, centres: Values, reach: float) -> str:
    """Say how near the surrogates come to a map's variogram, and how like it they are."""
    variogram, partners = Variogram(cdist(centres, centres)), partner_rows(hcpmmp_regions())
    errors, likeness, seconds = [], [], []
    for one in fields(rng, centres, reach, 10):
        start = perf_counter()
        both = homotopic_surrogates(one, centres, partners, draws=1000, seed=0)
        seconds.append(perf_counter() - start)
        own = variogram.of(one[None])[0]
        drawn = (surrogate_maps(one, centres, draws=1000, seed=0), both)
        found = [np.abs(variogram.of(kind).mean(axis=0) / own - 1).mean() for kind in drawn]
        errors.append(found)
        likeness.append(np.abs(np.corrcoef(one, both)[0, 1:]).mean())
    plain, ranked = np.mean(errors, axis=0)
    return (
        f"reach {reach:g} mm: mean error of the variogram {plain:.1%}, with sides and the map's "
        f"own values {ranked:.1%}; mean |r| with the map {np.mean(likeness):.3f}; 1000 surrogates "
        f"in {np.median(seconds):.1f} s"
    )


if __name__ == "__main__":
    main()
