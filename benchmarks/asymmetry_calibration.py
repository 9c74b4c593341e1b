"""How often is a brain without a lesion called asymmetric, and how often one with a lesion?

    hemitwin explain RUN DERIVATIVES
    hemitwin explain RUN DERIVATIVES --lesion-seed 1
    hemitwin parcellate DERIVATIVES && hemitwin parcellate DERIVATIVES --desc lrplesion
    python benchmarks/asymmetry_calibration.py DERIVATIVES --participants TABLE

Each subject's map, and its map with an injected lesion, against the maps of all others as they
are: z by the regression of `hemitwin asymmetry` on age and sex, of the differences themselves and
of their inverse hyperbolic sine, as it is used. Printed are the shares of p below 0.05 and 0.01
over subjects and pairs, and, with 95 % bootstrap intervals over subjects, the share of subjects
with a pair of q below 0.05, without and with the lesion, and the share whose most asymmetric pair
leans to the lesion's side.
"""

import argparse
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd

from hemitwin.pipeline.cohort.brains import find_prepared
from hemitwin.pipeline.cohort.demographics import read_demographics
from hemitwin.pipeline.stage.bids import Case, sidecar_of
from hemitwin.pipeline.stage.json_files import read_json
from hemitwin.pipeline.stage.names import relevance_path
from hemitwin.pipeline.statistics.regression import Deviations, deviations, tail_scale

LESIONED = "lrplesion"


def main() -> None:
    arguments = parse()
    print(f"hemitwin {version('hemitwin')}")
    cases = find_prepared(arguments.derivatives)
    plain, lesioned = (
        np.stack([differences(case, arguments.derivatives, desc) for case in cases])
        for desc in ("lrp", LESIONED)
    )
    sides = np.array([side_of(case, arguments.derivatives) for case in cases])
    people = read_demographics(arguments.participants)
    subjects = [case.subject for case in cases]
    age = np.array([people.age_years[subject] for subject in subjects])
    male = np.array([people.sex[subject] == "M" for subject in subjects], dtype=float)
    design = np.column_stack([np.ones(len(cases)), age - age.mean(), male])
    for name, evened in (("differences", False), ("their inverse hyperbolic sine", True)):
        report(name, plain, lesioned, design, sides, evened=evened)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("derivatives", type=Path)
    parser.add_argument("--participants", type=Path, required=True)
    return parser.parse_args()


def differences(case: Case, derivatives: Path, desc: str) -> np.ndarray:
    volume = relevance_path(case, derivatives, desc).name
    name = volume.replace(f"_desc-{desc}_relevance.nii.gz", "")
    path = case.folder(derivatives) / f"{name}_atlas-HCPMMP1_desc-{desc}pairs_relevance.tsv"
    table = pd.read_csv(path, sep="\t").sort_values("left")
    total = (table["positive_left"] + table["positive_right"]).sum()
    return (table["difference"] / total).to_numpy(float)


def side_of(case: Case, derivatives: Path) -> float:
    sidecar = sidecar_of(relevance_path(case, derivatives, LESIONED))
    x = float(read_json(sidecar)["InjectedLesion"]["centre_mm"][0])
    return -np.sign(x)  # differences are left less right


def report(
    name: str,
    plain: np.ndarray,
    lesioned: np.ndarray,
    design: np.ndarray,
    sides: np.ndarray,
    *,
    evened: bool,
) -> None:
    healthy, ill = [], []
    for number in range(len(plain)):
        others = np.arange(len(plain)) != number
        for found, values in ((healthy, plain), (ill, lesioned)):
            found.append(
                held(plain[others], design[others], values[number], design[number], evened)
            )
    p = np.concatenate([one.p for one in healthy])
    called, found = (np.array([(one.q < 0.05).any() for one in many]) for many in (healthy, ill))
    leaning = np.array([np.sign(one.z[np.nanargmin(one.p)]) for one in ill]) == sides
    print(f"\n{name}, {len(plain)} subjects, {plain.shape[1]} pairs")
    shares = ", ".join(f"{np.nanmean(p < level):.4f}" for level in (0.05, 0.01))
    print(f"  {'p below 0.05 and 0.01':33} {shares}")
    for words, values in (
        ("called without a lesion", called),
        ("called with a lesion", found),
        ("most asymmetric to its side", leaning),
    ):
        print(f"  {words:33} {interval(values)}")


def held(
    reference: np.ndarray, design: np.ndarray, own: np.ndarray, row: np.ndarray, evened: bool
) -> Deviations:
    if not evened:
        return deviations(reference, design, own, row)
    scale = tail_scale(reference, design)
    return deviations(np.arcsinh(reference / scale), design, np.arcsinh(own / scale), row)


def interval(values: np.ndarray) -> str:
    drawn = np.random.default_rng(0).choice(values, (2000, len(values))).mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return f"{values.mean():.3f} [{low:.3f}, {high:.3f}]"


if __name__ == "__main__":
    main()
