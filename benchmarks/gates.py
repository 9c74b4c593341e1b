"""What do the gates of `prepare` measure in good brains, and what becomes of whole heads?

    python benchmarks/gates.py BIDS LIST.csv --out brains
    python benchmarks/gates.py LIST.csv --hide-masks --out heads

Every scan is prepared as `hemitwin prepare` does it, into a folder a source below OUT; what is
there already is not done again. The range of each figure is printed beside its limits, and how
many scans are flagged if the images are called T1w, T2w or FLAIR, cohort's limits included.

With `--hide-masks` the masks of a list are not given to `prepare` but kept as the truth, and each
whole head is counted once: *masked*, with a Dice coefficient of 0.9 or more between the brain that
was found and the truth; else *refused*; else *flagged*, as T2w and as FLAIR; else *missed*.
"""

import argparse
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from hemitwin.pipeline.preparation.brain_masks import brain_of
from hemitwin.pipeline.preparation.prepare import PrepareConfig, Prepared, prepare_case
from hemitwin.pipeline.preparation.quality import GATES, flags_of, quality_table
from hemitwin.pipeline.preparation.sources import find_sources
from hemitwin.pipeline.stage.bids import Case, sidecar_of
from hemitwin.pipeline.stage.json_files import read_json
from hemitwin.pipeline.stage.runner import Outcome, run_cases
from hemitwin.transforms import load_scan

LEAST_DICE = 0.9
MODALITIES = ("T1w", "T2w", "FLAIR")


def main() -> None:
    arguments = parse()
    config = PrepareConfig(resolution_mm=arguments.resolution_mm)
    tables, counts = [], Counter[str]()
    for number, source in enumerate(arguments.sources):
        cases = find_sources(source)[: arguments.subjects]
        given = [replace(case, mask=None) for case in cases] if arguments.hide_masks else cases
        folder = arguments.out / f"{number}-{source.stem}"
        work = partial(prepare_case, out=folder, config=config)
        outcome = run_cases(work, given, stage="prepare", out=folder, nprocs=arguments.nprocs)
        tables.append(quality_table(folder))
        if arguments.hide_masks:
            counts += fates(cases, given, outcome)
        else:
            counts["refused"] += len(outcome.failures)
    table = pd.concat(tables)
    print(ranges(table).to_string(float_format=lambda value: f"{value:.3f}"))
    print(f"\n{len(table)} scans; flagged, cohort's limits included:")
    print(table.loc[table["flags"] != "", ["case", "flags"]].to_string(index=False, header=False))
    for modality in MODALITIES:
        flagged = sum(bool(flags_of(row, modality=modality)) for _, row in table.iterrows())
        print(f"flagged by a limit as {modality}: {flagged}")
    print(", ".join(f"{name}: {count}" for name, count in sorted(counts.items())))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sources", type=Path, nargs="+")
    parser.add_argument("--hide-masks", action="store_true", help="masks are the truth")
    parser.add_argument("--subjects", type=int, default=None, help="the first so many; all")
    parser.add_argument("--resolution-mm", type=float, default=4.0)
    parser.add_argument("--nprocs", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


def ranges(table: pd.DataFrame) -> pd.DataFrame:
    """Give each figure's limits and what the scans have."""
    rows = {}
    for name, gate in GATES.items():
        shares = np.nanpercentile(table[name], [0, 1, 50, 99, 100])
        rows[name] = [gate.low, *shares, gate.high]
    names = ["at least", "min", "1 %", "median", "99 %", "max", "at most"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=names)


def fates(cases: tuple[Case, ...], given: list[Case], outcome: Outcome[Prepared]) -> Counter[str]:
    """Count what became of heads whose brains are known."""
    prepared = {one.case: one.volume for one in outcome.results}
    counts = Counter[str]()
    for case, hidden in zip(cases, given, strict=True):
        if case.name not in prepared:
            counts["refused"] += 1
            continue
        dice = overlap(case, hidden)
        quality = read_json(sidecar_of(prepared[case.name]))["Quality"]
        flags = [flags_of(quality, modality=modality) for modality in ("T2w", "FLAIR")]
        fate = "masked" if dice >= LEAST_DICE else "flagged" if all(flags) else "missed"
        counts[fate] += 1
        if fate != "masked":
            print(f"{case.name}: {fate}, Dice {dice:.3f}: {'; '.join(flags[0])}")
    return counts


def overlap(case: Case, hidden: Case) -> float:
    """Return the Dice coefficient of the brain that is found and the one that is known."""
    scan = load_scan(case.scan)
    true, found = brain_of(case, scan), brain_of(hidden, scan)
    return float(2 * (true & found).sum() / (true.sum() + found.sum()))


if __name__ == "__main__":
    main()
