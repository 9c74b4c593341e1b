"""Gaussian smoothing of volumes, in millimetres."""

import numpy as np
from jaxtyping import Float, Num
from scipy import ndimage

from hemitwin._shapes import Affine
from hemitwin.atlases._kernel_width import sigma_of
from hemitwin.atlases.world import check_affine, check_volume

__all__ = ["smooth_volume"]

_MOST_SHEAR = 1e-4


def smooth_volume(
    volume: Num[np.ndarray, " x y z"], affine: Affine, fwhm_mm: float
) -> Float[np.ndarray, " x y z"]:
    """Smooth a volume by a Gaussian that is round in millimetres, whatever the voxels.

    The background is smoothed like the rest and what lies beyond the grid is 0, so the sum, which
    for relevance is the explained score, is kept but for what flows over the grid's edge.

    Parameters
    ----------
    volume : (x, y, z) array
        Values per voxel.
    affine : (4, 4) float
        Voxel index to RAS+ mm; rotated, mirrored and with voxels of any lengths, not sheared.
    fwhm_mm : float
        Full width of the kernel at half its maximum, in millimetres.

    Returns
    -------
    (x, y, z) float32

    Raises
    ------
    ValueError
        When the width is not positive, the volume not finite and 3D, or the affine sheared.

    Examples
    --------
    >>> volume = np.zeros((11, 11, 11))
    >>> volume[5, 5, 5] = 1
    >>> smoothed = smooth_volume(volume, np.diag([1.0, 2.0, 2.0, 1.0]), 3.0)
    >>> round(float(smoothed.sum()), 4), bool(smoothed[7, 5, 5] == smoothed[5, 5, 5])
    (1.0, False)
    """
    sigma = sigma_of(fwhm_mm)
    check_volume(volume)
    check_affine(affine)
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    axes = affine[:3, :3] / lengths
    if not np.allclose(axes.T @ axes, np.eye(3), atol=_MOST_SHEAR):
        msg = (
            "affine must have voxel axes at right angles, got a sheared one: "
            f"{affine.tolist()}; resample the volume to a grid without shear first"
        )
        raise ValueError(msg)
    smoothed: np.ndarray = ndimage.gaussian_filter(
        volume.astype(np.float64), sigma / lengths, mode="constant"
    )
    return smoothed.astype(np.float32)
