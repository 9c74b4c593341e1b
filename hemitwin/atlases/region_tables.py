"""From a relevance map to numbers with names: one row a region, and nothing left out."""

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int, Num

from hemitwin._shapes import Affine
from hemitwin.atlases.parcellation import Parcellation
from hemitwin.atlases.world import check_affine, check_volume, regrid_labels

__all__ = ["COLUMN_NOTES", "asymmetry_by_pair", "relevance_by_region", "row_of_label"]

COLUMN_NOTES = {
    "sum": {"Description": "Sum of the signed values; all rows add up to the whole"},
    "positive": {
        "Description": "Sum of the positive values alone; sum less positive is the negative part"
    },
    "share": {
        "Description": "sum over the sum of all rows. Values of either sign cancel in both: a "
        "share may be above 1 or below 0, and is no share of what is large in the map; for that "
        "take positive over the sum of positive"
    },
}
"""What columns of a region table are that could be mistaken, for a sidecar."""

_UNASSIGNED, _BIAS, _STABILISER = 0, -1, -2


_COLUMNS = (
    "index",
    "name",
    "hemisphere",
    "partner",
    "cortex",
    "n_voxels",
    "volume_mm3",
    "sum",
    "positive",
    "mean",
    "share",
    "peak",
    "peak_x_mm",
    "peak_y_mm",
    "peak_z_mm",
    "coverage",
    "nearest_region",
    "nearest_mm",
)


def relevance_by_region(
    volume: Num[np.ndarray, " x y z"],
    affine: Affine,
    parcellation: Parcellation,
    *,
    bias: float = 0.0,
    stabiliser: float = 0.0,
    known: Bool[np.ndarray, " x y z"] | None = None,
) -> pd.DataFrame:
    """Sum a relevance map over the regions of a parcellation, in world space.

    The map is left as it is: each of its voxels takes the label at its centre. So every voxel is
    counted once under any affine, and the column `sum` adds up to
    ``volume.sum() + bias + stabiliser``, the explained score.

    Parameters
    ----------
    volume : (x, y, z) array
        Relevance per voxel, signed.
    affine : (4, 4) float
        Voxel index to RAS+ mm of the parcellation's space.
    parcellation : Parcellation
        Build it on the map's own grid, or a finer one, where possible.
    bias, stabiliser : float
        What the ledger booked outside the input.
    known : (x, y, z) bool, optional
        The voxels that have a value: the others are counted nowhere, and their places are as if
        outside the field of view. All by default.

    Returns
    -------
    DataFrame
        One row a region, then `unassigned` (index 0: white matter and background), `bias` (-1) and
        `stabiliser` (-2). Columns: index, name, hemisphere, partner, cortex; n_voxels (of the
        map); volume_mm3; sum; positive (sum of the positive values); mean; share (of the signed
        total: above 1 or below 0 where values of either sign cancel);
        peak (the value of largest magnitude) with peak_x_mm, peak_y_mm, peak_z_mm (RAS+); coverage
        (share of the region's own volume inside the map's field of view); nearest_region and
        nearest_mm (for the peak of `unassigned`: the nearest region's name, and the distance to
        its nearest voxel centre). What does not apply is missing.

    Raises
    ------
    ValueError
        When the volume is not finite and 3D, or the affine singular.
    """
    known = np.ones(volume.shape, dtype=bool) if known is None else known
    volume = np.where(known, volume, 0)
    check_volume(volume)
    check_affine(affine)
    rows = _row_numbers(volume.shape, affine, parcellation)
    table = _names(parcellation)
    n_rows = len(parcellation.regions) + 1
    statistics = _statistics(volume[known], rows[known.ravel()], n_rows)
    statistics |= _peaks(volume, np.where(known.ravel(), rows, n_rows), n_rows, affine)
    # Row 0 is the unassigned rest in counting, and comes after the regions in the table.
    order = np.r_[1:n_rows, 0]
    counted = pd.DataFrame({name: column[order] for name, column in statistics.items()})
    table = pd.concat([table, counted], axis=1)
    table["volume_mm3"] = table["n_voxels"] * abs(np.linalg.det(affine[:3, :3]))
    table["coverage"] = [*_coverage(known, affine, parcellation), np.nan]
    table = pd.concat([table, _ledger_rows(bias, stabiliser)], ignore_index=True)
    total = table["sum"].sum()
    table["share"] = table["sum"] / total if total else np.nan
    table["n_voxels"] = table["n_voxels"].astype("Int64")
    return _name_nearest(table, parcellation)[list(_COLUMNS)]


def asymmetry_by_pair(table: pd.DataFrame) -> pd.DataFrame:
    """Set the two sides of each homotopic pair beside each other.

    Positive parts are compared, because a normalised index of signed relevance is not bounded and
    saturates where the sides cancel.

    Parameters
    ----------
    table : DataFrame
        From `relevance_by_region`.

    Returns
    -------
    DataFrame
        One row a pair: left, right (names), cortex, positive_left, positive_right, difference
        (left minus right), largest absolute difference first.

    Raises
    ------
    ValueError
        When the table lacks a column.
    """
    needed = {"name", "hemisphere", "partner", "cortex", "positive"}
    if missing := sorted(needed - set(table.columns)):
        msg = f"table must come from relevance_by_region, columns missing: {missing}"
        raise ValueError(msg)
    left = table[(table["hemisphere"] == "L") & table["partner"].notna()]
    right = table.set_index("name").loc[left["partner"]]
    pairs = pd.DataFrame(
        {
            "left": left["name"].to_numpy(),
            "right": left["partner"].to_numpy(),
            "cortex": left["cortex"].to_numpy(),
            "positive_left": left["positive"].to_numpy(),
            "positive_right": right["positive"].to_numpy(),
        }
    )
    pairs["difference"] = pairs["positive_left"] - pairs["positive_right"]
    order = pairs["difference"].abs().sort_values(ascending=False, kind="stable").index
    return pairs.loc[order].reset_index(drop=True)


def _row_numbers(
    shape: tuple[int, int, int], affine: Affine, parcellation: Parcellation
) -> Int[np.ndarray, " n"]:
    """Look up, for each map voxel, the row of its region counted from 1; 0 is no region."""
    labels = regrid_labels(parcellation.labels, parcellation.affine, shape, affine)
    rows: np.ndarray = row_of_label(parcellation)[labels.ravel()]
    return rows


def row_of_label(parcellation: Parcellation) -> Int[np.ndarray, " labels"]:
    """Give each label the row of its region counted from 1; 0 is no region."""
    position = np.zeros(max((r.index for r in parcellation.regions), default=0) + 1, dtype=int)
    for number, region in enumerate(parcellation.regions, start=1):
        position[region.index] = number
    return position


def _names(parcellation: Parcellation) -> pd.DataFrame:
    columns = ("index", "name", "hemisphere", "partner", "cortex")
    rows = [[getattr(region, column) for column in columns] for region in parcellation.regions]
    rows.append([_UNASSIGNED, "unassigned", None, None, None])
    return pd.DataFrame(rows, columns=list(columns))


def _statistics(
    values: Num[np.ndarray, " n"], rows: Int[np.ndarray, " n"], n_rows: int
) -> dict[str, Float[np.ndarray, " rows"]]:
    values = values.astype(np.float64)
    count = np.bincount(rows, minlength=n_rows)
    total = np.bincount(rows, weights=values, minlength=n_rows)
    positive = np.bincount(rows, weights=np.maximum(values, 0), minlength=n_rows)
    mean = np.divide(total, count, out=np.full(n_rows, np.nan), where=count > 0)
    return {"n_voxels": count.astype(float), "sum": total, "positive": positive, "mean": mean}


def _peaks(
    volume: np.ndarray, rows: Int[np.ndarray, " n"], n_rows: int, affine: Affine
) -> dict[str, Float[np.ndarray, " rows"]]:
    """Find each row's value of largest magnitude; rows from `n_rows` on are passed over."""
    magnitude = np.abs(volume.ravel())
    largest = np.full(n_rows + 1, -1.0, dtype=magnitude.dtype)
    np.maximum.at(largest, rows, magnitude)
    candidates = np.flatnonzero((magnitude == largest[rows]) & (rows < n_rows))
    present, first = np.unique(rows[candidates], return_index=True)
    voxels = candidates[first]
    peak, places = np.full(n_rows, np.nan), np.full((n_rows, 3), np.nan)
    peak[present] = volume.ravel()[voxels]
    indices = np.stack(np.unravel_index(voxels, volume.shape), axis=1)
    places[present] = indices @ affine[:3, :3].T + affine[:3, 3]
    x, y, z = places.T
    return {"peak": peak, "peak_x_mm": x, "peak_y_mm": y, "peak_z_mm": z}


def _coverage(
    known: Bool[np.ndarray, " x y z"], affine: Affine, parcellation: Parcellation
) -> Float[np.ndarray, " regions"]:
    labels = parcellation.labels
    voxels = np.argwhere(labels > 0)
    found = labels[tuple(voxels.T)]
    matrix = np.linalg.inv(affine) @ parcellation.affine
    # A voxel reaches half its width beyond its centre.
    seen = np.floor(voxels @ matrix[:3, :3].T + matrix[:3, 3] + 0.5).astype(np.int64)
    inside = np.flatnonzero(((seen >= 0) & (seen < known.shape)).all(axis=1))
    inside = inside[known[tuple(seen[inside].T)]]
    length = max((r.index for r in parcellation.regions), default=0) + 1
    whole = np.bincount(found, minlength=length)
    part = np.bincount(found[inside], minlength=length)
    share = np.divide(part, whole, out=np.full(length, np.nan), where=whole > 0)
    covered: np.ndarray = share[[region.index for region in parcellation.regions]]
    return covered


def _ledger_rows(bias: float, stabiliser: float) -> pd.DataFrame:
    rows = [(_BIAS, "bias", bias), (_STABILISER, "stabiliser", stabiliser)]
    return pd.DataFrame(rows, columns=["index", "name", "sum"])


def _name_nearest(table: pd.DataFrame, parcellation: Parcellation) -> pd.DataFrame:
    table["nearest_region"], table["nearest_mm"] = None, np.nan
    row = table.index[table["name"] == "unassigned"][0]
    peak = table.loc[row, ["peak_x_mm", "peak_y_mm", "peak_z_mm"]].to_numpy(dtype=float)
    voxels = np.argwhere(parcellation.labels > 0)
    if not len(voxels) or not np.isfinite(peak).all():
        return table
    centres = voxels @ parcellation.affine[:3, :3].T + parcellation.affine[:3, 3]
    distance = np.linalg.norm(centres - peak, axis=1)
    nearest = int(distance.argmin())
    label = int(parcellation.labels[tuple(voxels[nearest])])
    names = {region.index: region.name for region in parcellation.regions}
    table.loc[row, "nearest_region"] = names[label]
    table.loc[row, "nearest_mm"] = distance[nearest]
    return table
