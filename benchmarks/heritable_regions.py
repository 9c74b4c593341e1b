"""Does voxel-wise likeness of synthetic twins find the regions that were made heritable?

    python benchmarks/heritable_regions.py OUT --families 20 --seed 0

For each heritability (0.8, and 0 as the control in which nobody inherits anything) pairs of
identical twins are made as by `hemitwin simulate cohort`, and aligned as by `hemitwin prepare`.
Each voxel is standardised over all people; its likeness is the mean product over twins (the
intraclass correlation) less that over all unrelated pairs, and a region's likeness is the mean
over its voxels. `auc` is the area under the ROC curve of that figure, of the regions that were
made heritable (in the control: would have been) against the others, whose neighbours of heritable
ones inherit a little. `low` and `high` are its 95 % interval by a bootstrap over families: 1.96
standard deviations of the logit on either side (a draw repeats families and knows less than the
cohort, so that the draws' own percentiles would lie too low). If the method had a bias towards
these regions, the control would show it.

Regions are HCP-MMP areas and subcortical structures on the template's grid. Cohorts and aligned
scans that are there are not made again.
"""

import argparse
import os
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import expit, logit
from sklearn.metrics import roc_auc_score

from hemitwin.atlases import Parcellation, hcpmmp_volume, save_table
from hemitwin.pipeline.cohort.brains import find_prepared
from hemitwin.pipeline.cohort.families import read_kinship
from hemitwin.pipeline.preparation.prepare import PrepareConfig, prepare
from hemitwin.pipeline.simulation.config import FamilyCounts
from hemitwin.pipeline.simulation.families import (
    FAMILY_TABLE,
    TRUTH,
    FamilyCohortConfig,
    write_families_cohort,
)
from hemitwin.pipeline.stage.json_files import read_json
from hemitwin.transforms import load_scan

LEAST_VOXELS = 5
"""A region with fewer voxels on the grid is left out."""


def main() -> None:
    arguments = parse()
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    print(f"hemitwin {version('hemitwin')}, numpy {np.__version__}; load {load}")
    rows = [row_of(heritability, arguments) for heritability in arguments.heritability]
    table = pd.DataFrame(rows)
    save_table(arguments.out / "heritable_regions.tsv", table.round(4))
    print(table.to_string(index=False, float_format=lambda value: f"{value:.3f}"))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder for cohorts and tables")
    parser.add_argument("--families", type=int, default=20, help="pairs of identical twins")
    parser.add_argument("--heritability", type=float, nargs="+", default=[0.8, 0.0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resolution-mm", type=float, default=2.0)
    parser.add_argument("--draws", type=int, default=500, help="of the bootstrap")
    parser.add_argument("--nprocs", type=int, default=1)
    return parser.parse_args()


def row_of(heritability: float, arguments: argparse.Namespace) -> dict[str, float]:
    """Make and prepare one cohort and return its row of the table."""
    name = f"h2-{heritability:g}_mz-{arguments.families}_{arguments.resolution_mm:g}mm"
    folder = arguments.out / f"{name}_seed-{arguments.seed}"
    prepared = make_and_prepare(folder, heritability, arguments)
    twins, labels, atlas = load_twins(prepared, folder, arguments.out / "cache")
    names, means = region_means(labels, atlas)
    made = read_json((folder / "bids" / TRUTH).with_suffix(".json"))["Settings"]["regions"]
    heritable = np.array([name in made or name.partition("_")[2] in made for name in names])
    ranking = pd.DataFrame({"region": names, "heritable": heritable})
    ranking["likeness"] = likeness(twins) @ means
    save_table(folder / "ranking.tsv", ranking.sort_values("likeness", ascending=False).round(5))
    area = float(roc_auc_score(heritable, ranking["likeness"]))
    # An area of 1 has no logit: half a comparison of two regions is taken from it.
    least = 0.5 / (heritable.sum() * (~heritable).sum())
    spread = logit(np.clip(bootstrap(twins, means, heritable, arguments), least, 1 - least)).std()
    centre = logit(np.clip(area, least, 1 - least))
    low, high = expit(centre - 1.96 * spread), expit(centre + 1.96 * spread)
    return {
        "h2": heritability,
        "mz_pairs": len(twins),
        "regions": len(names),
        "heritable": int(heritable.sum()),
        "likeness_heritable": float(ranking.loc[heritable, "likeness"].mean()),
        "likeness_others": float(ranking.loc[~heritable, "likeness"].mean()),
        "auc": area,
        "low": float(low),
        "high": float(high),
    }


def make_and_prepare(folder: Path, heritability: float, arguments: argparse.Namespace) -> Path:
    """Return the folder of one cohort's aligned scans."""
    config = FamilyCohortConfig(
        families=FamilyCounts(mz=arguments.families, dz=0, siblings=0, unrelated=0),
        heritability=heritability,
        resolution_mm=arguments.resolution_mm,
        seed=arguments.seed,
    )
    bids, prepared = folder / "bids", folder / "prepared"
    if not (bids / TRUTH).with_suffix(".json").is_file():  # written last
        cache = arguments.out / "cache"
        write_families_cohort(bids, config, cache=cache, nprocs=arguments.nprocs)
        print(f"{bids} made", file=sys.stderr)
    settings = PrepareConfig(resolution_mm=arguments.resolution_mm)
    outcome = prepare(bids, prepared, config=settings, nprocs=arguments.nprocs)
    if outcome.failures:
        raise SystemExit(outcome.failures[0].reason)
    print(f"{prepared} done", file=sys.stderr)
    return prepared


def load_twins(
    prepared: Path, folder: Path, cache: Path
) -> tuple[np.ndarray, np.ndarray, Parcellation]:
    """Return standardised voxels (pairs, 2, voxels), their labels and the atlas."""
    scans = {case.subject: load_scan(case.scan) for case in find_prepared(prepared)}
    groups = read_kinship(folder / "bids" / FAMILY_TABLE).groups(scans)
    families: dict[str, list[str]] = {}
    for subject in sorted(scans):
        families.setdefault(groups[subject], []).append(subject)
    first = next(iter(scans.values()))
    atlas = hcpmmp_volume(first.data.shape, first.affine, cache_dir=cache)
    inside = atlas.labels > 0
    voxels = np.array([[scans[one].data[inside] for one in pair] for pair in families.values()])
    spread = voxels.std(axis=(0, 1))
    standard = (voxels - voxels.mean(axis=(0, 1))) / np.where(spread > 0, spread, 1)
    return standard, atlas.labels[inside], atlas


def region_means(labels: np.ndarray, atlas: Parcellation) -> tuple[list[str], np.ndarray]:
    """Return the regions' names, and the (voxels, regions) matrix that takes their means."""
    sizes = {region.name: int((labels == region.index).sum()) for region in atlas.regions}
    regions = [region for region in atlas.regions if sizes[region.name] >= LEAST_VOXELS]
    columns = [(labels == region.index) / sizes[region.name] for region in regions]
    return [region.name for region in regions], np.stack(columns, axis=1).astype(np.float32)


def likeness(twins: np.ndarray) -> np.ndarray:
    """Return each voxel's mean product over twins, less that over all unrelated pairs."""
    count = len(twins)
    within = twins[:, 0] * twins[:, 1]
    sums = twins.sum(axis=1)
    # All products across families: those of all families with all, less each with itself.
    across = sums.sum(axis=0) ** 2 - (sums**2).sum(axis=0)
    return within.mean(axis=0) - across / (4 * count * (count - 1))


def bootstrap(
    twins: np.ndarray, means: np.ndarray, heritable: np.ndarray, arguments: argparse.Namespace
) -> list[float]:
    """Return the area of each draw of families."""
    rng = np.random.default_rng(arguments.seed)
    count = len(twins)
    # What a draw needs is linear in the families but for the squared sum, which is one in pairs of
    # them: regions' means of both are taken once.
    within = (twins[:, 0] * twins[:, 1]) @ means
    sums = twins.sum(axis=1)
    across = np.stack([(sums * one) @ means for one in sums])
    areas = []
    for _ in range(arguments.draws):
        weight = np.bincount(rng.integers(count, size=count), minlength=count).astype(float)
        pairs = np.outer(weight, weight)
        np.fill_diagonal(pairs, 0.0)  # a family with its own copy is not unrelated
        unrelated = np.einsum("ij,ijr->r", pairs, across) / (4 * pairs.sum())
        areas.append(roc_auc_score(heritable, weight @ within / count - unrelated))
    return areas


if __name__ == "__main__":
    main()
