"""Regions from the rows of a table, or from names by key: what these do not tell, names do."""

import colorsys
import re
from collections.abc import Hashable, Mapping, Sequence

import pandas as pd

from hemitwin.atlases.region_names import partner_name, side_of_name
from hemitwin.atlases.regions import Region

__all__ = ["Names", "hex_color", "regions_of_names", "regions_of_table"]

_GOLDEN = 0.618034
_SIDES = {"l": "L", "lh": "L", "left": "L", "r": "R", "rh": "R", "right": "R"}
_SIDES |= dict.fromkeys(("", "midline", "m", "both", "bilateral", "b", "lr", "none"), "midline")
_HEX = re.compile(r"#[0-9a-f]{6}")
_RGB = re.compile(r"\d{1,3}(?:(?:\s*,\s*|\s+)\d{1,3}){2}")

Row = Mapping[str, str]
Names = Mapping[int, tuple[str, str]]
"""Name and colour by key."""


def regions_of_table(table: pd.DataFrame) -> tuple[Region, ...]:
    """Make regions of a table's rows.

    Parameters
    ----------
    table : DataFrame
        Columns index and name; color ("#rrggbb", or three numbers up to 255), hemisphere (L, R,
        midline, and other words for them), partner, cortex and network where there are. In a
        column that is there, ``n/a`` is an answer: no partner, no side.

    Returns
    -------
    tuple of Region
        Side and partner are read out of the names where there is no column of them; missing
        colours are given, those of neighbours far apart.

    Raises
    ------
    ValueError
        When a hemisphere or a colour cannot be understood.

    Examples
    --------
    >>> table = pd.DataFrame({"index": [1, 2], "name": ["lh_V1", "rh_V1"]})
    >>> left, right = regions_of_table(table)
    >>> left.partner, right.hemisphere
    ('rh_V1', 'R')
    """
    cells = table.astype(object).where(table.notna(), "")
    rows = [_told(row) for row in cells.to_dict("records")]
    sides = {row["name"]: _hemisphere(row) for row in rows}
    return tuple(
        Region(
            index=int(row["index"]),
            name=row["name"],
            hemisphere=sides[row["name"]],
            partner=_partner(row, sides),
            cortex=_or_none(row, "cortex"),
            color=_color(row, number),
            network=_or_none(row, "network"),
        )
        for number, row in enumerate(rows)
    )


def _told(row: Mapping[Hashable, object]) -> Row:
    """Write a row in words; what a column does not tell is empty."""
    words = {str(key): str(value).strip() for key, value in row.items()}
    told = {key: "" if word == "n/a" else word for key, word in words.items()}
    return {**told, "name": words["name"]}


def _or_none(row: Row, column: str) -> str | None:
    return row.get(column) or None


def _hemisphere(row: Row) -> str:
    if "hemisphere" not in row:
        return side_of_name(row["name"])
    side = _SIDES.get(row["hemisphere"].lower())
    if side is None:
        msg = (
            f"a hemisphere must be L, R or midline, got {row['hemisphere']!r} for region "
            f"{row['index']} ({row['name']}); correct the table"
        )
        raise ValueError(msg)
    return side


def _partner(row: Row, sides: Mapping[str, str]) -> str | None:
    if "partner" in row:
        return row["partner"] if row["partner"] in sides else None
    other = partner_name(row["name"])
    # Where a column says that both are of one side, or of none, names do not overrule it.
    return other if {sides[row["name"]], sides.get(other or "")} == {"L", "R"} else None


def _color(row: Row, number: int) -> str:
    told = row.get("color", "").lower()
    if not told:
        rgb = colorsys.hsv_to_rgb(number * _GOLDEN % 1, 0.65, 0.9)
        return "#" + "".join(f"{round(255 * one):02x}" for one in rgb)
    if _HEX.fullmatch(told):
        return told
    parts = [int(part) for part in re.findall(r"\d+", told)] if _RGB.fullmatch(told) else []
    if not parts or max(parts) > 255:
        msg = (
            f"a colour must be #rrggbb or three numbers from 0 to 255, got {row['color']!r} for "
            f"region {row['index']} ({row['name']}); correct the table, or leave it empty"
        )
        raise ValueError(msg)
    return "#" + "".join(f"{part:02x}" for part in parts)


def regions_of_names(names: Names) -> tuple[Region, ...]:
    """Make a region of each key."""
    rows = [(key, *names[key]) for key in sorted(names)]
    return regions_of_table(pd.DataFrame(rows, columns=["index", "name", "color"]))


def hex_color(rgba: Sequence[float]) -> str:
    """Write a colour, from numbers up to 1, as "#rrggbb"."""
    return "#" + "".join(f"{round(255 * float(one)):02x}" for one in rgba[:3])
