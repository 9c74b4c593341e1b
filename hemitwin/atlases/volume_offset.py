"""From MNI152NLin6Asym to the symmetric template for volumes: cortex moves, deep parts stay."""

import functools

import numpy as np
from jaxtyping import Float
from scipy import ndimage

from hemitwin.atlases.grayordinates import load_grayordinates
from hemitwin.atlases.surfaces.offset import template_from_fslr
from hemitwin.atlases.templates import TemplateImage
from hemitwin.atlases.world import sample_at

__all__ = ["fslr_volume_from_template", "template_from_fslr_volume"]

_KEPT_MM, _FADING_MM = 2.0, 8.0
_LEAST_STEP_MM, _MOST_ROUNDS = 1e-3, 30

Points = Float[np.ndarray, " n 3"]


def template_from_fslr_volume(points_mm: Points) -> Points:
    """Move points of MNI152NLin6Asym to the symmetric template.

    The shift of `template_from_fslr` follows the cortex. In the 19 structures of the grayordinates
    there is none: moved along they would lie in less of the template's grey matter than as they
    are (``benchmarks/surface_offset.py``). It fades within 8 mm of them.

    Parameters
    ----------
    points_mm : (n, 3) float
        RAS+ mm of MNI152NLin6Asym.

    Returns
    -------
    (n, 3) float64
        RAS+ mm of `TEMPLATE_SPACE`.

    Examples
    --------
    >>> thalamus = np.array([[-10.0, -18.0, 8.0]])
    >>> template_from_fslr_volume(thalamus).tolist()
    [[-10.0, -18.0, 8.0]]
    """
    moving = _moving()
    share = sample_at(moving.data, moving.affine, points_mm)
    # Beyond the grid there is no cortex, and no shift either.
    shift = template_from_fslr(points_mm).astype(np.float64) - points_mm
    moved: np.ndarray = points_mm + share[:, None] * shift
    return moved


def fslr_volume_from_template(points_mm: Points) -> Points:
    """Move points of the symmetric template to MNI152NLin6Asym: the inverse, by iteration.

    Parameters
    ----------
    points_mm : (n, 3) float
        RAS+ mm of `TEMPLATE_SPACE`.

    Returns
    -------
    (n, 3) float64
        RAS+ mm of MNI152NLin6Asym.

    Examples
    --------
    >>> points = np.array([[-30.0, 20.0, 40.0], [12.0, -80.0, 5.0]])
    >>> there = fslr_volume_from_template(points)
    >>> bool(np.abs(template_from_fslr_volume(there) - points).max() < 0.01)
    True
    """
    found = points_mm.astype(np.float64)
    for _ in range(_MOST_ROUNDS):
        step = points_mm - template_from_fslr_volume(found)
        found = found + step
        if not step.size or np.abs(step).max() < _LEAST_STEP_MM:
            break
    return found


@functools.cache
def _moving() -> TemplateImage:
    """Return how much of the cortex' shift holds: 0 in the structures, 1 far from them."""
    places = load_grayordinates()
    outside = np.ones(places.shape, dtype=bool)
    outside[tuple(places.voxels.T)] = False
    distance = ndimage.distance_transform_edt(outside) * abs(places.affine[0, 0])
    share = np.clip((distance - _KEPT_MM) / _FADING_MM, 0, 1).astype(np.float32)
    return TemplateImage(share, places.affine)
