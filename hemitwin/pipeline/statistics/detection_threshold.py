"""The score above which a pair counts as detected, from healthy pairs alone."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.stats import t as student

__all__ = ["DetectionThreshold", "detection_threshold"]

_ENOUGH = 20


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
    if count < 3 or not np.isfinite(healthy).all():
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
