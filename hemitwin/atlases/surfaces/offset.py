"""From the space of the group's surfaces to that of the symmetric template."""

import functools
from importlib import resources

import numpy as np
from jaxtyping import Float, Float32

from hemitwin._shapes import Affine
from hemitwin.atlases.world import sample_at

__all__ = ["template_from_fslr"]


def template_from_fslr(points_mm: Float[np.ndarray, " n 3"]) -> Float32[np.ndarray, " n 3"]:
    """Move points of MNI152NLin6Asym, where the S1200 surfaces lie, to the symmetric template.

    A smooth field, from a diffeomorphic registration of the tissue between and below the surfaces
    to the template's grey and white matter (``benchmarks/surface_offset.py`` makes and judges it).
    It is guided by the cortex: deep structures move along.

    Parameters
    ----------
    points_mm : (n, 3) float
        RAS+ mm of MNI152NLin6Asym.

    Returns
    -------
    (n, 3) float32
        RAS+ mm of `TEMPLATE_SPACE`.

    Examples
    --------
    >>> points = np.array([[-30.0, 20.0, 40.0], [300.0, 0.0, 0.0]])
    >>> np.abs(template_from_fslr(points) - points).max(axis=1) < (6, 0.001)
    array([ True,  True])
    """
    axes, affine = _field()
    shift = np.stack([sample_at(axis, affine, points_mm) for axis in axes], axis=1)
    moved: np.ndarray = (points_mm + shift).astype(np.float32)
    return moved


@functools.cache
def _field() -> tuple[tuple[Float32[np.ndarray, " x y z"], ...], Affine]:
    path = resources.files("hemitwin.atlases").joinpath("data/fslr_offset.npz")
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
        affine = archive["affine"]
        field = archive["steps"].astype(np.float32) * archive["step_mm"].astype(np.float32)
    return tuple(np.ascontiguousarray(field[..., axis]) for axis in range(3)), affine
