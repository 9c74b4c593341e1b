"""Which explanation points at the lesion?

    python benchmarks/headline.py PREPARED --masks MASKS --simulated SET --out FOLDER
    python benchmarks/explanations.py SET --runs FOLDER/unet-decoder_fold-0 ... --out FOLDER

Subjects that no run was trained on; of each, the set's lesions and shams (the lesion in both
halves). Every method shares one and the same score of the pair out: the logit, where the head has
one, else the distance. Held against the voxels that were changed, over both maps laid on each
other: relevance mass accuracy, relevance rank accuracy, the pointing game and the average
precision over voxels, with 95 % intervals over subjects, for lesions of 2 native ml and more that
the run detects (score above its threshold from validation), by volume; those that it misses are
counted. Of several runs, such as folds, the last table is of all of them together. Beside the
attributions stand the decoder's own map, the difference of the deviations, and what knows nothing
of the network: chance, the images and their difference, edges. In a sham nothing should be found:
its columns say what share of the pointing games and of the mass still goes to it, and what its
volume gives by chance.
"""

import argparse
import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from hemitwin.atlases import save_table
from hemitwin.interpret import (
    AttributionConfig,
    LayerRule,
    LrpConfig,
    PairScore,
    attribute_pair,
    pointing_game,
    relevance_mass_accuracy,
    relevance_rank_accuracy,
    voxel_average_precision,
)
from hemitwin.models import Reference
from hemitwin.pipeline.cohort.brains import load_brains
from hemitwin.pipeline.evaluation.simulated_set import pairs_of_set, truths_of_set
from hemitwin.pipeline.explanation.score import choose_score, pair_score
from hemitwin.pipeline.statistics.bootstrap import Clusters, Estimate
from hemitwin.pipeline.training.runs import Run, load_run
from hemitwin.pipeline.training.sources.pairs import ScoredPair

LEAST_MM3 = 2e3
MISSED = "missed"
SIZES = {"2-8 ml": (LEAST_MM3, 8e3), "above 8 ml": (8e3, np.inf)}
MEASURES: Mapping[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "mass": relevance_mass_accuracy,
    "rank": relevance_rank_accuracy,
    "pointing": pointing_game,
    "precision": voxel_average_precision,
}

_UPPER = (LayerRule(rule="epsilon", first=8), LayerRule(rule="zplus", first=0, last=7))
ATTRIBUTIONS: Mapping[str, AttributionConfig] = {
    "LRP gamma": AttributionConfig(),
    "LRP epsilon": AttributionConfig(lrp=LrpConfig(rule="epsilon")),
    "LRP z+": AttributionConfig(lrp=LrpConfig(rule="zplus")),
    "LRP z+ below, epsilon above": AttributionConfig(lrp=LrpConfig(composite=_UPPER)),
    "LRP gamma, flat input": AttributionConfig(lrp=LrpConfig(input_rule="flat")),
    "input x gradient": AttributionConfig(method="input_x_gradient"),
    "integrated gradients": AttributionConfig(method="integrated_gradients", steps=16),
    "integrated gradients from 0": AttributionConfig(
        method="integrated_gradients", baseline="zero", steps=16
    ),
    "Grad-CAM": AttributionConfig(method="grad_cam"),
    "occlusion": AttributionConfig(method="occlusion", window_voxels=4, stride_voxels=4),
}


def main() -> None:
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    print(f"hemitwin {version('hemitwin')}, torch {torch.__version__}; load {load}", flush=True)
    tables = []
    for folder in arguments.runs:
        arguments.out.mkdir(parents=True, exist_ok=True)
        rows: list[dict[str, object]] = []
        table = pd.DataFrame()
        for row in rows_of(load_run(folder, device=torch.device("cpu")), arguments):
            rows.append({"run": folder.name, **row})
            # Each row as it comes: some methods take a minute a map.
            table = pd.DataFrame(rows)
            save_table(arguments.out / f"explanations_{folder.name}.tsv", table)
        tables.append(table)
        missed = int((table["method"] == MISSED).sum())
        print(f"\n{folder.name}: {missed} lesions of 2 ml and more were missed", flush=True)
        print(summary(table).to_string(index=False), flush=True)
    if len(tables) > 1:
        whole = pd.concat(tables)
        print(f"\nall {len(tables)} runs, {whole['subject'].nunique()} subjects", flush=True)
        print(summary(whole).to_string(index=False), flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("simulated", type=Path, help="the evaluation set")
    parser.add_argument("--runs", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder of the tables")
    parser.add_argument(
        "--methods", nargs="+", choices=list(ATTRIBUTIONS), default=[*ATTRIBUTIONS]
    )
    parser.add_argument("--least-mm3", type=float, default=LEAST_MM3, help="native volume")
    parser.add_argument(
        "--roles", nargs="+", choices=("lesion", "sham"), default=["lesion", "sham"]
    )
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def rows_of(run: Run, arguments: argparse.Namespace) -> Iterator[dict[str, object]]:
    brains = [
        brain
        for brain in load_brains(run.config.volumes)
        if run.split.folds.get(brain.subject) == "test"
    ]
    rng = np.random.default_rng(0)
    for brain in brains:
        pairs = pairs_of_set(arguments.simulated, brain, run.config.volumes.resolution_mm)
        truths = truths_of_set(arguments.simulated, brain)
        for pair, truth in zip(pairs, truths, strict=True):
            if pair.role in arguments.roles and volume_of(pair) >= arguments.least_mm3:
                yield from rows_of_pair(run, pair, truth, arguments.methods, rng)


def volume_of(pair: ScoredPair) -> float:
    return pair.spec.volume_mm3 if pair.spec else 0.0


def rows_of_pair(
    run: Run, pair: ScoredPair, truth: Tensor, methods: list[str], rng: np.random.Generator
) -> Iterator[dict[str, object]]:
    left, right = pair.left[None], pair.right[None]
    score = pair_score(choose_score(run.config.head), run.network, left, right)
    with torch.inference_mode():
        value = float(score(run.network(left, right)))
    inside = ((left != 0) | (right != 0))[0, 0].numpy()
    known = {
        "subject": pair.subject,
        "role": pair.role,
        "volume_mm3": volume_of(pair),
        "detected": value > run.threshold,
        "share": float(truth.numpy()[inside].mean()),
    }
    if pair.role == "lesion" and not known["detected"]:
        yield {**known, "method": MISSED}
        return
    for name, make in maps_of(run, left, right, score, methods, rng):
        found = make() * inside
        measured = {key: float(measure(found, truth.numpy())) for key, measure in MEASURES.items()}
        yield {**known, "method": name, **measured}


def maps_of(
    run: Run,
    left: Tensor,
    right: Tensor,
    score: PairScore,
    methods: list[str],
    rng: np.random.Generator,
) -> Iterator[tuple[str, Callable[[], np.ndarray]]]:
    for name in methods:
        yield name, partial(attributed, run, left, right, score, ATTRIBUTIONS[name])
    if run.config.head.name == "decoder":
        yield "decoder's map, probability", partial(decoded, run, left, right)
        yield "decoder's map, logit above 0", partial(decoded, run, left, right, logits=True)
    if (reference := run.network.reference) is not None:
        yield "difference of deviations", partial(deviating, reference, left, right)
    image = (left + right)[0, 0].numpy()
    yield "absolute difference", (left - right).abs()[0, 0].numpy
    yield "absolute image", lambda: np.abs(image)
    yield "edges", lambda: np.sqrt(sum(axis**2 for axis in np.gradient(image)))
    yield "chance", lambda: rng.random(image.shape)


def attributed(
    run: Run, left: Tensor, right: Tensor, score: PairScore, config: AttributionConfig
) -> np.ndarray:
    one, other = attribute_pair(run.network, left, right, score, config)
    return (one + other)[0].sum(dim=0).numpy()


@torch.inference_mode()
def decoded(run: Run, left: Tensor, right: Tensor, *, logits: bool = False) -> np.ndarray:
    output = run.network(left, right)
    highest = torch.zeros_like(left)[0, 0] if output.anomaly is None else output.anomaly[0].amax(0)
    return (highest if logits else torch.sigmoid(highest)).numpy()


@torch.inference_mode()
def deviating(reference: Reference, left: Tensor, right: Tensor) -> np.ndarray:
    difference = reference.deviation(left) - reference.deviation(right)
    return F.avg_pool3d(difference, 3, 1, 1).abs()[0, 0].numpy()


def summary(table: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for method in table.loc[table["method"] != MISSED, "method"].unique():
        mine = table[table["method"] == method]
        row: dict[str, object] = {"method": method}
        for size, (low, high) in SIZES.items():
            chosen = mine[
                (mine["role"] == "lesion")
                & mine["volume_mm3"].between(low, high, inclusive="left")
            ]
            for measure in MEASURES:
                row[f"{measure}, {size}"] = str(mean_over_subjects(chosen, measure))
            row[f"n, {size}"] = len(chosen)
        shams = mine[mine["role"] == "sham"]
        row["pointing at shams"] = str(mean_over_subjects(shams, "pointing"))
        row["mass in shams"] = str(mean_over_subjects(shams, "mass"))
        row["share of shams"] = f"{shams['share'].mean():.3f}"
        rows.append(row)
    return pd.DataFrame(rows)


def mean_over_subjects(table: pd.DataFrame, column: str) -> Estimate:
    """Return the mean over pairs with its bootstrap interval over subjects."""
    if table.empty:
        return Estimate(float("nan"), float("nan"), float("nan"), "there is none")
    values = table[column].to_numpy(dtype=float)
    weights = np.concatenate(
        list(Clusters.of(table["subject"].tolist()).weights_in_parts(2000, seed=0))
    )
    totals = weights.sum(axis=1)
    draws = np.divide(weights @ values, totals, out=np.full(len(totals), np.nan), where=totals > 0)
    return Estimate.of(float(values.mean()), draws)


if __name__ == "__main__":
    main()
