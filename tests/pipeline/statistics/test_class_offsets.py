"""Offsets of classes against trying all that can make a difference."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hemitwin.pipeline.evaluation.images.embedding_classifiers import balanced_accuracy
from hemitwin.pipeline.statistics.class_offsets import fit_offsets


def _scores(n, classes, seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    labels[:classes] = np.arange(classes)
    return rng.normal(size=(n, classes)) + np.eye(classes)[labels], labels


def _accuracy(labels, chosen):
    return float((labels == chosen).mean())


MEASURES = {"accuracy": _accuracy, "balanced_accuracy": balanced_accuracy}


@given(n=st.integers(6, 25), seed=st.integers(0, 999), criterion=st.sampled_from([*MEASURES]))
@settings(max_examples=30, deadline=None)
def test_no_threshold_between_two_classes_is_better(n, seed, criterion):
    scores, labels = _scores(n, 2, seed)
    measure = MEASURES[criterion]
    offsets = fit_offsets(scores, labels, criterion)
    gaps = np.sort(scores[:, 0] - scores[:, 1])
    places = np.concatenate([[gaps[0] - 1], (gaps[1:] + gaps[:-1]) / 2, [gaps[-1] + 1]])
    best = max(measure(labels, (scores + np.array([0, one])).argmax(axis=1)) for one in places)
    assert measure(labels, (scores + offsets).argmax(axis=1)) == pytest.approx(best)


@pytest.mark.parametrize("criterion", MEASURES)
def test_with_more_classes_no_step_of_one_is_better(criterion):
    scores, labels = _scores(40, 4, 3)
    measure = MEASURES[criterion]
    offsets = fit_offsets(scores, labels, criterion)
    reached = measure(labels, (scores + offsets).argmax(axis=1))
    assert reached > measure(labels, scores.argmax(axis=1))
    for k, step in itertools.product(range(4), np.linspace(-4, 4, 201)):
        moved = offsets + step * np.eye(4)[k]
        assert measure(labels, (scores + moved).argmax(axis=1)) <= reached + 1e-9


def test_where_nothing_is_gained_nothing_is_changed():
    labels = np.array([0, 1, 2] * 4)
    assert fit_offsets(np.eye(3)[labels], labels).tolist() == [0, 0, 0]


def test_a_rare_class_is_called_sooner_for_the_balanced_accuracy():
    rng = np.random.default_rng(0)
    labels = np.array([0] * 200 + [1] * 20)
    odds = np.log([200 / 220, 20 / 220])  # as a classifier of the natural frequencies says
    scores = odds + rng.normal(size=(220, 2)) + 1.5 * np.eye(2)[labels]
    low, high = (fit_offsets(scores, labels, one) for one in ("accuracy", "balanced_accuracy"))
    assert high[1] - high[0] > low[1] - low[0]
    called = (scores + high).argmax(axis=1)
    before = scores.argmax(axis=1)
    assert (called == 1)[labels == 1].mean() > (before == 1)[labels == 1].mean()
