"""Evaluate halves of slices: shapes of each area, found or not, beside what needs no network."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hemitwin._atomic import atomic_path
from hemitwin.atlases import save_table
from hemitwin.pipeline.evaluation.results import EVALUATION, NEW_IMAGES, pairs_path
from hemitwin.pipeline.evaluation.score_table import ScoreTable
from hemitwin.pipeline.images.image_guards import LEARNT, without_learnt
from hemitwin.pipeline.images.image_listing import listed
from hemitwin.pipeline.images.slice_pairs import PairSet, read_pairs
from hemitwin.pipeline.stage.errors import UserError, reading
from hemitwin.pipeline.stage.json_files import (
    digest_file,
    read_json,
    require_unchanged,
    write_json,
)
from hemitwin.pipeline.stage.pictures import BLUE, paper_style
from hemitwin.pipeline.statistics.bootstrap import Estimate, tell_of_few
from hemitwin.pipeline.statistics.metrics import (
    figures_with_intervals,
    plain_name,
    youden_threshold,
)
from hemitwin.pipeline.training.runs import PAIRS_DIGEST, SUMMARY, VALIDATION_DIGEST, Run
from hemitwin.pipeline.training.sources.scored_slices import score_slice_pairs, scored_slices
from hemitwin.pipeline.training.sources.slice_pairs import VALIDATION_SLICES

__all__ = ["AreaRow", "SlicesEvaluation", "evaluate_slices"]

logger = logging.getLogger(__name__)

_COLOURS = (BLUE, "#d1691b", "#7a7a7a")
_BY_AREA = ("balanced_accuracy", "recall", "auc")


@dataclass(frozen=True, eq=False)
class AreaRow:
    """Shapes of one area, held against all slices without one.

    Parameters
    ----------
    area_mm2 : float
        Of the picture.
    shapes : int
        How many.
    figures : mapping of str to mapping of str to Estimate
        By score and figure: `balanced_accuracy` and `recall` at the threshold of validation, and
        `auc`, with intervals over subjects.
    """

    area_mm2: float
    shapes: int
    figures: Mapping[str, Mapping[str, Estimate]]


@dataclass(frozen=True, eq=False)
class SlicesEvaluation:
    """What the test fold, or another source, says of halves of slices.

    Parameters
    ----------
    stem : str
        How the names of what is written begin: `EVALUATION`, or `NEW_IMAGES` of another source.
    pairs : DataFrame
        One row a pair, as `score_slice_pairs` gives it.
    thresholds : dict of str to float
        By score, each from validation.
    figures : dict of str to dict of str to Estimate
        Of all pairs by score: the network's `distance` or `score`, and what needs no network.
    by_area : tuple of AreaRow
        From small to large.
    """

    stem: str
    pairs: pd.DataFrame
    thresholds: dict[str, float]
    figures: dict[str, dict[str, Estimate]]
    by_area: tuple[AreaRow, ...]

    @property
    def network_score(self) -> str:
        """The network's column."""
        return ScoreTable(self.pairs).network_score

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON."""
        return {
            "subjects": int(self.pairs["subject"].nunique()),
            "slices": int((~self.pairs["lesioned"]).sum()),
            "shapes": int(self.pairs["lesioned"].sum()),
            "thresholds": self.thresholds,
            "figures": {name: _to_json(one) for name, one in self.figures.items()},
            "by_area": [
                {
                    "area_mm2": row.area_mm2,
                    "shapes": row.shapes,
                    "figures": {name: _to_json(one) for name, one in row.figures.items()},
                }
                for row in self.by_area
            ],
        }

    def files(self, run: Path) -> dict[str, Path]:
        """Name what is written into a run folder, by kind."""
        return {"written": run / f"{self.stem}.json", "picture": run / f"{self.stem}.png"}

    def to_rows(self) -> dict[str, str]:
        """Return the figures as the lines of a short table."""
        own = self.network_score
        rows = {f"AUC, {name}": str(figures["auc"]) for name, figures in self.figures.items()}
        rows |= {
            plain_name(name): str(one) for name, one in self.figures[own].items() if name != "auc"
        }
        for row in self.by_area:
            told = {name: row.figures[name]["balanced_accuracy"] for name in row.figures}
            rows[f"balanced accuracy, {row.area_mm2:g} mm2 ({row.shapes})"] = str(told.pop(own))
            for name, one in told.items():
                rows[f"  {name}, {row.area_mm2:g} mm2"] = str(one)
        return rows


def evaluate_slices(run: Run, *, slices: Path | None = None) -> SlicesEvaluation:
    """Score slices, each as it is and with shapes of every tested area.

    Writes ``evaluation.json``, ``evaluation.png`` and ``evaluation_pairs.tsv`` into the run
    folder; of another source their names begin with ``evaluation-images``.

    Parameters
    ----------
    run : Run
        A network trained on halves of slices.
    slices : Path, optional
        Where their folder lies now, of which the test fold is scored; or a folder of other slices,
        with other folds, of which all are scored, at the thresholds of the run's own validation.
        Those that the run learnt from are left out.

    Raises
    ------
    UserError
        The run is on something else, or has learnt from all these slices.
    """
    config = run.config
    if config.slice_pairs is None:
        msg = f"{run.folder} must be a run on halves of slices, but is on something else"
        raise UserError(msg)
    folder = slices or config.slice_pairs.slices
    pairs, split = read_pairs(folder)
    if split.hash == run.split.hash:
        stem = EVALUATION
        tested = pairs.of_fold(split, "test")
    elif slices is None:
        msg = (
            f"{folder} must have the folds that {run.folder} was trained with, but has others "
            f"now; restore it, or name other slices with --images"
        )
        raise UserError(msg)
    else:
        stem, tested = NEW_IMAGES, _unseen(run, folder, pairs)
    seed = config.evaluation_seed + 2
    rows = score_slice_pairs(run.network, list(scored_slices(config, tested, seed=seed)), tested)
    result = _summarised(run, stem, ScoreTable(rows))
    path = pairs_path(run.folder, stem)
    save_table(path, rows)
    _picture(run.folder / f"{stem}.png", result)
    written = {
        "splits_hash": run.split.hash,
        "weights_sha256": run.weights_digest,
        PAIRS_DIGEST: digest_file(path),
        "caution": tell_of_few(ScoreTable(rows).clusters.count),
    }
    write_json(run.folder / f"{stem}.json", {**result.to_dict(), **written})
    return result


def _unseen(run: Run, folder: Path, pairs: PairSet) -> PairSet:
    """Leave out slices that the run learnt from, whatever they are called now."""
    names = pairs.table["name"].tolist()
    guard = {"source": str(folder), "kind": "slice"}
    left = pairs.take(without_learnt(run.folder, pairs.fingerprints, names, **guard))
    known = {subject for fold in LEARNT for subject in run.split.subjects(fold)}
    if shared := sorted(known & set(left.table["subject"])):
        logger.warning(
            "%d subject(s) are called as subjects that the run learnt from; where they are the "
            "same people, the figures are too good: %s",
            len(shared),
            listed(shared),
        )
    return left


def _summarised(run: Run, stem: str, table: ScoreTable) -> SlicesEvaluation:
    learnt = ScoreTable(_validation(run))
    thresholds = {
        name: youden_threshold(learnt.labels, learnt.scores(name)) for name in learnt.score_names
    } | {table.network_score: run.threshold}
    areas = table.rows["area_mm2"].to_numpy(float)
    by_area = []
    for area in sorted(set(areas[table.labels].tolist())):
        some = table.where(~table.labels | (areas == area))
        figures = {
            name: {figure: found[figure] for figure in _BY_AREA}
            for name, found in _figures(run, some, thresholds).items()
        }
        by_area.append(AreaRow(area, int(some.labels.sum()), figures))
    return SlicesEvaluation(
        stem, table.rows, thresholds, _figures(run, table, thresholds), tuple(by_area)
    )


def _figures(
    run: Run, table: ScoreTable, thresholds: Mapping[str, float]
) -> dict[str, dict[str, Estimate]]:
    return {
        name: figures_with_intervals(
            table.labels,
            table.scores(name),
            table.clusters,
            threshold=thresholds[name],
            draws=run.config.evaluation.bootstrap,
            seed=run.config.seed,
        )
        for name in table.score_names
    }


def _validation(run: Run) -> pd.DataFrame:
    path = run.folder / VALIDATION_SLICES
    with reading(path, "restore it or train again"):
        digest = read_json(run.folder / SUMMARY).get(VALIDATION_DIGEST)
        if digest is not None:
            require_unchanged(path, digest)
        return pd.read_csv(path, sep="\t", keep_default_na=False)


def _picture(path: Path, result: SlicesEvaluation) -> None:
    with paper_style():
        figure = Figure(figsize=(6.8, 3.0), dpi=200, layout="constrained")
        left, right = figure.subplots(1, 2)
        _curves(left, result, "balanced_accuracy", "balanced accuracy")
        _curves(right, result, "recall", "share found")
        left.legend(fontsize=7)
        with atomic_path(path) as temporary:
            figure.savefig(temporary)


def _curves(panel: Axes, result: SlicesEvaluation, figure: str, title: str) -> None:
    areas = [row.area_mm2 for row in result.by_area]
    for name, colour in zip(result.figures, _COLOURS, strict=False):
        found = [row.figures[name][figure] for row in result.by_area]
        values = np.array([one.value for one in found])
        panel.plot(areas, values, "o-", color=colour, markersize=3, label=name.replace("_", " "))
        panel.fill_between(
            areas,
            [one.low for one in found],
            [one.high for one in found],
            color=colour,
            alpha=0.15,
        )
    panel.set_xscale("log")
    panel.set_xticks(areas, [f"{area:g}" for area in areas])
    panel.minorticks_off()
    panel.set_xlabel("area, mm2")
    panel.set_ylim(0, 1.02)
    panel.set_title(title)


def _to_json(figures: Mapping[str, Estimate]) -> dict[str, Any]:
    return {name: one.to_dict() for name, one in figures.items()}
