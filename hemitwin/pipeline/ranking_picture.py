"""The picture of a group's ranking."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from hemitwin._atomic import atomic_path
from hemitwin.pipeline.ranking import Part, Ranking
from hemitwin.pipeline.stage.pictures import paper_style

__all__ = ["draw_ranking"]

_SHOWN = 20


def draw_ranking(path: Path, ranking: Ranking, part: Part) -> None:
    """Draw the first regions by share and by enrichment, with their intervals.

    Parameters
    ----------
    path : Path
        The PNG file.
    ranking : Ranking
        The numbers.
    part : {'positive', 'negative', 'signed'}
        What was counted.
    """
    with paper_style():
        figure = Figure(figsize=(10, 5.5), dpi=200, layout="constrained")
        for panel, name in zip(figure.subplots(1, 2), ("share", "enrichment"), strict=True):
            rows = ranking.table.sort_values(f"rank_by_{name}", kind="stable").head(_SHOWN)
            places = np.arange(len(rows))
            colours = ["#1f5fa8" if known else "#b5541c" for known in rows["cortex"].notna()]
            panel.hlines(places, rows[f"{name}_low"], rows[f"{name}_high"], colors=colours)
            panel.scatter(rows[name], places, color=colours, s=18, zorder=3)
            panel.set_yticks(places, rows["name"])
            panel.invert_yaxis()
            panel.set_title(f"{name} of {part} relevance, {ranking.families} families")
        figure.supxlabel("blue: cortex; brown: below it; 95 % intervals over families", fontsize=8)
        with atomic_path(path) as temporary:
            figure.savefig(temporary)
