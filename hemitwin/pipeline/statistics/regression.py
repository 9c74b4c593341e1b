"""How far one subject's asymmetry is from a reference group's, and a group's from none."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

from hemitwin.pipeline.statistics.bootstrap import Clusters
from hemitwin.pipeline.statistics.paired_tests import false_discovery_rates

__all__ = ["Deviations", "Effects", "deviations", "group_effects", "tail_scale"]

# A spread below this share of the largest value is rounding.
_ROUNDING = 1e-9
# Of the median size: no compression to speak of, down to an almost pure logarithm.
_TAIL_SHARES = (1e6, 8.0, 4.0, 2.0, 1.0, 0.5, 0.25, 0.125)

Values = Float[np.ndarray, "subjects pairs"]
Design = Float[np.ndarray, "subjects columns"]
Row = Float[np.ndarray, " pairs"]


@dataclass(frozen=True, eq=False)
class Deviations:
    """One subject against a reference.

    Parameters
    ----------
    expected : (pairs,) float
        What the reference predicts for a subject of this age and sex.
    z : (pairs,) float
        Distance from it over the standard error of the prediction; t distributed. NaN where the
        reference does not vary.
    p, q : (pairs,) float
        Two-sided, and over all pairs after Benjamini and Hochberg.
    freedom : int
        Degrees of freedom.
    """

    expected: Row
    z: Row
    p: Row
    q: Row
    freedom: int


@dataclass(frozen=True, eq=False)
class Effects:
    """One coefficient over a group.

    Parameters
    ----------
    effect, low, high : (pairs,) float
        With its 95 % interval by a bootstrap over families; NaN where there are fewer than two.
    t, p, q : (pairs,) float
        Against 0: t, its two-sided p, and q over all pairs after Benjamini and Hochberg. NaN where
        the group does not vary.
    freedom : int
        Degrees of freedom.
    clustered : bool
        Whether the standard error is over families and not over subjects.
    """

    effect: Row
    low: Row
    high: Row
    t: Row
    p: Row
    q: Row
    freedom: int
    clustered: bool


def tail_scale(reference: Values, design: Design) -> Row:
    """Choose beyond which size differences of relevance count by their logarithm.

    Relevance is heavy-tailed over people: the largest difference of a pair is often a hundred
    times the usual one, and Student's t of it means little. The inverse hyperbolic sine of a
    difference over this scale is as the difference itself where it is small, and grows as its
    logarithm where it is large, alike on both sides (Johnson 1949, doi:10.2307/2332539).

    Parameters
    ----------
    reference : (subjects, pairs) float
        Differences.
    design : (subjects, columns) float
        As of `deviations`.

    Returns
    -------
    (pairs,) float
        The largest multiple of each pair's median size with which the residuals' kurtosis, mean
        over the pairs, is no larger than that of normal ones; the smallest tried where none is.
    """
    sizes = np.abs(reference)
    usual = np.median(sizes, axis=0)
    usual = np.where(usual > 0, usual, sizes.mean(axis=0))
    usual = np.where(usual > 0, usual, 1.0)
    people = len(design)
    normal = 3 * (people - 1) / (people + 1)
    residual_of = np.eye(people) - design @ np.linalg.pinv(design)
    scale = usual
    for share in _TAIL_SHARES:
        scale = share * usual
        residual = residual_of @ np.arcsinh(reference / scale)
        squares = (residual**2).sum(axis=0)
        known = squares > 0
        fourth = people * (residual[:, known] ** 4).sum(axis=0) / squares[known] ** 2
        if not known.any() or fourth.mean() <= normal:
            break
    return scale


def deviations(
    reference: Values, design: Design, own: Row, own_design: Float[np.ndarray, " columns"]
) -> Deviations:
    """Hold one subject against the regression of a reference group.

    Parameters
    ----------
    reference : (subjects, pairs) float
        The group's values, the subject not among them.
    design : (subjects, columns) float
        Intercept and covariates, independent of one another, fewer than subjects.
    own : (pairs,) float
        The subject's values.
    own_design : (columns,) float
        The subject's intercept and covariates.

    Returns
    -------
    Deviations

    Notes
    -----
    The reference's spread is itself an estimate of few people, and its mean and slopes too: so z
    is over the standard error of a prediction, s sqrt(1 + x' (X'X)^-1 x), and p is of Student's t
    (Crawford and Howell 1998, doi:10.1076/clin.12.4.482.7241).
    """
    inverse = np.linalg.inv(design.T @ design)
    slopes = inverse @ design.T @ reference
    freedom = len(design) - design.shape[1]
    spread = _spread(reference, design @ slopes, freedom)
    expected = own_design @ slopes
    z = (own - expected) / (spread * np.sqrt(1 + own_design @ inverse @ own_design))
    p = _two_sided(z, freedom)
    return Deviations(expected, z, p, false_discovery_rates(p), freedom)


def group_effects(
    values: Values,
    design: Design,
    families: Sequence[str],
    *,
    column: int,
    draws: int,
    seed: int,
) -> Effects:
    """Estimate one coefficient of a regression over a group of subjects.

    Parameters
    ----------
    values : (subjects, pairs) float
    design : (subjects, columns) float
        An intercept alone gives the mean, and t the one-sample test.
    families : sequence of str
        One a subject; relatives share one.
    column : int
        Which coefficient.
    draws, seed : int
        Of the bootstrap.

    Returns
    -------
    Effects

    Notes
    -----
    Where subjects are related, the standard error is the sandwich over families (CR1), with as
    many degrees of freedom as there are families beyond the columns; of means over families of one
    size that is the one-sample test.
    """
    inverse = np.linalg.inv(design.T @ design)
    slopes = inverse @ design.T @ values
    clusters = Clusters.of(families)
    related = clusters.count < len(values)
    freedom = (clusters.count if related else len(values)) - design.shape[1]
    missing = np.full(values.shape[1], np.nan)
    error = missing
    if freedom > 0:
        error = _spread(values, design @ slopes, freedom) * np.sqrt(inverse[column, column])
        if related:
            pull = (design @ inverse[column])[:, None] * (values - design @ slopes)
            error = np.where(np.isnan(error), np.nan, _sandwich(pull, clusters, design.shape[1]))
    t = slopes[column] / error
    p = _two_sided(t, max(freedom, 1))
    low, high = missing, missing
    if clusters.count > 1:
        drawn = _drawn(values, design, clusters.draw(draws, seed)[:, clusters.first])
        low, high = np.quantile(drawn[:, column], [0.025, 0.975], axis=0)
    q = false_discovery_rates(p)
    return Effects(slopes[column], low, high, t, p, q, freedom, related)


def _spread(values: Values, fitted: Values, freedom: int) -> Row:
    """Return the residual standard deviation; NaN where there is none but rounding."""
    spread = np.sqrt(((values - fitted) ** 2).sum(axis=0) / freedom)
    return np.where(spread > _ROUNDING * np.abs(values).max(axis=0), spread, np.nan)


def _two_sided(t: Row, freedom: int) -> Row:
    return np.asarray(2 * stats.t.sf(np.abs(t), freedom), dtype=float)


def _sandwich(pull: Values, clusters: Clusters, columns: int) -> Row:
    """Return the standard error over families, from what each subject adds to the estimate."""
    members = np.eye(clusters.count)[clusters.first]
    subjects = len(pull)
    factor = clusters.count / (clusters.count - 1) * (subjects - 1) / (subjects - columns)
    return np.asarray(np.sqrt(factor * ((members.T @ pull) ** 2).sum(axis=0)), dtype=float)


def _drawn(
    values: Values, design: Design, times: Int[np.ndarray, "draws subjects"]
) -> Float[np.ndarray, "known columns pairs"]:
    """Fit each draw that can tell the columns apart."""
    weighted = times[:, :, None] * design
    squares = design.T @ weighted
    known = np.linalg.matrix_rank(squares, hermitian=True) == design.shape[1]
    return np.linalg.solve(squares[known], weighted[known].transpose(0, 2, 1) @ values)
