"""A picture is known again whatever was done to the file; two people's pictures are not one."""

import os
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from hemitwin.pipeline.images.config import ImagesConfig
from hemitwin.pipeline.images.duplicates import _fine, find_duplicates
from hemitwin.pipeline.images.image_set import ImageSet, read_images
from hemitwin.pipeline.images.picture import fit_picture, picture_of_array

CONFIG = ImagesConfig(images=Path("x"), pixels=64)
FOLDS = 0.25


def scene(seed, side=96):
    """Draw something smooth with coarse and fine structure, as scans have it."""
    rng = np.random.default_rng(seed)
    layers = [gaussian_filter(rng.standard_normal((side, side)), sd) * sd for sd in (1.5, 4, 12)]
    values = np.sum(layers, axis=0)
    low, high = values.min(), values.max()
    return (30 + 180 * (values - low) / (high - low)).astype(np.uint8)


def alike_in_the_coarse(seed, side=96):
    """Draw what two brains have at one place of a template, each with folds of its own."""
    common = np.random.default_rng(99).standard_normal((side, side))
    own = np.random.default_rng(seed).standard_normal((side, side))
    coarse = gaussian_filter(common, 2.5) * 2.5 + gaussian_filter(common[::-1], 8) * 8
    folds = gaussian_filter(own, 0.8) - gaussian_filter(own, 1.6)
    return np.clip(120 + 60 * (coarse + FOLDS * folds), 1, 255).astype(np.uint8)


def as_set(arrays):
    pictures = [picture_of_array(np.asarray(one, dtype=np.uint8)) for one in arrays]
    pixels = np.stack([fit_picture(one, CONFIG) for one in pictures])
    return ImageSet(pd.DataFrame({"digest": [one.digest for one in pictures]}), pixels, ())


def saved(values, quality):
    content = BytesIO()
    Image.fromarray(values).save(content, "JPEG", quality=quality)
    return np.asarray(Image.open(content))


def resized(values, side):
    return np.asarray(Image.fromarray(values).resize((side, side), Image.Resampling.BICUBIC))


CHANGES = {
    "saved again": lambda values: saved(values, 75),
    "saved badly": lambda values: saved(values, 40),
    "brighter": lambda values: np.clip(values + 25.0, 0, 255),
    "more contrast": lambda values: np.clip(values * 1.2, 0, 255),
    "darker": lambda values: values * 0.7,
    "smaller": lambda values: resized(values, 64),
    "larger": lambda values: resized(values, 150),
    "smaller and saved": lambda values: saved(resized(values, 80), 75),
    "another gamma": lambda values: 255 * (values / 255) ** 0.75,
}


@pytest.mark.parametrize("change", list(CHANGES))
def test_a_changed_copy_is_found_among_others(change):
    scenes = [scene(seed) for seed in range(8)]
    found = find_duplicates(as_set([*scenes, CHANGES[change](scenes[3])]))
    assert found.pairs.tolist() == [[3, 8]]
    assert not found.exact.any()


def test_exact_copies_are_told_from_near_ones():
    one, other = scene(0), scene(1)
    found = find_duplicates(as_set([one, other, one, saved(other, 90), one]))
    assert found.pairs.tolist() == [[0, 2], [0, 4], [1, 3], [2, 4]]
    assert found.exact.tolist() == [True, True, False, True]


@pytest.mark.parametrize("common", ["rim", "letter", "padding"])
def test_what_lies_in_all_images_makes_no_copies(common):
    scenes = np.stack([scene(seed) for seed in range(30)])
    rows, columns = np.mgrid[:96, :96] - 47.5
    if common == "rim":
        scenes[:, rows**2 + columns**2 > 46**2] = 0
    elif common == "letter":
        scenes[:, 6:20, 70:90] = np.where((np.mgrid[:14, :20].sum(0) // 4) % 2, 255, 0)
    else:
        scenes = scenes[:, :50]
    assert len(find_duplicates(as_set(scenes)).pairs) == 0


def test_pictures_that_differ_in_the_fine_alone_are_no_copies():
    one, other = (alike_in_the_coarse(seed) for seed in (1, 2))
    images = as_set([one, other, saved(one, 75)])
    coarse = [_fine(picture, 28) for picture in images.pixels[:2]]
    assert coarse[0] @ coarse[1] > 0.9
    assert find_duplicates(images).pairs.tolist() == [[0, 2]]


def test_blocks_of_rows_find_what_one_block_finds(monkeypatch):
    scenes = [scene(seed, 40) for seed in range(7)]
    images = as_set([*scenes, *scenes[2:5]])
    whole = find_duplicates(images)
    monkeypatch.setattr("hemitwin.pipeline.images.duplicates._ROWS_AT_ONCE", 3)
    np.testing.assert_array_equal(find_duplicates(images).pairs, whole.pairs)
    assert whole.pairs.tolist() == [[2, 7], [3, 8], [4, 9]]


def test_pairs_are_known_by_their_new_places():
    found = find_duplicates(as_set([scene(0), scene(1), scene(1), scene(0), scene(1)]))
    kept = np.array([False, True, False, True, True])
    assert found.among(kept).pairs.tolist() == [[0, 2]]


@pytest.mark.data
@pytest.mark.skipif("HEMITWIN_DATA" not in os.environ, reason="HEMITWIN_DATA is not set")
def test_of_real_chests_copies_alone_are_alike():
    path = Path(os.environ["HEMITWIN_DATA"]) / "chest-xray-28px" / "pneumoniamnist.npz"
    images = read_images(ImagesConfig(images=path, pixels=28))
    found = find_duplicates(images)
    flat = images.pixels.reshape(len(images), -1).astype(float)
    apart = np.abs(flat[found.pairs[:, 0]] - flat[found.pairs[:, 1]]).mean(axis=1)
    assert found.exact.sum() == 30
    assert (apart < 3).all()
    assert len(found.pairs) == 30
