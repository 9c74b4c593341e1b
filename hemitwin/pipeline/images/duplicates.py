"""Copies of one image under several names: exact, or saved again, resized, brighter."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int, UInt8
from PIL import Image

from hemitwin.pipeline.images.image_set import ImageSet

__all__ = ["Duplicates", "find_duplicates"]

_SIDE = 28
_LIKENESS = 0.9
_FINER_SIDE = 40
_FINER_LIKENESS = 0.85
_ROWS_AT_ONCE = 1024


@dataclass(frozen=True, eq=False)
class Duplicates:
    """Pairs of images that are copies of each other.

    Parameters
    ----------
    pairs : (pairs, 2) int
        Places in the set, the smaller one first.
    exact : (pairs,) bool
        Whether all pixels of the files are the same; else nearly so.
    """

    pairs: Int[np.ndarray, "pairs 2"]
    exact: Bool[np.ndarray, " pairs"]

    def among(self, kept: Bool[np.ndarray, " n"]) -> "Duplicates":
        """Return the pairs of which both images are kept, at their new places."""
        places = np.cumsum(kept) - 1
        both = kept[self.pairs].all(axis=1)
        return Duplicates(places[self.pairs[both]], self.exact[both])


def find_duplicates(images: ImageSet) -> Duplicates:
    """Find pairs of images that show the same picture.

    Exact copies have one digest of their decoded pixels, whatever their formats. Near copies are
    alike in the fine: the second derivatives of versions of 28 x 28 pixels correlate by 0.9 and
    more, and those of 40 x 40 by 0.85 where the network sees as many. Two people's chests do not,
    nor do their brains, but for very few slices at one place in a template, although the versions
    themselves do. Of the derivatives the square roots are taken, with their signs: else a ruler,
    a black rim or a letter that lies in all images would make them alike.

    Parameters
    ----------
    images : ImageSet
        As the network sees them. Time and work grow with the square of their number: 10,000 take
        seconds, in blocks of a thousand rows.
    """
    fine = np.stack([_fine(picture, _SIDE) for picture in images.pixels])
    numbers = np.unique(images.table["digest"].to_numpy(dtype=str), return_inverse=True)[1]
    found: list[Int[np.ndarray, "pairs 2"]] = []
    for start in range(0, len(fine), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        alike = fine[rows] @ fine[start:].T >= _LIKENESS
        alike |= numbers[rows, None] == numbers[start:]
        found.append(np.argwhere(np.triu(alike, k=1)) + start)
    pairs = np.concatenate(found)
    exact = numbers[pairs[:, 0]] == numbers[pairs[:, 1]]
    kept = exact | _alike_in_the_finer(images.pixels, pairs)
    return Duplicates(pairs[kept], exact[kept])


def _alike_in_the_finer(
    pixels: UInt8[np.ndarray, "n channels rows columns"], pairs: Int[np.ndarray, "pairs 2"]
) -> Bool[np.ndarray, " pairs"]:
    """Look at pairs again, in larger versions, where there is more to be seen."""
    if min(pixels.shape[2:]) < _FINER_SIDE or not len(pairs):
        return np.ones(len(pairs), dtype=bool)
    places, rows = np.unique(pairs, return_inverse=True)
    fine = np.stack([_fine(pixels[place], _FINER_SIDE) for place in places])
    one, other = fine[rows.reshape(pairs.shape)].transpose(1, 0, 2)
    return np.asarray((one * other).sum(axis=1) >= _FINER_LIKENESS)


def _fine(
    picture: UInt8[np.ndarray, "channels rows columns"], side: int
) -> Float32[np.ndarray, " values"]:
    """Return signed roots of the second derivatives of a small version, with a norm of 1."""
    grey = picture[0] if len(picture) == 1 else picture.mean(axis=0).astype(np.uint8)
    small = Image.fromarray(grey).resize((side, side), Image.Resampling.BOX)
    values = np.pad(np.asarray(small, dtype=np.float32), 1, mode="edge")
    around = values[2:, 1:-1] + values[:-2, 1:-1] + values[1:-1, 2:] + values[1:-1, :-2]
    curved = (4 * values[1:-1, 1:-1] - around).ravel()
    roots = np.sign(curved) * np.sqrt(np.abs(curved))
    return roots / max(float(np.linalg.norm(roots)), 1e-6)
