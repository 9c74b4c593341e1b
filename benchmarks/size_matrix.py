"""Does a network find lesions of other sizes than it was trained on?

    python benchmarks/size_matrix.py CONFIG --out FOLDER --edges-ml 0.5 2 8 40

One network is trained for each bin of sizes between two edges, alike in all but the lesions'
volume (`lesions.volume_mm3`, in the subject's own space; `lesions.volumes_mm3` is emptied, so that
every pathology has it). Each network is scored on the same test subjects with lesions of each bin,
which are the same for all networks: they are drawn from the settings' seed and the cases' names as
by `hemitwin evaluate`, so that the diagonal is what that would say of each run.

Rows of the matrix are networks, columns what they are tested on: AUC with its 95 % interval by a
bootstrap over families. The last row needs no network: it is the two halves' difference in SDs of
the training images, which have no lesions, so that there is one for all networks; it is left out
with `data.reference=false`.

Finished runs in FOLDER/runs are not trained again.
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

import pandas as pd

from hemitwin.atlases import save_table
from hemitwin.pipeline.cohort.brains import Brain, load_brains
from hemitwin.pipeline.cohort.families import FAMILIES, read_families
from hemitwin.pipeline.cohort.leakage import unseen_brains
from hemitwin.pipeline.evaluation.score_table import ScoreTable
from hemitwin.pipeline.stage.errors import UserError
from hemitwin.pipeline.statistics.bootstrap import Estimate
from hemitwin.pipeline.statistics.metrics import auc_with_interval
from hemitwin.pipeline.training.config import RunConfig, load_config
from hemitwin.pipeline.training.runs import Run, lesion_source
from hemitwin.pipeline.training.sources.halves import score_pairs
from hemitwin.pipeline.training.sources.pairs import draw_lesions, pairs_of
from hemitwin.pipeline.training.train import train

WITHOUT = "mirror_deviation"
"""The score that needs no network."""


def main() -> None:
    arguments = parse()
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    print(f"hemitwin {version('hemitwin')}, torch {version('torch')}; load {load}")
    try:
        # All are read before the first is trained: a mistake shows at once.
        configs = {
            f"{low:g}-{high:g} ml": config_of(low, high, arguments)
            for low, high in pairwise(arguments.edges_ml)
        }
        runs = {name: trained(config, name, arguments.out) for name, config in configs.items()}
        tested = tested_brains(list(runs.values()))
        lines = [
            line for name, config in configs.items() for line in column(name, config, runs, tested)
        ]
    except UserError as error:
        raise SystemExit(str(error)) from error
    table = pd.DataFrame(lines)
    save_table(arguments.out / "size_matrix.tsv", table.drop(columns="shown").round(4))
    # Rows and columns stay in the order of the sizes.
    matrix = table.pivot_table("shown", "trained_on", "tested_on", aggfunc="first", sort=False)
    print(matrix.to_string())


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path, help="of a training run on halves of brains")
    parser.add_argument("--out", type=Path, required=True, help="folder for runs and the table")
    parser.add_argument(
        "--edges-ml", type=float, nargs="+", default=[0.5, 2.0, 8.0, 40.0], help="of the bins"
    )
    parser.add_argument(
        "--set", dest="overrides", nargs="+", action="extend", default=[], metavar="a.b=c"
    )
    arguments = parser.parse_args()
    edges = arguments.edges_ml
    if len(edges) < 2 or min(edges) <= 0 or any(low >= high for low, high in pairwise(edges)):
        parser.error(f"--edges-ml must be two or more rising numbers above 0, got {edges}")
    return arguments


def config_of(low_ml: float, high_ml: float, arguments: argparse.Namespace) -> RunConfig:
    """Return the settings with lesions of one bin; a test is drawn from the same ones."""
    bin_mm3 = f"lesions.volume_mm3=[{1000 * low_ml}, {1000 * high_ml}]"
    overrides = [*arguments.overrides, bin_mm3, "lesions.volumes_mm3={}"]
    config = load_config(arguments.config, overrides)
    if config.pairs is not None:
        msg = f"{arguments.config} must be a run on halves of brains, but it compares brains"
        raise UserError(msg)
    return config


def trained(config: RunConfig, name: str, out: Path) -> Run:
    run = train(config, out / "runs" / name.removesuffix(" ml"))
    print(f"{run.folder} done", file=sys.stderr)
    return run


def tested_brains(runs: Sequence[Run]) -> tuple[Brain, ...]:
    """Return the test subjects' brains, which none of the runs may have seen."""
    brains = load_brains(runs[0].config.volumes)
    tested = [unseen_brains(run.folder, run.split, brains) for run in runs]
    return tested[0]  # their folds are the same


def column(
    name: str, config: RunConfig, runs: Mapping[str, Run], tested: Sequence[Brain]
) -> list[dict[str, object]]:
    """Score every network on the lesions of one bin."""
    source = lesion_source(config)
    specs = draw_lesions(
        tested,
        source,
        per_subject=config.evaluation.lesions_per_subject,
        seed=config.evaluation_seed + 2,  # as evaluate draws them
    )
    scored: dict[str, list[pd.DataFrame]] = {trained_on: [] for trained_on in runs}
    for brain in tested:  # one by one: a cohort's pairs would fill the memory
        group = pairs_of(brain, specs[brain.case.name], source)
        for trained_on, run in runs.items():
            rows = score_pairs(run.network, [group], split=run.split, fold="test")
            scored[trained_on].append(rows)
    tables = {
        trained_on: ScoreTable(pd.concat(rows), read_families(runs[trained_on].folder / FAMILIES))
        for trained_on, rows in scored.items()
    }
    print(f"lesions of {name} scored", file=sys.stderr)
    found = {
        trained_on: auc_of(table, table.network_score, config)
        for trained_on, table in tables.items()
    }
    table = next(iter(tables.values()))
    if WITHOUT in table.score_names:
        found[WITHOUT] = auc_of(table, WITHOUT, config)
    return [
        {
            "trained_on": trained_on,
            "tested_on": name,
            "subjects": len(tested),
            "lesions": int(table.labels.sum()),
            "auc": auc.value,
            "low": auc.low,
            "high": auc.high,
            "shown": str(auc),
        }
        for trained_on, auc in found.items()
    ]


def auc_of(table: ScoreTable, score: str, config: RunConfig) -> Estimate:
    return auc_with_interval(
        table.labels,
        table.scores(score),
        table.clusters,
        draws=config.evaluation.bootstrap,
        seed=config.seed,
    )


if __name__ == "__main__":
    main()
