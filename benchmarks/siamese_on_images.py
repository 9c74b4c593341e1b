"""Does comparing labelled images need fewer of them than classifying each by itself?

    python benchmarks/siamese_on_images.py CONFIG --images FOLDER --out OUT --shares 1 0.5 0.25 0.1

For each share of the training groups (`split.train_share`; a smaller one lies within each larger
one), and for each number of images a class (`--shots`, `data.images_per_class`), the configuration
is trained as it is, and once for each network of `--against`: `plain` is the same encoder with
`loss.objective=softmax`, which classifies each image by itself; `bce` and `contrastive` are the
same Siamese network with one loss alone. Data, folds, augmentation, schedule and seed are the
same. All are scored on the same test images; classes are called by the network's own head, with
offsets from validation where `evaluation.criterion` is set.

A line is a network. `partial` is the mean over the classes of the partial AUC over true positive
rates of at least 0.8, `rare` the recall of the class with the fewest training images. The columns
`gain` hold the configuration's figure less that network's, with a paired bootstrap over groups of
images.

Fewer images train for as many epochs and so for fewer steps, unless `data.epoch_images` is set;
all networks of a size train for the same. Finished runs in OUT are not trained again.
"""

import argparse
import os
import sys
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pandas as pd

from hemitwin.atlases import save_table
from hemitwin.pipeline.evaluation.images.classes import OWN, LearntClasses, classify_set
from hemitwin.pipeline.evaluation.images.evaluation import evaluate_images
from hemitwin.pipeline.stage.errors import UserError
from hemitwin.pipeline.statistics.bootstrap import Clusters
from hemitwin.pipeline.statistics.classification import (
    ClassFigures,
    Classified,
    class_figures,
    figure_differences,
)
from hemitwin.pipeline.training.config import RunConfig, load_config
from hemitwin.pipeline.training.runs import Run
from hemitwin.pipeline.training.sources.labelled_images import plan_images
from hemitwin.pipeline.training.train import train

AGAINST = {
    "plain": ("head={}", "loss={objective: softmax}"),
    "bce": ("loss.objective=bce",),
    "contrastive": ("head={}", "loss.objective=contrastive"),
}
"""What makes of a configuration what it is held against."""

FIGURES = {"accuracy": "accuracy", "partial": "macro_partial_auc"}


@dataclass(frozen=True, eq=False)
class Scored:
    """One network's calls on the test images."""

    run: Run
    found: Classified
    figures: ClassFigures
    seconds: float


def main() -> None:
    arguments = parse()
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    print(f"hemitwin {version('hemitwin')}, torch {version('torch')}; load {load}")
    sizes = [f"split.train_share={share}" for share in arguments.shares]
    sizes += [f"data.images_per_class={shots}" for shots in arguments.shots]
    try:
        # All are read before the first is trained: a mistake shows at once.
        asked = [(size, configs_of(size, arguments)) for size in sizes]
        lines = [line for size, configs in asked for line in lines_of(size, configs, arguments)]
    except UserError as error:
        raise SystemExit(str(error)) from error
    table = pd.DataFrame(lines)
    save_table(arguments.out / "siamese_on_images.tsv", table)
    print(table.to_string(index=False))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path, help="of a training run on labelled images")
    parser.add_argument("--images", type=Path, required=True, help="data.images")
    parser.add_argument("--out", type=Path, required=True, help="folder for runs and tables")
    parser.add_argument("--shares", type=float, nargs="*", default=[1.0, 0.5, 0.25, 0.1])
    parser.add_argument("--shots", type=int, nargs="*", default=[20, 10, 5])
    parser.add_argument("--against", nargs="+", default=["plain"], choices=list(AGAINST))
    parser.add_argument(
        "--set", dest="overrides", nargs="+", action="extend", default=[], metavar="a.b=c"
    )
    return parser.parse_args()


def configs_of(size: str, arguments: argparse.Namespace) -> dict[str, RunConfig]:
    overrides = [f"data.images={arguments.images}", *arguments.overrides, size]
    changes = {"siamese": ()} | {name: AGAINST[name] for name in arguments.against}
    return {
        name: load_config(arguments.config, [*overrides, *change])
        for name, change in changes.items()
    }


def lines_of(
    size: str, configs: dict[str, RunConfig], arguments: argparse.Namespace
) -> list[dict[str, str]]:
    folder = arguments.out / size.replace("=", "-")
    networks = {name: scored(config, folder / name) for name, config in configs.items()}
    first = networks["siamese"]
    plan = plan_images(first.run.config)
    clusters = Clusters.of(plan.fold("test").table["group"].astype(str).tolist())
    counts = plan.fold("train").table["label"].value_counts()
    rare = plan.images.classes.index(str(counts.idxmin()))
    draws = first.run.config.evaluation.bootstrap
    lines = []
    for name, one in networks.items():
        shown = {label: one.figures.overall[figure] for label, figure in FIGURES.items()}
        shown["rare"] = one.figures.by_class[rare]["recall"]
        line = {"size": size.partition("=")[2], "images": str(int(counts.sum())), "network": name}
        line |= {label: str(estimate) for label, estimate in shown.items()}
        if one is not first:
            gains, by_class = figure_differences(first.found, one.found, clusters, draws=draws)
            shown = {label: gains[figure] for label, figure in FIGURES.items()}
            shown["rare"] = by_class[rare]["recall"]
            line |= {f"gain, {label}": str(estimate) for label, estimate in shown.items()}
        lines.append(line | {"s": f"{one.seconds:.0f}"})
    return lines


def scored(config: RunConfig, folder: Path) -> Scored:
    begun = time.monotonic()
    run = train(config, folder)
    seconds = time.monotonic() - begun
    evaluate_images(run)
    test = plan_images(config).fold("test")
    scores = classify_set(run, test, LearntClasses.of(run)).scores[OWN]
    found = Classified(test.class_numbers, scores, scores.argmax(axis=1), probabilities=False)
    clusters = Clusters.of(test.table["group"].astype(str).tolist())
    figures = class_figures(found, clusters, draws=config.evaluation.bootstrap)
    print(f"{folder} done in {seconds:.0f} s", file=sys.stderr)
    return Scored(run, found, figures, seconds)


if __name__ == "__main__":
    main()
