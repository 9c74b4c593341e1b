import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from hemitwin.pipeline.statistics.metrics import auc, auc_with_interval, rates_at, youden_threshold
from hemitwin.pipeline.training.sources.whole_brains import mean_hinge


def _cohort(n_subjects=12, per_subject=4, gap=1.0, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.tile(np.arange(per_subject + 1) > 0, n_subjects)
    subjects = np.repeat([f"sub-{k}" for k in range(n_subjects)], per_subject + 1)
    own = np.repeat(rng.normal(size=n_subjects), per_subject + 1)
    return labels, own + gap * labels + 0.5 * rng.normal(size=labels.size), list(subjects)


def _bootstrap_by_hand(labels, scores, subjects, draws, seed):
    """Redraw subjects one after the other and let scikit-learn compute each area."""
    names = sorted(set(subjects))
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws)
    areas = []
    for weight in weights:
        rows = [
            k
            for name, times in zip(names, weight, strict=True)
            for _ in range(times)
            for k in np.flatnonzero(np.array(subjects) == name)
        ]
        areas.append(roc_auc_score(labels[rows], scores[rows]))
    return np.quantile(areas, [0.025, 0.975])


def test_the_interval_is_the_bootstrap_over_subjects():
    labels, scores, subjects = _cohort()
    estimate = auc_with_interval(labels, scores, subjects, draws=200, seed=3)
    low, high = _bootstrap_by_hand(labels, scores, subjects, 200, 3)
    assert estimate.value == pytest.approx(roc_auc_score(labels, scores))
    assert (estimate.low, estimate.high) == pytest.approx((low, high))


def test_ties_count_one_half():
    labels = np.array([False, True] * 4)
    subjects = [f"s{k // 2}" for k in range(8)]
    estimate = auc_with_interval(labels, np.zeros(8), subjects)
    assert (estimate.value, estimate.low, estimate.high) == (0.5, 0.5, 0.5)


def test_one_class_or_a_score_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="both classes"):
        auc_with_interval(np.array([True, True]), np.array([0.1, 0.2]), ["a", "b"])
    with pytest.raises(ValueError, match="finite"):
        auc_with_interval(np.array([True, False]), np.array([np.nan, 0.2]), ["a", "b"])


@given(
    scores=st.lists(st.floats(min_value=0, max_value=1), min_size=4, max_size=30),
    seed=st.integers(min_value=0, max_value=99),
)
def test_no_threshold_beats_youdens(scores, seed):
    values = np.array(scores)
    labels = np.random.default_rng(seed).random(values.size) > 0.5
    labels[0], labels[1] = True, False
    best = rates_at(youden_threshold(labels, values), labels, values)["balanced_accuracy"]
    if np.unique(values).size > 1:
        gaps = np.unique(values)
        others = (gaps[:-1] + gaps[1:]) / 2
        rates = [rates_at(t, labels, values)["balanced_accuracy"] for t in others]
        assert best >= max(rates) - 1e-12  # equal sums, added in another order


def _youden_by_hand(labels, scores):
    """Hold every score against every threshold: what the fast way must give to the last bit."""
    ordered = np.unique(scores)
    if ordered.size == 1:
        return float(ordered[0])
    candidates = (ordered[:-1] + ordered[1:]) / 2
    above = scores[None] > candidates[:, None]
    gain = above[:, labels].mean(1) - above[:, ~labels].mean(1)
    return float(candidates[int(np.argmax(gain))])


@given(
    scores=st.lists(
        st.sampled_from([0.0, 0.1, 0.2, 0.3]) | st.floats(-1e3, 1e3), min_size=2, max_size=40
    ),
    seed=st.integers(0, 99),
    single=st.booleans(),
)
def test_youdens_threshold_is_that_of_holding_all_against_all(scores, seed, single):
    values = np.array(scores, dtype=np.float32 if single else np.float64)
    labels = np.random.default_rng(seed).random(values.size) > 0.5
    labels[0], labels[1] = True, False
    assert youden_threshold(labels, values) == _youden_by_hand(labels, values)


def test_neighbouring_scores_have_no_place_between_them():
    values = np.array([1.0, np.nextafter(1.0, 2.0), 2.0])
    labels = np.array([False, True, True])
    assert youden_threshold(labels, values) == _youden_by_hand(labels, values)


def _peak_mb(work):
    tracemalloc.start()
    work()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak / 1e6


def test_two_hundred_thousand_scores_need_little_memory():
    rng = np.random.default_rng(0)
    labels = rng.random(200_000) > 0.7
    scores = rng.normal(size=labels.size) + labels
    assert _peak_mb(lambda: youden_threshold(labels, scores)) < 50
    assert _peak_mb(lambda: mean_hinge(scores, labels, 0.5)) < 50
    assert youden_threshold(labels, scores) == pytest.approx(0.5, abs=0.05)


@given(
    scores=st.lists(st.floats(-10, 10), min_size=2, max_size=30),
    margin=st.floats(0, 3),
    seed=st.integers(0, 99),
)
def test_the_mean_hinge_is_that_of_every_two_pairs(scores, margin, seed):
    values = np.array(scores)
    labels = np.random.default_rng(seed).random(values.size) > 0.5
    labels[0], labels[1] = True, False
    gaps = values[labels][:, None] - values[~labels][None]
    expected = np.maximum(0.0, margin - gaps).mean()
    assert mean_hinge(values, labels, margin) == pytest.approx(expected, abs=1e-9)


def test_an_area_without_an_interval_draws_nothing(monkeypatch):
    labels, scores, subjects = _cohort()
    expected = auc_with_interval(labels, scores, subjects, draws=10).value
    monkeypatch.setattr(np.random, "default_rng", None)
    assert auc(labels, scores) == expected


def test_rates_are_what_they_say():
    labels = np.array([True, True, False, False])
    rates = rates_at(0.5, labels, np.array([0.9, 0.1, 0.6, 0.2]))
    assert rates == {"sensitivity": 0.5, "specificity": 0.5, "balanced_accuracy": 0.5}
