"""The score above which a pair counts as detected, from healthy pairs alone."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import t as student

from hemitwin.pipeline.statistics.metrics import youden_threshold

__all__ = ["DetectionThreshold", "detection_threshold", "threshold_of_validation"]

_ENOUGH = 20
_FEWEST = 3


@dataclass(frozen=True)
class DetectionThreshold:
    """A score that few healthy pairs exceed.

    Parameters
    ----------
    value : float
        Pairs with a higher score are detected.
    rule : str
        How it was drawn, for the reader of a result.
    """

    value: float
    rule: str


def detection_threshold(
    healthy: Float[np.ndarray, " n"], *, false_positive_rate: float = 0.05
) -> DetectionThreshold:
    """Draw the threshold that a new healthy pair exceeds with a given probability.

    From 20 pairs on it is the ceil((1 - rate)(n + 1))-th smallest score, which a further pair
    from the same people exceeds with at most the wanted probability, whatever the scores'
    distribution (split conformal prediction). With fewer pairs no observed score is high enough
    for 5 %: the threshold is then mean + t SD sqrt(1 + 1 / n), t the (1 - rate) quantile with
    n - 1 degrees of freedom, which is exact for normal scores (Crawford and Howell 1998,
    doi:10.1076/clin.12.4.482.7241).

    Parameters
    ----------
    healthy : (n,) float
        Scores of healthy pairs of validation, never of the test's.
    false_positive_rate : float
        The wanted probability.

    Raises
    ------
    ValueError
        There are fewer than three pairs, or a score is not finite.

    Examples
    --------
    >>> detection_threshold(np.arange(40.0)).value
    38.0
    """
    count = healthy.size
    if count < _FEWEST or not np.isfinite(healthy).all():
        msg = (
            f"a threshold needs 3 finite scores of healthy pairs, got {healthy.tolist()}; add some"
        )
        raise ValueError(msg)
    rank = int(np.ceil((1 - false_positive_rate) * (count + 1)))
    if count >= _ENOUGH and rank <= count:
        rule = f"{rank}th smallest score of {count} healthy validation pairs"
        return DetectionThreshold(float(np.sort(healthy)[rank - 1]), rule)
    quantile = float(student.ppf(1 - false_positive_rate, count - 1))
    value = healthy.mean() + quantile * healthy.std(ddof=1) * np.sqrt(1 + 1 / count)
    rule = (
        f"upper {1 - false_positive_rate:.0%} limit of a normal distribution for one more pair, "
        f"since there are only {count} healthy validation pairs"
    )
    return DetectionThreshold(float(value), rule)


def threshold_of_validation(
    lesioned: Bool[np.ndarray, " n"],
    scores: Float[np.ndarray, " n"],
    false_alarms: float | None,
) -> DetectionThreshold:
    """Draw the threshold that a run is judged by from its validation pairs.

    Parameters
    ----------
    lesioned : (n,) bool
        The label.
    scores : (n,) float
        High for lesioned pairs.
    false_alarms : float or None
        Share of healthy pairs that may be above it, see `detection_threshold`; with `None`, or
        with fewer than three healthy pairs, the largest sum of sensitivity and specificity
        decides (`youden_threshold`).

    Examples
    --------
    >>> threshold_of_validation(np.arange(44) >= 40, np.arange(44.0), 0.05).value
    38.0
    >>> threshold_of_validation(np.array([False, True]), np.array([0.0, 1.0]), 0.05).value
    0.5
    """
    healthy = scores[~lesioned]
    if false_alarms is not None and healthy.size >= _FEWEST:
        return detection_threshold(healthy, false_positive_rate=false_alarms)
    few = "" if false_alarms is None else f", since there are only {healthy.size} healthy pairs"
    rule = f"largest sensitivity + specificity on validation{few}"
    return DetectionThreshold(youden_threshold(lesioned, scores), rule)
