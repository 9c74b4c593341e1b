"""The symmetric template on an even grid whose mid-plane lies between voxels."""

import functools
import math
from dataclasses import dataclass

import numpy as np
from nilearn.datasets import load_mni152_gm_template, load_mni152_template, load_mni152_wm_template
from scipy import ndimage

from hemitwin._names import TEMPLATE_SPACE
from hemitwin._shapes import Affine, Grid
from hemitwin.atlases.world import check_affine, regrid_values

__all__ = ["TEMPLATE_SPACE", "TemplateImage", "load_template", "template_grid", "template_on_grid"]

_FIELD_MM = ((-88.0, 88.0), (-121.0, 87.0), (-73.0, 87.0))
_LOADERS = {
    "T1w": load_mni152_template,
    "gm": load_mni152_gm_template,
    "wm": load_mni152_wm_template,
}


@dataclass(frozen=True, eq=False)
class TemplateImage:
    """A template's values with the affine of their grid.

    Attributes
    ----------
    data : (x, y, z) float32
        Values in 0..1, RAS+ order.
    affine : (4, 4) float
        Voxel index to RAS+ mm of `TEMPLATE_SPACE`.
    """

    data: Grid
    affine: Affine


def template_grid(resolution_mm: float = 2.0) -> tuple[tuple[int, int, int], Affine]:
    """Lay an even grid over the template's brain, symmetric about x = 0.

    The field of view is 176 x 208 x 160 mm: 15.5 mm beside, 13.5 mm before and behind and 4.5 mm
    above the template's brain. Below, the template itself ends (brain stem only) at the edge.
    Real brains that fill the template's volume may be wider and longer than it. Every axis, and
    half the first, can be halved log2(8 / `resolution_mm`) times.

    Parameters
    ----------
    resolution_mm : float
        Edge of the cubic voxels.

    Returns
    -------
    shape : tuple of int
        (88, 104, 80) at 2 mm, (44, 52, 40) at 4 mm.
    affine : (4, 4) float
        Voxel index to RAS+ mm of `TEMPLATE_SPACE`; x centres are -87 ... -1, 1 ... 87 at 2 mm.

    Raises
    ------
    ValueError
        When the resolution is not within 0.5 to 8 mm.

    Examples
    --------
    >>> shape, affine = template_grid(4.0)
    >>> shape, affine[:3, 3].tolist()
    ((44, 52, 40), [-86.0, -119.0, -71.0])
    """
    if not 0.5 <= resolution_mm <= 8:
        msg = f"resolution_mm must lie in 0.5 to 8, got {resolution_mm}; 2 is the usual choice"
        raise ValueError(msg)
    multiple = 2 ** int(math.log2(8 / resolution_mm))
    (x0, x1), *rest = _FIELD_MM
    half = _round_up((x1 - x0) / 2 / resolution_mm, multiple)
    y, z = (_round_up((high - low) / resolution_mm, multiple) for low, high in rest)
    shape = (2 * half, y, z)
    centre = np.array([(low + high) / 2 for low, high in _FIELD_MM])
    affine = np.diag([resolution_mm] * 3 + [1.0])
    affine[:3, 3] = centre - (np.array(shape) - 1) / 2 * resolution_mm
    return shape, affine


def load_template(resolution_mm: float = 2.0, *, kind: str = "T1w") -> TemplateImage:
    """Load nilearn's bundled symmetric template on the even grid of `template_grid`.

    Parameters
    ----------
    resolution_mm : float
        Edge of the cubic voxels.
    kind : str
        "T1w" (skull-stripped, background exactly 0), "gm" or "wm" (tissue probability).

    Returns
    -------
    TemplateImage
        Float32 values in 0..1. Equal to its own mirror image along x.

    Raises
    ------
    ValueError
        When the resolution or the kind is unknown.
    """
    shape, affine = template_grid(resolution_mm)
    return TemplateImage(template_on_grid(shape, affine, kind=kind), affine)


def template_on_grid(shape: tuple[int, int, int], affine: Affine, *, kind: str = "T1w") -> Grid:
    """Resample the bundled template onto any grid of its world.

    The 1 mm image is smoothed to the target's voxel size first, so that coarse grids show means
    and not single voxels; the T1w image is smoothed within the brain only, which keeps its edge.

    Parameters
    ----------
    shape, affine
        The grid: voxels per axis, and voxel index to RAS+ mm of `TEMPLATE_SPACE`.
    kind : str
        "T1w", "gm" or "wm".

    Returns
    -------
    (x, y, z) float32
        0 outside the template.

    Raises
    ------
    ValueError
        When the kind is unknown or the affine is singular.
    """
    check_affine(affine)
    if kind not in _LOADERS:
        msg = f"kind must be one of {sorted(_LOADERS)}, got {kind!r}; choose one of them"
        raise ValueError(msg)
    voxel_mm = round(float(abs(np.linalg.det(affine[:3, :3])) ** (1 / 3)), 6)
    smoothed = _smoothed(kind, voxel_mm)
    values = regrid_values(smoothed.data, smoothed.affine, shape, affine)
    if kind != "T1w":
        return values
    inside = _smoothed("T1w", voxel_mm, inside=True)
    share = regrid_values(inside.data, inside.affine, shape, affine)
    return np.where(share > 0.5, values / np.maximum(share, 0.5), 0).astype(np.float32)


@functools.lru_cache(maxsize=3)  # 33 MB each: the scans of a cohort have few sizes of voxels
def _smoothed(kind: str, voxel_mm: float, *, inside: bool = False) -> TemplateImage:
    """Blur 1 mm voxels to the width of larger ones (FWHM added in quadrature)."""
    image = _LOADERS[kind](resolution=1)
    data = np.clip(np.asarray(image.dataobj, dtype=np.float32), 0, 1)
    if inside:
        data = (data > 0).astype(np.float32)
    if voxel_mm > 1:
        sigma = math.sqrt(voxel_mm**2 - 1) / 2.355
        data = ndimage.gaussian_filter(data, sigma, mode="constant")
    data.setflags(write=False)
    return TemplateImage(data, image.affine)


def _round_up(number: float, multiple: int) -> int:
    return math.ceil(round(number / multiple, 6)) * multiple
