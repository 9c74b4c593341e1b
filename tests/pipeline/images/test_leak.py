"""Slices of one person look alike: what a split by slice makes of it, and ours does not."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage
from sklearn.neighbors import KNeighborsClassifier

from hemitwin.pipeline.cohort.config import SplitConfig
from hemitwin.pipeline.images.image_set import ImageSet
from hemitwin.pipeline.images.image_split import split_images
from hemitwin.transforms import load_scan

PEOPLE, SLICES = 60, 8
BRAINS, STEP_MM, BLOCK = 20, 2.0, 6
DRAWS = 40
CONFIG = SplitConfig(validation=0.2, test=0.3)


def image_set(pixels, labels, *, grouped):
    """Put slices of people, (people, slices, rows, columns), into a set; a person has a label."""
    people, slices, height, width = pixels.shape
    named = [
        (f"sub-{one:02d}", f"{one:02d}-{k}.png") for one in range(people) for k in range(slices)
    ]
    names = [name for _, name in named]
    table = pd.DataFrame(
        {
            "name": names,
            "label": np.repeat(labels, slices).astype(str),
            "group": [person for person, _ in named] if grouped else names,
            "fold": "",
            "origin": "",
            "width": width,
            "height": height,
            "mode": "L",
            "format": "PNG",
            "digest": names,
        }
    )
    return ImageSet(table, pixels.reshape(-1, 1, height, width), ("0", "1"))


def images_with_random_labels(*, grouped):
    """Slices of people who have a label each, drawn by lot: there is nothing to be learnt."""
    rng = np.random.default_rng(4)
    labels = rng.permutation(np.arange(PEOPLE) % 2)
    own = ndimage.gaussian_filter(rng.normal(size=(PEOPLE, 1, 16, 16)), (0, 0, 2, 2))
    of_slices = rng.normal(size=(PEOPLE, SLICES, 16, 16))
    varied = own + 0.5 * ndimage.gaussian_filter(of_slices, (0, 0, 2, 2))
    pixels = np.clip(128 + 300 * varied, 1, 255).astype(np.uint8)
    return image_set(pixels, labels, grouped=grouped)


def accuracy_on_test(images, seed=0):
    """Classify each test image as the most alike training image."""
    split, kept = split_images(images, CONFIG, seed=seed)
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


def axial_slices(path):
    """Cut a stripped brain about its middle height, in 8 bits and pixels of several voxels."""
    scan = load_scan(path)
    inside = np.flatnonzero((scan.data > 0).any(axis=(0, 1)))
    steps = (np.arange(SLICES) - (SLICES - 1) / 2) * STEP_MM / abs(scan.affine[2, 2])
    heights = np.round((inside[0] + inside[-1]) / 2 + steps).astype(int)
    planes = np.moveaxis(scan.data[..., heights], -1, 0)
    rows, columns = (size // BLOCK for size in planes.shape[1:])
    planes = planes[:, : rows * BLOCK, : columns * BLOCK]
    coarse = planes.reshape(SLICES, rows, BLOCK, columns, BLOCK).mean(axis=(2, 4))
    return np.clip(255 * coarse / np.percentile(coarse, 99.5), 0, 255).astype(np.uint8)


@pytest.mark.data
@pytest.mark.skipif("HEMITWIN_DATA" not in os.environ, reason="HEMITWIN_DATA is not set")
def test_random_labels_of_real_brains_are_learnt_across_slices_and_by_nobody_else():
    bids = Path(os.environ["HEMITWIN_DATA"]) / "bids-ds002748"
    paths = sorted(bids.glob("sub-*/anat/*_T1w.nii.gz"))[:BRAINS]
    pixels = np.stack([axial_slices(path) for path in paths])
    leaking, honest = [], []
    for draw in range(DRAWS):
        # Not the seed of the folds: labels drawn with it would go along with them.
        labels = np.random.default_rng([1, draw]).permutation(np.arange(BRAINS) % 2)
        leaking.append(accuracy_on_test(image_set(pixels, labels, grouped=False), draw))
        honest.append(accuracy_on_test(image_set(pixels, labels, grouped=True), draw))
    assert np.mean(leaking) > 0.9
    # 3 standard errors: 6 people of each draw's test, each of whom counts once at worst.
    assert abs(np.mean(honest) - 0.5) < 3 * 0.5 / np.sqrt(DRAWS * 0.3 * BRAINS)
