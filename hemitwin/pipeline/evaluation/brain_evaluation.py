"""Evaluate brains: verification, identification, and baselines, alone and combined."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from sklearn.linear_model import LogisticRegression

from hemitwin.pipeline.cohort.brain_pairs import (
    People,
    all_pairs,
    write_brain_pairs,
    write_shareable_pairs,
)
from hemitwin.pipeline.cohort.brains import Brain, load_brains
from hemitwin.pipeline.cohort.leakage import unseen_brains
from hemitwin.pipeline.cohort.split import Split
from hemitwin.pipeline.evaluation.results import EVALUATION, pairs_path
from hemitwin.pipeline.stage.errors import UserError
from hemitwin.pipeline.stage.json_files import write_json
from hemitwin.pipeline.statistics.bootstrap import Estimate, tell_of_few
from hemitwin.pipeline.statistics.identification import identification_rates
from hemitwin.pipeline.statistics.metrics import (
    auc_with_interval,
    figures_with_intervals,
    plain_name,
)
from hemitwin.pipeline.training.baselines import BRAIN_BASELINES, brain_baselines, brain_volumes
from hemitwin.pipeline.training.compared import BRAINS
from hemitwin.pipeline.training.runs import Run
from hemitwin.pipeline.training.setup import people_of
from hemitwin.pipeline.training.sources.whole_brains import (
    DEVIATION_BASELINE,
    IndexedPairs,
    embed_brains,
    pairs_of_fold,
    score_brain_pairs,
    score_embedded,
)

__all__ = ["BrainEvaluation", "CombinedBaseline", "evaluate_brains", "fit_combined"]

logger = logging.getLogger(__name__)

_COMBINED = "combined_baseline"
_PRIVATE = ("age_difference",)  # differences of age may not be shared under the HCP's terms


@dataclass(frozen=True, eq=False)
class BrainEvaluation:
    """What the test fold says.

    Parameters
    ----------
    auc : dict of str to Estimate
        By score, the network's (`score` or `distance`) first, then the baselines.
    figures : dict of str to Estimate
        Of the network at the threshold from validation; the positive class is what belongs
        together, as in the literature of twins.
    identification : dict of int to Estimate
        Share of brains with a mate among the k nearest of all of the fold, by k.
    pairs : DataFrame
        One row a pair; it names relatives.
    """

    auc: dict[str, Estimate]
    figures: dict[str, Estimate]
    identification: dict[int, Estimate]
    pairs: pd.DataFrame

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON."""
        same = self.pairs["label"] == "same"
        return {
            "auc": {name: one.to_dict() for name, one in self.auc.items()},
            "figures": {name: one.to_dict() for name, one in self.figures.items()},
            "identification": {str(k): one.to_dict() for k, one in self.identification.items()},
            "pairs": {"same": int(same.sum()), "different": int((~same).sum())},
        }

    def files(self, run: Path) -> dict[str, Path]:
        """Name what is written into a run folder, by kind."""
        return {"written": run / f"{EVALUATION}.json"}

    def to_rows(self) -> dict[str, str]:
        """Return the figures as the lines of a short table."""
        rows = {f"AUC, {name}": str(one) for name, one in self.auc.items()}
        rows |= {plain_name(name): str(one) for name, one in self.figures.items() if name != "auc"}
        found = {f"rank-{k} identification": str(one) for k, one in self.identification.items()}
        return rows | found


def evaluate_brains(run: Run, *, prepared: Path | None = None) -> BrainEvaluation:
    """Score the pairs of the run's test subjects.

    Writes `evaluation.json` and `evaluation_pairs.tsv` (without names) into the run folder, and
    `evaluation_pairs.private.tsv`, which names relatives, for its owner alone (mode 0600).

    Parameters
    ----------
    run : Run
        Trained on pairs of brains.
    prepared : Path, optional
        Where the prepared volumes lie now; by default where training found them.

    Raises
    ------
    UserError
        A subject of the test fold has no prepared volume, is related to a subject that the run
        learnt from, or is a copy of one; or as `brain_pairs` says.
    """
    config = run.config
    if config.compared is not BRAINS:
        msg = f"{run.folder} must be a run on pairs of brains, but its config has no pairs"
        raise UserError(msg)
    folder = prepared or config.volumes.prepared
    data = config.volumes.model_copy(update={"prepared": folder})
    brains = load_brains(data, pairing="brains")
    subjects = tuple(sorted(run.split.folds))
    people = people_of(config, subjects)
    tested = unseen_brains(run.folder, run.split, brains)
    pairs = pairs_of_fold(config, tested, people, run.split, "test")
    embeddings = embed_brains(run.network, tested)
    scored = score_brain_pairs(
        run.network, tested, embeddings, pairs=pairs, demographics=people.demographics
    )
    scored = _with_combined(run, brains, people, scored)
    identification = _identify(run, tested, embeddings, people)
    result = _summarise(run, tested, scored, identification)
    shared = [name for name in result.auc if name not in _PRIVATE]
    write_brain_pairs(pairs_path(run.folder, EVALUATION, private=True), scored)
    write_shareable_pairs(pairs_path(run.folder, EVALUATION), scored, shared)
    families = IndexedPairs.of(scored, tested).clusters.count
    splits = {"splits_hash": run.split.hash, "weights_sha256": run.weights_digest}
    splits |= {"caution": tell_of_few(families)}
    write_json(run.folder / f"{EVALUATION}.json", {**result.to_dict(), **splits})
    return result


def _with_combined(
    run: Run, brains: Sequence[Brain], people: People, scored: pd.DataFrame
) -> pd.DataFrame:
    """Add the baselines' combination, fitted on training pairs, where they allow for one."""
    learnt = [brain for brain in brains if run.split.folds.get(brain.subject) == "train"]
    try:
        pairs = pairs_of_fold(run.config, learnt, people, run.split, "train")
        volumes = {brain.case.name: brain_volumes(brain) for brain in learnt}
        baselines = brain_baselines(pairs, volumes, people.demographics)
        combined = fit_combined(pairs, baselines, split=run.split)
        return scored.assign(**{_COMBINED: combined.score(scored)})
    except UserError as error:
        logger.warning("the baselines are not combined: %s", error)
        return scored


def _summarise(
    run: Run,
    tested: Sequence[Brain],
    scored: pd.DataFrame,
    identification: dict[int, Estimate],
) -> BrainEvaluation:
    indexed = IndexedPairs.of(scored, tested)
    draws = {"draws": run.config.evaluation.bootstrap, "seed": run.config.seed}
    own = "score" if run.network.head.gives_logit else "distance"
    names = [own, DEVIATION_BASELINE, *BRAIN_BASELINES, _COMBINED]
    known = [name for name in names if name in scored and scored[name].notna().all()]
    auc = {
        name: auc_with_interval(
            indexed.different, scored[name].to_numpy(float), indexed.clusters, **draws
        )
        for name in known
    }
    figures = figures_with_intervals(
        ~indexed.different,
        -scored[own].to_numpy(float),
        indexed.clusters,
        threshold=-run.threshold,
        **draws,
    )
    return BrainEvaluation(auc, figures, identification, scored)


def _identify(
    run: Run, tested: Sequence[Brain], embeddings: torch.Tensor, people: People
) -> dict[int, Estimate]:
    """Look for each brain's mates among all brains of the fold."""
    config = run.config
    positive = config.pairs.positive if config.pairs else "mz"
    cases = [brain.case for brain in tested]
    table = all_pairs(cases, people, positive, split=run.split, fold="test")
    names = {*table["case"], *table["partner_case"]}
    kept = [k for k, brain in enumerate(tested) if brain.case.name in names]
    brains = [tested[k] for k in kept]
    rows = {brain.case.name: k for k, brain in enumerate(brains)}
    pairs = IndexedPairs.of(table, brains)
    rows_kept = torch.tensor(kept, dtype=torch.long)
    scores = score_embedded(run.network, embeddings[rows_kept], pairs)["score"]
    # Pairs that the tables leave unsettled are not there: they count as infinitely far.
    distances = np.full((len(brains), len(brains)), np.finfo(np.float64).max)
    distances[pairs.first, pairs.second] = distances[pairs.second, pairs.first] = scores
    np.fill_diagonal(distances, 0.0)
    mates = np.zeros((len(brains), len(brains)), dtype=bool)
    for row in table[table["label"] == "same"].itertuples():
        one, other = rows[str(row.case)], rows[str(row.partner_case)]
        mates[one, other] = mates[other, one] = True
    groups = people.kinship.groups([brain.subject for brain in brains])
    families = [groups[brain.subject] for brain in brains]
    return identification_rates(
        distances, mates, families, draws=config.evaluation.bootstrap, seed=config.seed
    )


@dataclass(frozen=True)
class CombinedBaseline:
    """A logistic regression on baselines: standardised, weighted, summed.

    Parameters
    ----------
    columns : tuple of str
        Which baselines enter.
    centres, scales, weights : tuple of float
        Of each column: mean and standard deviation over the training pairs, and coefficient.
    intercept : float
        Log odds of an average training pair, classes weighted to equal shares.
    """

    columns: tuple[str, ...]
    centres: tuple[float, ...]
    scales: tuple[float, ...]
    weights: tuple[float, ...]
    intercept: float

    def score(self, baselines: pd.DataFrame) -> Float[np.ndarray, " pairs"]:
        """Return the log odds that two brains are different.

        Raises
        ------
        UserError
            A column that entered is missing, or not known of every pair.
        """
        held = baselines.reindex(columns=list(self.columns))
        if missing := [str(name) for name in held.columns[held.isna().any()]]:
            msg = (
                f"the combined baseline needs {', '.join(missing)} of every pair, but some have "
                f"none; complete the table of age and sex, or fit it without"
            )
            raise UserError(msg)
        standard = (held.to_numpy(dtype=float) - np.array(self.centres)) / np.array(self.scales)
        return np.asarray(standard @ np.array(self.weights) + self.intercept)


def fit_combined(
    pairs: pd.DataFrame,
    baselines: pd.DataFrame,
    *,
    split: Split,
    columns: Sequence[str] = BRAIN_BASELINES,
) -> CombinedBaseline:
    """Fit the combination of baselines on training pairs.

    Parameters
    ----------
    pairs : DataFrame
        Training pairs, with subject, partner and label.
    baselines : DataFrame
        Their scores.
    split : Split
        The folds.
    columns : sequence of str
        Candidates; one that is not known of every pair, or that has one value only (the sex of
        pairs that are matched on it), is left out.

    Raises
    ------
    UserError
        A subject does not lie in the training fold, one label is missing, or no column is left.
    """
    split.require(sorted({*pairs["subject"], *pairs["partner"]}), "train")
    different = (pairs["label"] == "different").to_numpy()
    used = [
        name for name in columns if baselines[name].notna().all() and baselines[name].nunique() > 1
    ]
    if different.all() or not different.any() or not used:
        msg = (
            f"the combined baseline needs training pairs of both labels and a baseline that "
            f"varies, got {int((~different).sum())} same and {int(different.sum())} different "
            f"pairs and {len(used)} baselines; add pairs"
        )
        raise UserError(msg)
    values = baselines[used].to_numpy(dtype=float)
    centres, scales = values.mean(axis=0), values.std(axis=0)
    model = LogisticRegression(class_weight="balanced").fit((values - centres) / scales, different)
    return CombinedBaseline(
        tuple(used),
        tuple(centres.tolist()),
        tuple(scales.tolist()),
        tuple(model.coef_[0].tolist()),
        float(model.intercept_[0]),
    )
