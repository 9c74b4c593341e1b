"""Write what evaluated runs on halves reached into a table, a row for each range of sizes.

    hemitwin train CONFIG -o RUN && hemitwin evaluate RUN
    python benchmarks/record_runs.py RUN [RUN ...] --csv benchmarks/runs.csv
    hemitwin evaluate RUN --simulated SET
    python benchmarks/record_runs.py RUN [RUN ...] --set SET --csv benchmarks/runs.csv

Rows are added to the table, which is committed: runs are not kept. `set`: the run's own lesions,
or a simulated set. `network_auc` and `arithmetic_auc` are the AUC against the brains without a
lesion, of the network's score and of `normative_asymmetry`; `difference` is the one less the
other on the same pairs, all with 95 % intervals over families (2,000 draws). `known_place`: for
who knows where to look, in the arithmetic's map. `inside` and `side`: the share of the lesions
that a map is highest in, and of those whose side it names. `false_alarms`: brains without a
lesion above the score that 5 % may exceed, as the validation brains tell it, of how many; so
`controls` and `shams`, and `found` and `arithmetic_found`, the share of the lesions.
"""

import argparse
import csv
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool

from hemitwin.pipeline.evaluation.breakdown import SIZE_BINS_MM3
from hemitwin.pipeline.evaluation.places import found_places
from hemitwin.pipeline.evaluation.results import EVALUATION, SIMULATED, pairs_path
from hemitwin.pipeline.evaluation.score_table import ScoreTable
from hemitwin.pipeline.stage.errors import UserError
from hemitwin.pipeline.stage.json_files import read_json
from hemitwin.pipeline.statistics.bootstrap import Estimate
from hemitwin.pipeline.statistics.detection_threshold import detection_threshold
from hemitwin.pipeline.statistics.metrics import drawn_figures
from hemitwin.pipeline.training.runs import METRICS, SUMMARY, Run, load_run
from hemitwin.pipeline.training.sources.halves import VALIDATION_PAIRS

ARITHMETIC = "normative_asymmetry"
DRAWS = 2000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, help="evaluated run folders")
    parser.add_argument("--csv", type=Path, required=True, help="the table to add to")
    parser.add_argument("--note", default="", help="what is special about them")
    parser.add_argument(
        "--set", default="", help="they were evaluated on a simulated set: how to call it"
    )
    options = parser.parse_args()
    for folder in options.runs:
        try:
            run = load_run(folder)
            stem = SIMULATED if options.set else EVALUATION
            table = ScoreTable(pd.read_csv(pairs_path(folder, stem), sep="\t"))
            learnt = ScoreTable(pd.read_csv(folder / VALIDATION_PAIRS, sep="\t"))
        except (OSError, UserError) as error:
            msg = f"{folder} must be an evaluated run: {error}"
            raise SystemExit(msg) from error
        rows = rows_of(run, table, learnt, options)
        new = not options.csv.exists()
        with options.csv.open("a", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            if new:
                writer.writeheader()
            writer.writerows(rows)
        print(pd.DataFrame(rows).to_string(index=False))


def rows_of(
    run: Run, table: ScoreTable, learnt: ScoreTable, options: argparse.Namespace
) -> list[dict[str, object]]:
    """Return the lines of one run."""
    config = run.config
    summary = read_json(run.folder / SUMMARY)
    roles = table.roles.to_numpy(str)
    healthy = roles == "healthy"
    own = table.network_score
    called = {name: calls_of(table, learnt, name) for name in (own, ARITHMETIC)}
    volumes = table.rows["volume_mm3"].to_numpy(float)
    encoder, seen = config.encoder, config.input
    folds = list(run.split.folds.values())
    rows = []
    for one in SIZE_BINS_MM3:
        lesions = one.holds(volumes) & table.labels
        chosen = healthy | lesions
        if not lesions.any():
            continue
        part = table.where(chosen)
        network, arithmetic, difference = compared(part)
        places = {name: f"{known.value:.3f}" for name, known in found_places(part).items()}
        rows.append(
            {
                "commit": (summary["GeneratedBy"].get("git_commit") or "")[:7],
                "config": summary["config_sha256"][:12],
                "seed": config.seed,
                "note": options.note,
                "network": f"{encoder.name}, {config.head.name}, {config.loss.objective}",
                "seen": f"{config.volumes.resolution_mm:g} mm x {seen.packing}"
                + (", other" if seen.other else "")
                + (", difference" if seen.difference else ""),
                "steps": steps_of(run),
                "trained_on": folds.count("train"),
                "tested_on": len(part.subjects),
                "fold": config.split.fold,
                "set": options.set or "own lesions",
                "bin": one.name,
                "lesions": int(lesions.sum()),
                "network_auc": network,
                "arithmetic_auc": arithmetic,
                "difference": difference,
                **{name: places.get(name, "") for name in PLACES},
                "found": f"{called[own][lesions].mean():.3f}",
                "arithmetic_found": f"{called[ARITHMETIC][lesions].mean():.3f}",
                "false_alarms": counted(called[own][healthy]),
                "arithmetic_false_alarms": counted(called[ARITHMETIC][healthy]),
                "controls": counted(called[own][roles == "control"]),
                "shams": counted(called[own][roles == "sham"]),
            }
        )
    return rows


PLACES = ("known_place", "peak_inside", "map_inside", "right_side", "map_right_side")


def calls_of(table: ScoreTable, learnt: ScoreTable, name: str) -> Bool[np.ndarray, " n"]:
    """Tell which pairs are above the score that 5 % of healthy ones may exceed."""
    healthy = learnt.scores(name)[~learnt.labels]
    return np.asarray(table.scores(name) > detection_threshold(healthy).value)


def counted(calls: Bool[np.ndarray, " n"]) -> str:
    return f"{int(calls.sum())} of {calls.size}" if calls.size else ""


def compared(part: ScoreTable) -> tuple[Estimate, Estimate, Estimate]:
    """Return the AUC of network and arithmetic, and the one less the other, pair by pair."""
    found = []
    for name in (part.network_score, ARITHMETIC):
        values, drawn = drawn_figures(
            part.labels, part.scores(name), part.clusters, threshold=None, draws=DRAWS, seed=0
        )
        found.append((values["auc"], drawn["auc"]))
    (own, own_draws), (plain, plain_draws) = found
    return (
        Estimate.of(own, own_draws),
        Estimate.of(plain, plain_draws),
        Estimate.of(own - plain, own_draws - plain_draws),
    )


def steps_of(run: Run) -> int:
    """Count the optimizer's steps: those of an epoch times the epochs that there were."""
    subjects = list(run.split.folds.values()).count("train")
    epochs = len(pd.read_csv(run.folder / METRICS))
    return epochs * -(-subjects // run.config.training.batch_subjects)


if __name__ == "__main__":
    main()
