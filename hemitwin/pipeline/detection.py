"""Detection of lesions by their size, all together and by contrast."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from hemitwin.pipeline.breakdown import contrast_bins, values_of_bins
from hemitwin.pipeline.score_table import ScoreTable
from hemitwin.pipeline.statistics.detection_threshold import (
    DetectionThreshold,
    detection_threshold,
)
from hemitwin.pipeline.statistics.psychometric import (
    Detections,
    PsychometricCurve,
    fit_psychometric,
)

__all__ = ["DetectionBySize", "detection_by_size"]

_LEAST_LESIONS = 10


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

    contrasts = values_of_bins(table, "contrast")
    bins = {one.name: lesions & one.holds(contrasts) for one in contrast_bins(table)}
    volumes = table.rows["volume_mm3"]
    curves = {
        name: fit(inside)
        for name, inside in bins.items()
        if inside.sum() >= _LEAST_LESIONS and volumes[inside].nunique() > 1
    }
    return DetectionBySize(threshold, int(healthy.sum()), fit(lesions), curves)
