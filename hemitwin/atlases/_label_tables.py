"""Names and colours by key, as GIFTI and CIFTI files hold them."""

from collections.abc import Mapping, Sequence

import pandas as pd

from hemitwin.atlases.region_rows import regions_of_table
from hemitwin.atlases.regions import Region

__all__ = ["Names", "hex_color", "regions_of_names"]

Names = Mapping[int, tuple[str, str]]
"""Name and colour by key."""


def regions_of_names(names: Names) -> tuple[Region, ...]:
    """Make a region of each key."""
    rows = [(key, *names[key]) for key in sorted(names)]
    return regions_of_table(pd.DataFrame(rows, columns=["index", "name", "color"]))


def hex_color(rgba: Sequence[float]) -> str:
    """Write a colour, from numbers up to 1, as "#rrggbb"."""
    return "#" + "".join(f"{round(255 * float(one)):02x}" for one in rgba[:3])
