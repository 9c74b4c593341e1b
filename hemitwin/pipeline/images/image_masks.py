"""Masks of images: a file for each, called as its image is."""

from dataclasses import dataclass, replace
from pathlib import Path, PurePath

import numpy as np
from PIL import Image

from hemitwin.pipeline.images.image_listing import files_below
from hemitwin.pipeline.images.picture import Picture, open_picture
from hemitwin.pipeline.stage.errors import UserError

__all__ = ["ImageMasks"]

_ENDING = "_mask"


@dataclass(frozen=True)
class ImageMasks:
    """The masks in a folder.

    Parameters
    ----------
    folder : Path
        Where they are looked for.
    by_name : mapping of str to Path
        By path from the folder, without suffix and without an ending ``_mask``.
    """

    folder: Path
    by_name: dict[str, Path]

    @classmethod
    def below(cls, folder: Path) -> "ImageMasks":
        """List a folder to any depth; a file that ends in ``_mask`` goes before one that does not.

        Raises
        ------
        UserError
            It is no folder, or has no image.
        """
        files, _ = files_below(folder)
        if not files:
            msg = f"masks must be images in a folder, but {folder} has none; name another"
            raise UserError(msg)
        by_name: dict[str, Path] = {}
        for path in sorted(files, key=lambda path: path.stem.endswith(_ENDING)):
            by_name[_plain(path.relative_to(folder))] = path
        return cls(folder, by_name)

    def find(self, name: str) -> Path | None:
        """Return the file of an image's mask; None without one.

        It lies where the image does, as seen from both folders, or right in the folder of masks.
        """
        plain = _plain(PurePath(name))
        return self.by_name.get(plain) or self.by_name.get(PurePath(plain).name)

    def mask_of(self, name: str, size: tuple[int, int]) -> Picture:
        """Read the mask of an image, as a picture of 0 and 255.

        Parameters
        ----------
        name : str
            The image's.
        size : (2,) int
            The image's width and height, in pixels.

        Raises
        ------
        UserError
            There is none, it cannot be read, or it has another size than the image.
        """
        path = self.find(name)
        if path is None:
            msg = f"an image must have its mask in {self.folder}, called as the image; it has none"
            raise UserError(msg)
        picture = open_picture(path)
        if picture.image.size != tuple(size):
            msg = f"a mask must have its image's size {tuple(size)}, got {picture.image.size}"
            raise UserError(msg)
        values = np.asarray(picture.image.convert("L"))
        # Files hold 0 and 1 as often as 0 and 255, and lossy ones a little of everything.
        inside = (values > values.max() / 2).astype(np.uint8) * 255
        return replace(picture, image=Image.fromarray(inside))

    def keep(self, picture: Picture, name: str) -> Picture:
        """Return an image with black outside its mask."""
        mask = self.mask_of(name, picture.image.size).image
        black = Image.new(picture.image.mode, picture.image.size)
        return replace(picture, image=Image.composite(picture.image, black, mask))


def _plain(path: PurePath) -> str:
    return path.with_suffix("").as_posix().removesuffix(_ENDING)
