"""Evaluated runs read for a comparison, folds of one configuration put together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from hemitwin.pipeline.cohort.brain_pairs import read_brain_pairs
from hemitwin.pipeline.cohort.families import FAMILIES, read_families
from hemitwin.pipeline.cohort.split import read_split
from hemitwin.pipeline.evaluation.results import pairs_path
from hemitwin.pipeline.evaluation.score_table import ScoreTable
from hemitwin.pipeline.stage.errors import UserError, reading
from hemitwin.pipeline.stage.json_files import digest_json, read_json, require_unchanged
from hemitwin.pipeline.training.compared import BRAINS
from hemitwin.pipeline.training.config import load_config
from hemitwin.pipeline.training.runs import CONFIG, PAIRS_DIGEST, SPLITS, SUMMARY

__all__ = ["Contender", "EvaluatedRun", "contenders_of", "differing_settings", "read_evaluated"]


@dataclass(frozen=True, eq=False)
class EvaluatedRun:
    """One run with its scored test pairs; the network itself is not needed.

    Parameters
    ----------
    folder : Path
        The run folder.
    settings : dict
        Its configuration, flat: ``encoder.name`` and the like.
    splits_hash : str
        Of its folds.
    threshold : float
        Of the network's score, from validation.
    table : ScoreTable
        Its test pairs.
    """

    folder: Path
    settings: Mapping[str, Any]
    splits_hash: str
    threshold: float
    table: ScoreTable

    @property
    def compares_brains(self) -> bool:
        """Whether its pairs are two brains, and not two halves of one."""
        return "partner" in self.table.rows

    def judged(self) -> tuple[Bool[np.ndarray, " n"], Float[np.ndarray, " n"], float]:
        """Return labels, scores and threshold with the positive class that `evaluate` takes.

        Returns
        -------
        labels : (n,) bool
            True where a lesion is; of two brains, where they belong together.
        scores : (n,) float
            High means positive.
        threshold : float
            Scores above it are called positive.
        """
        labels, scores = self.table.labels, self.table.scores(self.table.network_score)
        if self.compares_brains:
            return ~labels, -scores, -self.threshold
        return labels, scores, self.threshold


@dataclass(frozen=True, eq=False)
class Contender:
    """One configuration: a run, or its folds in order of their number."""

    name: str
    runs: tuple[EvaluatedRun, ...]


def read_evaluated(folder: Path, *, stem: str) -> EvaluatedRun:
    """Read one run's settings, threshold and scored pairs.

    Parameters
    ----------
    folder : Path
        The run folder.
    stem : str
        ``evaluation``, or ``evaluation-simulated``.

    Raises
    ------
    UserError
        The run tells classes of images, is not finished, not evaluated, or was trained again
        since; or a run on brains was
        handed over without its private table: no other tells its pairs apart.
    """
    if (folder / CONFIG).is_file() and load_config(folder / CONFIG).images is not None:
        msg = (
            f"only runs that score pairs can be compared, but {folder} tells classes of images; "
            f"hold the figures in its {stem}.json against the other's"
        )
        raise UserError(msg)
    wanted = [folder / name for name in (SUMMARY, CONFIG, f"{stem}.json")]
    wanted.append(pairs_path(folder, stem))
    missing = [path.name for path in wanted if not path.is_file()]
    if missing:
        msg = (
            f"{folder} must be an evaluated run, but it has no {', '.join(missing)}; "
            f"run 'hemitwin evaluate {folder}'"
        )
        raise UserError(msg)
    with reading(folder / SUMMARY, "restore it or train again") as remedy:
        summary = read_json(folder / SUMMARY, remedy=remedy)
        threshold = float(summary["threshold"])
    again = f"run 'hemitwin evaluate {folder}' again"
    result = read_json(folder / f"{stem}.json", remedy=again)
    split = read_split(folder / SPLITS)
    known = {"weights_sha256": summary["weights_sha256"], "splits_hash": split.hash}
    if any(result.get(name) != value for name, value in known.items()):
        msg = (
            f"the evaluation in {folder} must be of the weights and folds there, but they were "
            f"replaced since; run 'hemitwin evaluate {folder}' again"
        )
        raise UserError(msg)
    config = load_config(folder / CONFIG)
    of_brains = config.slice_pairs is None and config.compared is BRAINS
    path = pairs_path(folder, stem, private=of_brains)
    with reading(path, again):
        if of_brains:
            rows = _brain_pairs(path, result["pairs"])
        else:
            rows = _halves(path, result.get(PAIRS_DIGEST))
        table = ScoreTable(rows, read_families(folder / FAMILIES))
        if not len(table.labels) or np.isnan(table.scores(table.network_score)).any():
            msg = "a pair has no score"
            raise ValueError(msg)
    return EvaluatedRun(
        folder,
        _flat(config.model_dump(mode="json")),
        split.hash,
        threshold,
        table,
    )


def _halves(path: Path, digest: str | None) -> pd.DataFrame:
    if digest is not None:  # evaluations of before it was written down have none
        require_unchanged(path, digest)
    return pd.read_csv(path, sep="\t", dtype={"subject": str})


def _brain_pairs(path: Path, scored: Mapping[str, int]) -> pd.DataFrame:
    """Read the private table: two pairs of the same families are one to the shareable one."""
    if not path.is_file():
        msg = (
            f"{path.parent} must hold {path.name} to be compared, since a table without names "
            f"does not tell its pairs apart; compare the runs where they were evaluated, or run "
            f"'hemitwin evaluate {path.parent}'"
        )
        raise UserError(msg)
    rows = read_brain_pairs(path)
    found = rows["label"].value_counts().to_dict()
    if any(found.get(label, 0) != count for label, count in scored.items()):
        msg = f"it must hold the pairs that were evaluated, {scored}, but holds {found}"
        raise ValueError(msg)
    return rows


def contenders_of(runs: Sequence[EvaluatedRun]) -> tuple[Contender, ...]:
    """Put runs together that differ in `split.fold` alone; refuse what cannot be compared.

    Parameters
    ----------
    runs : sequence of EvaluatedRun
        The first one's configuration is what the others are held against.

    Returns
    -------
    tuple of Contender
        In the order of their first runs, named by their folders.

    Raises
    ------
    UserError
        A run is there twice, or a configuration was not scored on the first one's pairs: other
        folds, other people or other lesions.
    """
    together: dict[str, list[EvaluatedRun]] = {}
    for run in runs:
        shared = {name: value for name, value in run.settings.items() if name != "split.fold"}
        together.setdefault(digest_json(shared), []).append(run)
    contenders = []
    for members in together.values():
        ordered = tuple(sorted(members, key=lambda run: int(run.settings["split.fold"])))
        numbers = [run.settings["split.fold"] for run in ordered]
        if len(set(numbers)) < len(numbers):
            named = ", ".join(str(run.folder) for run in ordered)
            msg = f"each run must be given once, but the same settings are in {named}; leave one"
            raise UserError(msg)
        contenders.append(Contender(_name_of(ordered), ordered))
    for other in contenders[1:]:
        _require_same_pairs(contenders[0], other)
    return tuple(contenders)


def differing_settings(contenders: Sequence[Contender]) -> dict[str, dict[str, Any]]:
    """Return, by contender, the settings in which not all of them agree."""
    settings = {one.name: one.runs[0].settings for one in contenders}
    names = sorted({name for flat in settings.values() for name in flat} - {"split.fold"})
    differing = [
        name for name in names if len({str(flat.get(name)) for flat in settings.values()}) > 1
    ]
    return {
        contender: {name: flat.get(name) for name in differing}
        for contender, flat in settings.items()
    }


def _name_of(runs: Sequence[EvaluatedRun]) -> str:
    first = str(runs[0].folder)
    return first if len(runs) == 1 else f"{first} ({len(runs)} folds)"


def _require_same_pairs(first: Contender, other: Contender) -> None:
    msg = ""
    if len(first.runs) != len(other.runs):
        msg = f"{first.name} has {len(first.runs)} fold(s), {other.name} has {len(other.runs)}"
    for one, two in zip(first.runs, other.runs, strict=False):
        if not msg:
            msg = _difference(one, two)
    if msg:
        msg = f"compared runs must be scored on the same folds and pairs, but {msg}"
        raise UserError(msg)


def _difference(one: EvaluatedRun, two: EvaluatedRun) -> str:
    if one.splits_hash != two.splits_hash:
        return (
            f"{one.folder} and {two.folder} have other folds ({one.splits_hash:.12} and "
            f"{two.splits_hash:.12}); train both with the same seed, subjects and split"
        )
    if one.table.keys.equals(two.table.keys):
        return ""
    remedy = (
        "tables and section pairs"
        if one.compares_brains or two.compares_brains
        else "lesions and lesions_per_subject, or score both on one set ('hemitwin evaluate RUN "
        "--simulated SET')"
    )
    return f"{one.folder} and {two.folder} have other pairs; give both the same seed, {remedy}"


def _flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in content.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat
