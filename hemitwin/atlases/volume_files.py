"""Volumes and label volumes from NIfTI files, or from FreeSurfer's."""

from pathlib import Path
from typing import cast

import nibabel as nib
import numpy as np
from jaxtyping import Float, Int32
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import SpatialImage
from nibabel.wrapstruct import WrapStructError

from hemitwin._error_text import error_text
from hemitwin._shapes import Affine

__all__ = ["load_labels", "load_volumes"]

_ROUNDING = 1e-3


def load_labels(path: Path) -> tuple[Int32[np.ndarray, " x y z"], Affine]:
    """Read a label volume: NIfTI, or FreeSurfer's MGH.

    Parameters
    ----------
    path : Path
        ``.nii``, ``.nii.gz``, ``.mgz`` or ``.mgh``.

    Returns
    -------
    labels : (x, y, z) int32
        As stored; what a scale factor has moved off by up to 0.001 is rounded, and NaN is 0.
    affine : (4, 4) float
        Voxel index to RAS+ mm.

    Raises
    ------
    ValueError
        When the file cannot be read, is not 3D, or holds anything but whole numbers.
    """
    values, affine = _read(path)
    while values.ndim > 3 and values.shape[-1] == 1:
        values = values[..., 0]
    values = np.where(np.isnan(values), 0, values)
    whole = np.rint(values)
    near = np.isfinite(values) & np.isclose(values, whole, rtol=0, atol=_ROUNDING)
    if values.ndim != 3 or not near.all():
        msg = (
            f"{path} must hold whole numbers on three axes, got shape {values.shape}; name a "
            f"label volume, not probabilities"
        )
        raise ValueError(msg)
    return whole.astype(np.int32), affine


def load_volumes(path: Path) -> tuple[Float[np.ndarray, " n x y z"], Affine]:
    """Read a volume, or a series of them.

    Parameters
    ----------
    path : Path
        ``.nii``, ``.nii.gz``, ``.mgz`` or ``.mgh``, of three or four axes.

    Returns
    -------
    volumes : (n, x, y, z) float32
        One of a 3D file.
    affine : (4, 4) float
        Voxel index to RAS+ mm.

    Raises
    ------
    ValueError
        When the file cannot be read, or has other axes.
    """
    values, affine = _read(path)
    if values.ndim not in {3, 4}:
        msg = f"{path} must have three or four axes, got shape {values.shape}; take a volume out"
        raise ValueError(msg)
    series = values[None] if values.ndim == 3 else np.moveaxis(values, -1, 0)
    return np.ascontiguousarray(series, dtype=np.float32), affine


def _read(path: Path) -> tuple[np.ndarray, Affine]:
    try:
        image = cast("SpatialImage", nib.load(path))
        values = np.asarray(image.dataobj)
    except (OSError, EOFError, ValueError, ImageFileError, WrapStructError) as error:
        msg = f"{path} must be a readable volume ({error_text(error)}); copy it again"
        raise ValueError(msg) from error
    return values, np.asarray(image.affine, dtype=float)
