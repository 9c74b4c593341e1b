"""Make a table of slices in which some classes are rare.

    hemitwin slice DERIVATIVES slices --pixels 96 --step-mm 6 --positions central \
        --asymmetry-mm2 400 --asymmetry-shape textured
    python benchmarks/rare_classes.py slices table.csv --ratio none=5 left=5 right=1

Of each place in a brain at most one slice is taken, as it is or with a lesion; in each fold the
classes have the asked ratio, and as many images as it allows; with `--tested` validation and test
have another, so that there is enough of the rare class to measure. A fold too small for one image
of the rarest class has one. `--label abnormal` takes another column for the class. The table's
columns are `file_name`, `label`, `patient_id` and `split`; a run reads it with

    --set data.images=table.csv data.folder=slices data.group_column=patient_id
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from hemitwin.pipeline.cohort.split import read_split


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("slices", type=Path, help="folder that hemitwin slice wrote")
    parser.add_argument("table", type=Path, help="CSV that is written")
    parser.add_argument("--ratio", nargs="+", required=True, metavar="CLASS=PARTS")
    parser.add_argument("--tested", nargs="+", default=[], metavar="CLASS=PARTS")
    parser.add_argument("--label", default="label")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    parts = parts_of(options.ratio)
    tested = parts_of(options.tested) or parts
    folds = sorted(set(read_split(options.slices / "splits.json").folds.values()))
    rng = np.random.default_rng(options.seed)
    whole = pd.concat(
        [chosen(options, fold, parts if fold == "train" else tested, rng) for fold in folds],
        ignore_index=True,
    )
    whole.to_csv(options.table, index=False)
    print(whole.groupby(["split", "label"]).size().unstack().to_string())


def parts_of(words: list[str]) -> dict[str, float]:
    return {name: float(share) for name, share in (one.split("=") for one in words)}


def chosen(
    options: argparse.Namespace, fold: str, parts: dict[str, float], rng: np.random.Generator
) -> pd.DataFrame:
    """Choose a fold's slices, the rarest class first."""
    table = pd.read_csv(options.slices / fold / "metadata.csv", dtype={options.label: str})
    table["place"] = table["case"] + table["position_mm"].astype(str)
    table = table.iloc[rng.permutation(len(table))]
    available = {name: int((table[options.label] == name).sum()) for name in parts}
    unit = min(available[name] / share for name, share in parts.items())
    unit = min(unit, table["place"].nunique() / sum(parts.values()))
    used: set[str] = set()
    rows = []
    for name in sorted(parts, key=lambda name: parts[name]):
        free = table[(table[options.label] == name) & ~table["place"].isin(used)]
        some = free.head(max(1, int(unit * parts[name])))
        used |= set(some["place"])
        rows.append(some)
    listed = pd.concat(rows).sort_values(["case", "position_mm"])
    return pd.DataFrame(
        {
            "file_name": fold + "/" + listed["file_name"],
            "label": listed[options.label],
            "patient_id": listed["subject"],
            "split": fold,
        }
    )


if __name__ == "__main__":
    main()
