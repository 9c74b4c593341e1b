"""Whatever a file's kind, it becomes 8-bit grey or colour, upright, with its aspect kept."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hemitwin.pipeline.images.config import ImagesConfig
from hemitwin.pipeline.images.picture import fit_picture, open_picture, picture_of_array
from hemitwin.pipeline.stage.errors import UserError

RAMP = np.arange(20 * 30, dtype=np.uint16).reshape(20, 30)
GREY = (RAMP % 251).astype(np.uint8)


def seen(picture, **settings):
    return fit_picture(picture, ImagesConfig(images=Path("x"), **settings))


MODES = ("1 png", "L bmp", "P gif", "P png", "RGB webp", "RGB TIFF", "RGBA png", "LA png")


@pytest.mark.parametrize("case", [*MODES, "CMYK jpg", "CMYK tif", "YCbCr tif"])
def test_every_mode_becomes_grey_or_colour(tmp_path, case):
    mode, suffix = case.split()
    path = tmp_path / f"a.{suffix}"
    written = Image.fromarray(GREY).convert("RGB").convert(mode)
    written.save(path)
    picture = open_picture(path)
    assert picture.mode == mode
    assert picture.image.mode in {"L", "RGB"}
    assert not picture.changes
    expected = np.asarray(written.convert("RGB").convert("L"), int)
    assert np.abs(np.asarray(picture.image.convert("L"), int) - expected).mean() < 4  # lossy
    assert seen(picture, channels=3, pixels=16).shape == (3, 16, 16)


@pytest.mark.parametrize("kind", [np.uint16, np.int32, np.float32])
def test_more_than_eight_bits_are_scaled_from_the_files_own_range(tmp_path, kind):
    path = tmp_path / "a.tif"
    Image.fromarray((RAMP + 1000).astype(kind)).save(path)
    picture = open_picture(path)
    values = np.asarray(picture.image)
    assert (values.min(), values.max()) == (0, 255)
    np.testing.assert_array_equal(values, np.rint(RAMP * (255 / 599)).astype(np.uint8))
    assert picture.changes == ("more than 8 bits, scaled from least to greatest value",)


def test_values_that_are_no_numbers_are_the_least(tmp_path):
    values = RAMP.astype(np.float32)
    values[0, 0] = np.nan
    Image.fromarray(values).save(tmp_path / "a.tif")
    assert np.asarray(open_picture(tmp_path / "a.tif").image)[0, 0] == 0


def test_what_is_transparent_is_black(tmp_path):
    clear = Image.fromarray(np.full((20, 20, 4), 255, np.uint8))
    clear.putalpha(Image.fromarray(np.repeat([[0, 255]], 20, 0).repeat(10, 1).astype(np.uint8)))
    clear.save(tmp_path / "a.png")
    picture = open_picture(tmp_path / "a.png")
    assert picture.changes == ("transparent, laid on black",)
    values = np.asarray(picture.image)
    assert not values[:, :10].any()
    assert (values[:, 10:] == 255).all()


def test_an_image_is_turned_as_its_orientation_says(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise
    Image.fromarray(GREY).save(tmp_path / "a.png", exif=exif)
    picture = open_picture(tmp_path / "a.png")
    np.testing.assert_array_equal(np.asarray(picture.image), np.rot90(GREY, -1))
    assert "orientation" in picture.changes[0]


@pytest.mark.parametrize("suffix", ["gif", "tif"])
def test_of_several_frames_the_first_is_taken(tmp_path, suffix):
    frames = [Image.fromarray(GREY), Image.fromarray(255 - GREY)]
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:])
    picture = open_picture(tmp_path / f"a.{suffix}")
    np.testing.assert_array_equal(np.asarray(picture.image.convert("L")), GREY)
    assert "first" in picture.changes[0]


def test_the_digest_knows_pixels_and_not_files(tmp_path):
    grey, colour = Image.fromarray(GREY), Image.fromarray(GREY).convert("RGB")
    grey.save(tmp_path / "a.png")
    colour.save(tmp_path / "a.bmp")
    grey.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "b.png")
    Image.fromarray(GREY.reshape(30, 20)).save(tmp_path / "c.png")
    first, same, *others = (
        open_picture(tmp_path / name).digest for name in ("a.png", "a.bmp", "b.png", "c.png")
    )
    assert first == same
    assert first not in others


DAMAGES = {
    "nothing": lambda _: b"",
    "text": lambda _: b"no image at all",
    "half": lambda content: content[: len(content) // 2],
    "start": lambda content: content[:20],
    "hole": lambda content: content[:60] + bytes(40) + content[100:],
}


@pytest.mark.parametrize(
    "case",
    ["jpg half", "jpg text", "png half", "png hole", "png nothing", "tif half", "gif start"],
)
def test_a_broken_file_is_named(tmp_path, case):
    suffix, damage = case.split()
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40)).astype(np.uint8)).save(
        path
    )
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    with pytest.raises(UserError, match=rf"a\.{suffix} must be an image.*save it again"):
        open_picture(path)


def test_a_file_of_more_pixels_than_memory_is_named(tmp_path, monkeypatch):
    Image.fromarray(GREY).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400)
    with pytest.raises(UserError, match=r"a\.png must be an image.*decompression bomb"):
        open_picture(tmp_path / "a.png")


def test_an_image_of_the_right_size_keeps_its_values():
    values = np.random.default_rng(0).integers(0, 255, (28, 28)).astype(np.uint8)
    np.testing.assert_array_equal(seen(picture_of_array(values), pixels=28)[0], values)


@pytest.mark.parametrize(("shape", "inside"), [((40, 20), (32, 16)), ((10, 20), (16, 32))])
def test_the_aspect_is_kept_and_the_rest_is_zero(shape, inside):
    picture = seen(picture_of_array(np.full(shape, 200, np.uint8)), pixels=32)[0]
    top, left = ((32 - length) // 2 for length in inside)
    expected = np.zeros((32, 32))
    expected[top : top + inside[0], left : left + inside[1]] = 200
    np.testing.assert_array_equal(picture, expected)


def test_a_crop_is_the_central_box():
    values = np.zeros((40, 80), np.uint8)
    values[10:30, 30:50] = 255
    whole = seen(picture_of_array(values), pixels=20, crop=(0.5, 0.25))
    assert (whole == 255).all()
    assert (seen(picture_of_array(values), pixels=20, crop=(1.0, 1.0)) == 0).any()


@pytest.mark.parametrize("crop", [(0.0, 0.5), (0.5, 1.2)])
def test_a_crop_is_given_in_shares(crop):
    with pytest.raises(ValueError, match="crop"):
        ImagesConfig(images=Path("x"), crop=crop)
