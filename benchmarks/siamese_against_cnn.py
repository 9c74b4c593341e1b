"""Does comparing two halves need fewer people than judging each half by itself?

    python benchmarks/siamese_against_cnn.py CONFIG --out FOLDER --shares 1 0.5 0.25 0.1

For each share of the training groups (`split.train_share`; a smaller one lies within each larger
one) two networks are trained: the configuration as it is (`siamese`), and the same with
`head.name=single` and `loss.objective=bce` (`single`), a classifier of each half by itself whose
higher logit counts for the brain. Encoder, data, lesions, schedule and seed are the same; the head
and its objective are what differs. Both are scored on the same test pairs, which are the same for
all shares.

`difference` is the siamese network's AUC less the single one's, with a paired bootstrap over
families: the same families are drawn for both, as in `hemitwin compare`. `p` is of that bootstrap,
two-sided, `p_holm` is adjusted for the number of shares. `mirror_deviation` is the AUC of the two
halves' difference in SDs of the training images, which needs no network; there is none with
`data.reference=false`.

A smaller share trains for as many epochs and so for fewer steps; both networks of a row train for
the same. One seed says little where few people are trained on: run it again with another folder
and `--set seed=1 split.seed=0`, which keeps folds and pairs. Finished runs in FOLDER/runs are not
trained again.
"""

import argparse
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pandas as pd

from hemitwin.atlases import save_table
from hemitwin.pipeline.evaluation.compare import compare
from hemitwin.pipeline.evaluation.halves_evaluation import evaluate_halves
from hemitwin.pipeline.stage.errors import UserError
from hemitwin.pipeline.statistics.bootstrap import Estimate, unavailable
from hemitwin.pipeline.statistics.paired_tests import Difference, holm
from hemitwin.pipeline.training.config import RunConfig, load_config
from hemitwin.pipeline.training.runs import Run
from hemitwin.pipeline.training.train import train

SINGLE = ("head={name: single}", "loss.objective=bce")
"""What makes of a configuration the classifier of each half by itself."""


@dataclass(frozen=True, eq=False)
class Row:
    """Both networks at one share of the training groups."""

    share: float
    subjects: int
    auc: dict[str, Estimate]
    difference: Difference


def main() -> None:
    arguments = parse()
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    print(f"hemitwin {version('hemitwin')}, torch {version('torch')}; load {load}")
    try:
        # All are read before the first is trained: a mistake shows at once.
        configs = [configs_of(share, arguments) for share in arguments.shares]
        rows = [
            row_of(share, *pair, arguments.out)
            for share, pair in zip(arguments.shares, configs, strict=True)
        ]
    except UserError as error:
        raise SystemExit(str(error)) from error
    adjusted = holm([row.difference.p for row in rows])
    lines = [line_of(row, p) for row, p in zip(rows, adjusted, strict=True)]
    save_table(arguments.out / "siamese_against_cnn.tsv", pd.DataFrame(lines).round(4))
    printed = [words_of(row, p) for row, p in zip(rows, adjusted, strict=True)]
    print(pd.DataFrame(printed).to_string(index=False))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path, help="of a training run on halves of brains")
    parser.add_argument("--out", type=Path, required=True, help="folder for runs and tables")
    parser.add_argument(
        "--shares", type=float, nargs="+", default=[1.0, 0.5, 0.25, 0.1], help="of training groups"
    )
    parser.add_argument(
        "--set", dest="overrides", nargs="+", action="extend", default=[], metavar="a.b=c"
    )
    return parser.parse_args()


def configs_of(share: float, arguments: argparse.Namespace) -> tuple[RunConfig, RunConfig]:
    """Return the settings of the siamese and of the single network."""
    overrides = [*arguments.overrides, f"split.train_share={share}"]
    siamese = load_config(arguments.config, overrides)
    return siamese, load_config(arguments.config, [*overrides, *SINGLE])


def row_of(share: float, siamese: RunConfig, single: RunConfig, out: Path) -> Row:
    """Train and score both networks of one share."""
    folder = out / "runs" / f"share-{share:g}"
    run, auc = trained_and_scored(siamese, folder / "siamese")
    single_run, single_auc = trained_and_scored(single, folder / "single")
    # The first is what the others are held against: the difference is the siamese one's gain.
    compared = compare([single_run.folder, run.folder], folder, draws=siamese.evaluation.bootstrap)
    without = unavailable("data.reference is false")
    found = {
        "siamese": auc[network_score(auc)],
        "single": single_auc[network_score(single_auc)],
        "mirror_deviation": auc.get("mirror_deviation", without),
    }
    difference = compared.rows[1].differences["auc"]
    return Row(share, len(run.split.subjects("train")), found, difference)


def trained_and_scored(config: RunConfig, folder: Path) -> tuple[Run, dict[str, Estimate]]:
    run = train(config, folder)
    auc = evaluate_halves(run).auc
    print(f"{folder} done", file=sys.stderr)
    return run, auc


def network_score(auc: Mapping[str, Estimate]) -> str:
    """Return what the network's own score is called: its logit, or its distance without one."""
    return "score" if "score" in auc else "distance"


def line_of(row: Row, p_holm: float) -> dict[str, float]:
    """Return a row as the table has it, an interval as two columns."""
    line = {"share": row.share, "training_subjects": row.subjects}
    for name, one in {**row.auc, "difference": row.difference.estimate}.items():
        line |= {name: one.value, f"{name}_low": one.low, f"{name}_high": one.high}
    return line | {"p": row.difference.p, "p_holm": p_holm}


def words_of(row: Row, p_holm: float) -> dict[str, str]:
    """Return a row as it is printed."""
    return {
        "share": f"{row.share:g}",
        "subjects": str(row.subjects),
        **{name: str(one) for name, one in row.auc.items()},
        "difference": str(row.difference.estimate),
        "p": f"{row.difference.p:.4f}",
        "p_holm": f"{p_holm:.4f}",
    }


if __name__ == "__main__":
    main()
