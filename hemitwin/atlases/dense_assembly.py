"""Putting the 91282 grayordinates together from both cortices and a volume."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Num

from hemitwin._shapes import Affine
from hemitwin.atlases.grayordinates import load_grayordinates, subcortex_centres
from hemitwin.atlases.world import sample_at

__all__ = ["assemble_dense", "spread_cortex"]


def assemble_dense(
    cortex: Mapping[str, Float[np.ndarray, " n"]],
    volume: Num[np.ndarray, " x y z"],
    affine: Affine,
    centres_mm: Float[np.ndarray, "v 3"] | None = None,
) -> Float[np.ndarray, " g"]:
    """Take the cortex from values at vertices, and the rest from a volume.

    As `grayordinates_from_volume`, for a cortex that was read at other surfaces than the group's.

    Parameters
    ----------
    cortex : mapping of str to (32492,) float
        "L" and "R": a value for each fsLR 32k vertex; those of the medial wall are left out.
    volume : (x, y, z) array
        Read trilinearly at the centres of the subcortical voxels.
    affine : (4, 4) float
        Voxel index to RAS+ mm.
    centres_mm : (31870, 3) float, optional
        Where the subcortical voxels' centres lie in the volume's space; by default where they lie
        in the template.

    Returns
    -------
    (91282,) float32

    Raises
    ------
    ValueError
        When a side has not 32492 values.
    """
    places = load_grayordinates()
    parts = []
    for side in ("L", "R"):
        if cortex[side].shape != (places.n_vertices,):
            msg = (
                f"cortex {side} must have {places.n_vertices} values, got shape "
                f"{cortex[side].shape}; read them at a fsLR 32k surface"
            )
            raise ValueError(msg)
        parts.append(cortex[side][places.vertices(side)])
    places_mm = subcortex_centres() if centres_mm is None else centres_mm
    dense = np.concatenate([*parts, sample_at(volume, affine, places_mm)])
    return dense.astype(np.float32)


def spread_cortex(dense: Float[np.ndarray, " g"], hemisphere: str) -> Float[np.ndarray, " n"]:
    """Give one side's values back to its vertices; the medial wall is 0.

    Parameters
    ----------
    dense : (91282,) float
        One value per grayordinate.
    hemisphere : str
        "L" or "R".

    Returns
    -------
    (32492,) float

    Raises
    ------
    ValueError
        When the hemisphere is neither L nor R.
    """
    places = load_grayordinates()
    values = np.zeros(places.n_vertices, dtype=dense.dtype)
    values[places.vertices(hemisphere)] = dense[places.cortex(hemisphere)]
    return values
