"""Evaluate halves: the test fold's pairs, with lesions, beside baselines without a network."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from hemitwin.atlases import save_table
from hemitwin.pipeline.cohort.brains import Brain, load_brains
from hemitwin.pipeline.cohort.families import FAMILIES, read_families
from hemitwin.pipeline.cohort.leakage import unseen_brains
from hemitwin.pipeline.evaluation.breakdown import (
    SIZE_BINS_MM3,
    DetectionBySize,
    auc_by_bin,
    by_role,
    contrast_bins,
    detection_by_size,
)
from hemitwin.pipeline.evaluation.picture import picture_of_evaluation
from hemitwin.pipeline.evaluation.places import found_places, places_of
from hemitwin.pipeline.evaluation.results import EVALUATION, SIMULATED, Evaluation, pairs_path
from hemitwin.pipeline.evaluation.score_table import ScoreTable
from hemitwin.pipeline.evaluation.simulated_set import pairs_of_set
from hemitwin.pipeline.stage.errors import UserError, reading
from hemitwin.pipeline.stage.json_files import (
    digest_file,
    read_json,
    require_unchanged,
    write_json,
)
from hemitwin.pipeline.statistics.bootstrap import tell_of_few
from hemitwin.pipeline.statistics.detection_threshold import threshold_of_validation
from hemitwin.pipeline.statistics.metrics import figures_with_intervals, rates_at
from hemitwin.pipeline.training.compared import HALVES
from hemitwin.pipeline.training.runs import (
    PAIRS_DIGEST,
    SUMMARY,
    VALIDATION_DIGEST,
    Run,
    lesion_source,
)
from hemitwin.pipeline.training.sources.halves import (
    VALIDATION_PAIRS,
    HalvesValidation,
    score_pairs,
    validation_pairs,
)
from hemitwin.pipeline.training.sources.pairs import ScoredPair, draw_lesions, pairs_of

__all__ = ["evaluate_halves"]

logger = logging.getLogger(__name__)


def evaluate_halves(
    run: Run, *, prepared: Path | None = None, simulated: Path | None = None
) -> Evaluation:
    """Score the run's test subjects, each with and without injected lesions.

    The lesions are drawn from the run's seed and the cases' names, and written beside the result:
    the same run is always scored on the same pairs. Writes `evaluation.json`, `evaluation.png`,
    `evaluation_pairs.tsv` and `evaluation_lesions.json` into the run folder; for a simulated set
    their names begin with `evaluation-simulated`.

    Every threshold comes from validation: from the run's `validation_pairs.tsv`, or where that is
    missing from scoring the validation fold again.

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
        The run compares brains, or a subject of the test fold has no prepared volume, is related
        to a subject that the run learnt from, or is a copy of one.
    """
    config = run.config
    if config.compared is not HALVES:
        msg = f"{run.folder} must be a run on hemispheres, but it compares brains; evaluate it so"
        raise UserError(msg)
    folder = prepared or config.volumes.prepared
    brains = load_brains(config.volumes.model_copy(update={"prepared": folder}))
    tested = unseen_brains(run.folder, run.split, brains)
    stem = EVALUATION if simulated is None else SIMULATED
    groups = (
        _drawn_pairs(run, tested)
        if simulated is None
        else [pairs_of_set(simulated, brain, config.volumes.resolution_mm) for brain in tested]
    )
    pairs = score_pairs(run.network, groups, split=run.split, fold="test")
    if run.network.normative is not None:  # a run of before there were norms has none
        packing = run.network.inputs.packing
        coarse = [[pair.coarse(packing) for pair in group] for group in groups]
        places = places_of(run.network.normative, coarse, reference=run.network.reference)
        pairs = pairs.join(places)
    table = ScoreTable(pairs, read_families(run.folder / FAMILIES))
    result = _summarise(run, stem, table, _validation_pairs(run, brains))
    manifest = {
        brain.case.name: [pair.spec.model_dump(mode="json") for pair in group if pair.spec]
        for brain, group in zip(tested, groups, strict=True)
    }
    write_json(run.folder / f"{stem}_lesions.json", manifest)
    save_table(pairs_path(run.folder, stem), pairs)
    picture_of_evaluation(run.folder / f"{stem}.png", result)
    splits = {"splits_hash": run.split.hash, "weights_sha256": run.weights_digest}
    splits |= {PAIRS_DIGEST: digest_file(pairs_path(run.folder, stem))}
    splits |= {"caution": tell_of_few(table.clusters.count)}
    write_json(run.folder / f"{stem}.json", {**result.to_dict(), **splits})
    return result


def _summarise(
    run: Run, stem: str, table: ScoreTable, validation: pd.DataFrame | None
) -> Evaluation:
    learnt = ScoreTable(validation) if validation is not None else None
    draws = {"draws": run.config.evaluation.bootstrap, "seed": run.config.seed}
    own = table.network_score
    thresholds = _thresholds(learnt, run.config.evaluation.false_alarms) | {own: run.threshold}
    figures = {
        name: figures_with_intervals(
            table.labels,
            table.scores(name),
            table.clusters,
            threshold=thresholds.get(name),
            **draws,
        )
        for name in table.score_names
    }
    return Evaluation(
        rates=rates_at(run.threshold, table.labels, table.scores(own)),
        stem=stem,
        pairs=table.rows,
        thresholds=thresholds,
        figures=figures,
        by_size=auc_by_bin(table, "volume_mm3", SIZE_BINS_MM3, **draws),
        by_contrast=auc_by_bin(table, "contrast", contrast_bins(table), **draws),
        roles=by_role(table, run.threshold, **draws),
        places=found_places(table, **draws),
        detection=_detection(table, learnt, run.config.seed),
    )


def _thresholds(learnt: ScoreTable | None, false_alarms: float | None) -> dict[str, float]:
    if learnt is None:
        return {}
    return {
        name: threshold_of_validation(learnt.labels, learnt.scores(name), false_alarms).value
        for name in learnt.score_names
    }


def _detection(table: ScoreTable, learnt: ScoreTable | None, seed: int) -> DetectionBySize | None:
    if learnt is None:
        return None
    healthy = learnt.scores(table.network_score)[~learnt.labels]
    try:
        return detection_by_size(table, healthy, seed=seed)
    except ValueError as error:
        logger.warning("there is no curve of detection against size: %s", error)
        return None


def _validation_pairs(run: Run, brains: Sequence[Brain]) -> pd.DataFrame | None:
    path = run.folder / VALIDATION_PAIRS
    if path.is_file():
        with reading(path, "delete it, and it is made again from the prepared volumes"):
            digest = read_json(run.folder / SUMMARY).get(VALIDATION_DIGEST)
            if digest is not None:  # runs of before it was written down have none
                require_unchanged(path, digest)
            pairs = pd.read_csv(path, sep="\t")
            known = ScoreTable(pairs)
            everyone = set(pairs["subject"]) == set(run.split.subjects("validation"))
            if not everyone or np.isnan(known.scores(known.network_score)).any():
                msg = "a pair or its score is missing"
                raise ValueError(msg)
        return pairs
    wanted = set(run.split.subjects("validation"))
    validation = tuple(brain for brain in brains if brain.subject in wanted)
    missing = wanted - {brain.subject for brain in validation}
    if missing:
        logger.warning(
            "without the prepared volumes of validation (%s) and %s there are no baselines' "
            "thresholds and no curve of detection against size",
            ", ".join(sorted(missing)),
            path,
        )
        return None
    again = validation_pairs(run.config, validation, lesion_source(run.config))
    return HalvesValidation(again, run.split).table(run.network)


def _drawn_pairs(run: Run, brains: Sequence[Brain]) -> list[tuple[ScoredPair, ...]]:
    source = lesion_source(run.config)
    specs = draw_lesions(
        brains,
        source,
        per_subject=run.config.evaluation.lesions_per_subject,
        seed=run.config.evaluation_seed + 2,
    )
    return [pairs_of(brain, specs[brain.case.name], source) for brain in brains]
