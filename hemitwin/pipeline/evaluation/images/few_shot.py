"""How well a few training images of each class do."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hemitwin.pipeline.evaluation.images.embedding_classifiers import (
    ClassifierName,
    EmbeddedImages,
    balanced_accuracy,
    fit_classifier,
)
from hemitwin.pipeline.statistics.bootstrap import Estimate, unavailable

__all__ = ["EmbeddedFolds", "few_shot_curve"]

_FIGURES = ("accuracy", "balanced_accuracy")


@dataclass(frozen=True, eq=False)
class EmbeddedFolds:
    """Embeddings of the three folds, no subject in two of them.

    Parameters
    ----------
    train, validation, test : EmbeddedImages
        What is learnt from, chosen by and judged on.
    """

    train: EmbeddedImages
    validation: EmbeddedImages
    test: EmbeddedImages


def few_shot_curve(
    name: ClassifierName,
    folds: EmbeddedFolds,
    *,
    shots: Sequence[int] = (5, 10, 20),
    draws: int = 20,
    seed: int = 0,
) -> dict[int, dict[str, Estimate]]:
    """Return how well a few training images of each class do, over repeated draws of them.

    Parameters
    ----------
    name : {'template', 'medoid', 'prototype', 'knn', 'logistic'}
        See `fit_classifier`.
    folds : EmbeddedFolds
        Training images are drawn without replacement; all validation images choose the settings,
        and all test images judge, in every draw.
    shots : sequence of int
        Images a class.
    draws : int
        How often each number is drawn.
    seed : int
        Of the draws.

    Returns
    -------
    dict of int to dict of str to Estimate
        By the number of images: mean ``accuracy`` and ``balanced_accuracy``, with the 2.5th and
        97.5th percentiles over the draws of training images (the test images are the same ones);
        NaN with the reason where a class has not so many.

    Raises
    ------
    UserError
        As `fit_classifier` does.
    """
    smallest = int(np.bincount(folds.train.classes).min())
    curve: dict[int, dict[str, Estimate]] = {}
    for count in shots:
        if count > smallest:
            few = unavailable(f"the smallest class has {smallest} training images")
            curve[count] = dict.fromkeys(_FIGURES, few)
            continue
        # Each number has its own stream, so that asking for others changes nothing.
        rng = np.random.default_rng([seed, count])
        found = np.array([_accuracies(name, folds, count, rng) for _ in range(draws)])
        curve[count] = {
            figure: Estimate.of(float(found[:, column].mean()), found[:, column])
            for column, figure in enumerate(_FIGURES)
        }
    return curve


def _accuracies(
    name: ClassifierName, folds: EmbeddedFolds, count: int, rng: np.random.Generator
) -> tuple[float, float]:
    classes = folds.train.classes
    rows = [
        rng.choice(np.flatnonzero(classes == k), count, replace=False)
        for k in range(int(classes.max()) + 1)
    ]
    few = folds.train.select(np.concatenate(rows))
    found = fit_classifier(name, few, folds.validation).classify(folds.test)
    right = float((found.labels == found.chosen).mean())
    return right, balanced_accuracy(found.labels, found.chosen)
