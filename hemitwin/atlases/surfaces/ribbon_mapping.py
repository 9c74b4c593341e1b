"""Reading a volume through the whole thickness of the cortex."""

import numpy as np
from jaxtyping import Float, Num

from hemitwin._shapes import Affine
from hemitwin.atlases.surfaces.meshes import Surface
from hemitwin.atlases.world import check_affine, check_volume, sample_at

__all__ = ["project_through_ribbon"]

_LAYERS = 6


def project_through_ribbon(
    volume: Num[np.ndarray, " x y z"],
    affine: Affine,
    white: Surface,
    pial: Surface,
    *,
    layers: int = _LAYERS,
) -> Float[np.ndarray, " n"]:
    """Average a volume over each vertex's column, from the white to the pial surface.

    The column is the line between the two places of one vertex, cut into `layers` pieces of equal
    length, each read trilinearly in its middle: what ``mri_vol2surf --projfrac-avg`` of FreeSurfer
    and the depths of nilearn's ``vol_to_surf`` average, where fractions of the thickness are
    given. One layer is the reading at the midthickness.

    Parameters
    ----------
    volume : (x, y, z) array
        Values per voxel.
    affine : (4, 4) float
        Voxel index to RAS+ mm of the space the surfaces are in.
    white, pial : Surface
        Inner and outer surface of one side, with the same vertices.
    layers : int
        Points in each column.

    Returns
    -------
    (n,) float32
        One value per vertex; points outside the field of view count as 0.

    Raises
    ------
    ValueError
        When the surfaces are not white and pial of one mesh, or there is no layer.
    """
    check_volume(volume)
    check_affine(affine)
    _check(white, pial, layers)
    depths = (np.arange(layers) + 0.5) / layers
    inner, outer = (one.vertices.astype(np.float64) for one in (white, pial))
    points = inner + depths[:, None, None] * (outer - inner)
    read = sample_at(volume, affine, points.reshape(-1, 3)).reshape(layers, -1)
    column: np.ndarray = read.mean(axis=0, dtype=np.float64).astype(np.float32)
    return column


def _check(white: Surface, pial: Surface, layers: int) -> None:
    kinds, sides = (white.kind, pial.kind), {white.hemisphere, pial.hemisphere}
    alike = white.faces.shape == pial.faces.shape and len(white.vertices) == len(pial.vertices)
    if kinds != ("white", "pial") or len(sides) != 1 or not alike:
        msg = (
            f"a ribbon must lie between the white and the pial surface of one mesh, got {kinds} "
            f"of {sorted(sides)} with {len(white.vertices)} and {len(pial.vertices)} vertices; "
            "load both for the same side"
        )
        raise ValueError(msg)
    if layers < 1:
        msg = f"layers must be 1 or more, got {layers}; 6 is the usual choice"
        raise ValueError(msg)
