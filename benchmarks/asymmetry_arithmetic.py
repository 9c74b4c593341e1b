"""What is found of lesions in halves without any training, by their size?

    python benchmarks/asymmetry_arithmetic.py benchmarks/faint_4mm.yaml --prepared DERIVATIVES

Draws the configuration's lesions into every subject, and scores the pairs with and without one in
five folds of subjects: norms are of the other folds' pairs without lesions, or with `--norms` of
another cohort's. A column is a range of native volumes, a figure the AUC against all pairs without
a lesion, with an interval over subjects.

- `mirror_deviation`: the difference of both halves' deviations from a common reference.
- `no modes`: `NormativeAsymmetry` without taking out what brains have in common.
- `normative_asymmetry`: with it.
- `known_place`, `peak_inside`, `right_side`: of its map (`places_of`): the AUC for who knows where
  to look, and where it is highest.

The second table calls each pair at the score that 5 % of brains without a lesion would exceed
(`detection_threshold`), of the other folds' brains or of those that `--norms` names, each scored
against norms that it is no part of.
"""

import argparse
import os
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import torch

from hemitwin.models import NormativeAsymmetry, Reference
from hemitwin.pipeline.cohort.brains import Brain, load_brains
from hemitwin.pipeline.evaluation.breakdown import SIZE_BINS_MM3, auc_by_bin
from hemitwin.pipeline.evaluation.places import places_of
from hemitwin.pipeline.evaluation.score_table import ScoreTable
from hemitwin.pipeline.stage.errors import UserError
from hemitwin.pipeline.statistics.detection_threshold import detection_threshold
from hemitwin.pipeline.training.config import RunConfig, load_config
from hemitwin.pipeline.training.runs import lesion_source
from hemitwin.pipeline.training.sources.pairs import draw_lesions, pairs_of

FOLDS = 5
SCORES = ("mirror_deviation", "no modes", "normative_asymmetry")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path, help="of a training run on hemispheres")
    parser.add_argument("--prepared", type=Path, required=True, help="data.prepared")
    parser.add_argument("--norms", type=Path, help="prepared volumes that norms are taken of")
    parser.add_argument("--lesions", type=int, default=8, help="of each subject")
    parser.add_argument(
        "--set", dest="overrides", nargs="+", action="extend", default=[], metavar="a.b=c"
    )
    options = parser.parse_args()
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    print(f"hemitwin {version('hemitwin')}, torch {version('torch')}; load {load}")
    try:
        config = load_config(
            options.config, [f"data.prepared={options.prepared}", *options.overrides]
        )
        brains = load_brains(config.volumes)
        others = options.norms and load_brains(
            config.volumes.model_copy(update={"prepared": options.norms})
        )
    except UserError as error:
        raise SystemExit(str(error)) from error
    if others:
        table = scored(config, others, brains, options.lesions)
        called = called_at(out_of_fold(config, others, 0), table)
    else:
        table = out_of_fold(config, brains, options.lesions)
        folds = table.groupby("fold")
        called = pd.concat([called_at(table.drop(part.index), part) for _, part in folds])
    found = auc_by_bin(
        ScoreTable(table), "volume_mm3", SIZE_BINS_MM3, draws=2000, seed=config.seed
    )
    shown = {
        f"{one.name} ({one.lesions})": {k: str(v) for k, v in (one.auc | one.places).items()}
        for one in found
    }
    print(f"{len(brains)} brains, {config.volumes.resolution_mm:g} mm; AUC by native mm3\n")
    print(pd.DataFrame(shown).to_string())
    print(f"\ncalled at a threshold of 5 %\n{rates_of(called, table).to_string()}")


def brains_without(brains: Sequence[Brain], fold: int) -> list[Brain]:
    return [brain for k, brain in enumerate(brains) if k % FOLDS != fold]


def out_of_fold(config: RunConfig, brains: Sequence[Brain], per_subject: int) -> pd.DataFrame:
    """Score all pairs, each against the norms of the other folds."""
    parts = [
        scored(config, brains_without(brains, fold), brains[fold::FOLDS], per_subject).assign(
            fold=str(fold)  # a number would be a score
        )
        for fold in range(FOLDS)
    ]
    return pd.concat(parts, ignore_index=True)


def called_at(known: pd.DataFrame, tested: pd.DataFrame) -> pd.DataFrame:
    """Tell which pairs score more than 5 % of others without a lesion would."""
    healthy = known[known["role"] == "healthy"]
    return pd.DataFrame(
        {
            name: tested[name] > detection_threshold(healthy[name].to_numpy(float)).value
            for name in SCORES
        }
    )


def rates_of(called: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Count false alarms, and what is found of each size."""
    called = called.loc[table.index]
    healthy, volumes = table["role"] == "healthy", table["volume_mm3"].to_numpy(float)
    alarms = called[healthy].sum().map(str) + f" of {int(healthy.sum())}"
    sizes = {one.name: ~healthy & one.holds(volumes) for one in SIZE_BINS_MM3}
    found = {name: called[some].mean().round(3) for name, some in sizes.items() if some.any()}
    return pd.DataFrame({"false alarms": alarms, **found})


def scored(
    config: RunConfig, known: Sequence[Brain], tested: Sequence[Brain], per_subject: int
) -> pd.DataFrame:
    """Score some brains' pairs against the norms of others."""
    source, voxel_mm = lesion_source(config), config.volumes.resolution_mm
    pairs = [(left, right) for left, right in map(config.compared.images, known)]
    smooth = config.volumes.reference_mm / voxel_mm
    reference = Reference.fit((half for pair in pairs for half in pair), smooth_voxels=smooth)
    norms = {
        "no modes": NormativeAsymmetry.fit(pairs, voxel_mm=voxel_mm, modes=0),
        "normative_asymmetry": NormativeAsymmetry.fit(pairs, voxel_mm=voxel_mm),
    }
    specs = draw_lesions(tested, source, per_subject=per_subject, seed=config.evaluation_seed + 2)
    rows: list[dict[str, object]] = []
    groups = [pairs_of(brain, specs[brain.case.name], source) for brain in tested]
    for group in groups:
        left = torch.stack([pair.left for pair in group])
        right = torch.stack([pair.right for pair in group])
        scores = {"mirror_deviation": reference.asymmetry(left, right)}
        scores |= {name: one.score(left, right) for name, one in norms.items()}
        for k, pair in enumerate(group):
            rows.append(
                {
                    "subject": pair.subject,
                    "lesioned": pair.lesioned,
                    "side": pair.spec.side if pair.spec else None,
                    "volume_mm3": pair.spec.volume_mm3 if pair.spec else 0.0,
                    "role": pair.role,
                    **{name: float(values[k]) for name, values in scores.items()},
                }
            )
    places = places_of(norms["normative_asymmetry"], groups, reference=reference)
    return pd.DataFrame(rows).join(places)


if __name__ == "__main__":
    main()
