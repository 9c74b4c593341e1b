"""How large a lesion must be to be detected: a psychometric curve over its volume."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from scipy.optimize import minimize
from scipy.special import expit

from hemitwin.pipeline.statistics.bootstrap import Clusters

__all__ = [
    "Detections",
    "PsychometricCurve",
    "VolumeEstimate",
    "fit_psychometric",
]

_LARGEST_LAPSE = 0.1
_STEEPEST = 40.0
_LEAST_PROBABILITY = 1e-9


@dataclass(frozen=True, eq=False)
class Detections:
    """Which lesions were detected.

    Parameters
    ----------
    volumes_mm3 : (n,) float
        Native volumes.
    detected : (n,) bool
        The score is above the threshold.
    clusters : Clusters
        Whose lesion each is.
    false_positive_rate : float
        Measured on healthy pairs of the test with the same threshold.
    """

    volumes_mm3: Float[np.ndarray, " n"]
    detected: Bool[np.ndarray, " n"]
    clusters: Clusters
    false_positive_rate: float

    @property
    def tested_mm3(self) -> tuple[float, float]:
        """Smallest and largest volume."""
        return float(self.volumes_mm3.min()), float(self.volumes_mm3.max())


@dataclass(frozen=True)
class VolumeEstimate:
    """A volume in native mm3 with its 95 % interval, each only known where it was tested.

    Parameters
    ----------
    value, low, high : float
        -inf below the smallest and inf above the largest tested volume.
    tested_mm3 : (2,) float
        Smallest and largest volume.
    """

    value: float
    low: float
    high: float
    tested_mm3: tuple[float, float]

    def to_dict(self) -> dict[str, float | str | None]:
        """Return the three numbers in mm3, `None` where they are bounds, and all as text."""
        numbers = {"value": self.value, "low": self.low, "high": self.high}
        known = {name: one if np.isfinite(one) else None for name, one in numbers.items()}
        return {**known, "text": str(self)}

    def __str__(self) -> str:
        """Write it as ``1830 [910, > 40000]``, or as ``> 40000`` where all are this bound."""
        value, low, high = (self._bounded(one) for one in (self.value, self.low, self.high))
        return value if value == low == high else f"{value} [{low}, {high}]"

    def _bounded(self, volume: float) -> str:
        if np.isfinite(volume):
            return _rounded(volume)
        return (
            f"> {_rounded(self.tested_mm3[1])}"
            if volume > 0
            else f"< {_rounded(self.tested_mm3[0])}"
        )


@dataclass(frozen=True, eq=False)
class PsychometricCurve:
    """P(detected) = g + (1 - g - l) / (1 + exp(-slope (log10 volume - midpoint))).

    Parameters
    ----------
    midpoint, slope, lapse : float
        In log10 mm3, per decade, and as a probability.
    guess : float
        The measured false positive rate, fixed.
    d50, d90 : VolumeEstimate
        Where P(detected) is 0.5 and 0.9.
    draws : (draws, 3) float
        Midpoint, slope and lapse of each bootstrap draw.
    detections : Detections
        What it was fitted to.
    """

    midpoint: float
    slope: float
    lapse: float
    guess: float
    d50: VolumeEstimate
    d90: VolumeEstimate
    draws: Float[np.ndarray, "draws 3"]
    detections: Detections

    def at(self, volumes_mm3: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Return P(detected) of lesions of these native volumes."""
        parameters = np.array([self.midpoint, self.slope, self.lapse])
        return _probability(parameters, np.log10(volumes_mm3), self.guess)

    def band(
        self, volumes_mm3: Float[np.ndarray, " n"]
    ) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
        """Return the 2.5th and 97.5th percentile of the draws' curves."""
        log_mm3 = np.log10(volumes_mm3)
        curves = np.stack([_probability(draw, log_mm3, self.guess) for draw in self.draws])
        low, high = np.quantile(curves, [0.025, 0.975], axis=0)
        return low, high

    def to_dict(self) -> dict[str, Any]:
        """Return fit and volumes as JSON."""
        return {
            "d50_mm3": self.d50.to_dict(),
            "d90_mm3": self.d90.to_dict(),
            "midpoint_log10_mm3": self.midpoint,
            "slope_per_decade": self.slope,
            "lapse_rate": self.lapse,
            "false_positive_rate": self.guess,
            "lesions": int(self.detections.detected.size),
            "detected": int(self.detections.detected.sum()),
            "tested_mm3": list(self.detections.tested_mm3),
            "bootstrap_draws": len(self.draws),
        }


def fit_psychometric(
    detections: Detections, *, draws: int = 1000, seed: int = 0
) -> PsychometricCurve:
    """Fit a logistic curve in log10 volume by maximum likelihood, with a bootstrap over families.

    The guess rate is the measured false positive rate; the lapse rate is fitted between 0 and
    0.1, because one large lesion that is missed would otherwise flatten the whole curve (Wichmann
    and Hill 2001, doi:10.3758/BF03194544). The slope is between 0 and 40 a decade. A volume
    where the curve crosses 0.5 or 0.9 outside the tested ones is a bound, not a number.

    Parameters
    ----------
    detections : Detections
        Lesions with their volumes.
    draws, seed : int
        Of the bootstrap; each draw is fitted from the whole's parameters on.

    Raises
    ------
    ValueError
        There are fewer than two volumes, or one is not positive.

    Examples
    --------
    >>> volumes = np.geomspace(100, 10000, 40)
    >>> people = Clusters.of([f"sub-{k % 10}" for k in range(40)])
    >>> curve = fit_psychometric(Detections(volumes, volumes > 1000, people, 0.0), draws=20)
    >>> 900 < curve.d50.value < 1100
    True
    """
    volumes = detections.volumes_mm3
    if np.unique(volumes).size < 2 or not (volumes > 0).all():
        msg = (
            f"a curve needs two positive volumes at least, got {np.unique(volumes)[:4]}; add sizes"
        )
        raise ValueError(msg)
    log_mm3 = np.log10(volumes)
    whole = np.ones(volumes.size)
    starts = [np.array([middle, 4.0, 0.02]) for middle in np.quantile(log_mm3, [0.2, 0.5, 0.8])]
    fits = [_fit(start, log_mm3, detections, whole) for start in starts]
    best = min(fits, key=lambda fit: _loss(fit, log_mm3, detections, whole)[0])
    weights = np.concatenate(list(detections.clusters.weights_in_parts(draws, seed)))
    drawn = np.array([_fit(best, log_mm3, detections, row) for row in weights])
    guess = detections.false_positive_rate
    midpoint, slope, lapse = (float(one) for one in best)
    d50, d90 = (_volume_estimate(level, best, drawn, detections) for level in (0.5, 0.9))
    return PsychometricCurve(midpoint, slope, lapse, guess, d50, d90, drawn, detections)


def _probability(parameters: np.ndarray, log_mm3: np.ndarray, guess: float) -> np.ndarray:
    midpoint, slope, lapse = parameters
    return np.asarray(guess + max(0.0, 1 - guess - lapse) * expit(slope * (log_mm3 - midpoint)))


def _loss(
    parameters: np.ndarray, log_mm3: np.ndarray, detections: Detections, weights: np.ndarray
) -> tuple[float, np.ndarray]:
    """Mean negative log-likelihood of the detections, and its gradient."""
    midpoint, slope, lapse = parameters
    span = 1 - detections.false_positive_rate - lapse
    rise = expit(slope * (log_mm3 - midpoint))
    chance = detections.false_positive_rate + span * rise
    chance = np.clip(chance, _LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY)
    seen = detections.detected
    likelihood = np.where(seen, chance, 1 - chance)
    total = weights.sum()
    loss = -(weights @ np.log(likelihood)) / total
    by_chance = np.where(seen, -weights, weights) / (likelihood * total)
    steepness = span * rise * (1 - rise)
    gradient = [
        -slope * (by_chance @ steepness),
        by_chance @ (steepness * (log_mm3 - midpoint)),
        -(by_chance @ rise),
    ]
    return float(loss), np.array(gradient)


def _fit(
    start: np.ndarray, log_mm3: np.ndarray, detections: Detections, weights: np.ndarray
) -> np.ndarray:
    reach = np.ptp(log_mm3)
    bounds = [
        (log_mm3.min() - reach, log_mm3.max() + reach),
        (0.0, _STEEPEST),
        (0.0, min(_LARGEST_LAPSE, 1 - detections.false_positive_rate)),
    ]
    arguments = (log_mm3, detections, weights)
    # TNC keeps to the bounds and is 20 times faster here than L-BFGS-B, with the same result.
    fitted = minimize(_loss, start, arguments, method="TNC", jac=True, bounds=bounds)
    return np.asarray(fitted.x)


def _volume_estimate(
    level: float, best: np.ndarray, drawn: np.ndarray, detections: Detections
) -> VolumeEstimate:
    volumes = [_volume_at(level, row, detections) for row in (best, *drawn)]
    # No interpolation: between a volume and a bound there is nothing to take the mean of.
    low, high = np.quantile(volumes[1:], [0.025, 0.975], method="inverted_cdf")
    return VolumeEstimate(volumes[0], float(low), float(high), detections.tested_mm3)


def _volume_at(level: float, parameters: np.ndarray, detections: Detections) -> float:
    """Return where the curve crosses a level; -inf below and inf above what was tested."""
    smallest, largest = detections.tested_mm3
    guess = detections.false_positive_rate
    ends = _probability(parameters, np.log10([smallest, largest]), guess)
    if ends[0] >= level:
        return float("-inf")
    midpoint, slope, lapse = parameters
    if ends[1] < level or level >= 1 - lapse:
        return float("inf")
    share = (level - guess) / (1 - guess - lapse)
    return float(10 ** (midpoint + np.log(share / (1 - share)) / slope))


def _rounded(volume: float) -> str:
    """Write a volume with three digits."""
    return f"{float(f'{volume:.3g}'):.0f}" if volume >= 100 else f"{volume:.3g}"
