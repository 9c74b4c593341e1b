"""Verbs that look across: one image and another, one side and the other, subjects of a group."""

import math
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from hemitwin._names import HCPMMP
from hemitwin.pipeline.cli.options import (
    LABEL,
    Derivatives,
    Desc,
    Labels,
    Modality,
    Pair,
    atlas_cache,
    chosen_labels,
    console,
    finish,
    refuse_beside,
    typed_options,
)
from hemitwin.pipeline.group.config import AsymmetryConfig, Part, RankConfig

if TYPE_CHECKING:
    import pandas as pd

    from hemitwin.pipeline.group.asymmetry import Asymmetries
    from hemitwin.pipeline.group.ranking import Ranking

__all__ = ["asymmetry", "rank", "relate"]


def relate(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    derivatives: Derivatives,
    participant_label: Labels = None,
    pair: Pair = None,
    directions: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Explain so many principal directions of the training brains' embeddings, which "
            "is faster; by default all dimensions, which neglects nothing.",
        ),
    ] = None,
) -> None:
    """Write which region is matched with which (BiLRP).

    The similarity of two images is shared out over pairs of their regions.
    """
    from hemitwin.pipeline.explanation.relate import relate, relate_two
    from hemitwin.pipeline.training.runs import load_run

    if pair is not None:
        refuse_beside("--pair", typed_options() & {LABEL})
    loaded, cache = load_run(run), atlas_cache()
    if pair is None:
        labels = chosen_labels(participant_label)
        outcome = relate(loaded, derivatives, cache=cache, labels=labels, directions=directions)
    else:
        outcome = relate_two(loaded, derivatives, pair, cache=cache, directions=directions)
    caption = "shares are of a signed sum: they may be above 100 % or below 0"
    table = Table(title="hemitwin relate", caption=caption)
    for name in ("case", "similarity", "neglected", "diagonal"):
        table.add_column(name, no_wrap=True)
    table.add_column("largest pairs")
    for one in outcome.results:
        shares = (f"{share:z.1%}" for share in (one.neglected, one.diagonal))
        pairs = (f"{value:.4f} {row} {column}" for row, column, value in one.top_pairs())
        table.add_row(one.case.name, f"{one.similarity:.4f}", *shares, "\n".join(pairs))
    console.print(table)
    finish(outcome, by_label=pair is None)


def rank(
    derivatives: Derivatives,
    participant_label: Labels = None,
    desc: Desc = "lrp",
    modality: Modality = "T1w",
    *,
    config: RankConfig,
    families: Annotated[
        Path | None,
        typer.Option(help="Table of relatives, kept apart; without it each subject is a family."),
    ] = None,
    render: Annotated[
        bool, typer.Option("--render", help="Draw the group's scenes, too.")
    ] = False,
) -> None:
    """Rank regions over a group, with intervals over families."""
    from hemitwin.pipeline.exports.group_scene import write_group_scene
    from hemitwin.pipeline.group.rank import rank

    if config.atlas != HCPMMP:
        refuse_beside(f"--atlas {config.atlas}", typed_options() & {"--null-draws", "--render"})
    found = rank(
        derivatives,
        labels=chosen_labels(participant_label),
        desc=desc,
        modality=modality,
        families=families,
        config=config,
    )
    ranking = found.ranking
    _print_ranking(ranking, config.part)
    if len(found.groups):
        _print_groups(found.groups)
    lines = {
        "stability of the ranks": ranking.stability,
        "enrichment, subcortical less cortical": ranking.subcortical,
        "its Cohen's d over families": ranking.subcortical_d,
        "its spatial p, regions counted once": _number(found.subcortical_p),
        "written": found.path,
        **({"groups": found.groups_path} if len(found.groups) else {}),
    }
    if found.caution:
        lines = {"CAUTION": found.caution, **lines}
    for name, value in lines.items():
        console.print(f"{name:<38} {value}", highlight=False, soft_wrap=True)
    if config.atlas == HCPMMP:
        word = desc if modality == "T1w" else f"{desc}{modality}"
        made = write_group_scene(derivatives, word, cache=atlas_cache(), render=render)
        for picture in made.pictures:
            console.print(str(picture), highlight=False, soft_wrap=True)
        console.print(f"wb_view {shlex.quote(str(made.scene))}", highlight=False, soft_wrap=True)


def asymmetry(
    derivatives: Derivatives,
    participant_label: Labels = None,
    desc: Desc = "lrp",
    modality: Modality = "T1w",
    *,
    config: AsymmetryConfig,
) -> None:
    """Hold each subject's left less right against a reference.

    It is a group, to which subjects are held region by region.
    """
    from hemitwin.pipeline.group.asymmetry import asymmetry

    found = asymmetry(
        derivatives,
        labels=chosen_labels(participant_label),
        desc=desc,
        modality=modality,
        config=config,
    )
    _print_asymmetries(found)
    finish(found.outcome)


def _print_asymmetries(found: "Asymmetries") -> None:
    table = Table(title="hemitwin asymmetry")
    for name in ("case", "reference", "q < 0.05"):
        table.add_column(name, no_wrap=True)
    table.add_column("most asymmetric")
    for one in found.outcome.results:
        below = str(int((one.table["q"] < 0.05).sum()))
        table.add_row(one.case.name, str(one.reference), below, _pairs(one.table, "z"))
    if found.group is not None:
        below = str(int((found.group["q"] < 0.05).sum()))
        table.add_row("group", "", below, _pairs(found.group, "t"))
    console.print(table)
    if found.group is not None:
        console.print(f"group {found.group_path}", highlight=False, soft_wrap=True)


def _pairs(table: "pd.DataFrame", statistic: str) -> str:
    """Name the three pairs with the smallest p: the left region, and how far it is off."""
    lines = [
        f"{row['left']} {statistic} {row[statistic]:+.1f}, q {_number(row['q'])}"
        for _, row in table.head(3).iterrows()
    ]
    return "\n".join(lines)


def _print_ranking(ranking: "Ranking", part: Part) -> None:
    title = f"hemitwin rank: {ranking.cases} maps, {ranking.families} families"
    of = "all magnitudes" if part == "signed" else f"all {part} relevance"
    table = Table(title=title, caption=f"share: of {of} of a map, also outside of the regions")
    # The interval of a rank, and how often a region is among the first ten, are in the table.
    for column in ("rank", "region", "share, %", "enrichment"):
        table.add_column(column, no_wrap=True)
    for _, row in ranking.table.head(10).iterrows():
        table.add_row(
            f"{row['rank_by_share']:g}",
            str(row["name"]),
            "{:.2f} [{:.2f}, {:.2f}]".format(
                *(100 * row[name] for name in ("share", "share_low", "share_high"))
            ),
            "{enrichment:.2f} [{enrichment_low:.2f}, {enrichment_high:.2f}]".format_map(row),
        )
    console.print(table)


def _print_groups(groups: "pd.DataFrame") -> None:
    """Print the three groups with most relevance for their size, cortices and networks alike."""
    caption = "p spatial: units are places in the mean map, not people"
    table = Table(title="groups of regions", caption=caption)
    for column in ("group", "of", "enrichment", "p spatial", "q"):
        table.add_column(column, no_wrap=column != "group")
    for _, row in groups.nlargest(3, "enrichment").iterrows():
        interval = "{enrichment:.2f} [{enrichment_low:.2f}, {enrichment_high:.2f}]"
        numbers = (_number(row["p_spatial"]), _number(row["q_spatial"]))
        table.add_row(row["group"], row["grouping"], interval.format_map(row), *numbers)
    console.print(table)


def _number(value: float) -> str:
    return "n/a" if math.isnan(value) else f"{value:.2g}"
