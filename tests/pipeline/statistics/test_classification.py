"""Figures of several classes against scikit-learn's, in each bootstrap draw."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    brier_score_loss,
    confusion_matrix,
    f1_score,
    precision_recall_fscore_support,
    roc_auc_score,
)

from hemitwin.pipeline.statistics.bootstrap import Clusters
from hemitwin.pipeline.statistics.classification import (
    BINS,
    BY_CLASS,
    CALIBRATION,
    OVERALL,
    Classified,
    _figure_draws,
    class_figures,
    figure_differences,
)

CLASSES = 3


def classified(n=120, seed=0, *, gap=1.0, classes=CLASSES):
    """Classify with some skill; the last class is rare and called from a lower score on."""
    rng = np.random.default_rng(seed)
    odds = np.array([*[5.0] * (classes - 1), 1.0])
    labels = rng.choice(classes, size=n, p=odds / odds.sum())
    labels[:classes] = np.arange(classes)
    logits = rng.normal(size=(n, classes)) + gap * np.eye(classes)[labels]
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    scores = np.round(scores, 2)  # ties
    scores[:, 0] += 1 - scores.sum(axis=1)
    chosen = np.argmax(scores + np.array([*[0.0] * (classes - 1), 0.2]), axis=1)
    return Classified(labels, scores, chosen, probabilities=True)


def patients(n=120, people=15, seed=0):
    return Clusters.of([f"sub-{k}" for k in np.random.default_rng(seed).integers(0, people, n)])


def rows_of(found, times):
    return (np.repeat(one, times, axis=0) for one in (found.labels, found.scores, found.chosen))


def mcclish(partial):
    """Standardise as McClish does: 0.5 for chance, 1 for a perfect ranking."""
    return (partial + 0.8) / 1.8


def calibration_by_hand(labels, scores, chosen):
    gaps, count = 0.0, len(labels)
    for k in range(BINS):
        inside = [
            (bool(a == c), row[c])
            for a, c, row in zip(labels, chosen, scores, strict=True)
            if k / BINS < round(row[c], 9) <= (k + 1) / BINS
        ]
        if inside:
            right, confidence = np.array(inside, dtype=float).T
            gaps += len(inside) / count * abs(right.mean() - confidence.mean())
    return gaps


def test_a_weighted_figure_is_scikit_learns_of_the_repeated_images():
    found, clusters = classified(), patients()
    times = clusters.draw(4, seed=1)
    figures = _figure_draws(found, clusters.weights(times))
    for draw, row in enumerate(times[:, clusters.first]):
        labels, scores, chosen = rows_of(found, row)
        overall = {
            "accuracy": accuracy_score(labels, chosen),
            "balanced_accuracy": balanced_accuracy_score(labels, chosen),
            "macro_f1": f1_score(labels, chosen, average="macro"),
            "macro_auc": roc_auc_score(labels, scores, multi_class="ovr"),
            "brier": brier_score_loss(labels, scores),
            "calibration_error": calibration_by_hand(labels, scores, chosen),
        }
        for name, expected in overall.items():
            assert figures[name][draw, 0] == pytest.approx(expected), name
        precision, recall, f1, _ = precision_recall_fscore_support(labels, chosen)
        for name, expected in (("precision", precision), ("recall", recall), ("f1", f1)):
            assert figures[name][draw] == pytest.approx(expected), name
        for k in range(CLASSES):
            one, rest = labels == k, scores[:, k]
            assert figures["auc"][draw, k] == pytest.approx(roc_auc_score(one, rest))
            # scikit-learn bounds the false positives: of the other class, those are the misses.
            standardised = roc_auc_score(~one, -rest, max_fpr=0.2)
            assert mcclish(figures["partial_auc"][draw, k]) == pytest.approx(standardised)


def test_intervals_are_percentiles_of_the_draws_of_patients():
    found, clusters = classified(), patients()
    figures = class_figures(found, clusters, draws=150, seed=3)
    assert set(figures.overall) == {*OVERALL, *CALIBRATION}
    assert [set(one) for one in figures.by_class] == [set(BY_CLASS)] * CLASSES
    values = []
    for row in clusters.draw(150, seed=3)[:, clusters.first]:
        labels, _, chosen = rows_of(found, row)
        values.append(accuracy_score(labels, chosen))
    estimate = figures.overall["accuracy"]
    assert estimate.value == pytest.approx(accuracy_score(found.labels, found.chosen))
    low, high = np.quantile(values, [0.025, 0.975])
    assert (estimate.low, estimate.high) == pytest.approx((low, high))
    for name, one in {**figures.overall, **figures.by_class[2]}.items():
        assert one.low <= one.high, name


def test_the_confusion_matrix_has_a_row_a_class():
    found = classified()
    figures = class_figures(found, patients(), draws=10)
    assert (figures.confusion == confusion_matrix(found.labels, found.chosen)).all()


def test_bins_say_how_often_the_confident_are_right():
    # Two images at 0.95, one of them right; one at exactly 0.5, which belongs to (0.4, 0.5].
    scores = np.array([[0.95, 0.05], [0.05, 0.95], [0.5, 0.5]])
    found = Classified(np.array([0, 0, 0]), scores, np.array([0, 1, 0]), probabilities=True)
    figures = class_figures(found, Clusters.of(["a", "b", "c"]), draws=50)
    half, sure = figures.reliability
    assert (half.low, half.high, half.images, half.accuracy.value) == (0.4, 0.5, 1, 1.0)
    assert (sure.low, sure.high, sure.images, sure.accuracy.value) == (0.9, 1.0, 2, 0.5)
    assert sure.confidence == pytest.approx(0.95)
    assert figures.overall["calibration_error"].value == pytest.approx((0.5 + 2 * 0.45) / 3)


@given(seed=st.integers(0, 99), classes=st.integers(2, 5))
@settings(max_examples=15, deadline=None)
def test_figures_lie_where_they_can_and_knowing_all_is_best(seed, classes):
    found = classified(n=40, seed=seed, classes=classes)
    weights = patients(40, 6, seed).weights(patients(40, 6, seed).draw(5, seed))
    for name, values in _figure_draws(found, weights).items():
        known = values[~np.isnan(values)]
        assert (known >= -1e-12).all(), name
        assert (known <= (2 if name == "brier" else 1) + 1e-12).all(), name
    perfect = Classified(found.labels, np.eye(classes)[found.labels], found.labels, True)
    figures = class_figures(perfect, patients(40), draws=5)
    best = dict.fromkeys(OVERALL, 1.0) | dict.fromkeys(CALIBRATION, 0.0)
    assert {name: one.value for name, one in figures.overall.items()} == pytest.approx(best)


def test_a_guess_that_is_the_same_for_all_is_worth_nothing():
    labels = np.array([0, 1, 2] * 10)
    found = Classified(labels, np.full((30, 3), 1 / 3), np.zeros(30, dtype=int), True)
    figures = class_figures(found, patients(30), draws=20)
    first, second, _ = figures.by_class
    assert first["auc"].value == 0.5
    assert first["partial_auc"].value == pytest.approx(0.1)
    assert figures.overall["balanced_accuracy"].value == pytest.approx(1 / 3)
    assert figures.overall["calibration_error"].value == pytest.approx(0)
    assert np.isnan(second["precision"].value)
    assert str(second["precision"]) == "n/a (no image is called this class)"


def test_a_class_without_images_is_said_and_left_out_of_the_means():
    found = Classified(
        np.array([0, 0, 1, 1]), -np.ones((4, 3)), np.array([0, 0, 1, 0]), probabilities=False
    )
    figures = class_figures(found, Clusters.of(list("abcd")), draws=20)
    assert figures.by_class[2]["recall"].reason == "no image is of this class"
    assert figures.overall["balanced_accuracy"].value == 0.75
    assert set(figures.overall) == set(OVERALL)
    assert figures.reliability == ()


def test_scores_that_are_no_probabilities_rank_by_their_lead():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, 60)
    leads = rng.normal(size=(60, CLASSES)) + np.eye(CLASSES)[labels]
    far = 100 * rng.normal(size=(60, 1))  # from all classes alike: of no meaning
    chosen = leads.argmax(axis=1)
    found = Classified(labels, leads + far, chosen, probabilities=False)
    figures = class_figures(found, patients(60), draws=10)
    for k in range(CLASSES):
        lead = leads[:, k] - np.delete(leads, k, axis=1).max(axis=1)
        expected = roc_auc_score(labels == k, lead)
        assert figures.by_class[k]["auc"].value == pytest.approx(expected)
        assert expected > 0.6
    tied = Classified(labels[:1], np.ones((1, CLASSES)), labels[:1], probabilities=False)
    assert tied.ranking.tolist() == [[0.0] * CLASSES]


def test_two_classifiers_are_compared_in_the_same_draws():
    found, other, clusters = classified(gap=2.0), classified(gap=0.5), patients()
    overall, by_class = figure_differences(found, other, clusters, draws=60, seed=2)
    one, minus = (class_figures(each, clusters, draws=60, seed=2) for each in (found, other))
    for name in OVERALL:
        expected = one.overall[name].value - minus.overall[name].value
        assert overall[name].value == pytest.approx(expected)
    assert 0 < overall["accuracy"].low < overall["accuracy"].high
    expected = one.by_class[2]["recall"].value - minus.by_class[2]["recall"].value
    assert by_class[2]["recall"].value == pytest.approx(expected)
    same, _ = figure_differences(found, found, clusters, draws=20)
    assert (same["accuracy"].low, same["accuracy"].high) == (0, 0)


def test_what_does_not_belong_together_is_refused():
    labels, scores = np.array([0, 1]), np.eye(2)
    with pytest.raises(ValueError, match=r"of the same images.*got 1, 2 and 2; give one of each"):
        Classified(labels[:1], scores, labels, probabilities=True)
    with pytest.raises(ValueError, match=r"numbered from 0 to 1.*got 0 to 2; number them"):
        Classified(labels * 2, scores, labels, probabilities=True)
    with pytest.raises(ValueError, match=r"must be finite; those of 1 images are not"):
        Classified(labels, scores * [[np.nan, 1], [1, 1]], labels, probabilities=False)
    with pytest.raises(ValueError, match=r"add up to 1; got.*set probabilities=False"):
        Classified(labels, 2 * scores, labels, probabilities=True)
    with pytest.raises(ValueError, match=r"at least two classes; got scores of 1"):
        Classified(labels * 0, scores[:, :1], labels * 0, probabilities=False)
    found = Classified(labels, scores, labels, probabilities=True)
    with pytest.raises(ValueError, match=r"every image must have its group; got 3 for 2"):
        class_figures(found, Clusters.of(["a", "b", "c"]))
    turned = Classified(labels[::-1], scores, labels, probabilities=True)
    with pytest.raises(ValueError, match=r"must have seen the same images.*sort both alike"):
        figure_differences(found, turned, Clusters.of(["a", "b"]))


def test_ten_thousand_images_take_seconds():
    found, clusters = classified(n=10_000), patients(10_000, 800)
    figures = class_figures(found, clusters, draws=40)
    assert figures.overall["accuracy"].high - figures.overall["accuracy"].low < 0.05
