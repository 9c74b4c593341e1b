"""Whether a class can be told without looking: by an image's size, kind or origin alone."""

import logging
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from sklearn.tree import DecisionTreeClassifier

from hemitwin.pipeline.images.image_set import ImageSet

__all__ = ["Shortcut", "find_shortcuts"]

logger = logging.getLogger(__name__)

_ATTRIBUTES = {
    "size": ("width", "height"),
    "mode": ("mode",),
    "format": ("format",),
    "origin": ("origin",),
}
_PARTS = 5
_SDS = 3.1
_RELEVANT = 0.1
_MOST_VALUES = 50
_LEAVES = 16
_SHOWN = 3


@dataclass(frozen=True)
class Shortcut:
    """A class that is told by what a file is, and not by what it shows.

    Parameters
    ----------
    attribute : str
        ``size``, ``mode``, ``format`` or ``origin``.
    balanced_accuracy : float
        Of images of groups that the rule was not learnt from.
    chance : float
        What guessing gives: one over the number of classes.
    bound : float
        What guessing exceeds once in a thousand sets, with groups for the count.
    finding : str
        In words.
    """

    attribute: str
    balanced_accuracy: float
    chance: float
    bound: float
    finding: str


def find_shortcuts(images: ImageSet) -> tuple[Shortcut, ...]:
    """Ask of each attribute how well it tells the classes, by cross-validation over groups.

    A small decision tree sees the attribute and no pixel. It is told, and logged as a warning,
    where its balanced accuracy is above the bound of guessing and above chance by a tenth of what
    lies between chance and certainty. A network may then learn the attribute, whose traces are in
    the pixels (sharpness, compression, borders), for the class.

    Parameters
    ----------
    images : ImageSet
        Of all folds. A class with fewer than two groups is not asked about.

    Returns
    -------
    tuple of Shortcut
        Those found, the strongest first; empty where there is none, or none to be looked for.
    """
    table = images.table[images.table["label"] != ""]
    counts = table.groupby("label")["group"].nunique()
    table = table[table["label"].map(counts) >= 2].reset_index(drop=True)
    if table["label"].nunique() < 2:
        return ()
    parts = _parts(table, min(_PARTS, int(counts[counts >= 2].min())))
    found = []
    for attribute, columns in _ATTRIBUTES.items():
        values = _values(table[list(columns)])
        if (values == values[0]).all():
            continue
        guessed = _guessed(values, table["label"].to_numpy(dtype=str), parts)
        shortcut = _judged(table, attribute, guessed)
        if shortcut is not None:
            found.append(shortcut)
            logger.warning("%s", shortcut.finding)
    return tuple(sorted(found, key=lambda one: -one.balanced_accuracy))


def _parts(table: pd.DataFrame, count: int) -> Int[np.ndarray, " images"]:
    """Deal groups to parts in turn, class by class, in an order that their names do not give."""
    first = table.groupby("group", sort=True)["label"].first()
    order = np.random.default_rng(0).permutation(len(first))
    dealt = first.iloc[order].sort_values(kind="stable")
    part_of = pd.Series(np.arange(len(dealt)) % count, index=dealt.index)
    return table["group"].map(part_of).to_numpy(dtype=np.int64)


def _values(columns: pd.DataFrame) -> Float[np.ndarray, "images values"]:
    """Return numbers as they are, with their ratio, and a column for each frequent text."""
    if len(columns.columns) == 2:
        width, height = columns.to_numpy(dtype=np.float64).T
        return np.column_stack([width, height, width / height])
    text = columns.iloc[:, 0]
    frequent = text.value_counts().index[:_MOST_VALUES]
    return np.column_stack([text == value for value in frequent]).astype(np.float64)


def _guessed(
    values: Float[np.ndarray, "images values"],
    labels: np.ndarray,
    parts: Int[np.ndarray, " images"],
) -> np.ndarray:
    guessed = labels.copy()
    for part in np.unique(parts):
        out = parts == part
        tree = DecisionTreeClassifier(
            class_weight="balanced", max_leaf_nodes=_LEAVES, random_state=0
        )
        guessed[out] = tree.fit(values[~out], labels[~out]).predict(values[out])
    return guessed


def _judged(table: pd.DataFrame, attribute: str, guessed: np.ndarray) -> Shortcut | None:
    labels = table["label"].to_numpy(dtype=str)
    classes = np.unique(labels)
    recalls = [float((guessed[labels == name] == name).mean()) for name in classes]
    accuracy, chance = float(np.mean(recalls)), 1 / len(classes)
    # Guesses that know nothing of the class name it as often in every class: their mean recall is
    # chance, and each recall varies as a share of as many groups.
    groups = table.groupby("label")["group"].nunique()
    shares = [float((guessed == name).mean()) for name in classes]
    variance = sum(
        share * (1 - share) / groups[name] for name, share in zip(classes, shares, strict=True)
    )
    bound = chance + _SDS * float(np.sqrt(variance)) / len(classes)
    if accuracy <= max(bound, chance + _RELEVANT * (1 - chance)):
        return None
    finding = (
        f"the class can be told from {_IN_WORDS[attribute]} alone: balanced accuracy "
        f"{accuracy:.2f}, {chance:.2f} by chance ({_examples(table, attribute)}); "
        f"{_ADVICE[attribute]}"
    )
    return Shortcut(attribute, accuracy, chance, bound, finding)


_IN_WORDS = {
    "size": "an image's width and height",
    "mode": "a file's colour mode",
    "format": "a file's format",
    "origin": "the file's origin (folder, family of names or source)",
}
_TRACES = (
    "a network may learn its traces for the class: compare classes within one value, or balance it"
)
_ADVICE = {
    "size": _TRACES,
    "mode": _TRACES,
    "format": _TRACES,
    "origin": f"where this is no mere name of the class but a source, {_TRACES}",
}


def _examples(table: pd.DataFrame, attribute: str) -> str:
    """Say of the most frequent values, which class they have most often."""
    columns = list(_ATTRIBUTES[attribute])
    values = table[columns].astype(str).agg(" x ".join, axis=1)
    told = []
    for value, count in values.value_counts().head(_SHOWN).items():
        labels = table["label"][values == value].value_counts()
        told.append(f"{value!r}: {labels.iloc[0]} of {count} are {labels.index[0]}")
    return ", ".join(told)
