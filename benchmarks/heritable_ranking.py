"""Do explanations of twins find the regions that were made heritable?

    python benchmarks/heritable_ranking.py RUN --derivatives FOLDER --truth TABLE

RUN compares brains of `hemitwin simulate cohort` and has been evaluated; TABLE is the cohort's
heritable_regions.tsv. Every test pair is explained by each method, and the maps of both brains are
summed over the regions: what a region takes away from the distance (LRP, input x gradient, the
fall of the distance when the region becomes the other brain's), or adds to the similarity with its
own counterpart (BiLRP's diagonal, along the principal directions of the training brains). A
region's score is its mean over twins less that over all other pairs, so that neither a region's
size nor what the network looks at in everybody is taken for likeness. `auc` is the area under the
ROC curve of that score (`sum`), and of it divided by the region's voxels (`density`), of the
heritable regions against the others, with a 95 % bootstrap interval over families: 1.96 standard
deviations of the logit on either side. `volume` is what the size of regions alone gives.
"""

import argparse
import os
from collections.abc import Iterator, Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.special import expit, logit
from sklearn.metrics import roc_auc_score

from hemitwin.atlases import hcpmmp_volume, save_table
from hemitwin.interpret import AttributionConfig, attribute_pair, match_regions
from hemitwin.pipeline.cohort.brains import load_brains
from hemitwin.pipeline.explanation.directions import Directions
from hemitwin.pipeline.explanation.score import choose_score, pair_score
from hemitwin.pipeline.statistics.bootstrap import Clusters
from hemitwin.pipeline.training.compared import BRAINS
from hemitwin.pipeline.training.runs import Run, load_run

METHODS: Mapping[str, AttributionConfig] = {
    "LRP": AttributionConfig(),
    "input x gradient": AttributionConfig(method="input_x_gradient"),
    "ablation": AttributionConfig(method="ablation", batch_pairs=16),
}
DIAGONAL = "BiLRP, diagonal"
LEAST_VOXELS = 5


def main() -> None:
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    print(f"hemitwin {version('hemitwin')}, torch {torch.__version__}; load {load}", flush=True)
    run = load_run(arguments.run, device=torch.device("cpu"))
    pairs = pd.read_csv(arguments.run / "evaluation_pairs.private.tsv", sep="\t")
    truth = pd.read_csv(arguments.truth, sep="\t").set_index("region")["heritability"]
    values = dict(explained(run, pairs, arguments))
    first = next(iter(values.values()))
    heritable = (truth.reindex(first.columns).to_numpy() > 0)[None]
    rows = []
    for method, table in values.items():
        sizes = table.attrs["voxels"]
        for kind, found in (("sum", table), ("density", table / sizes)):
            rows.append({"method": method, "kind": kind, **recovery(found, pairs, heritable[0])})
    sizes = first.attrs["voxels"]
    rows.append(
        {"method": "volume", "kind": "sum", "auc": float(roc_auc_score(heritable[0], sizes))}
    )
    table = pd.DataFrame(rows)
    save_table(arguments.out, table.round(4))
    print(table.to_string(index=False, float_format=lambda value: f"{value:.3f}"))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="run folder")
    parser.add_argument("--derivatives", type=Path, required=True, help="prepared brains")
    parser.add_argument("--truth", type=Path, required=True, help="heritable_regions.tsv")
    parser.add_argument("--out", type=Path, default=Path("heritable_ranking.tsv"))
    parser.add_argument("--cache", type=Path, default=Path(".cache"), help="for the atlas")
    parser.add_argument("--methods", nargs="+", choices=[*METHODS, DIAGONAL])
    parser.add_argument("--directions", type=int, default=48, help="of BiLRP")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def explained(
    run: Run, pairs: pd.DataFrame, arguments: argparse.Namespace
) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield each method's table: a row a pair, a column a region."""
    config = run.config.volumes.model_copy(update={"prepared": arguments.derivatives})
    brains = {brain.case.name: brain for brain in load_brains(config, pairing="brains")}
    one = next(iter(brains.values()))
    atlas = hcpmmp_volume(one.volume.shape[1:], one.affine, cache_dir=arguments.cache)
    count = len(atlas.regions)
    voxels = np.bincount(atlas.labels.ravel(), minlength=count + 1)[1:]
    there = voxels >= LEAST_VOXELS
    names = [region.name for region in atlas.regions]
    labels = torch.from_numpy(atlas.labels.astype(np.int64))
    directions = Directions.of(run, arguments.derivatives, arguments.directions)
    images = {name: BRAINS.images(brain)[0][None] for name, brain in brains.items()}
    for method in arguments.methods or [*METHODS, DIAGONAL]:
        rows = []
        for case, partner in zip(pairs["case"], pairs["partner_case"], strict=True):
            left, right = images[str(case)], images[str(partner)]
            if method == DIAGONAL:
                found = match_regions(
                    run.network,
                    left,
                    right,
                    labels_left=atlas.labels,
                    labels_right=atlas.labels,
                    regions=np.arange(1, count + 1),
                    directions=directions.vectors,
                    config=run.config.lrp,
                )
                rows.append(np.diag(found.matrix)[:count])
                continue
            rows.append(-falls(run, left, right, METHODS[method], labels)[1:])
        table = pd.DataFrame(np.stack(rows)[:, there], columns=np.array(names)[there])
        table.attrs["voxels"] = voxels[there]
        print(f"{method} done", flush=True)
        yield method, table


def falls(
    run: Run,
    left: torch.Tensor,
    right: torch.Tensor,
    config: AttributionConfig,
    labels: torch.Tensor,
) -> np.ndarray:
    """Return what each label has of the pair's distance, both brains together."""
    score = pair_score(choose_score(run.config.head), run.network, left, right)
    own = config.model_copy(update={"lrp": run.config.lrp})
    regions = (labels, labels) if config.method == "ablation" else None
    attribute = partial(attribute_pair, run.network, left, right, score, own)
    one, other = attribute(regions=regions)
    values = (one + other)[0, 0].double().flatten().numpy()
    return np.bincount(labels.flatten().numpy(), values, minlength=int(labels.max()) + 1)


def recovery(found: pd.DataFrame, pairs: pd.DataFrame, heritable: np.ndarray) -> dict[str, float]:
    twins = (pairs["label"] == "same").to_numpy()
    values = found.to_numpy()
    clusters = Clusters.of(
        list(pairs["group"].astype(str)), list(pairs["partner_group"].astype(str))
    )
    weights = np.concatenate(list(clusters.weights_in_parts(1000, seed=0)))
    kept = (weights[:, twins].sum(axis=1) > 0) & (weights[:, ~twins].sum(axis=1) > 0)
    drawn = [float(area(row, values, twins, heritable)) for row in weights[kept]]
    own = area(np.ones(len(pairs)), values, twins, heritable)
    # An area of 1 has no logit: half a comparison of two regions is taken from it.
    least = 0.5 / (heritable.sum() * (~heritable).sum())
    spread = logit(np.clip(drawn, least, 1 - least)).std()
    centre = logit(np.clip(own, least, 1 - least))
    low, high = (float(expit(centre + side * 1.96 * spread)) for side in (-1, 1))
    return {"auc": float(own), "low": low, "high": high}


def area(
    weight: np.ndarray, values: np.ndarray, twins: np.ndarray, heritable: np.ndarray
) -> float:
    means = [weight[rows] @ values[rows] / weight[rows].sum() for rows in (twins, ~twins)]
    return float(roc_auc_score(heritable, means[0] - means[1]))


if __name__ == "__main__":
    main()
