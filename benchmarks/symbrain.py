"""Which shapes in one half of a slice does each backbone find, by its size?

    hemitwin slice DERIVATIVES slices --part hemisphere --source native --spacing-mm 0.87 \
        --pixels 224 --step-mm 6 --positions central
    python benchmarks/symbrain.py examples/configs/symbrain_2d.yaml --slices slices --out OUT

Trains the configuration with each backbone, of a few thousand to some ten thousand weights, on
shapes of all sizes together; scores the test subjects' slices as they are and with a shape of
every area of `data.tested_mm2`; and prints the balanced accuracy at the threshold of validation,
with intervals over subjects, by area. Of the slices that have a shape as many are without one as
with one in the published protocol, where accuracy is this figure.

- `flat_patch` and `mirror_peak` learn nothing (docs/images.md); their thresholds are from
  validation, too.
- `--second SLICES2` scores the same networks, at the same thresholds, on all slices of another
  folder.
- `--by-slice` trains the first backbone with folds drawn over slices, so that a person's
  slices lie in all of them, as in the published protocol.
- `--matrix 3 7 13.5 40` trains the first backbone on shapes of one area each and scores each of
  these networks on all areas; a row is a network.

Finished runs in OUT are not trained again; `OUT/symbrain.tsv` has the figures in long form.
"""

import argparse
import os
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import pandas as pd

from hemitwin.atlases import save_table
from hemitwin.models import count_parameters
from hemitwin.pipeline.cohort.config import SplitConfig
from hemitwin.pipeline.cohort.split import draw_split, read_split, write_split
from hemitwin.pipeline.evaluation.slice_evaluation import evaluate_slices
from hemitwin.pipeline.stage.errors import UserError
from hemitwin.pipeline.statistics.bootstrap import Estimate
from hemitwin.pipeline.training.config import load_config
from hemitwin.pipeline.training.runs import Run
from hemitwin.pipeline.training.train import train

BACKBONES = {
    "resnet18": "width=16 blocks=[1,1,1] stem_stride=1",
    "vgg11": "width=16 blocks=[1,1,1] stem_stride=null",
    "densenet121": "width=16 blocks=[3,3,3] stem_stride=1",
    "covidnet": "width=32 blocks=[1,1,1] stem_stride=1",
    "mobilenet_v3": "width=16 blocks=[1,2] stem_stride=1",
    "resnext50": "width=8 blocks=[1,1,1] stem_stride=1",
    "efficientnet_b0": "width=32 blocks=[1,2] stem_stride=1",
}
"""Settings of each encoder: shallow, since what is looked for is a few pixels wide."""


def main() -> None:
    arguments = parse()
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    print(f"hemitwin {version('hemitwin')}, torch {version('torch')}; load {load}")
    rows: list[dict[str, object]] = []
    try:
        for name in arguments.backbones:
            run, seconds = trained(arguments, name, name)
            rows += by_area(run, name, seconds)
            if arguments.second is not None:
                rows += elsewhere(run, arguments.second, name)
        for area in arguments.matrix:
            name = f"{arguments.backbones[0]}, {area:g} mm2 alone"
            run, seconds = trained(arguments, arguments.backbones[0], name, area)
            rows += by_area(run, name, seconds)
        if arguments.by_slice:
            name = f"{arguments.backbones[0]}, folds by slice"
            arguments.slices = folds_by_slice(arguments.slices, arguments.out / "slices")
            run, seconds = trained(arguments, arguments.backbones[0], name)
            rows += by_area(run, name, seconds)
    except UserError as error:
        raise SystemExit(str(error)) from error
    table = pd.DataFrame(rows)
    save_table(arguments.out / "symbrain.tsv", table.drop(columns="shown"))
    for test, some in table.groupby("test", sort=False):
        wide = some.drop_duplicates(["score", "area_mm2"])
        wide = wide.pivot_table("shown", "score", "area_mm2", aggfunc="first", sort=False)
        print(f"\nbalanced accuracy by area (mm2), {test}\n{wide.to_string()}")
    told = table.dropna(subset="seconds").drop_duplicates("score")
    print(f"\n{told[['score', 'weights', 'seconds']].to_string(index=False)}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path, help="of a training run on halves of slices")
    parser.add_argument("--slices", type=Path, required=True, help="data.slices")
    parser.add_argument("--second", type=Path, help="slices of another source")
    parser.add_argument("--out", type=Path, required=True, help="folder for runs and tables")
    parser.add_argument("--backbones", nargs="+", default=list(BACKBONES), choices=BACKBONES)
    parser.add_argument("--by-slice", action="store_true")
    parser.add_argument("--matrix", type=float, nargs="*", default=[], metavar="MM2")
    parser.add_argument(
        "--set", dest="overrides", nargs="+", action="extend", default=[], metavar="a.b=c"
    )
    return parser.parse_args()


def trained(
    arguments: argparse.Namespace, backbone: str, folder: str, area_mm2: float | None = None
) -> tuple[Run, float]:
    overrides = [f"data.slices={arguments.slices}", f"encoder.name={backbone}"]
    overrides += [f"encoder.{one}" for one in BACKBONES[backbone].split()]
    if area_mm2 is not None:
        overrides += [f"data.area_mm2=[{area_mm2},{area_mm2}]"]
    config = load_config(arguments.config, [*overrides, *arguments.overrides])
    begun = time.monotonic()
    return train(config, arguments.out / folder.replace(", ", "-").replace(" ", "-")), (
        time.monotonic() - begun
    )


def folds_by_slice(slices: Path, out: Path) -> Path:
    """Write a folder of the same pictures in which each slice passes for a person."""
    split = read_split(slices / "splits.json")
    tables = []
    for fold in sorted(set(split.folds.values())):
        table = pd.read_csv(slices / fold / "metadata.csv")
        for column in ("left_file_name", "right_file_name"):
            table[column] = [str((slices / fold / one).resolve()) for one in table[column]]
        tables.append(table)
    whole = pd.concat(tables, ignore_index=True)
    whole["subject"] = [f"slice-{number:05d}" for number in range(len(whole))]
    drawn = draw_split(whole["subject"].tolist(), SplitConfig(), participants=None, seed=0)
    for fold in sorted(set(drawn.folds.values())):
        (out / fold).mkdir(parents=True, exist_ok=True)
        some = whole[whole["subject"].map(dict(drawn.folds)) == fold]
        some.to_csv(out / fold / "metadata.csv", index=False)
    write_split(out / "splits.json", drawn)
    (out / "slices.json").write_bytes((slices / "slices.json").read_bytes())
    return out


def by_area(run: Run, name: str, seconds: float) -> list[dict[str, object]]:
    """Return what the test fold says of a network, and of what learns nothing."""
    result = evaluate_slices(run)
    known = {"weights": count_parameters(run.network), "seconds": round(seconds)}
    rows: list[dict[str, object]] = []
    for row in result.by_area:
        for score, figures in row.figures.items():
            own = score == result.network_score
            line = line_of(figures, row.area_mm2) | {"test": "the same source"}
            rows.append(line | ({"score": name, **known} if own else {"score": score}))
    return rows


def elsewhere(run: Run, slices: Path, name: str) -> list[dict[str, object]]:
    """Return what slices of another source say of a network, at its own threshold."""
    result = evaluate_slices(run, slices=slices)
    said = {"test": "another source", "score": name}
    return [
        line_of(row.figures[result.network_score], row.area_mm2) | said for row in result.by_area
    ]


def line_of(figures: Mapping[str, Estimate], area_mm2: float) -> dict[str, object]:
    figure = figures["balanced_accuracy"]
    bounds = {"value": figure.value, "low": figure.low, "high": figure.high}
    return {
        "area_mm2": area_mm2,
        **bounds,
        "shown": str(figure),
        "auc": figures["auc"].value,
    }


if __name__ == "__main__":
    main()
