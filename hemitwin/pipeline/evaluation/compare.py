"""Compare: every figure of several runs, and paired tests of their differences."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from hemitwin.atlases import save_table
from hemitwin.pipeline.evaluation.comparison import (
    Comparison,
    ComparisonRow,
    picture_of_comparison,
)
from hemitwin.pipeline.evaluation.evaluated_runs import (
    Contender,
    EvaluatedRun,
    contenders_of,
    differing_settings,
    read_evaluated,
)
from hemitwin.pipeline.evaluation.results import EVALUATION, SIMULATED
from hemitwin.pipeline.stage.dataset import provenance
from hemitwin.pipeline.stage.errors import UserError
from hemitwin.pipeline.stage.json_files import write_json
from hemitwin.pipeline.statistics.bootstrap import Estimate, tell_of_few, unavailable
from hemitwin.pipeline.statistics.metrics import drawn_figures, missing_figures
from hemitwin.pipeline.statistics.paired_tests import (
    Difference,
    McNemar,
    bootstrap_difference,
    holm,
    mcnemar,
)

__all__ = ["compare"]

_TESTED = ("auc", "f1")


def compare(
    folders: Sequence[Path], out: Path, *, simulated: bool = False, draws: int = 2000
) -> Comparison:
    """Compare evaluated runs on the same test pairs.

    Writes `compare.json`, `compare.tsv` and `compare.png`. Runs that differ in `split.fold` alone
    are one row.

    Parameters
    ----------
    folders : sequence of Path
        Run folders; the first is what the others are held against.
    out : Path
        Where the results go.
    simulated : bool
        Take the evaluations on a simulated set.
    draws : int
        Bootstrap draws over families.

    Returns
    -------
    Comparison
        One row a configuration.

    Raises
    ------
    UserError
        There are fewer than two runs, one is not evaluated, or they have other folds or pairs.

    Notes
    -----
    Of several folds every figure is the mean over folds, because scores of networks that were
    trained apart have no common scale; the interval is that of the mean.
    """
    if len(folders) < 2:
        msg = f"a comparison needs two run folders at least, got {len(folders)}; name another"
        raise UserError(msg)
    stem = SIMULATED if simulated else EVALUATION
    contenders = contenders_of([read_evaluated(folder, stem=stem) for folder in folders])
    seed = int(contenders[0].runs[0].settings["seed"])
    scored = [_Scored.of(contender, draws, seed) for contender in contenders]
    settings = differing_settings(contenders)
    first, *others = scored
    differences = [_differences(first, other) for other in others]
    calls = [mcnemar(first.right, other.right) for other in others]
    adjusted = _holm(differences, calls)
    rows = [first.row(settings, {}, None, {})]
    for other, difference, call, p_values in zip(
        others, differences, calls, adjusted, strict=True
    ):
        rows.append(other.row(settings, difference, call, p_values))
    result = Comparison(tuple(rows), draws)
    save_table(out / "compare.tsv", pd.DataFrame([row.to_line() for row in rows]))
    picture_of_comparison(out / "compare.png", result)
    families = min(run.table.clusters.count for run in contenders[0].runs)
    content = {**result.to_dict(), "caution": tell_of_few(families)}
    write_json(out / "compare.json", {**content, "GeneratedBy": provenance()})
    return result


@dataclass(frozen=True, eq=False)
class _Scored:
    """A contender's figures in each bootstrap draw, means over its folds, and its calls."""

    contender: Contender
    values: dict[str, float]
    draws: dict[str, Float[np.ndarray, " draws"]]
    reasons: dict[str, str]
    right: Bool[np.ndarray, " n"]

    @classmethod
    def of(cls, contender: Contender, draws: int, seed: int) -> "_Scored":
        """Draw the families of each fold; the same seed draws the same ones for all."""
        parts = [_fold_draws(run, draws, seed + k) for k, run in enumerate(contender.runs)]
        names = list(parts[0][0])
        whole = {name: float(np.mean([value[name] for value, _, _ in parts])) for name in names}
        drawn = {name: np.mean([draw[name] for _, draw, _ in parts], axis=0) for name in names}
        reasons = {name: text for _, _, missing in parts for name, text in missing.items()}
        right = np.concatenate([_right(run) for run in contender.runs])
        return cls(contender, whole, drawn, reasons, right)

    def row(
        self,
        settings: dict[str, dict[str, Any]],
        differences: dict[str, Difference],
        calls: McNemar | None,
        adjusted: dict[str, float],
    ) -> ComparisonRow:
        """Put the figures and the tests into a row."""
        tables = [run.table for run in self.contender.runs]
        figures = {
            name: unavailable(self.reasons[name])
            if name in self.reasons
            else Estimate.of(value, self.draws[name])
            for name, value in self.values.items()
        }
        return ComparisonRow(
            self.contender.name,
            len(tables),
            sum(len(table.rows) for table in tables),
            len({name for table in tables for name in table.subjects}),
            settings[self.contender.name],
            figures,
            differences,
            calls,
            adjusted,
        )


def _fold_draws(
    run: EvaluatedRun, draws: int, seed: int
) -> tuple[dict[str, float], dict[str, Float[np.ndarray, " draws"]], dict[str, str]]:
    labels, scores, threshold = run.judged()
    clusters = run.table.clusters
    values, drawn = drawn_figures(
        labels, scores, clusters, threshold=threshold, draws=draws, seed=seed
    )
    return values, drawn, missing_figures(labels)


def _right(run: EvaluatedRun) -> Bool[np.ndarray, " n"]:
    labels, scores, threshold = run.judged()
    return np.asarray((scores > threshold) == labels)


def _differences(first: _Scored, other: _Scored) -> dict[str, Difference]:
    return {
        name: bootstrap_difference(
            other.values[name] - first.values[name], other.draws[name] - first.draws[name]
        )
        for name in _TESTED
    }


def _holm(
    differences: Sequence[dict[str, Difference]], calls: Sequence[McNemar]
) -> list[dict[str, float]]:
    adjusted = {name: holm([one[name].p for one in differences]) for name in _TESTED}
    adjusted["mcnemar"] = holm([one.p for one in calls])
    return [{name: p[k] for name, p in adjusted.items()} for k in range(len(calls))]
