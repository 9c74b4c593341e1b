"""Verbs that make maps, tables and scenes."""

import shlex
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from hemitwin.pipeline.cli_options import (
    Derivatives,
    Desc,
    Labels,
    Modality,
    atlas_cache,
    chosen_labels,
    console,
    finish,
    map_words,
)

__all__ = ["explain", "export", "parcellate"]


def explain(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    derivatives: Derivatives,
    participant_label: Labels = None,
    lesion_seed: Annotated[
        int | None, typer.Option(help="Inject the lesion that this seed draws, then explain.")
    ] = None,
) -> None:
    """Write the relevance of the distance between the hemispheres, with its ledger."""
    from hemitwin.pipeline.explain import explain
    from hemitwin.pipeline.runs import load_run

    outcome = explain(
        load_run(run),
        derivatives,
        labels=chosen_labels(participant_label),
        lesion_seed=lesion_seed,
    )
    table = Table("case", "distance", "asymmetric", "ledger", title="hemitwin explain")
    for one in outcome.results:
        verdict = "yes" if one.asymmetric else "no"
        ratio = f"{one.ledger_ratio:.6f}"
        table.add_row(one.case.name, f"{one.distance:.4f}", verdict, ratio)
    console.print(table)
    finish(outcome, ["explain", str(run), str(derivatives)])


def parcellate(
    derivatives: Derivatives,
    participant_label: Labels = None,
    desc: Desc = "lrp",
    modality: Modality = "T1w",
) -> None:
    """Sum relevance over the 379 HCP-MMP regions; the rows add up to the score."""
    from hemitwin.pipeline.parcellate import parcellate

    outcome = parcellate(
        derivatives,
        cache=atlas_cache(),
        labels=chosen_labels(participant_label),
        desc=desc,
        modality=modality,
    )
    for one in outcome.results[:1]:
        top = one.table.nlargest(5, "sum")
        table = Table("region", "relevance", "share", title=f"{one.case.name}: largest regions")
        for row in top.itertuples():
            table.add_row(str(row.name), f"{row.sum:.5f}", f"{row.share:.1%}")
        console.print(table)
    finish(outcome, ["parcellate", str(derivatives), *map_words(desc, modality)])


def export(
    derivatives: Derivatives,
    participant_label: Labels = None,
    desc: Desc = "lrp",
    modality: Modality = "T1w",
) -> None:
    """Write NIfTI, GIFTI and CIFTI files with a spec and a scene for Workbench."""
    from hemitwin.pipeline.export import export

    outcome = export(
        derivatives,
        cache=atlas_cache(),
        labels=chosen_labels(participant_label),
        desc=desc,
        modality=modality,
    )
    for one in outcome.results:
        console.print(f"wb_view {shlex.quote(str(one.scene))}", highlight=False, soft_wrap=True)
    finish(outcome, ["export", str(derivatives), *map_words(desc, modality)])
