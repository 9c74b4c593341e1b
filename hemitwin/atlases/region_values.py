"""Many maps over many regions in one pass."""

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import numpy as np
from jaxtyping import Float, Num
from scipy.sparse import csr_array

from hemitwin._shapes import Affine
from hemitwin.atlases.parcellation import Parcellation
from hemitwin.atlases.region_tables import row_of_label
from hemitwin.atlases.world import check_affine, regrid_labels

__all__ = ["region_values"]

_MOST_THREADS = 8


def region_values(
    maps: Num[np.ndarray, "maps x y z"],
    affine: Affine,
    parcellation: Parcellation,
    *,
    statistic: Literal["sum", "mean"] = "sum",
) -> Float[np.ndarray, "maps regions"]:
    """Sum or average maps on one grid over the regions of a parcellation, in world space.

    Each voxel takes the label at its centre, as in `relevance_by_region`; each map is read once,
    in the regions' voxels alone.

    Parameters
    ----------
    maps : (M, x, y, z) array
        On one grid.
    affine : (4, 4) float
        Voxel index to RAS+ mm of the parcellation's space.
    parcellation : Parcellation
        Its regions are the columns, in their order.
    statistic : {'sum', 'mean'}
        The mean is over the maps' voxels in a region, and not a number where there are none.

    Returns
    -------
    (M, regions) float64

    Raises
    ------
    ValueError
        When a map is not finite somewhere in a region, or the affine is singular.

    Examples
    --------
    >>> from hemitwin.atlases import hcpmmp_volume, template_grid
    >>> shape, affine = template_grid(8.0)
    >>> atlas = hcpmmp_volume(shape, affine, cache_dir=None)
    >>> found = region_values(np.ones((2, *shape)), affine, atlas)
    >>> bool(found.sum() == 2 * (atlas.labels > 0).sum())
    True
    """
    check_affine(affine)
    shape = (maps.shape[1], maps.shape[2], maps.shape[3])
    labels = regrid_labels(parcellation.labels, parcellation.affine, shape, affine).ravel()
    voxels = np.flatnonzero(labels)
    rows = row_of_label(parcellation)[labels[voxels]] - 1
    values = np.empty((len(maps), len(parcellation.regions)))
    ones = (np.ones(len(rows)), (rows, np.arange(len(rows))))
    adding = csr_array(ones, shape=(values.shape[1], len(rows)))

    def add_up(row: Float[np.ndarray, " regions"], one: Num[np.ndarray, " voxels"]) -> None:
        row[:] = adding @ one[voxels].astype(np.float64)

    # SciPy multiplies without the interpreter's lock: maps are summed beside each other.
    with ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1)) as pool:
        list(pool.map(add_up, values, maps.reshape(len(maps), -1)))
    # Seen in the sums: a pass over all voxels would take as long as the sums themselves.
    if not np.isfinite(values).all():
        msg = "maps must be finite in the regions, got NaN or infinity; replace them first"
        raise ValueError(msg)
    if statistic == "sum":
        return values
    count = np.bincount(rows, minlength=len(parcellation.regions))
    means: np.ndarray = np.divide(
        values, count, out=np.full(values.shape, np.nan), where=count > 0
    )
    return means
