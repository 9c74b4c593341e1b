"""Classes of images from their embeddings: templates, neighbours, prototypes, regression."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from hemitwin.pipeline.stage.errors import UserError
from hemitwin.pipeline.statistics.class_offsets import Criterion, fit_offsets
from hemitwin.pipeline.statistics.classification import Classified

__all__ = [
    "CLASSIFIERS",
    "ClassifierName",
    "EmbeddedImages",
    "EmbeddingClassifier",
    "balanced_accuracy",
    "class_templates",
    "fit_classifier",
    "medoids",
]

ClassifierName = Literal["template", "medoid", "prototype", "knn", "logistic"]
_Scores = Float[np.ndarray, "_ _"]

_NEIGHBOURS = (1, 3, 5, 9, 15, 25)
_STRENGTHS = tuple(10.0**power for power in range(-4, 4))
_COLDEST, _WARMEST = 1e-3, 1e2
_LEAST = 1e-12


@dataclass(frozen=True, eq=False)
class EmbeddedImages:
    """Embeddings of images whose classes are known.

    Parameters
    ----------
    embeddings : (n, dim) float
        As the encoder gives them; only their directions are looked at.
    classes : (n,) int
        From 0.
    """

    embeddings: Float[np.ndarray, " n dim"]
    classes: Int[np.ndarray, " n"]

    @property
    def unit(self) -> Float[np.ndarray, " n dim"]:
        """The embeddings at length 1."""
        return _unit(self.embeddings)

    def select(self, rows: Int[np.ndarray, " m"]) -> "EmbeddedImages":
        """Return some of them."""
        return EmbeddedImages(self.embeddings[rows], self.classes[rows])


class EmbeddingClassifier(ABC):
    """What tells an image's class from its embedding.

    Parameters
    ----------
    train : EmbeddedImages
        Some of every class.
    validation : EmbeddedImages
        What settings are chosen by.

    Attributes
    ----------
    classes : int
        How many there are.
    probabilities : bool
        Whether the scores are probabilities.
    setting : str
        What was chosen by the validation images; empty where nothing is.
    offsets : (classes,) float
        Added to the scores, or to the logarithms of the probabilities, before the highest is
        taken: what `fit_offsets` gives, else 0.
    """

    probabilities: ClassVar[bool] = True

    def __init__(self, train: EmbeddedImages, validation: EmbeddedImages) -> None:
        counts = np.bincount(train.classes)
        beyond = np.setdiff1d(validation.classes, np.flatnonzero(counts))
        if not counts.all() or counts.size < 2 or beyond.size:
            missing = sorted({*np.flatnonzero(counts == 0).tolist(), *beyond.tolist()})
            msg = (
                f"the training images must be of every class, of two at least; got "
                f"{counts.tolist()} a class, none of {missing}; add images or leave the class out"
            )
            raise UserError(msg)
        self.classes = int(counts.size)
        self.setting = ""
        self.offsets = np.zeros(self.classes)
        self._fit(train, validation)

    @abstractmethod
    def _fit(self, train: EmbeddedImages, validation: EmbeddedImages) -> None:
        """Keep what is needed of the training images; choose the setting."""

    @abstractmethod
    def _scores(self, unit: Float[np.ndarray, " m dim"]) -> _Scores:
        """Score embeddings of length 1."""

    def scores(self, embeddings: Float[np.ndarray, " m dim"]) -> _Scores:
        """Score each class for each image, offsets included.

        Parameters
        ----------
        embeddings : (m, dim) float
            As the encoder gives them.

        Returns
        -------
        (m, classes) float
            Probabilities, or scores of which the highest is the class.
        """
        scores = self._scores(_unit(embeddings))
        if not self.offsets.any():
            return scores
        if not self.probabilities:
            return scores + self.offsets
        return np.asarray(softmax(np.log(scores.clip(min=_LEAST)) + self.offsets, axis=1))

    def classify(self, images: EmbeddedImages) -> Classified:
        """Return what is said of images whose classes are known."""
        scores = self.scores(images.embeddings)
        return Classified(images.classes, scores, scores.argmax(axis=1), self.probabilities)


class _Templates(EmbeddingClassifier):
    """The nearest class template; the score is its distance, negative."""

    probabilities = False
    kind: ClassVar[Literal["mean", "medoid"]] = "mean"

    def _fit(self, train: EmbeddedImages, validation: EmbeddedImages) -> None:
        del validation
        self.templates = class_templates(train, self.kind)

    def _scores(self, unit: Float[np.ndarray, " m dim"]) -> _Scores:
        return -_distances(unit, self.templates)


class _Medoids(_Templates):
    """The nearest of one image a class."""

    kind = "medoid"


class _Prototypes(EmbeddingClassifier):
    """Softmax over the squared distances to the class means, over a temperature."""

    def _fit(self, train: EmbeddedImages, validation: EmbeddedImages) -> None:
        self._means = _class_means(train.unit, train.classes)
        squares = _distances(validation.unit, self._means) ** 2

        def surprise(log_temperature: float) -> float:
            logs = log_softmax(-squares / np.exp(log_temperature), axis=1)
            return float(-logs[np.arange(len(logs)), validation.classes].mean())

        bounds = (np.log(_COLDEST), np.log(_WARMEST))
        best = minimize_scalar(surprise, bounds=bounds, method="bounded")
        self._temperature = float(np.exp(best.x))
        self.setting = f"temperature = {self._temperature:.3g}"

    def _scores(self, unit: Float[np.ndarray, " m dim"]) -> _Scores:
        squares = _distances(unit, self._means) ** 2
        return np.asarray(softmax(-squares / self._temperature, axis=1))


class _Neighbours(EmbeddingClassifier):
    """Votes of the nearest training images, each weighing 1 / distance."""

    def _fit(self, train: EmbeddedImages, validation: EmbeddedImages) -> None:
        fitted = [
            KNeighborsClassifier(k, weights="distance", algorithm="brute").fit(
                train.unit, train.classes
            )
            for k in _NEIGHBOURS
            if k <= len(train.classes)
        ]
        right = [
            balanced_accuracy(validation.classes, model.predict(validation.unit))
            for model in fitted
        ]
        self._model = fitted[int(np.argmax(right))]
        self.setting = f"k = {self._model.n_neighbors}"

    def _scores(self, unit: Float[np.ndarray, " m dim"]) -> _Scores:
        return np.asarray(self._model.predict_proba(unit))


class _Logistic(EmbeddingClassifier):
    """Multinomial logistic regression with a quadratic penalty."""

    def _fit(self, train: EmbeddedImages, validation: EmbeddedImages) -> None:
        # Entries of a unit vector are about dim^-1/2; the penalty wants inputs of about 1.
        self._scale = train.embeddings.shape[1] ** 0.5
        fitted = [
            LogisticRegression(C=strength, max_iter=5000).fit(
                train.unit * self._scale, train.classes
            )
            for strength in _STRENGTHS
        ]
        rows = np.arange(len(validation.classes))
        # The library's own logarithm warns of a probability of 0, which a weak penalty leaves.
        known = validation.unit * self._scale
        surprise = [
            -np.log(model.predict_proba(known)[rows, validation.classes].clip(min=_LEAST)).mean()
            for model in fitted
        ]
        self._model = fitted[int(np.argmin(surprise))]
        self.setting = f"C = {self._model.C:g}"

    def _scores(self, unit: Float[np.ndarray, " m dim"]) -> _Scores:
        return np.asarray(self._model.predict_proba(unit * self._scale))


_KINDS: Mapping[
    ClassifierName, Callable[[EmbeddedImages, EmbeddedImages], EmbeddingClassifier]
] = MappingProxyType(
    {
        "template": _Templates,
        "medoid": _Medoids,
        "prototype": _Prototypes,
        "knn": _Neighbours,
        "logistic": _Logistic,
    }
)

CLASSIFIERS = tuple(_KINDS)
"""Names of the classifiers."""


def fit_classifier(
    name: ClassifierName,
    train: EmbeddedImages,
    validation: EmbeddedImages,
    criterion: Criterion | None = None,
) -> EmbeddingClassifier:
    """Fit a classifier of embeddings to the training images; choose by the validation images.

    Parameters
    ----------
    name : {'template', 'medoid', 'prototype', 'knn', 'logistic'}
        template: the nearest class mean of the normalised embeddings, itself normalised; medoid:
        the nearest of one training image a class, see `medoids`. prototype:
        softmax over -|a^ - mean|^2 / T of the class means (Snell et al. 2017, arXiv:1703.05175),
        the temperature T of the lowest validation cross-entropy. knn: the nearest k training
        images, each voting with 1 / distance, k of the highest balanced validation accuracy.
        logistic: multinomial regression, its penalty 1 / C of the lowest validation cross-entropy.
    train, validation : EmbeddedImages
        Never of the test's. Every class must be among the training images.
    criterion : {'accuracy', 'balanced_accuracy'}, optional
        Also choose the `offsets` of the classes by it, see `fit_offsets`.

    Returns
    -------
    EmbeddingClassifier
        Of the kind asked for.

    Raises
    ------
    UserError
        Some class has no training image, or there is one class alone.

    Examples
    --------
    >>> images = EmbeddedImages(np.array([[1.0, 0.1], [0.1, 1.0]]), np.array([0, 1]))
    >>> fit_classifier("template", images, images).classify(images).chosen.tolist()
    [0, 1]
    """
    classifier = _KINDS[name](train, validation)
    if criterion is not None:
        scores = classifier.scores(validation.embeddings)
        if classifier.probabilities:
            scores = np.log(scores.clip(min=_LEAST))
        classifier.offsets = fit_offsets(scores, validation.classes, criterion)
    return classifier


def class_templates(
    train: EmbeddedImages, kind: Literal["mean", "medoid"] = "mean"
) -> Float[np.ndarray, " classes dim"]:
    """Return an embedding of length 1 that stands for each class.

    Parameters
    ----------
    train : EmbeddedImages
        Some of every class.
    kind : {'mean', 'medoid'}
        The normalised mean of the normalised embeddings; or one image's, see `medoids`.

    Returns
    -------
    (classes, dim) float
        Distances to them are those of a pair of images, 0 to 2.
    """
    if kind == "mean":
        return _unit(_class_means(train.unit, train.classes))
    return np.asarray(train.unit[medoids(train)])


def medoids(train: EmbeddedImages) -> Int[np.ndarray, " classes"]:
    """Return the row of the image that stands for each class.

    Its squared distances to all others of the class have the smallest sum, so that it is the one
    nearest to their mean.

    Examples
    --------
    >>> rows = np.array([[1.0, 0.0], [1.0, 0.2], [1.0, 1.0], [0.0, 1.0]])
    >>> medoids(EmbeddedImages(rows, np.array([0, 0, 0, 1]))).tolist()
    [1, 3]
    """
    away = _distances(train.unit, _class_means(train.unit, train.classes))
    count = away.shape[1]
    own = np.where(train.classes[:, None] == np.arange(count), away, np.inf)
    return np.asarray(own.argmin(axis=0))


def balanced_accuracy(labels: Int[np.ndarray, " n"], chosen: Int[np.ndarray, " n"]) -> float:
    """Return the mean share that is called right of each class that is there.

    Examples
    --------
    >>> balanced_accuracy(np.array([0, 0, 1]), np.array([0, 2, 1]))
    0.75
    """
    counts = np.bincount(labels)
    right = np.bincount(labels[labels == chosen], minlength=counts.size)
    return float((right[counts > 0] / counts[counts > 0]).mean())


def _unit(embeddings: Float[np.ndarray, " n dim"]) -> Float[np.ndarray, " n dim"]:
    rows = np.asarray(embeddings, dtype=float)
    lengths = np.asarray(np.linalg.norm(rows, axis=1, keepdims=True))
    return np.asarray(rows / lengths.clip(min=_LEAST))


def _class_means(
    unit: Float[np.ndarray, " n dim"], classes: Int[np.ndarray, " n"]
) -> Float[np.ndarray, " classes dim"]:
    member = np.eye(int(classes.max()) + 1)[classes]
    return np.asarray(member.T @ unit / member.sum(axis=0)[:, None])


def _distances(
    rows: Float[np.ndarray, " n dim"], columns: Float[np.ndarray, " m dim"]
) -> Float[np.ndarray, " n m"]:
    squares = (rows**2).sum(1)[:, None] + (columns**2).sum(1)[None] - 2 * rows @ columns.T
    return np.asarray(np.sqrt(squares.clip(min=0)))
