"""Slices of one person look alike: what a split by slice makes of it, and ours does not."""

import numpy as np
import pandas as pd
from scipy import ndimage
from sklearn.neighbors import KNeighborsClassifier

from hemitwin.pipeline.cohort.config import SplitConfig
from hemitwin.pipeline.images.image_set import ImageSet
from hemitwin.pipeline.images.image_split import split_images

PEOPLE, SLICES = 60, 8
CONFIG = SplitConfig(validation=0.2, test=0.3)


def images_with_random_labels(*, grouped):
    """Slices of people who have a label each, drawn by lot: there is nothing to be learnt."""
    rng = np.random.default_rng(4)
    labels = np.repeat(rng.permutation(np.arange(PEOPLE) % 2), SLICES)
    people = np.repeat(np.arange(PEOPLE), SLICES)
    own = ndimage.gaussian_filter(rng.normal(size=(PEOPLE, 16, 16)), (0, 2, 2))
    varied = own[people] + 0.5 * ndimage.gaussian_filter(
        rng.normal(size=(len(people), 16, 16)), (0, 2, 2)
    )
    pixels = np.clip(128 + 300 * varied, 1, 255).astype(np.uint8)[:, None]
    names = [f"{one:02d}-{k}.png" for k, one in enumerate(people)]
    table = pd.DataFrame(
        {
            "name": names,
            "label": labels.astype(str),
            "group": [f"sub-{one:02d}" for one in people] if grouped else names,
            "fold": "",
            "origin": "",
            "width": 16,
            "height": 16,
            "mode": "L",
            "format": "PNG",
            "digest": names,
        }
    )
    return ImageSet(table, pixels, ("0", "1"))


def accuracy_on_test(images):
    """Classify each test image as the most alike training image."""
    split, kept = split_images(images, CONFIG, seed=0)
    folds = kept.table["group"].map(dict(split.folds)).to_numpy()
    rows = kept.pixels.reshape(len(kept), -1).astype(float)
    train, test = folds == "train", folds == "test"
    labels = kept.class_numbers
    model = KNeighborsClassifier(1).fit(rows[train], labels[train])
    return float((model.predict(rows[test]) == labels[test]).mean())


def test_random_labels_are_learnt_across_slices_of_one_person_and_by_nobody_else():
    leaking = accuracy_on_test(images_with_random_labels(grouped=False))
    honest = accuracy_on_test(images_with_random_labels(grouped=True))
    assert leaking > 0.9
    assert abs(honest - 0.5) < 0.25  # 2 SDs of 18 people, each of whom counts once
