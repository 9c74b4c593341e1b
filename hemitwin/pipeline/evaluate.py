"""Evaluate: score the test fold once, with intervals, beside a baseline without a network."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from hemitwin.atlases import save_table
from hemitwin.pipeline.cohort import Brain, load_brains
from hemitwin.pipeline.errors import UserError
from hemitwin.pipeline.evaluation_set import pairs_of_set
from hemitwin.pipeline.leakage import require_unseen
from hemitwin.pipeline.metrics import Estimate, auc_with_interval, rates_at
from hemitwin.pipeline.outputs import write_json
from hemitwin.pipeline.pairs import ScoredPair, draw_lesions, pairs_of
from hemitwin.pipeline.runs import Run, lesion_source
from hemitwin.pipeline.scoring import score_pairs

__all__ = ["SIMULATED", "Evaluation", "evaluate"]

SIMULATED = "evaluation-simulated"
"""How the names of results on a simulated set begin."""

_SCORES = ("distance", "mirror_mean", "mirror_peak")


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What the test fold says.

    Parameters
    ----------
    auc : dict of str to Estimate
        By score: the network's `distance` and the voxel-wise `mirror_mean` and `mirror_peak`.
    rates : dict of str to float
        Sensitivity, specificity and balanced accuracy at the threshold from validation.
    pairs : DataFrame
        One row a pair.
    """

    auc: dict[str, Estimate]
    rates: dict[str, float]
    pairs: pd.DataFrame

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON."""
        lesions = self.pairs.loc[self.pairs["lesioned"], "volume_mm3"]
        return {
            "auc": {name: estimate.to_dict() for name, estimate in self.auc.items()},
            **self.rates,
            "subjects": int(self.pairs["subject"].nunique()),
            "healthy_pairs": int((~self.pairs["lesioned"]).sum()),
            "lesioned_pairs": int(self.pairs["lesioned"].sum()),
            "lesion_volume_mm3": {
                "smallest": float(lesions.min()),
                "median": float(lesions.median()),
                "largest": float(lesions.max()),
            },
        }


def evaluate(
    run: Run, *, prepared: Path | None = None, simulated: Path | None = None
) -> Evaluation:
    """Score the run's test subjects, each with and without injected lesions.

    The lesions are drawn from the run's seed and the cases' names, and written beside the result:
    the same run is always scored on the same pairs. Writes `evaluation.json`,
    `evaluation_pairs.tsv` and `evaluation_lesions.json` into the run folder; for a simulated set
    their names begin with `evaluation-simulated`.

    Parameters
    ----------
    run : Run
        A trained network.
    prepared : Path, optional
        Where the prepared volumes lie now; by default where training found them.
    simulated : Path, optional
        A set that `simulate_lesions` wrote; its lesions, controls and shams are scored instead of
        lesions drawn from the run's ranges.

    Returns
    -------
    Evaluation
        Figures and pairs.

    Raises
    ------
    UserError
        A subject of the test fold has no prepared volume, is related to a subject that the run
        learnt from, or is a copy of one.
    """
    config = run.config
    brains = _test_brains(run, prepared or config.data.prepared)
    stem = "evaluation" if simulated is None else SIMULATED
    groups = (
        _drawn_pairs(run, brains)
        if simulated is None
        else [pairs_of_set(simulated, brain, config.data.resolution_mm) for brain in brains]
    )
    pairs = score_pairs(run.network, groups, split=run.split, fold="test")
    labels = pairs["lesioned"].to_numpy(bool)
    auc = {
        name: auc_with_interval(
            labels,
            pairs[name].to_numpy(float),
            list(pairs["subject"]),
            draws=config.evaluation.bootstrap,
            seed=config.seed,
        )
        for name in _SCORES
    }
    rates = rates_at(run.threshold, labels, pairs["distance"].to_numpy(float))
    result = Evaluation(auc, rates, pairs)
    manifest = {
        brain.case.name: [pair.spec.model_dump(mode="json") for pair in group if pair.spec]
        for brain, group in zip(brains, groups, strict=True)
    }
    write_json(run.folder / f"{stem}_lesions.json", manifest)
    save_table(run.folder / f"{stem}_pairs.tsv", pairs)
    splits = {"splits_hash": run.split.hash, "weights_sha256": run.weights_digest}
    write_json(run.folder / f"{stem}.json", {**result.to_dict(), **splits})
    return result


def _drawn_pairs(run: Run, brains: Sequence[Brain]) -> list[tuple[ScoredPair, ...]]:
    source = lesion_source(run.config)
    specs = draw_lesions(
        brains,
        source,
        per_subject=run.config.evaluation.lesions_per_subject,
        seed=run.config.seed + 2,
    )
    return [pairs_of(brain, specs[brain.case.name], source) for brain in brains]


def _test_brains(run: Run, prepared: Path) -> tuple[Brain, ...]:
    wanted = set(run.split.subjects("test"))
    data = run.config.data.model_copy(update={"prepared": prepared})
    brains = tuple(brain for brain in load_brains(data) if brain.subject in wanted)
    missing = wanted - {brain.subject for brain in brains}
    if missing:
        msg = (
            f"every test subject must have a prepared volume below {prepared}, but "
            f"{', '.join(sorted(missing))} has none; a test without them is another test"
        )
        raise UserError(msg)
    require_unseen(run.folder, run.split, [brain.case for brain in brains])
    return brains
