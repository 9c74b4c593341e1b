"""From a map over grayordinates to one row a region."""

import numpy as np
import pandas as pd
from jaxtyping import Float

from hemitwin.atlases.grayordinates import grayordinate_labels
from hemitwin.atlases.regions import hcpmmp_regions

__all__ = ["dense_by_region"]


def dense_by_region(values: Float[np.ndarray, " g"]) -> pd.DataFrame:
    """Sum a map over the grayordinates of each region.

    Parameters
    ----------
    values : (91282,) float
        One value per grayordinate; NaN where the map has none.

    Returns
    -------
    DataFrame
        One row a region: index, name, hemisphere, partner, cortex, n_grayordinates (that have a
        value), sum, positive (sum of the positive values), mean, share (of the sum over all), peak
        (the value of largest magnitude), peak_grayordinate (its number from 0), coverage (share of
        the region's grayordinates that have a value). Means are those of
        ``wb_command -cifti-parcellate`` where all have one.

    Raises
    ------
    ValueError
        When there are not 91282 values, or one is infinite.
    """
    labels = grayordinate_labels()
    if values.shape != labels.shape or np.isinf(values).any():
        msg = f"values must be 91282 numbers, NaN where there is none, got shape {values.shape}"
        raise ValueError(msg)
    known = ~np.isnan(values)
    filled = np.where(known, values, 0).astype(np.float64)
    length = len(hcpmmp_regions()) + 1
    count, total, positive = (
        np.bincount(labels, weights=one, minlength=length)[1:]
        for one in (known, filled, np.maximum(filled, 0))
    )
    peak, place = _peaks(filled, np.where(known, labels, 0), length)
    columns = ("index", "name", "hemisphere", "partner", "cortex")
    rows = [[getattr(region, column) for column in columns] for region in hcpmmp_regions()]
    table = pd.DataFrame(rows, columns=list(columns))
    table["n_grayordinates"] = count.astype(int)
    table["sum"], table["positive"] = total, positive
    table["mean"] = np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)
    table["share"] = total / total.sum() if total.sum() else np.nan
    table["peak"], table["peak_grayordinate"] = peak, pd.array(place, dtype="Int64")
    table["coverage"] = count / np.bincount(labels, minlength=length)[1:]
    return table


def _peaks(
    values: Float[np.ndarray, " g"], labels: np.ndarray, length: int
) -> tuple[Float[np.ndarray, " regions"], list[int | None]]:
    """Find each region's value of largest magnitude, and where it is."""
    order = np.lexsort((-np.abs(values), labels))
    present, first = np.unique(labels[order], return_index=True)
    peak, place = np.full(length, np.nan), [None] * length
    found: list[int | None] = list(place)
    for label, row in zip(present.tolist(), order[first].tolist(), strict=True):
        peak[label], found[label] = values[row], row
    return peak[1:], found[1:]
