"""A mask is found by its image's name, and what lies outside it is black."""

import numpy as np
import pytest
from PIL import Image

from hemitwin.pipeline.images.config import ImagesConfig
from hemitwin.pipeline.images.image_masks import ImageMasks
from hemitwin.pipeline.images.image_set import read_images
from hemitwin.pipeline.stage.errors import UserError

SIZE = (20, 18)


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, dtype=np.uint8)).save(path)


@pytest.fixture
def images(tmp_path):
    """Two classes of three images; each mask is the image's upper half."""
    rng = np.random.default_rng(0)
    for kind in ("a", "b"):
        for number in range(3):
            save(tmp_path / "images" / kind / f"{number}.png", rng.integers(1, 255, SIZE))
            mask = np.zeros(SIZE)
            mask[:10] = 1 if kind == "a" else 255
            save(tmp_path / "masks" / kind / f"{number}_mask.png", mask)
    return tmp_path


def read(root, **settings):
    return read_images(ImagesConfig(images=root / "images", pixels=20, **settings))


def test_outside_its_mask_an_image_is_black(images):
    whole, kept = read(images), read(images, crop=images / "masks")
    assert kept.table["name"].tolist() == whole.table["name"].tolist()
    np.testing.assert_array_equal(kept.pixels[:, :, :10], whole.pixels[:, :, :10])
    assert not kept.pixels[:, :, 10:].any()
    assert whole.pixels[:, :, 10:].any()


def test_an_image_is_known_again_whether_masked_or_not(images):
    masked = read(images, crop=images / "masks")
    assert masked.table["digest"].tolist() == read(images).table["digest"].tolist()


def test_images_without_a_fitting_mask_are_left_out_and_named(images):
    (images / "masks/a/0_mask.png").unlink()
    save(images / "masks/b/1_mask.png", np.ones((5, 5)))
    save(images / "masks/b/2_mask.png", np.zeros(SIZE))
    found = read(images, crop=images / "masks")
    assert found.table["name"].tolist() == ["a/1.png", "a/2.png", "b/0.png"]
    told = "\n".join(found.problems)
    assert "a/0.png: left out, an image must have its mask" in told
    assert "b/1.png: left out, a mask must have its image's size (18, 20), got (5, 5)" in told
    assert "b/2.png: left out, an image must show something" in told


def test_a_mask_goes_before_an_image_of_the_same_name(tmp_path):
    for name in ("x/slice.png", "x/slice_mask.png", "other.png"):
        save(tmp_path / name, np.ones(SIZE))
    masks = ImageMasks.below(tmp_path)
    assert masks.find("x/slice.jpeg") == tmp_path / "x/slice_mask.png"
    assert masks.find("x/third.png") is None


def test_masks_lie_where_their_images_do_or_all_in_one_folder(tmp_path):
    for name in ("x/1.png", "2.png"):
        save(tmp_path / name, np.ones(SIZE))
    masks = ImageMasks.below(tmp_path)
    assert masks.find("z/1.png") is None
    assert masks.find("x/1.tif") == tmp_path / "x/1.png"
    assert masks.find("z/2.png") == tmp_path / "2.png"


def test_a_folder_without_masks_is_refused(images):
    with pytest.raises(UserError, match="masks must be images in a folder"):
        read(images, crop=images / "nothing")
