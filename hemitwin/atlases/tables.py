"""Tab-separated tables as BIDS wants them."""

from pathlib import Path

import pandas as pd

from hemitwin._atomic import atomic_path
from hemitwin.atlases.regions import Region

__all__ = ["save_dseg_table", "save_table"]


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
        One row each: index, name, color, hemisphere, partner, cortex.
    """
    columns = ("index", "name", "color", "hemisphere", "partner", "cortex")
    rows = [{column: getattr(region, column) for column in columns} for region in regions]
    save_table(path, pd.DataFrame(rows, columns=list(columns)))
