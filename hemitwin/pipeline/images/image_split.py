"""Folds of images: no group crosses them, and no copy of an image."""

import logging
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from hemitwin.pipeline.cohort.config import SplitConfig
from hemitwin.pipeline.cohort.split import Fold, Split, complete_split, make_split
from hemitwin.pipeline.images.duplicates import Duplicates, find_duplicates
from hemitwin.pipeline.images.image_listing import listed
from hemitwin.pipeline.images.image_set import ImageSet
from hemitwin.pipeline.stage.errors import UserError

__all__ = ["split_images"]

logger = logging.getLogger(__name__)

_RANKS: Mapping[str, int] = {"train": 0, "validation": 1, "test": 2}
_TRIES = 100
_FEW = 5


def split_images(images: ImageSet, config: SplitConfig, seed: int) -> tuple[Split, ImageSet]:
    """Give each group of images its fold.

    Groups that share a copy of an image are joined first, so that copies never cross. Folds that
    the images came in are kept; then an image of training or validation that is a copy of one in
    validation or test is taken out of the former, and a fold that is missing is drawn from
    training. Drawn folds have the classes in proportion; where a draw leaves a fold without a
    class that has groups enough, the next one from the same seed is taken.

    Parameters
    ----------
    images : ImageSet
        As `read_images` gives it.
    config : SplitConfig
        Shares of groups.
    seed : int
        Same seed and repeat, same folds.

    Returns
    -------
    Split
        Each group's fold.
    ImageSet
        Without what was taken out.

    Raises
    ------
    UserError
        A group lies in two of the folds that the images came in, there are too few groups, or
        training lacks a class.
    """
    _check(images, config)
    duplicates = find_duplicates(images)
    _tell_of_contradictions(images, duplicates)
    if not images.is_grouped:
        logger.warning(
            "the images have no column of groups: whether two of them are of one patient, and so "
            "whether patients lie in several folds, cannot be known; set group_column where there "
            "is one"
        )
    folds = images.table["fold"]
    if (folds != "").any() and set(folds) != {"train"}:
        images, duplicates = _without_crossing(images, duplicates)
        known = dict(zip(images.table["group"], images.table["fold"], strict=True))
    else:
        known = {}
    split = _drawn(images, duplicates, known, (config, seed))
    _require_classes(images, split)
    return split, images


def _check(images: ImageSet, config: SplitConfig) -> None:
    if any(one is not None for one in (config.stratify, config.families, config.leave_out)):
        msg = (
            "images are spread by their classes and grouped by group_column, got split.stratify, "
            "split.families or split.leave_out; leave them out"
        )
        raise UserError(msg)
    table = images.table
    places = table.groupby("group")["fold"].nunique()
    if torn := [str(name) for name in places.index[places > 1]]:
        msg = (
            f"a group must lie in one fold, but the folds that the images came in tear "
            f"{listed(torn)} apart; set keep_folds to false to draw others"
        )
        raise UserError(msg)
    if config.folds is not None and set(table["fold"]) - {"", "train"}:
        msg = (
            "split.folds draws new folds, but the images came in their own; set keep_folds to "
            "false, or leave split.folds out"
        )
        raise UserError(msg)


def _without_crossing(images: ImageSet, duplicates: Duplicates) -> tuple[ImageSet, Duplicates]:
    """Take an image out of the lower fold where it has a copy in a higher one."""
    ranks = np.array([_RANKS[fold] for fold in images.table["fold"]])
    out: dict[int, tuple[int, bool]] = {}
    for (one, other), exact in zip(duplicates.pairs.tolist(), duplicates.exact, strict=True):
        if ranks[one] != ranks[other]:
            lower, higher = sorted((one, other), key=lambda place: int(ranks[place]))
            out.setdefault(lower, (higher, bool(exact)))
    if not out:
        return images, duplicates
    names, folds = images.table["name"], images.table["fold"]
    lines = tuple(
        f"{names[lower]}: taken out of {folds[lower]}, {'an exact' if exact else 'a near'} copy "
        f"of {names[higher]} in {folds[higher]}"
        for lower, (higher, exact) in sorted(out.items())
    )
    logger.warning(
        "%d image(s) are taken out, because they are copies of images in another fold: %s",
        len(lines),
        listed(lines),
    )
    kept = np.ones(len(images), dtype=np.bool_)
    kept[list(out)] = False
    left = images.take(kept)
    return replace(left, problems=(*images.problems, *lines)), duplicates.among(kept)


def _drawn(
    images: ImageSet,
    duplicates: Duplicates,
    known: Mapping[str, Fold],
    draw: tuple[SplitConfig, int],
) -> Split:
    config, seed = draw
    groups = _joined(images, duplicates)
    classes: dict[str, set[str]] = {}
    for group, label in zip(images.table["group"], images.table["label"], strict=True):
        classes.setdefault(groups[group], set()).add(label)
    strata = {group: "+".join(sorted(classes[whole])) for group, whole in groups.items()}

    def drawn(own: SplitConfig, with_seed: int) -> Split:
        if known:
            return complete_split(groups, known, own, seed=with_seed, strata=strata)
        return make_split(groups, own, seed=with_seed, strata=strata)

    whole = config.model_copy(update={"train_share": 1.0})
    blocks = [whole.model_copy(update={"fold": fold}) for fold in range(config.folds or 1)]
    wanted = _in_every_fold(classes, config.folds or 3)
    chosen = seed
    for attempt in range(_TRIES):
        own = _seed_of(seed, attempt)
        splits = (drawn(block, own) for block in blocks)
        if all(_has_all(split, groups, classes, wanted) for split in splits):
            chosen = own
            break
    return Split(drawn(config, chosen).folds, seed)


def _joined(images: ImageSet, duplicates: Duplicates) -> dict[str, str]:
    """Give each group the first, by name, of those that it shares copies with."""
    groups = images.table["group"].to_numpy()
    whole = {str(group): str(group) for group in groups}

    def first_of(group: str) -> str:
        while whole[group] != group:
            whole[group] = whole[whole[group]]
            group = whole[group]
        return group

    for one, other in groups[duplicates.pairs]:
        low, high = sorted((first_of(one), first_of(other)))
        whole[high] = low
    return {group: first_of(group) for group in whole}


def _seed_of(seed: int, attempt: int) -> int:
    if attempt == 0:
        return seed
    return int(np.random.SeedSequence([seed, attempt]).generate_state(1)[0])


def _in_every_fold(classes: Mapping[str, set[str]], folds: int) -> set[str]:
    """Return the classes that have groups enough for one in each fold."""
    counts = pd.Series([label for labels in classes.values() for label in labels]).value_counts()
    return {str(label) for label in counts.index[counts >= max(folds, len(_RANKS))]}


def _has_all(
    split: Split,
    groups: Mapping[str, str],
    classes: Mapping[str, set[str]],
    wanted: set[str],
) -> bool:
    there: dict[str, set[str]] = {fold: set() for fold in _RANKS}
    for group, fold in split.folds.items():
        there[fold] |= classes[groups[group]]
    return all(wanted <= labels for labels in there.values())


def _require_classes(images: ImageSet, split: Split) -> None:
    """Refuse a class that training lacks; tell of one that is rare, or that another fold lacks."""
    folds = images.table["group"].map(split.folds)
    counts = pd.crosstab(images.table["label"], folds).reindex(
        index=list(images.classes), columns=list(_RANKS), fill_value=0
    )
    for label, row in counts.iterrows():
        told = ", ".join(f"{row[fold]} in {fold}" for fold in _RANKS)
        if row["train"] == 0:
            msg = (
                f"every class must have images in training, but {label} has {told}; add images of "
                f"it, leave it out of classes, raise split.train_share, or take another seed"
            )
            raise UserError(msg)
        if (row == 0).any():
            logger.warning("class %s: %s; what is told of it will say little", label, told)
        elif row["train"] < _FEW:
            logger.warning("class %s: %s; few to learn it from", label, told)


def _tell_of_contradictions(images: ImageSet, duplicates: Duplicates) -> None:
    names, labels = images.table["name"], images.table["label"]
    told = [
        f"{names[one]} ({labels[one]}) and {names[other]} ({labels[other]})"
        for one, other in duplicates.pairs.tolist()
        if labels[one] != labels[other]
    ]
    if told:
        logger.warning(
            "%d pair(s) of near copies have different classes: %s", len(told), listed(told)
        )
