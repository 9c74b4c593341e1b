"""Does comparing labelled images need fewer of them than classifying each by itself?

    python benchmarks/siamese_on_images.py CONFIG --images FOLDER --out OUT --shares 1 0.5 0.25 0.1

For each share of the training groups (`split.train_share`; a smaller one lies within each larger
one), and for each number of images a class (`--shots`, `data.images_per_class`), two networks are
trained: the configuration as it is (`siamese`), and the same encoder with `loss.objective=softmax`
(`plain`). Data, folds, augmentation, schedule and seed are the same. Both are scored on the same
test images; classes are called by the network's own head, with offsets from validation where
`evaluation.criterion` is set.

`gain` is the siamese network's figure less the plain one's, with a paired bootstrap over groups of
images. `rare` is the recall of the class with the fewest training images, `partial` the mean over
the classes of the partial AUC over true positive rates of at least 0.8.

Fewer images train for as many epochs and so for fewer steps, unless `data.epoch_images` is set;
both networks of a row train for the same. Finished runs in OUT are not trained again.
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
from hemitwin.pipeline.evaluation.image_classes import OWN, LearntClasses, classify_images
from hemitwin.pipeline.evaluation.image_evaluation import evaluate_images
from hemitwin.pipeline.stage.errors import UserError
from hemitwin.pipeline.statistics.bootstrap import Clusters, Estimate
from hemitwin.pipeline.statistics.classification import (
    ClassFigures,
    Classified,
    class_figures,
    figure_differences,
)
from hemitwin.pipeline.training.config import RunConfig, load_config
from hemitwin.pipeline.training.labelled_images import plan_images
from hemitwin.pipeline.training.runs import Run
from hemitwin.pipeline.training.train import train

PLAIN = ("head={}", "loss={objective: softmax}")
"""What makes of a configuration the plain classifier."""


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
        pairs = [(size, *configs_of(size, arguments)) for size in sizes]
        lines = [line_of(size, *both, arguments.out) for size, *both in pairs]
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
    parser.add_argument(
        "--set", dest="overrides", nargs="+", action="extend", default=[], metavar="a.b=c"
    )
    return parser.parse_args()


def configs_of(size: str, arguments: argparse.Namespace) -> tuple[RunConfig, RunConfig]:
    overrides = [f"data.images={arguments.images}", *arguments.overrides, size]
    siamese = load_config(arguments.config, overrides)
    return siamese, load_config(arguments.config, [*overrides, *PLAIN])


def line_of(size: str, siamese: RunConfig, plain: RunConfig, out: Path) -> dict[str, str]:
    folder = out / size.replace("=", "-")
    one, other = scored(siamese, folder / "siamese"), scored(plain, folder / "plain")
    test = plan_images(siamese)
    clusters = Clusters.of(test.fold("test").table["group"].astype(str).tolist())
    counts = test.fold("train").table["label"].value_counts()
    rare = test.images.classes.index(str(counts.idxmin()))
    draws = siamese.evaluation.bootstrap
    gains, by_class = figure_differences(one.found, other.found, clusters, draws=draws)
    line = {"size": size.partition("=")[2], "images": str(int(counts.sum()))}
    shown = {
        "accuracy": "accuracy",
        "balanced": "balanced_accuracy",
        "partial": "macro_partial_auc",
    }
    for name, figure in shown.items():
        line |= triple(
            name, one.figures.overall[figure], other.figures.overall[figure], gains[figure]
        )
    recalls = (one.figures.by_class[rare], other.figures.by_class[rare], by_class[rare])
    line |= triple("rare", *(found["recall"] for found in recalls))
    return line | {"s": f"{one.seconds:.0f} + {other.seconds:.0f}"}


def triple(name: str, one: Estimate, other: Estimate, gain: Estimate) -> dict[str, str]:
    return {
        name: f"{one.value:.3f}",
        f"{name}, plain": f"{other.value:.3f}",
        f"{name}, gain": str(gain),
    }


def scored(config: RunConfig, folder: Path) -> Scored:
    begun = time.monotonic()
    run = train(config, folder)
    seconds = time.monotonic() - begun
    evaluate_images(run)
    test = plan_images(config).fold("test")
    scores = classify_images(run, test, LearntClasses.of(run)).scores[OWN]
    found = Classified(test.class_numbers, scores, scores.argmax(axis=1), probabilities=False)
    clusters = Clusters.of(test.table["group"].astype(str).tolist())
    figures = class_figures(found, clusters, draws=config.evaluation.bootstrap)
    print(f"{folder} done in {seconds:.0f} s", file=sys.stderr)
    return Scored(run, found, figures, seconds)


if __name__ == "__main__":
    main()
