"""How well do the regions fit each brain, and what does that cost?

    python benchmarks/subject_atlases.py PREPARED --out FOLDER [--subjects N] [--nprocs 2]

`hemitwin atlas` on copies of prepared subjects. Medians and extremes over subjects of the figures
that it writes: Dice of the cortical regions with the brain's own grey matter (a class of
brightness, within 4 mm of the regions), before and after the deformation; Jacobian and folds;
regions below ten voxels; correlation of left and right regions' volumes. Then seconds a subject
(one thread each, `--nprocs` at once), and the peak memory of one process.
"""

import argparse
import os
import resource
import shutil
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import pandas as pd

from hemitwin.atlases import save_table
from hemitwin.pipeline.cohort.brains import find_prepared
from hemitwin.pipeline.regions.atlas import build_atlases

FIGURES = (
    "overlap_before",
    "grey_matter_overlap",
    "least_jacobian",
    "largest_jacobian",
    "folded_share",
    "median_shift_mm",
    "correlation_of_sides",
    "small_regions",
)


def main() -> None:
    arguments = parse()
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    print(f"hemitwin {version('hemitwin')}; load {load}", flush=True)
    for case in find_prepared(arguments.prepared)[: arguments.subjects]:
        anat = case.scan.parent
        target = arguments.out / anat.relative_to(arguments.prepared)
        shutil.copytree(anat, target, dirs_exist_ok=True)
    start = time.perf_counter()
    outcome = build_atlases(arguments.out, nprocs=arguments.nprocs)
    seconds = time.perf_counter() - start
    table = pd.DataFrame(
        [
            {"case": one.case.name, **asdict(one.quality), "small_regions": len(one.quality.small)}
            for one in outcome.results
        ]
    )
    save_table(arguments.out / "subject_atlases.tsv", table.drop(columns="small"))
    print(f"{len(table)} done, {len(outcome.failures)} failed")
    found = table[list(FIGURES)].quantile([0.5, 0, 1]).T.round(4)
    print(found.set_axis(["median", "least", "largest"], axis=1).to_string())
    often = table["small"].explode().value_counts().head(8)
    print("below ten voxels most often:", ", ".join(f"{name} ({n})" for name, n in often.items()))
    who = resource.RUSAGE_SELF if arguments.nprocs == 1 else resource.RUSAGE_CHILDREN
    memory = resource.getrusage(who).ru_maxrss / 1024
    print(f"{seconds / len(table) * arguments.nprocs:.1f} s a subject, {memory:.0f} MB")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("prepared", type=Path, help="what `hemitwin prepare` wrote")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--subjects", type=int)
    parser.add_argument("--nprocs", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
