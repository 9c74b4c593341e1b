"""Tab-separated tables as BIDS wants them."""

import colorsys
from pathlib import Path

import pandas as pd

from hemitwin._atomic import atomic_path
from hemitwin.atlases.region_names import partner_name, side_of_name
from hemitwin.atlases.regions import Region

__all__ = ["read_dseg_table", "regions_of_table", "save_dseg_table", "save_table"]

_GOLDEN = 0.618034
_MISSING = {"", "n/a"}


def save_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as `.tsv`, missing values as `n/a`, whole or not at all.

    Parameters
    ----------
    path : Path
        Ends in `.tsv`.
    table : DataFrame
        Its index is not written.

    Raises
    ------
    ValueError
        When the name does not end in `.tsv`.
    """
    if path.suffix != ".tsv":
        msg = f"a table's name must end in .tsv, got {path.name}; rename it"
        raise ValueError(msg)
    with atomic_path(path) as temporary:
        table.to_csv(temporary, sep="\t", index=False, na_rep="n/a", lineterminator="\n")


def save_dseg_table(path: Path, regions: tuple[Region, ...]) -> None:
    """Write the look-up table of a label image (BIDS `_dseg.tsv`).

    Parameters
    ----------
    path : Path
        Ends in `_dseg.tsv`.
    regions : tuple of Region
        One row each: index, name, color, hemisphere, partner, cortex, network.
    """
    columns = ("index", "name", "color", "hemisphere", "partner", "cortex", "network")
    rows = [{column: getattr(region, column) for column in columns} for region in regions]
    save_table(path, pd.DataFrame(rows, columns=list(columns)))


def read_dseg_table(path: Path) -> tuple[Region, ...]:
    """Read the look-up table of a label image (BIDS `_dseg.tsv`).

    Parameters
    ----------
    path : Path
        Tab-separated; columns index and name, and color, hemisphere, partner and cortex where
        there are: else sides and partners come from the names, and colours are given. A row of
        index 0 (background) is passed over.

    Returns
    -------
    tuple of Region

    Raises
    ------
    ValueError
        When a column is missing, or indices or names are missing, no numbers, or repeated.
    """
    try:
        table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
        table["index"] = pd.to_numeric(table["index"], downcast="integer")
        names = [name.strip() for name in table["name"]]
    except (OSError, KeyError, ValueError, UnicodeDecodeError) as error:
        msg = f"{path} must be a tab-separated table with index and name ({error}); see BIDS dseg"
        raise ValueError(msg) from error
    table["name"] = names
    table = table[table["index"] != 0]
    if "" in names or table["name"].duplicated().any() or table["index"].duplicated().any():
        msg = f"{path} must give each index one name of its own; complete it, or tell sides apart"
        raise ValueError(msg)
    return regions_of_table(table)


def regions_of_table(table: pd.DataFrame) -> tuple[Region, ...]:
    """Make regions of a table's rows.

    Parameters
    ----------
    table : DataFrame
        Columns index and name; color ("#rrggbb"), hemisphere ("L", "R", "midline"), partner and
        cortex where there are.

    Returns
    -------
    tuple of Region
        What the table does not tell of side and partner the names do; missing colours are given,
        those of neighbours far apart.

    Examples
    --------
    >>> table = pd.DataFrame({"index": [1, 2], "name": ["lh_V1", "rh_V1"]})
    >>> left, right = regions_of_table(table)
    >>> left.partner, right.hemisphere
    ('rh_V1', 'R')
    """
    known = set(table["name"])
    regions = []
    for number, row in enumerate(table.to_dict("records")):
        told = {
            column: str(value)
            for column, value in row.items()
            if isinstance(value, str) and value not in _MISSING
        }
        name = str(row["name"])
        partner = told.get("partner", partner_name(name))
        regions.append(
            Region(
                index=int(row["index"]),
                name=name,
                hemisphere=told.get("hemisphere", side_of_name(name)),
                partner=partner if partner in known else None,
                cortex=told.get("cortex"),
                color=told.get("color", _color(number)),
                network=told.get("network"),
            )
        )
    return tuple(regions)


def _color(number: int) -> str:
    rgb = colorsys.hsv_to_rgb(number * _GOLDEN % 1, 0.65, 0.9)
    return "#" + "".join(f"{round(255 * one):02x}" for one in rgb)
