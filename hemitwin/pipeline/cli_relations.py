"""Verbs that say what of one image is matched with what of another."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from hemitwin.pipeline.cli_options import (
    Derivatives,
    Labels,
    Pair,
    atlas_cache,
    chosen_labels,
    console,
    finish,
    option_words,
)

__all__ = ["relate"]


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
    """Write which region is matched with which: the similarity, by pairs of regions (BiLRP)."""
    from hemitwin.pipeline.relate import relate, relate_two
    from hemitwin.pipeline.runs import load_run

    loaded, cache = load_run(run), atlas_cache()
    if pair is None:
        labels = chosen_labels(participant_label)
        outcome = relate(loaded, derivatives, cache=cache, labels=labels, directions=directions)
    else:
        outcome = relate_two(loaded, derivatives, pair, cache=cache, directions=directions)
    table = Table(title="hemitwin relate")
    for name in ("case", "similarity", "neglected", "diagonal"):
        table.add_column(name, no_wrap=True)
    table.add_column("largest pairs")
    for one in outcome.results:
        shares = (f"{share:z.1%}" for share in (one.neglected, one.diagonal))
        pairs = (f"{value:.4f} {row} {column}" for row, column, value in one.top_pairs())
        table.add_row(one.case.name, f"{one.similarity:.4f}", *shares, "\n".join(pairs))
    console.print(table)
    words = [*(["--pair", *pair] if pair else []), *option_words({"--directions": directions})]
    finish(outcome, ["relate", str(run), str(derivatives), *words])
