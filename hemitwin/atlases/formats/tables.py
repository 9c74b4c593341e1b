"""Tab-separated tables as BIDS wants them."""

import re
from pathlib import Path

import pandas as pd

from hemitwin._atomic import atomic_path
from hemitwin._error_text import error_text
from hemitwin.atlases.formats.region_rows import regions_of_table
from hemitwin.atlases.regions import Region

__all__ = ["dseg_table_of", "read_dseg_table", "save_dseg_table", "save_table"]

_RESOLUTION = re.compile(r"_res-[a-zA-Z0-9]+")


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


def dseg_table_of(volume: Path) -> Path:
    """Name the look-up table of a label image: the file beside it with its name and ``.tsv``.

    Parameters
    ----------
    volume : Path
        Ends in ``.nii``, ``.nii.gz`` or ``.mgz``.

    Returns
    -------
    Path
        Where that is not there but the table of all resolutions is, as BIDS and TemplateFlow have
        it, the latter.

    Examples
    --------
    >>> dseg_table_of(Path("sub-01_dseg.nii.gz")).name
    'sub-01_dseg.tsv'
    """
    stem = re.sub(r"(?:\.nii(?:\.gz)?|\.mg[zh])$", "", volume.name)
    own, common = (
        volume.with_name(f"{name}.tsv") for name in (stem, _RESOLUTION.sub("", stem, count=1))
    )
    return common if common.is_file() and not own.is_file() else own


def read_dseg_table(path: Path) -> tuple[Region, ...]:
    """Read the look-up table of a label image (BIDS `_dseg.tsv`).

    Parameters
    ----------
    path : Path
        Tab-separated; columns index and name, and color, hemisphere, partner, cortex and network
        where there are (`regions_of_table`). A row of index 0 (background) is passed over.

    Returns
    -------
    tuple of Region

    Raises
    ------
    ValueError
        When a column is missing, indices or names are missing, no whole numbers, or repeated, or a
        hemisphere or colour cannot be understood.
    """
    try:
        table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
        table["index"] = pd.to_numeric(table["index"], downcast="integer")
        names = [name.strip() for name in table["name"]]
    except (OSError, KeyError, ValueError, UnicodeDecodeError) as error:
        msg = (
            f"{path} must be a tab-separated table with index and name "
            f"({error_text(error)}); see BIDS dseg"
        )
        raise ValueError(msg) from error
    table["name"] = names
    table = table[table["index"] != 0]
    if "" in names or table["name"].duplicated().any() or table["index"].duplicated().any():
        msg = f"{path} must give each index one name of its own; complete it, or tell sides apart"
        raise ValueError(msg)
    if (table["index"] % 1 != 0).any():
        msg = f"{path} must have whole numbers as indices, got others or none; complete it"
        raise ValueError(msg)
    try:
        return regions_of_table(table)
    except ValueError as error:
        msg = f"{path}: {error}"
        raise ValueError(msg) from error
