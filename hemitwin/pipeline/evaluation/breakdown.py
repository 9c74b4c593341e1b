"""Figures by lesion size, by contrast and by role, and psychometric curves over size."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from hemitwin.pipeline.evaluation.places import found_places
from hemitwin.pipeline.evaluation.score_table import ScoreTable
from hemitwin.pipeline.statistics.bootstrap import Estimate, unavailable
from hemitwin.pipeline.statistics.detection_threshold import (
    DetectionThreshold,
    detection_threshold,
)
from hemitwin.pipeline.statistics.metrics import auc_with_interval
from hemitwin.pipeline.statistics.psychometric import (
    Detections,
    PsychometricCurve,
    fit_psychometric,
)

__all__ = [
    "CONTRAST_BINS",
    "CONTRAST_SD_BINS",
    "SIZE_BINS_MM3",
    "Bin",
    "BinRow",
    "DetectionBySize",
    "RoleRow",
    "auc_by_bin",
    "by_role",
    "contrast_bins",
    "detection_by_size",
]

_LEAST_LESIONS = 10


@dataclass(frozen=True)
class Bin:
    """A half-open range, with the name that tables give it."""

    name: str
    low: float
    high: float

    def holds(self, values: Float[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
        """Tell which values lie in it."""
        return (values >= self.low) & (values < self.high)


SIZE_BINS_MM3 = (
    Bin("below 0.1 ml", 0.0, 100.0),
    Bin("0.1-0.5 ml", 100.0, 500.0),
    Bin("0.5-2 ml", 500.0, 2000.0),
    Bin("2-8 ml", 2000.0, 8000.0),
    Bin("8-40 ml", 8000.0, 40000.0),
    Bin("40 ml and more", 40000.0, float("inf")),
)
"""Of the native volume."""

CONTRAST_BINS = (
    Bin("below 0.1", 0.0, 0.1),
    Bin("0.1-0.25", 0.1, 0.25),
    Bin("0.25-0.5", 0.25, 0.5),
    Bin("0.5 and more", 0.5, float("inf")),
)
"""Of the core's relative change, whatever its sign."""

CONTRAST_SD_BINS = (
    Bin("below 0.5 SD", 0.0, 0.5),
    Bin("0.5-0.8 SD", 0.5, 0.8),
    Bin("0.8-1.2 SD", 0.8, 1.2),
    Bin("1.2 SD and more", 1.2, float("inf")),
)
"""Of the core's change in SDs of the tissue around the lesion, whatever its sign."""


@dataclass(frozen=True)
class BinRow:
    """How well the lesions of one bin are told from all pairs without a lesion.

    Parameters
    ----------
    name : str
        The bin's.
    lesions, subjects : int
        How many, and in how many people.
    auc : dict of str to Estimate
        By score.
    places : dict of str to Estimate
        What `found_places` says of them.
    """

    name: str
    lesions: int
    subjects: int
    auc: dict[str, Estimate]
    places: dict[str, Estimate] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the row as JSON."""
        auc = {name: estimate.to_dict() for name, estimate in self.auc.items()}
        counts = {"bin": self.name, "lesions": self.lesions, "subjects": self.subjects}
        places = {name: estimate.to_dict() for name, estimate in self.places.items()}
        return {**counts, "auc": auc, "places": places}


@dataclass(frozen=True)
class RoleRow:
    """How many pairs of one role are called asymmetric.

    Parameters
    ----------
    role : str
        ``healthy``, ``lesion``, ``control``, ``sham`` or ``asymmetry``.
    pairs : int
        How many.
    called : Estimate
        Share above the threshold, with an interval over families.
    """

    role: str
    pairs: int
    called: Estimate

    def to_dict(self) -> dict[str, Any]:
        """Return the row as JSON."""
        return {"role": self.role, "pairs": self.pairs, "called_asymmetric": self.called.to_dict()}


def _values_of_bins(table: ScoreTable, column: str) -> Float[np.ndarray, " n"]:
    """Return what a bin looks at: a size, or the size of a contrast."""
    return np.asarray(np.abs(table.rows[column].to_numpy(float)))


def contrast_bins(table: ScoreTable) -> tuple[Bin, ...]:
    """Return the bins in the unit of the lesions' contrasts: SDs only where all are in SDs."""
    if "contrast_from" not in table.rows:
        return CONTRAST_BINS
    units = table.rows["contrast_from"][table.labels].dropna()
    return CONTRAST_SD_BINS if len(units) and (units == "surroundings").all() else CONTRAST_BINS


def auc_by_bin(
    table: ScoreTable,
    column: str,
    bins: Sequence[Bin],
    *,
    draws: int = 2000,
    seed: int = 0,
) -> tuple[BinRow, ...]:
    """Hold the lesions of each bin against all pairs without a lesion.

    Parameters
    ----------
    table : ScoreTable
        With roles.
    column : str
        ``volume_mm3`` or ``contrast``; of a contrast the sign does not count.
    bins : sequence of Bin
        Bins without lesions give no row.
    draws, seed : int
        Of the bootstrap over families.
    """
    lesions = (table.roles == "lesion").to_numpy(bool) & table.labels
    values = _values_of_bins(table, column)
    rows = []
    for one in bins:
        inside = lesions & one.holds(values)
        if not inside.any():
            continue
        part = table.where(inside | ~table.labels)
        auc = {name: _auc(part, name, draws, seed) for name in part.score_names}
        people = int(table.rows["subject"][inside].nunique())
        places = found_places(table.where(inside), draws=draws, seed=seed)
        rows.append(BinRow(one.name, int(inside.sum()), people, auc, places))
    return tuple(rows)


def _auc(part: ScoreTable, name: str, draws: int, seed: int) -> Estimate:
    if part.labels.all():
        return unavailable("there is no pair without a lesion")
    scores = part.scores(name)
    return auc_with_interval(part.labels, scores, part.clusters, draws=draws, seed=seed)


def by_role(
    table: ScoreTable, threshold: float, *, draws: int = 2000, seed: int = 0
) -> tuple[RoleRow, ...]:
    """Count how many pairs of each role the network calls asymmetric.

    Parameters
    ----------
    table : ScoreTable
        With roles.
    threshold : float
        Of the network's score, frozen on validation.
    draws, seed : int
        Of the bootstrap over families.
    """
    rows = []
    for role in sorted(set(table.roles)):
        part = table.where((table.roles == role).to_numpy(bool))
        called = (part.scores(part.network_score) > threshold).astype(float)
        rows.append(RoleRow(role, called.size, part.clusters.mean(called, draws, seed)))
    return tuple(rows)


@dataclass(frozen=True, eq=False)
class DetectionBySize:
    """Psychometric curves at the score that 5 % of healthy pairs exceed.

    Parameters
    ----------
    threshold : DetectionThreshold
        From healthy validation pairs.
    healthy : int
        Healthy pairs of the test, on which the false positive rate was measured.
    overall : PsychometricCurve
        All lesions.
    by_contrast : dict of str to PsychometricCurve
        By bin of contrast, where there are ten lesions or more.
    """

    threshold: DetectionThreshold
    healthy: int
    overall: PsychometricCurve
    by_contrast: dict[str, PsychometricCurve]

    def to_dict(self) -> dict[str, Any]:
        """Return thresholds, fits and volumes as JSON."""
        return {
            "threshold": self.threshold.value,
            "threshold_rule": self.threshold.rule,
            "healthy_test_pairs": self.healthy,
            "overall": self.overall.to_dict(),
            "by_contrast": {name: curve.to_dict() for name, curve in self.by_contrast.items()},
        }


def detection_by_size(
    table: ScoreTable,
    healthy_validation: Float[np.ndarray, " n"],
    *,
    draws: int = 1000,
    seed: int = 0,
) -> DetectionBySize:
    """Fit the psychometric curves of the network's score.

    Parameters
    ----------
    table : ScoreTable
        The test's pairs with roles and volumes.
    healthy_validation : (n,) float
        The network's scores of healthy validation pairs.
    draws, seed : int
        Of the bootstrap over families.

    Raises
    ------
    ValueError
        There are too few healthy validation pairs, no healthy test pair, or too few lesions.
    """
    threshold = detection_threshold(healthy_validation)
    detected = table.scores(table.network_score) > threshold.value
    healthy = (table.roles == "healthy").to_numpy(bool)
    lesions = (table.roles == "lesion").to_numpy(bool) & table.labels
    if not healthy.any() or lesions.sum() < _LEAST_LESIONS:
        msg = (
            f"detection needs healthy test pairs and {_LEAST_LESIONS} lesions, got "
            f"{int(healthy.sum())} and {int(lesions.sum())}; score more of them"
        )
        raise ValueError(msg)
    false_positives = float(detected[healthy].mean())

    def fit(chosen: Bool[np.ndarray, " n"]) -> PsychometricCurve:
        part = table.where(chosen)
        volumes = part.rows["volume_mm3"].to_numpy(float)
        found = Detections(volumes, detected[chosen], part.clusters, false_positives)
        return fit_psychometric(found, draws=draws, seed=seed)

    contrasts = _values_of_bins(table, "contrast")
    bins = {one.name: lesions & one.holds(contrasts) for one in contrast_bins(table)}
    volumes = table.rows["volume_mm3"]
    curves = {
        name: fit(inside)
        for name, inside in bins.items()
        if inside.sum() >= _LEAST_LESIONS and volumes[inside].nunique() > 1
    }
    return DetectionBySize(threshold, int(healthy.sum()), fit(lesions), curves)
