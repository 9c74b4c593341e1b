"""Tests of two detectors on the same pairs."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import binomtest, false_discovery_control

from hemitwin.pipeline.statistics.bootstrap import Estimate

__all__ = [
    "Difference",
    "McNemar",
    "bootstrap_difference",
    "false_discovery_rates",
    "holm",
    "mcnemar",
]


@dataclass(frozen=True)
class Difference:
    """How much more the one is worth than the other, with a two-sided p."""

    estimate: Estimate
    p: float


@dataclass(frozen=True)
class McNemar:
    """Calls in which two detectors differ.

    Parameters
    ----------
    only_first_right, only_second_right : int
        Pairs that one of them calls rightly and the other wrongly.
    p : float
        Exact and two-sided.
    """

    only_first_right: int
    only_second_right: int
    p: float

    def to_dict(self) -> dict[str, float | int]:
        """Return the counts and p by name."""
        return asdict(self)


def bootstrap_difference(value: float, draws: Float[np.ndarray, " draws"]) -> Difference:
    """Judge a difference by paired bootstrap draws of it.

    Under the null hypothesis differences lie about 0 as the draws lie about the value: p is
    (1 + the draws at least as far from the value as the value is from 0) / (draws + 1), and never
    0 (Davison and Hinkley 1997, Bootstrap Methods and their Application, section 4.4).

    Parameters
    ----------
    value : float
        The difference.
    draws : (draws,) float
        The same families drawn for both; draws without the figure are NaN and left out.

    Examples
    --------
    >>> bootstrap_difference(1.0, np.array([0.9, 1.1, 1.0])).p
    0.25
    """
    known = draws[~np.isnan(draws)]
    # A tolerance: a draw exactly as far away must count, whatever the rounding.
    extreme = int((np.abs(known - value) >= abs(value) - 1e-12).sum())
    return Difference(Estimate.of(value, draws), (1 + extreme) / (known.size + 1))


def mcnemar(first_right: Bool[np.ndarray, " n"], second_right: Bool[np.ndarray, " n"]) -> McNemar:
    """Test whether two detectors call equally many pairs rightly (McNemar's exact test).

    Pairs are taken as independent; several lesions of one person are not quite, so that p is
    rather too small. The bootstrap has not this fault.

    Parameters
    ----------
    first_right, second_right : (n,) bool
        Whether the call of each pair is right.

    Examples
    --------
    >>> mcnemar(np.array([True] * 6), np.array([False] * 6)).p
    0.03125
    """
    only_first = int((first_right & ~second_right).sum())
    only_second = int((second_right & ~first_right).sum())
    differing = only_first + only_second
    p = float(binomtest(only_first, differing).pvalue) if differing else 1.0
    return McNemar(only_first, only_second, p)


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Adjust p values for their number by Holm's step-down method.

    Parameters
    ----------
    p_values : sequence of float
        Of all comparisons.

    Returns
    -------
    tuple of float
        In the same order (Holm 1979, Scandinavian Journal of Statistics 6, 65-70).

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03])
    (0.03, 0.06, 0.06)
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    order = sorted(range(len(p_values)), key=lambda k: p_values[k])
    for rank, number in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[number]))
        adjusted[number] = largest
    return tuple(adjusted)


def false_discovery_rates(p_values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Adjust p values for their number by the method of Benjamini and Hochberg.

    Parameters
    ----------
    p_values : (n,) float
        Of all comparisons; NaN where there is none: it stays, and does not count.

    Returns
    -------
    (n,) float
        The q value of each (Benjamini and Hochberg 1995,
        doi:10.1111/j.2517-6161.1995.tb02031.x).

    Examples
    --------
    >>> false_discovery_rates(np.array([0.01, np.nan, 0.04])).tolist()
    [0.02, nan, 0.04]
    """
    found = np.full(len(p_values), np.nan)
    known = ~np.isnan(p_values)
    if known.any():
        found[known] = false_discovery_control(p_values[known])
    return found
