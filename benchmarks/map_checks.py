"""Do maps show what the score depends on, and what was learnt?

    python benchmarks/map_checks.py SET --run FOLDER/unet-decoder_fold-0

Of each test subject the largest lesion that the run detects, from the evaluation set SET. For each
method, means over subjects with 95 % bootstrap intervals of what `hemitwin explain --check` finds:
rank correlation of the regions' relevance with the effect of taking each region out; mean heights
of the curves when regions are taken out (the lower the better) and put back (the higher the
better), the most relevant first, and in random order; and how many maps pass each sanity check.
"""

import argparse
import os
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from hemitwin.pipeline.cohort.brains import Brain, load_brains
from hemitwin.pipeline.evaluation.simulated_set import pairs_of_set
from hemitwin.pipeline.explanation.map_checks import check_map
from hemitwin.pipeline.explanation.pair_maps import compute_map
from hemitwin.pipeline.explanation.request import MapRequest
from hemitwin.pipeline.statistics.bootstrap import Clusters, Estimate
from hemitwin.pipeline.training.runs import Run, load_run
from hemitwin.pipeline.training.sources.pairs import ScoredPair

METHODS = ("lrp", "input_x_gradient", "integrated_gradients", "grad_cam")
FIGURES = (
    "rank_agreement",
    "deletion_height",
    "deletion_height_by_chance",
    "insertion_height",
    "insertion_height_by_chance",
)


def main() -> None:
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    print(f"hemitwin {version('hemitwin')}, torch {torch.__version__}; load {load}", flush=True)
    run = load_run(arguments.run, device=torch.device("cpu"))
    with tempfile.TemporaryDirectory() as cache:
        rows = list(rows_of(run, arguments, Path(cache)))
    table = pd.DataFrame(rows)
    clusters = Clusters.of(sorted(set(table["subject"])))
    print(f"{arguments.run.name}: {clusters.count} subjects\n")
    for method in arguments.methods:
        mine = table[table["method"] == method].sort_values("subject")
        print(method)
        for name in FIGURES:
            print(f"  {name:28} {mean(mine[name].to_numpy(dtype=float), clusters)}")
        for name in sorted(set(mine) - {"subject", "method", *FIGURES}):
            values = mine[name].to_numpy(dtype=float)
            limit = 1e-3 if name == "swap" else 0.5
            print(f"  {name:28} {np.median(values):.3g} (median); {(values <= limit).sum()} pass")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("simulated", type=Path, help="the evaluation set")
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def rows_of(run: Run, arguments: argparse.Namespace, cache: Path) -> Iterator[dict[str, object]]:
    for brain in load_brains(run.config.volumes):
        if run.split.folds.get(brain.subject) != "test":
            continue
        pair = largest_detected(run, brain, arguments.simulated)
        if pair is None:
            continue
        left, right = pair.left[None], pair.right[None]
        for method in arguments.methods:
            request = MapRequest(method=method)
            explained = compute_map(run, left, right, request)
            found = check_map(run, brain, (left, right), explained, request, cache)
            verdicts = {one["check"]: one["value"] for one in found["Sanity"]}
            figures = {name: found["Faithfulness"][name] for name in FIGURES}
            yield {"subject": brain.subject, "method": method, **figures, **verdicts}


def largest_detected(run: Run, brain: Brain, simulated: Path) -> ScoredPair | None:
    pairs = pairs_of_set(simulated, brain, run.config.volumes.resolution_mm)
    lesions = [pair for pair in pairs if pair.role == "lesion" and pair.spec is not None]
    for pair in sorted(lesions, key=lambda one: -(one.spec.volume_mm3 if one.spec else 0.0)):
        with torch.inference_mode():
            if float(run.network(pair.left[None], pair.right[None]).score) > run.threshold:
                return pair
    return None


def mean(values: np.ndarray, clusters: Clusters) -> Estimate:
    weights = clusters.draw(2000, seed=0)
    return Estimate.of(float(values.mean()), weights @ values / weights.sum(axis=1))


if __name__ == "__main__":
    main()
