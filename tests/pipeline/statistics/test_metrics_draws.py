"""Every figure against a slow or another's computation, in each bootstrap draw."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    f1_score,
    precision_score,
    recall_score,
    roc_auc_score,
    roc_curve,
)

from hemitwin.pipeline.statistics.bootstrap import Clusters, Estimate, unavailable
from hemitwin.pipeline.statistics.metrics import (
    CALLED,
    RANKED,
    figure_draws,
    figures_with_intervals,
)


def _pairs(n=60, people=9, seed=0, digits=1):
    rng = np.random.default_rng(seed)
    labels = rng.random(n) > 0.4
    labels[:2] = True, False
    scores = np.round(rng.normal(size=n) + labels, digits)
    return labels, scores, [f"sub-{k}" for k in rng.integers(0, people, n)]


def _repeated(values, times):
    return np.repeat(values, times)


def _partial_area_by_hand(labels, scores, least=0.8):
    """Mean specificity over a fine grid of sensitivities."""
    false_rates, true_rates, _ = roc_curve(labels, scores, drop_intermediate=False)
    grid = least + (1 - least) * (np.arange(200000) + 0.5) / 200000
    return 1 - np.interp(grid, true_rates + np.arange(true_rates.size) * 1e-12, false_rates).mean()


def _equal_error_by_hand(labels, scores):
    false_rates, true_rates, _ = roc_curve(labels, scores, drop_intermediate=False)
    travel = np.linspace(0, false_rates.size - 1, 400001)
    false_positive, miss = (
        np.interp(travel, np.arange(false_rates.size), y) for y in (false_rates, 1 - true_rates)
    )
    return false_positive[np.argmin(np.abs(false_positive - miss))]


ORACLES = {
    "auc": roc_auc_score,
    "average_precision": average_precision_score,
    "partial_auc": _partial_area_by_hand,
    "eer": _equal_error_by_hand,
    "accuracy": lambda labels, scores: accuracy_score(labels, scores > 0.5),
    "balanced_accuracy": lambda labels, scores: balanced_accuracy_score(labels, scores > 0.5),
    "precision": lambda labels, scores: precision_score(labels, scores > 0.5),
    "recall": lambda labels, scores: recall_score(labels, scores > 0.5),
    "specificity": lambda labels, scores: recall_score(~labels, scores <= 0.5),
    "f1": lambda labels, scores: f1_score(labels, scores > 0.5),
}


@pytest.mark.parametrize("name", sorted(ORACLES))
def test_a_weighted_figure_is_that_of_the_repeated_pairs(name):
    labels, scores, people = _pairs()
    clusters = Clusters.of(people)
    times = clusters.draw(3, seed=1)
    found = figure_draws(labels, scores, clusters.weights(times), threshold=0.5)[name]
    for value, row in zip(found, times[:, clusters.first], strict=True):
        expected = ORACLES[name](_repeated(labels, row), _repeated(scores, row))
        assert value == pytest.approx(expected, abs=2e-5)


def test_true_accepts_at_a_false_accept_rate_are_counted():
    rng = np.random.default_rng(0)
    negatives, positives = rng.normal(size=1000), rng.normal(2.0, 1.0, 50)
    labels = np.r_[np.zeros(1000, bool), np.ones(50, bool)]
    clusters = Clusters.of([f"sub-{k}" for k in range(1050)])
    scores = np.r_[negatives, positives]
    figures = figures_with_intervals(labels, scores, clusters, threshold=None, draws=50)
    ordered = np.sort(negatives)[::-1]
    assert figures["tar_at_far_1e-2"].value == (positives > ordered[10]).mean()
    assert figures["tar_at_far_1e-3"].value == (positives > ordered[1]).mean()
    assert set(figures) == set(RANKED)


def test_too_few_negatives_for_a_false_accept_rate_are_said():
    labels, scores, people = _pairs()
    figures = figures_with_intervals(labels, scores, Clusters.of(people), threshold=0.5, draws=50)
    assert set(figures) == {*RANKED, *CALLED}
    assert np.isnan(figures["tar_at_far_1e-2"].value)
    missing = int((~labels).sum())
    assert figures["tar_at_far_1e-2"].to_dict() == {
        "value": None,
        "low": None,
        "high": None,
        "reason": f"it needs 100 negatives, there are {missing}",
    }


@given(seed=st.integers(0, 999), digits=st.integers(0, 3))
@settings(max_examples=25)
def test_figures_lie_where_they_can_and_perfect_ranking_is_perfect(seed, digits):
    labels, scores, people = _pairs(n=20, people=4, seed=seed, digits=digits)
    weights = Clusters.of(people).weights(Clusters.of(people).draw(8, seed))
    figures = figure_draws(labels, scores, weights, threshold=0.3)
    for values in figures.values():
        known = values[~np.isnan(values)]
        assert ((known >= -1e-12) & (known <= 1 + 1e-12)).all()
    perfect = figure_draws(labels, labels + 0.0, np.ones((1, 20)), threshold=0.5)
    worst = dict.fromkeys((*RANKED, *CALLED), 1.0) | {"eer": 0.0}
    assert {name: float(value[0]) for name, value in perfect.items()} == pytest.approx(worst)


def test_a_constant_score_is_worth_nothing():
    labels = np.array([True, False] * 10)
    figures = figure_draws(labels, np.zeros(20), np.ones((1, 20)), threshold=0.5)
    assert figures["auc"] == figures["eer"] == 0.5
    assert figures["partial_auc"] == pytest.approx(0.1)
    assert np.isnan(figures["precision"]).all()


def test_pairs_of_two_families_come_as_often_as_the_product():
    clusters = Clusters.of(["a", "a", "b", "c"], ["a", "b", "b", "a"])
    weights = clusters.weights(np.array([[2, 3, 0], [1, 1, 1]]))
    assert weights.tolist() == [[2, 6, 3, 0], [1, 1, 1, 1]]


def test_weights_come_in_parts_and_are_the_same_ones(monkeypatch):
    clusters = Clusters.of([f"sub-{k % 7}" for k in range(30)])
    whole = clusters.weights(clusters.draw(20, seed=4))
    monkeypatch.setattr("hemitwin.pipeline.statistics.bootstrap._WEIGHTS_AT_ONCE", 100)
    parts = list(clusters.weights_in_parts(20, seed=4))
    assert len(parts) == 7
    assert (np.concatenate(parts) == whole).all()


def test_an_interval_leaves_out_draws_without_the_figure():
    estimate = Estimate.of(0.5, np.array([0.4, np.nan, 0.6]))
    assert (estimate.low, estimate.high) == pytest.approx((0.405, 0.595))
    assert Estimate.of(np.nan, np.array([0.4])).reason
    assert str(unavailable("too few")) == "n/a (too few)"
    assert str(Estimate(0.5, 0.25, 0.75)) == "0.500 [0.250, 0.750]"
