"""One image file, as 8-bit grey or colour, and as the network sees it."""

import hashlib
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from hemitwin._error_text import error_text
from hemitwin.pipeline.images.config import ImagesConfig
from hemitwin.pipeline.stage.errors import UserError

__all__ = [
    "IMAGE_SUFFIXES",
    "Picture",
    "box_edges",
    "fit_picture",
    "open_picture",
    "picture_of_array",
]

IMAGE_SUFFIXES = frozenset(
    f".{kind}"
    for kind in (
        *("bmp", "gif", "jfif", "jp2", "jpe", "jpeg", "jpg", "pbm"),
        *("pgm", "png", "pnm", "ppm", "tif", "tiff", "webp"),
    )
)
"""Of files that are taken for images, in small letters."""

_DEEP = ("I", "F")


@dataclass(frozen=True, eq=False)
class Picture:
    """A decoded image: upright, 8 bit, mode ``L`` or ``RGB``.

    Parameters
    ----------
    image : PIL.Image.Image
        The pixels.
    mode, format : str
        As they are in the file: ``RGBA``, ``PNG``.
    changes : tuple of str
        What was done to come to 8-bit grey or colour, where values or places changed.
    """

    image: Image.Image
    mode: str
    format: str
    changes: tuple[str, ...] = ()

    @property
    def is_blank(self) -> bool:
        """Whether it has one value everywhere, and so shows nothing."""
        return self.image.getcolors(1) is not None

    @property
    def digest(self) -> str:
        """Digest of size and pixels: the same whatever the file's format, in grey or colour."""
        bands = [band.tobytes() for band in self.image.split()]
        content = hashlib.sha256("x".join(map(str, self.image.size)).encode())
        for band in bands if len(set(bands)) > 1 else bands[:1]:
            content.update(band)
        return content.hexdigest()[:32]


def open_picture(path: Path) -> Picture:
    """Decode an image file.

    It is turned as its EXIF orientation says; of several frames or pages the first is taken. What
    is transparent is laid on black, the value of the padding. Values of more than 8 bits are
    scaled from the file's own least and greatest, since 12 bits in a file of 16 are common and
    say nowhere so. Palettes and CMYK become colour, one bit becomes 0 and 255.

    Parameters
    ----------
    path : Path
        Of any format that Pillow reads.

    Raises
    ------
    UserError
        The file is missing, broken, cut off, too large, or no image.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata; the pixels are what counts
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as file:
                return _upright(file)
    except Exception as error:
        unknown = isinstance(error, UnidentifiedImageError)
        why = "it is of no known kind" if unknown else error_text(error)
        msg = f"{path} must be an image, but cannot be read ({why}); save it again or remove it"
        raise UserError(msg) from error


def _upright(file: Image.Image) -> Picture:
    changes = []
    if getattr(file, "n_frames", 1) > 1:
        file.seek(0)
        changes.append("of several frames the first is taken")
    file.load()
    kind, mode = file.format or "", file.mode
    # Looked up before: the orientation is gone from what is turned.
    turned = file.getexif().get(0x0112, 1) in range(2, 9)
    image = ImageOps.exif_transpose(file)
    if turned:
        changes.append("turned as the EXIF orientation says")
    image, change = _eight_bits(image)
    return Picture(image, mode, kind, (*changes, *change))


def _eight_bits(image: Image.Image) -> tuple[Image.Image, tuple[str, ...]]:
    if image.mode.startswith(_DEEP):
        values = np.nan_to_num(np.asarray(image).astype(np.float64), posinf=0.0, neginf=0.0)
        return _scaled(values), ("more than 8 bits, scaled from least to greatest value",)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        seen = image.getchannel("A").getextrema() != (255, 255)
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        changes = ("transparent, laid on black",) if seen else ()
        return Image.alpha_composite(black, image).convert("RGB"), changes
    return image.convert("L" if image.mode in {"1", "L"} else "RGB"), ()


def _scaled(values: np.ndarray) -> Image.Image:
    low, high = float(values.min()), float(values.max())
    return Image.fromarray(
        np.rint((values - low) * (255 / ((high - low) or 1.0))).astype(np.uint8)
    )


def picture_of_array(values: UInt8[np.ndarray, "rows columns *channels"]) -> Picture:
    """Take an array of grey, or of colour in its last axis, for a picture.

    Examples
    --------
    >>> picture_of_array(np.zeros((28, 28, 3), np.uint8)).mode
    'RGB'
    """
    image = Image.fromarray(np.ascontiguousarray(values))
    return Picture(image, image.mode, "npz")


def fit_picture(
    picture: Picture, config: ImagesConfig
) -> UInt8[np.ndarray, "channels rows columns"]:
    """Crop, resize with the aspect kept, and pad with 0 on both sides.

    Parameters
    ----------
    picture : Picture
        Of any size.
    config : ImagesConfig
        Its `crop` to a box, `pixels` and `channels`.

    Returns
    -------
    (channels, pixels, pixels) uint8
        An image that has this size already keeps its values.

    Examples
    --------
    >>> wide = picture_of_array(np.full((20, 40), 255, np.uint8))
    >>> seen = fit_picture(wide, ImagesConfig(images="x", pixels=20))
    >>> int((seen[0, :, 10] == 255).sum())
    10
    """
    image = picture.image.convert("L" if config.channels == 1 else "RGB")
    if isinstance(config.crop, tuple):
        image = image.crop(box_edges(image.size, config.crop))
    side = config.pixels
    scale = side / max(image.size)
    width, height = (max(1, round(length * scale)) for length in image.size)
    if (width, height) != image.size:
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    seen = np.zeros((side, side, config.channels), dtype=np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    seen[top : top + height, left : left + width] = np.asarray(image).reshape(height, width, -1)
    return np.ascontiguousarray(seen.transpose(2, 0, 1))


def box_edges(size: tuple[int, int], shares: tuple[float, float]) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom of a central box, in pixels.

    Parameters
    ----------
    size : (2,) int
        Width and height of the image.
    shares : (2,) float
        Of its height and width.
    """
    (width, height), (tall, wide) = size, shares
    kept = max(1, round(wide * width)), max(1, round(tall * height))
    left, top = (width - kept[0]) // 2, (height - kept[1]) // 2
    return left, top, left + kept[0], top + kept[1]
