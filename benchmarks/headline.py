"""Which encoder and objective find lesions as faint as the tissue's own variation?

    hemitwin simulate lesions PREPARED SET --config examples/headline_set.yaml
    python benchmarks/headline.py PREPARED --masks MASKS --simulated SET --out FOLDER

Narrow U-Net, ResNet-18 and DenseNet-121 (for a CPU), each with triplet loss, with the pair
classifier's cross-entropy, and with the Siamese decoder; textured lesions of 0.1 to 40 native ml,
of contrasts drawn uniformly from 0.5 to 1.5 SDs of the tissue around them, up or down, a third of
their shapes real masks. Subjects of one fold of five are tested; thresholds come from validation.
The set holds shams (the lesion in both halves), which count as pairs without a lesion.

For each cell and fold the table has the AUC by native volume and by contrast with 95 % intervals
over subjects, d50 (native mm3, at the threshold that validation gives for 5 % false positives) and
the minutes of a training on one thread; below them stand the scores that need no training, and the
numbers of lesions. Of several folds (`--folds 0 1 2 3 4`) a second table has the means over folds
and, in brackets, the lowest and the highest. Runs that are there are not trained again;
`hemitwin compare` tests them against one another.
"""

import argparse
import os
import time
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from hemitwin.atlases import save_table
from hemitwin.pipeline.evaluation.halves_evaluation import evaluate_halves
from hemitwin.pipeline.evaluation.results import Evaluation
from hemitwin.pipeline.stage.settings import validated
from hemitwin.pipeline.training.config import RunConfig
from hemitwin.pipeline.training.train import train

ENCODERS: Mapping[str, dict[str, Any]] = {
    "unet": {"name": "unet_encoder", "width": 8, "levels": 4},
    "resnet18": {"name": "resnet18", "width": 16, "stem_stride": 2},
    "densenet121": {"name": "densenet121", "width": 12, "stem_stride": 2},
}
OBJECTIVES: Mapping[str, dict[str, Any]] = {
    "triplet": {"loss": {"objective": "triplet"}},
    "bce": {"loss": {"objective": "bce"}},
    "decoder": {"loss": {"objective": "map"}, "head": {"decoder_width": 6}},
}
CELLS = tuple(f"{encoder}-{objective}" for encoder in ENCODERS for objective in OBJECTIVES)
BASELINES = ("mirror_mean", "mirror_peak", "mirror_deviation")


def main() -> None:
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    print(f"hemitwin {version('hemitwin')}, torch {torch.__version__}; load {load}")
    rows: list[dict[str, object]] = []
    areas: list[dict[str, object]] = []
    for fold in arguments.folds:
        last: Evaluation | None = None
        for cell in arguments.cells:
            last, minutes = run_cell(cell, fold, arguments)
            own = "score" if "score" in last.pairs else "distance"
            rows.append(
                {"cell": cell, "fold": fold, **dict(figures(last, own)), "minutes": minutes}
            )
            areas.append({"cell": cell, "fold": fold, **dict(values(last, own))})
        if last is not None:
            for name in BASELINES:
                rows.append({"cell": name, "fold": fold, **dict(figures(last, name))})
                areas.append({"cell": name, "fold": fold, **dict(values(last, name))})
            counts = {row.name: str(row.lesions) for row in (*last.by_size, *last.by_contrast)}
            rows.append({"cell": "lesions", "fold": fold, **counts})
    table = pd.DataFrame(rows).fillna("-")
    save_table(arguments.out / "headline.tsv", table)
    print(table.to_string(index=False))
    if len(arguments.folds) > 1:
        means = pd.DataFrame(areas).drop(columns="fold").groupby("cell", sort=False)
        print("\nmeans over folds\n" + means.agg(mean_and_range).to_string())


def mean_and_range(found: "pd.Series[float]") -> str:
    return f"{found.mean():.3f} ({found.min():.3f}-{found.max():.3f})"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("prepared", type=Path, help="folder that `hemitwin prepare` wrote")
    parser.add_argument("--masks", type=Path, required=True, help="folder of real lesion masks")
    parser.add_argument("--simulated", type=Path, required=True, help="the evaluation set")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--folds", type=int, nargs="+", default=[0])
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=list(CELLS))
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def run_cell(cell: str, fold: int, arguments: argparse.Namespace) -> tuple[Evaluation, str]:
    folder = arguments.out / f"{cell}_fold-{fold}"
    known = (folder / "run.json").is_file()
    started = time.perf_counter()
    run = train(config_of(cell, fold, arguments), folder)
    took = (time.perf_counter() - started) / 60
    return evaluate_halves(run, simulated=arguments.simulated), "there" if known else f"{took:.0f}"


def config_of(cell: str, fold: int, arguments: argparse.Namespace) -> RunConfig:
    encoder, objective = cell.split("-")
    content = {
        "seed": 0,
        "data": {"prepared": arguments.prepared, "resolution_mm": 4.0},
        "split": {"folds": 5, "fold": fold, "validation": 8, "seed": 0},
        "encoder": ENCODERS[encoder],
        **OBJECTIVES[objective],
        "lesions": {
            "volume_mm3": [100, 40000],
            "contrast_sd": [0.5, 1.5],
            "field_share": 0.4,
            "mask_share": 0.3,
        },
        "lesion_masks": arguments.masks,
        "training": {
            "epochs": arguments.epochs,
            "batch_subjects": 3,
            "learning_rate": 0.003,
            "checkpoint_steps": 20,
            "validate_every": 10,
        },
        "evaluation": {"lesions_per_subject": 8},
    }
    return validated(RunConfig, content, cell)


def figures(result: Evaluation, score: str) -> Iterator[tuple[str, str]]:
    yield "AUC", str(result.auc[score])
    for row in (*result.by_size, *result.by_contrast):
        yield row.name, str(row.auc[score])
    own = "score" if "score" in result.pairs else "distance"
    if result.detection is not None and score == own:
        yield "d50, mm3", str(result.detection.overall.d50)


def values(result: Evaluation, score: str) -> Iterator[tuple[str, float]]:
    """Return the areas alone, to be averaged."""
    yield "AUC", result.auc[score].value
    for row in (*result.by_size, *result.by_contrast):
        yield row.name, row.auc[score].value


if __name__ == "__main__":
    main()
