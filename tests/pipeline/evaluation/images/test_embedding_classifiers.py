"""Classifiers of embeddings against plain loops, and few-shot curves."""

import numpy as np
import pytest
from scipy.special import logsumexp
from sklearn.linear_model import LogisticRegression

from hemitwin.pipeline.evaluation.images.embedding_classifiers import (
    CLASSIFIERS,
    EmbeddedImages,
    class_templates,
    fit_classifier,
    medoids,
)
from hemitwin.pipeline.evaluation.images.few_shot import EmbeddedFolds, few_shot_curve
from hemitwin.pipeline.stage.errors import UserError

DIM = 6


def images(n, seed, *, spread=0.8, odds=(5, 5, 1)):
    """Draw embeddings about three directions, of any length."""
    rng = np.random.default_rng(seed)
    classes = rng.choice(3, size=n, p=np.array(odds) / sum(odds))
    classes[:3] = np.arange(3)
    centres = np.eye(3, DIM)
    rows = centres[classes] + spread * rng.normal(size=(n, DIM)) / DIM**0.5
    return EmbeddedImages(rows * rng.uniform(0.5, 5, (n, 1)), classes)


@pytest.fixture(scope="module", name="folds")
def _folds():
    return EmbeddedFolds(images(150, 0), images(80, 1), images(200, 2))


def unit(row):
    return row / np.sqrt((row**2).sum())


def mean_of(folds, k):
    train = folds.train
    return np.mean(
        [unit(r) for r, c in zip(train.embeddings, train.classes, strict=True) if c == k], 0
    )


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_every_classifier_tells_classes_apart_by_direction_alone(name, folds):
    classifier = fit_classifier(name, folds.train, folds.validation)
    found = classifier.classify(folds.test)
    assert (found.chosen == folds.test.classes).mean() > 0.85
    assert found.probabilities == (name not in {"template", "medoid"})
    assert found.scores.shape == (200, 3)
    longer = EmbeddedImages(folds.test.embeddings * 7, folds.test.classes)
    np.testing.assert_allclose(classifier.scores(longer.embeddings), found.scores, atol=1e-9)
    again = fit_classifier(name, folds.train, folds.validation).classify(folds.test)
    assert np.array_equal(again.scores, found.scores)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_single_precision_embeddings_are_taken(name, folds):
    train, validation, test = (
        EmbeddedImages(one.embeddings.astype(np.float32), one.classes)
        for one in (folds.train, folds.validation, folds.test)
    )
    found = fit_classifier(name, train, validation).classify(test)
    assert (found.chosen == folds.test.classes).mean() > 0.85


def test_a_templates_score_is_the_distance_of_a_pair(folds):
    scores = fit_classifier("template", folds.train, folds.validation).scores(
        folds.test.embeddings
    )
    for k in range(3):
        template = unit(mean_of(folds, k))
        for row in range(5):
            distance = np.sqrt(((unit(folds.test.embeddings[row]) - template) ** 2).sum())
            assert scores[row, k] == pytest.approx(-distance)
    templates = class_templates(folds.train)
    np.testing.assert_allclose((templates**2).sum(axis=1), 1)


def test_a_medoid_is_the_image_nearest_to_all_of_its_class(folds):
    rows, train = medoids(folds.train), folds.train
    for k, row in enumerate(rows.tolist()):
        members = np.flatnonzero(train.classes == k)
        own = train.unit[members]
        sums = ((own[:, None] - own[None]) ** 2).sum(axis=(1, 2))
        assert members[sums.argmin()] == row
    assert np.array_equal(class_templates(train, "medoid"), train.unit[rows])


def test_a_prototypes_temperature_is_the_likeliest_of_the_validation(folds):
    classifier = fit_classifier("prototype", folds.train, folds.validation)
    means = [mean_of(folds, k) for k in range(3)]

    def logits(rows):
        return -np.array([[((unit(r) - m) ** 2).sum() for m in means] for r in rows])

    def surprise(temperature):
        scaled = logits(folds.validation.embeddings) / temperature
        own = scaled[np.arange(len(scaled)), folds.validation.classes]
        return float(np.mean(logsumexp(scaled, axis=1) - own))

    temperature = float(classifier.setting.removeprefix("temperature = "))
    assert surprise(temperature) <= min(surprise(one) for one in np.geomspace(0.01, 3, 60)) + 1e-4
    expected = logits(folds.test.embeddings[:4]) / temperature
    expected = np.exp(expected - logsumexp(expected, axis=1, keepdims=True))
    np.testing.assert_allclose(classifier.scores(folds.test.embeddings[:4]), expected, rtol=1e-2)


@pytest.mark.parametrize(("name", "setting"), [("knn", "k"), ("logistic", "C")])
def test_settings_are_those_that_validation_likes(name, setting):
    # Labels of validation images that are those of the nearest training image: k = 1 is perfect.
    train = images(150, 0, spread=3.0)
    classifier = fit_classifier(name, train, EmbeddedImages(train.embeddings, train.classes))
    other = fit_classifier(name, train, images(80, 1, spread=3.0))
    assert classifier.setting.startswith(f"{setting} = ")
    assert classifier.setting != other.setting


def test_offsets_come_from_validation_and_raise_the_rare_classs_recall():
    train, validation, test = (
        images(n, seed, spread=1.6, odds=(10, 10, 1)) for n, seed in ((300, 0), (300, 1), (600, 2))
    )
    plain = fit_classifier("logistic", train, validation)
    balanced = fit_classifier("logistic", train, validation, "balanced_accuracy")
    assert not plain.offsets.any()
    found, moved = plain.classify(test), balanced.classify(test)
    rare = test.classes == 2
    assert (moved.chosen == 2)[rare].mean() > (found.chosen == 2)[rare].mean()
    np.testing.assert_allclose(moved.scores.sum(axis=1), 1)
    shifted = found.scores * np.exp(balanced.offsets)
    np.testing.assert_allclose(moved.scores, shifted / shifted.sum(axis=1, keepdims=True))
    distances = fit_classifier("template", train, validation, "accuracy")
    plainly = fit_classifier("template", train, validation)
    np.testing.assert_allclose(
        distances.scores(test.embeddings), plainly.scores(test.embeddings) + distances.offsets
    )


def test_a_class_without_training_images_is_refused(folds):
    two = EmbeddedImages(folds.train.embeddings, np.minimum(folds.train.classes, 1))
    with pytest.raises(UserError, match=r"must be of every class.*none of \[2\]; add images"):
        fit_classifier("template", two, folds.validation)
    gap = EmbeddedImages(folds.train.embeddings, np.where(folds.train.classes == 1, 0, 2))
    with pytest.raises(UserError, match=r"none of \[1\]; add images or leave the class out"):
        fit_classifier("knn", gap, folds.validation)
    one = EmbeddedImages(folds.train.embeddings, folds.train.classes * 0)
    with pytest.raises(UserError, match=r"of two at least; got \[150\] a class"):
        fit_classifier("logistic", one, one)


@pytest.mark.parametrize("name", ["template", "knn", "logistic"])
def test_a_few_shot_curve_rises_and_is_the_same_again(name):
    wide = EmbeddedFolds(
        *(images(n, seed, spread=1.5, odds=(2, 2, 1)) for n, seed in ((200, 0), (90, 1), (200, 2)))
    )
    curve = few_shot_curve(name, wide, shots=(1, 20), draws=4, seed=3)
    assert curve[1]["accuracy"].value < curve[20]["accuracy"].value
    for figures in curve.values():
        for estimate in figures.values():
            assert estimate.low <= estimate.value <= estimate.high
    assert few_shot_curve(name, wide, shots=(20,), draws=4, seed=3)[20] == curve[20]
    assert few_shot_curve(name, wide, shots=(20,), draws=4, seed=4)[20] != curve[20]


def test_few_shot_figures_are_of_so_many_images_a_class(folds):
    curve = few_shot_curve("template", folds, shots=(2, 1000), draws=3, seed=5)
    rng, values = np.random.default_rng([5, 2]), []
    for _ in range(3):
        rows = [
            rng.choice(np.flatnonzero(folds.train.classes == k), 2, replace=False)
            for k in range(3)
        ]
        few = folds.train.select(np.concatenate(rows))
        chosen = fit_classifier("template", few, folds.validation).classify(folds.test).chosen
        values.append((chosen == folds.test.classes).mean())
    assert curve[2]["accuracy"].value == pytest.approx(np.mean(values))
    smallest = np.bincount(folds.train.classes).min()
    expected = f"the smallest class has {smallest} training images"
    assert curve[1000]["balanced_accuracy"].reason == expected


def test_a_class_that_is_deemed_impossible_is_a_large_surprise_and_no_warning(monkeypatch):
    def certain(_, rows):
        return np.tile([1.0, 0.0], (len(rows), 1))

    monkeypatch.setattr(LogisticRegression, "predict_proba", certain)
    images = EmbeddedImages(np.array([[1.0, 0.1], [0.1, 1.0]]), np.array([0, 1]))
    assert fit_classifier("logistic", images, images).setting.startswith("C = ")
