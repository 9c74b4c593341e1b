"""Verbs that make and prepare data."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from hemitwin.pipeline.cli.fields import Offer
from hemitwin.pipeline.cli.options import (
    Derivatives,
    Labels,
    Overrides,
    Processes,
    atlas_cache,
    chosen_labels,
    finish,
    print_rows,
    refuse_beside,
    typed_options,
)
from hemitwin.pipeline.preparation.config import PrepareConfig, SourceConfig
from hemitwin.pipeline.simulation.config import FamilyCounts, FamilyPlan, read_counts
from hemitwin.pipeline.slices.config import SliceConfig

if TYPE_CHECKING:
    from hemitwin.pipeline.stage.bids import Case

__all__ = ["cases_to_prepare", "prepare", "simulate_cohort", "simulate_lesions", "slice_"]


def prepare(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="BIDS_DIR", help="BIDS dataset, derivatives, HCP tree, or a list of scans."
        ),
    ],
    out: Annotated[Path, typer.Argument(help="Folder for the derivatives.")],
    level: Annotated[Literal["participant"], typer.Argument(help="Level of analysis.")],
    participant_label: Labels = None,
    *,
    sources: Annotated[
        SourceConfig,
        Offer(names={"sessions": "session_id", "filter_file": "bids_filter_file"}),
    ],
    config: PrepareConfig,
    nprocs: Processes = 1,
) -> None:
    """Align scans to the symmetric template, and resample them once.

    The mid-plane is refined before.
    """
    from hemitwin.pipeline.preparation.prepare import prepare

    del level  # `participant` is the only one; BIDS apps are called with it
    outcome = prepare(
        source,
        out,
        labels=chosen_labels(participant_label),
        config=config,
        sources=sources,
        nprocs=nprocs,
    )
    skipped = sum(result.skipped for result in outcome.results)
    finish(outcome, f"{skipped} up to date")


def cases_to_prepare(values: Mapping[str, Any]) -> tuple["Case", ...]:
    """Find what `prepare` would work on, by the arguments of its command."""
    from hemitwin.pipeline.preparation.prepare import cases_to_prepare

    return cases_to_prepare(
        Path(values["source"]),
        labels=chosen_labels(values["participant_label"]),
        pairing=values["config"].pairing,
        sources=values["sources"],
    )


def slice_(
    prepared: Derivatives,
    out: Annotated[Path, typer.Argument(help="Folder for the pictures.")],
    participant_label: Labels = None,
    *,
    config: Annotated[
        SliceConfig,
        Offer(
            names={"planes": "plane", "asymmetry_shapes": "asymmetry_shape"},
            without=("split",),
        ),
    ],
    splits: Annotated[Path | None, typer.Option(help="A run's splits.json.")] = None,
    nprocs: Processes = 1,
) -> None:
    """Write 2D PNG slices whose folds never share a subject."""
    from hemitwin.pipeline.slices.slices import slice_dataset

    if splits is not None and not config.asymmetry_mm2:  # what is drawn needs a seed all the same
        refuse_beside("--splits", typed_options() & {"--seed"})
    outcome = slice_dataset(
        prepared,
        out,
        config=config,
        labels=chosen_labels(participant_label),
        splits=splits,
        nprocs=nprocs,
    )
    count = sum(len(rows) for rows in outcome.results)
    finish(outcome, f"{count} {'pairs' if config.part == 'hemisphere' else 'slices'}")


def simulate_cohort(
    out: Annotated[Path, typer.Argument(help="Folder for the BIDS dataset.")],
    families: Annotated[
        str, typer.Option(help="How many: pairs of mz, dz and siblings; unrelated people.")
    ] = FamilyCounts().text,
    *,
    plan: Annotated[FamilyPlan, Offer(names={"regions": "region"}, without=("families",))],
    family_table: Annotated[
        Path | None,
        typer.Option(help="Where the private table goes; OUT/families.private.csv by default."),
    ] = None,
    nprocs: Processes = 1,
) -> None:
    """Write synthetic twins, siblings and strangers.

    They are alike in known areas only.
    """
    from hemitwin.pipeline.simulation.families import FamilyCohortConfig, write_families_cohort

    config = FamilyCohortConfig.model_validate({**dict(plan), "families": read_counts(families)})
    made = write_families_cohort(
        out, config, cache=atlas_cache(), family_table=family_table, nprocs=nprocs
    )
    rows = {
        "people": str(len(made.people)),
        "families (private)": str(made.family_table),
        "truth": str(made.truth),
        "least Jacobian": f"{made.least_jacobian:.2f}",
    }
    print_rows("hemitwin simulate cohort", rows)


def simulate_lesions(
    prepared: Derivatives,
    out: Annotated[Path, typer.Argument(help="Folder of the set.")],
    config: Annotated[
        Path | None, typer.Option(help="YAML: lesions, asymmetries, how many of each.")
    ] = None,
    overrides: Overrides = None,
    participant_label: Labels = None,
    nprocs: Processes = 1,
) -> None:
    """Write a fixed evaluation set: lesions, controls and shams.

    Masks and a manifest are written with it.
    """
    from hemitwin.pipeline.simulation.lesion_set import simulate_lesions
    from hemitwin.pipeline.simulation.manifest import EvaluationSetConfig
    from hemitwin.pipeline.stage.settings import read_config

    outcome = simulate_lesions(
        prepared,
        out,
        config=read_config(EvaluationSetConfig, config, overrides or ()),
        labels=chosen_labels(participant_label),
        nprocs=nprocs,
    )
    count = sum(len(rows) for rows in outcome.results)
    finish(outcome, f"{count} volumes")
