"""Regions on the console: signed sums do not pass for shares of the map."""

import numpy as np
from rich.console import Console

from hemitwin.atlases import COLUMN_NOTES, Parcellation, Region, relevance_by_region
from hemitwin.pipeline.cli.regions import _largest_regions


def _map():
    """Two regions that nearly cancel, and much in no region: signed shares of 94 and 54 %."""
    volume = np.zeros((4, 4, 4), np.float32)
    volume[0] = 1.0
    volume[1] = -0.9
    volume[2] = 0.3
    labels = np.zeros((4, 4, 4), np.int32)
    labels[0], labels[1] = 1, 2
    regions = tuple(
        Region(k, f"{side}_R", side, f"{other}_R", None, "#000000")
        for k, side, other in ((1, "L", "R"), (2, "R", "L"))
    )
    parcellation = Parcellation(labels, np.eye(4), regions, "T1w")
    return relevance_by_region(volume, np.eye(4), parcellation, bias=1.0)


def _lines(table):
    console = Console(width=120, record=True)
    console.print(_largest_regions("sub-01", table))
    return console.export_text().splitlines()


def test_shares_on_the_console_are_of_the_positive_relevance_and_add_up():
    table = _map()
    lines = _lines(table)
    shares = [float(line.rsplit("│", 2)[1].strip(" %")) for line in lines if "%" in line]
    assert max(shares) <= 100
    # The regions, the other regions, and what lies in none.
    assert abs(sum(shares) - 100) < 0.2
    (unassigned,) = (k for k, line in enumerate(lines) if "unassigned" in line)
    assert all(k < unassigned for k, line in enumerate(lines) if "_R" in line)
    assert "─" in lines[unassigned - 1]
    assert table["share"].max() > 1


def test_a_map_without_positive_relevance_has_no_shares():
    table = _map().assign(positive=0.0)
    assert not any("%" in line for line in _lines(table))


def test_the_sums_on_the_console_add_up_to_the_score():
    table = _map()
    (last,) = (line for line in _lines(table) if "score" in line)
    assert f"{table['sum'].sum():.5f}" in last


def test_what_a_share_is_stands_beside_every_table_that_has_one():
    assert {"sum", "positive", "share"} <= set(_map().columns) & set(COLUMN_NOTES)
    assert "above 1 or below 0" in COLUMN_NOTES["share"]["Description"]
