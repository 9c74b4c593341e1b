"""Images and labels in one ``.npz``, under MedMNIST's keys."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from hemitwin.pipeline.cohort.split import Fold
from hemitwin.pipeline.images.image_listing import COLUMNS, Listing, listed
from hemitwin.pipeline.images.picture import picture_of_array
from hemitwin.pipeline.stage.errors import UserError, reading

__all__ = ["list_arrays"]

_FOLDS: Mapping[str, Fold] = {"train": "train", "val": "validation", "test": "test"}
_LAYOUT = (
    "train_images (n, rows, columns) or (n, rows, columns, 3) of uint8 and train_labels (n, 1) of "
    "whole numbers, and so for val and test"
)


def list_arrays(path: Path) -> Listing:
    """List the images of an ``.npz`` in MedMNIST's layout.

    Parameters
    ----------
    path : Path
        With ``train_images`` and ``train_labels``; those of ``val`` and ``test`` may be missing.

    Returns
    -------
    Listing
        Named after fold and place, ``train/00012``; classes are the labels' numbers.

    Raises
    ------
    UserError
        It has other keys, shapes or types, or several labels for an image.
    """
    arrays: list[np.ndarray] = []
    rows: list[tuple[str, str, str, str, str]] = []
    remedy = "save it again, or give the images as files"
    with reading(path, remedy), np.load(path) as content:
        if not {"train_images", "train_labels"} <= set(content.files):
            msg = f"{path} must hold {_LAYOUT}; got {listed(content.files)}; {remedy}"
            raise UserError(msg)
        for short, fold in _FOLDS.items():
            if f"{short}_images" not in content or f"{short}_labels" not in content:
                continue
            images, labels = content[f"{short}_images"], content[f"{short}_labels"]
            numbers = _checked(path, short, images, labels)
            arrays += list(images)
            names = [f"{short}/{place:05d}" for place in range(len(images))]
            rows += [
                (name, str(number), name, fold, "")
                for name, number in zip(names, numbers, strict=True)
            ]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return Listing(table, lambda place: picture_of_array(arrays[place]))


def _checked(path: Path, short: str, images: np.ndarray, labels: np.ndarray) -> list[int]:
    """Return the labels as numbers, if both arrays are as they must be."""
    grey, colour = images.ndim == 3, images.ndim == 4 and images.shape[-1] == 3
    flat = labels.reshape(len(labels), -1) if labels.ndim else labels
    fits = flat.shape == (len(images), 1) and np.isfinite(flat.astype(float)).all()
    if not (
        (grey or colour)
        and images.dtype == np.uint8
        and fits
        and (flat == np.floor(flat.astype(float))).all()
    ):
        msg = (
            f"{path} must hold {_LAYOUT}; got {short}_images {images.shape} of {images.dtype} and "
            f"{short}_labels {labels.shape} of {labels.dtype}; bring them into this layout"
        )
        raise UserError(msg)
    return [int(number) for number in flat[:, 0]]
