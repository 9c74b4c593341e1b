"""No group, and no copy of an image, lies in two folds."""

import logging
from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from hemitwin.pipeline.cohort.config import SplitConfig
from hemitwin.pipeline.images.image_set import ImageSet
from hemitwin.pipeline.images.image_split import split_images
from hemitwin.pipeline.stage.errors import UserError

FOLDS = ("train", "validation", "test")
CLASSES = ("a", "b", "c")


def images(count=60, *, per_group=2, classes=CLASSES, **columns):
    """Make pictures of noise; those of a group follow each other and are of one class."""
    pixels = np.random.default_rng(0).integers(0, 255, (count, 1, 28, 28)).astype(np.uint8)
    groups = [place // per_group for place in range(count)]
    table = pd.DataFrame(
        {
            "name": [f"{place}.png" for place in range(count)],
            "label": [classes[group % len(classes)] for group in groups],
            "group": [f"g{group}" for group in groups],
            "fold": "",
            "digest": [str(place) for place in range(count)],
        }
    )
    return ImageSet(table.assign(**columns), pixels, classes)


def copied(whole, **copies):
    """Make image ``_5`` an exact copy of another, by its digest, too."""
    pixels, digests = whole.pixels.copy(), list(whole.table["digest"])
    for name, source in copies.items():
        place = int(name.removeprefix("_"))
        pixels[place], digests[place] = pixels[source], digests[source]
    return replace(whole, pixels=pixels, table=whole.table.assign(digest=digests))


def folds_of(split, whole):
    return whole.table["group"].map(split.folds)


@pytest.mark.parametrize("seed", range(5))
def test_groups_and_copies_lie_in_one_fold_and_classes_in_all(seed):
    whole = copied(images(), _3=40, _41=20, _59=8)
    split, kept = split_images(whole, SplitConfig(), seed)
    assert len(kept) == len(whole)
    assert set(split.folds) == set(whole.table["group"])
    folds = folds_of(split, whole)
    assert folds[3] == folds[40] == folds[41] == folds[20]
    assert folds[59] == folds[8]
    assert (pd.crosstab(whole.table["label"], folds)[list(FOLDS)] > 0).all(axis=None)


def test_the_seed_decides():
    splits = [split_images(images(), SplitConfig(), seed)[0] for seed in (0, 0, 1)]
    assert splits[0] == splits[1] != splits[2]
    assert [split.seed for split in splits] == [0, 0, 1]


def test_near_copies_stay_together_too():
    whole = images()
    pixels = whole.pixels.copy()
    pixels[30] = np.clip(pixels[0] * 0.8 + 20, 0, 255).astype(np.uint8)
    for seed in range(5):
        folds = folds_of(
            split_images(replace(whole, pixels=pixels), SplitConfig(), seed)[0], whole
        )
        assert folds[0] == folds[30]


def test_a_rare_class_is_in_every_fold_where_it_can_be(caplog):
    rare = ["c"] * 4 + ["a", "b"] * 28
    whole = images(per_group=1, label=rare)
    for seed in range(12):
        split, _ = split_images(whole, SplitConfig(), seed)
        counts = pd.crosstab(whole.table["label"], folds_of(split, whole))
        assert (counts > 0).all(axis=None)
    assert "few to learn it from" in caplog.text


def test_blocks_of_cross_validation_come_from_one_order():
    whole = images(per_group=1, classes=("a", "c"), label=["c"] * 5 + ["a"] * 55)
    tests = []
    for fold in range(5):
        split, _ = split_images(whole, SplitConfig(folds=5, fold=fold), 3)
        tests += split.subjects("test")
        assert "c" in set(whole.table["label"][folds_of(split, whole) == "test"])
    assert Counter(tests) == Counter(whole.table["group"])


def test_a_smaller_share_of_training_lies_in_a_larger_one():
    whole = images(per_group=1)
    splits = [split_images(whole, SplitConfig(train_share=s), 0)[0] for s in (0.3, 0.6, 1.0)]
    small, middle, all_ = (set(split.subjects("train")) for split in splits)
    assert small < middle < all_
    assert len({split.subjects("test") for split in splits}) == 1


OWN = [*["train"] * 36, *["validation"] * 12, *["test"] * 12]


def test_folds_that_images_came_in_are_kept():
    whole = images(fold=OWN)
    split, kept = split_images(whole, SplitConfig(), 0)
    assert list(folds_of(split, kept)) == OWN
    halved, _ = split_images(whole, SplitConfig(train_share=0.5), 0)
    assert Counter(folds_of(halved, whole)) == {
        "train": 18,
        "unused": 18,
        "validation": 12,
        "test": 12,
    }


def test_a_copy_of_another_fold_is_taken_out_of_the_lower_one(caplog):
    whole = copied(images(per_group=1, fold=OWN), _3=50, _5=40, _41=55, _7=9)
    split, kept = split_images(whole, SplitConfig(), 0)
    gone = {"3.png", "5.png", "41.png"}
    assert set(whole.table["name"]) - set(kept.table["name"]) == gone
    assert set(split.folds) == set(kept.table["group"])
    assert kept.pixels.shape[0] == len(kept.table) == 57
    assert "3 image(s) are taken out, because they are copies" in caplog.text
    assert "3.png: taken out of train, an exact copy of 50.png in test" in kept.problems
    assert kept.pixels[-1].tolist() == whole.pixels[-1].tolist()


def test_a_fold_that_is_missing_is_drawn_from_training():
    own = ["test" if fold == "test" else "train" for fold in OWN]
    whole = copied(images(per_group=1, fold=own), _1=30)
    for seed in range(5):
        split, kept = split_images(whole, SplitConfig(validation=0.25), seed)
        folds = folds_of(split, kept)
        assert Counter(split.folds.values())["validation"] in {12, 13}  # copies count as one
        assert (folds == "test").tolist() == [fold == "test" for fold in own]
        assert folds[1] == folds[30]


def test_a_group_in_two_folds_is_refused():
    own = ["train", "test"] * 30
    with pytest.raises(UserError, match=r"tear g0, g1.*keep_folds to false"):
        split_images(images(fold=own), SplitConfig(), 0)


@pytest.mark.parametrize(
    ("settings", "named"),
    [({"folds": 5}, "split.folds draws new folds"), ({"stratify": "age"}, "split.stratify")],
)
def test_settings_that_cannot_hold_are_refused(settings, named):
    with pytest.raises(UserError, match=named):
        split_images(images(fold=OWN), SplitConfig(**settings), 0)


def test_a_class_that_training_lacks_is_refused_and_one_that_another_lacks_is_told(caplog):
    only = ["c" if fold == "test" else "ab"[place % 2] for place, fold in enumerate(OWN)]
    with pytest.raises(UserError, match=r"images in training, but c has 0 in train.*12 in test"):
        split_images(images(per_group=1, fold=OWN, label=only), SplitConfig(), 0)
    only = [
        "c" if fold == "train" and place < 9 else "ab"[place % 2] for place, fold in enumerate(OWN)
    ]
    split_images(images(per_group=1, fold=OWN, label=only), SplitConfig(), 0)
    assert "class c: 9 in train, 0 in validation, 0 in test" in caplog.text


def test_too_few_groups_are_refused():
    with pytest.raises(UserError, match="each fold must get at least one group"):
        split_images(images(4, per_group=4, classes=("a",)), SplitConfig(), 0)


def test_without_groups_it_is_said_what_cannot_be_known(caplog):
    whole = images()
    split_images(whole, SplitConfig(), 0)
    assert "cannot be known" not in caplog.text
    split_images(
        replace(whole, table=whole.table.assign(group=whole.table["name"])), SplitConfig(), 0
    )
    assert "whether two of them are of one patient" in caplog.text


def test_near_copies_of_two_classes_are_told(caplog):
    caplog.set_level(logging.WARNING)
    whole = images()
    split_images(copied(whole, _9=0), SplitConfig(), 0)
    assert (
        "1 pair(s) of near copies have different classes: 0.png (a) and 9.png (b)" in caplog.text
    )
