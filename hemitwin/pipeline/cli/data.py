"""Verbs that make and prepare data."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from hemitwin.pipeline.cli.options import (
    SESSION,
    Labels,
    Modality,
    atlas_cache,
    chosen_labels,
    finish,
    print_rows,
    refuse_beside,
    typed_options,
)

if TYPE_CHECKING:
    from hemitwin.pipeline.preparation.sources import SourceConfig
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
    session_id: Annotated[
        list[str] | None, typer.Option(SESSION, help="Sessions, with or without 'ses-'.")
    ] = None,
    bids_filter_file: Annotated[
        Path | None, typer.Option(help="JSON: which entities the scans must have.")
    ] = None,
    input_type: Annotated[
        Literal["auto", "bids", "derivatives", "hcp", "list"], typer.Option(help="Kind of input.")
    ] = "auto",
    modality: Modality = "T1w",
    space: Annotated[str | None, typer.Option(help="The space- entity of derivatives.")] = None,
    alignment: Annotated[
        Literal["native", "acpc", "similarity", "affine", "nonlinear"] | None,
        typer.Option(help="How the scans already lie, if the input does not tell."),
    ] = None,
    pairing: Annotated[
        Literal["hemispheres", "brains"], typer.Option(help="What will be compared.")
    ] = "hemispheres",
    nprocs: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    resolution_mm: Annotated[float, typer.Option(min=0.5, max=8, help="Voxel size.")] = 2.0,
) -> None:
    """Align scans to the symmetric template, refine the mid-plane, resample once."""
    from hemitwin.pipeline.preparation.prepare import PrepareConfig, prepare

    del level  # `participant` is the only one; BIDS apps are called with it
    chosen = {
        "input_type": input_type,
        "modality": modality,
        "space": space,
        "alignment": alignment,
        "session_id": session_id,
        "bids_filter_file": bids_filter_file,
    }
    outcome = prepare(
        source,
        out,
        labels=chosen_labels(participant_label),
        config=PrepareConfig(resolution_mm=resolution_mm, pairing=pairing),
        sources=_which_scans(chosen),
        nprocs=nprocs,
    )
    skipped = sum(result.skipped for result in outcome.results)
    finish(outcome, f"{skipped} up to date")


def cases_to_prepare(values: Mapping[str, Any]) -> tuple["Case", ...]:
    """Find what `prepare` would work on, by the values of its command line."""
    from hemitwin.pipeline.preparation.prepare import cases_to_prepare

    return cases_to_prepare(
        Path(values["source"]),
        labels=chosen_labels(values["participant_label"]),
        pairing=values["pairing"],
        sources=_which_scans(values),
    )


def _which_scans(values: Mapping[str, Any]) -> "SourceConfig":
    from hemitwin.pipeline.preparation.sources import SourceConfig
    from hemitwin.pipeline.stage.settings import validated

    chosen = {name: values[name] for name in ("input_type", "modality", "space", "alignment")}
    chosen |= {"sessions": values["session_id"] or (), "filter_file": values["bids_filter_file"]}
    return validated(SourceConfig, chosen, "prepare")


def slice_(
    prepared: Annotated[Path, typer.Argument(help="Folder that `hemitwin prepare` wrote.")],
    out: Annotated[Path, typer.Argument(help="Folder for the pictures.")],
    plane: Annotated[
        list[str] | None, typer.Option(help="axial, coronal, sagittal; repeatable.")
    ] = None,
    part: Annotated[str, typer.Option(help="whole or hemisphere.")] = "whole",
    modality: Modality = "T1w",
    step_mm: Annotated[float, typer.Option(min=0.5, help="Distance between slices.")] = 8.0,
    splits: Annotated[Path | None, typer.Option(help="A run's splits.json.")] = None,
    participants: Annotated[
        Path | None, typer.Option(help="participants.tsv or HCP CSV with families.")
    ] = None,
    participant_label: Labels = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the folds.")] = 0,
) -> None:
    """Write 2D PNG slices whose folds never share a subject."""
    from hemitwin.pipeline.images.slices import SliceConfig, slice_dataset
    from hemitwin.pipeline.stage.settings import validated

    if splits is not None:
        refuse_beside("--splits", typed_options() & {"--seed"})
    values = {
        "planes": plane or ["axial"],
        "part": part,
        "modality": modality,
        "step_mm": step_mm,
        "seed": seed,
    }
    outcome = slice_dataset(
        prepared,
        out,
        config=validated(SliceConfig, values, "slice"),
        labels=chosen_labels(participant_label),
        splits=splits,
        participants=participants,
    )
    count = sum(len(rows) for rows in outcome.results)
    finish(outcome, f"{count} slices")


def simulate_cohort(
    out: Annotated[Path, typer.Argument(help="Folder for the BIDS dataset.")],
    families: Annotated[
        str, typer.Option(help="How many: pairs of mz, dz and siblings; unrelated people.")
    ] = "mz=10,dz=10,siblings=5,unrelated=10",
    region: Annotated[
        list[str] | None,
        typer.Option(help="Heritable area, V1 or L_V1, or cortex for all; repeatable."),
    ] = None,
    heritability: Annotated[float, typer.Option(min=0, max=1, help="In these areas.")] = 0.8,
    sites: Annotated[int, typer.Option(min=1, help="Scanners.")] = 1,
    family_table: Annotated[
        Path | None,
        typer.Option(help="Where the private table goes; OUT/families.private.csv by default."),
    ] = None,
    resolution_mm: Annotated[float, typer.Option(min=0.5, max=8, help="Voxel size.")] = 2.0,
    nprocs: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same people.")] = 0,
) -> None:
    """Write synthetic twins, siblings and strangers who are alike in known areas only."""
    from hemitwin.pipeline.simulation.config import read_counts
    from hemitwin.pipeline.simulation.families import FamilyCohortConfig, write_families_cohort
    from hemitwin.pipeline.stage.settings import validated

    values = {
        "families": read_counts(families),
        "heritability": heritability,
        "sites": sites,
        "resolution_mm": resolution_mm,
        "seed": seed,
        **({"regions": tuple(region)} if region else {}),
    }
    config = validated(FamilyCohortConfig, values, "simulate cohort")
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
    prepared: Annotated[Path, typer.Argument(help="Folder that `hemitwin prepare` wrote.")],
    out: Annotated[Path, typer.Argument(help="Folder of the set.")],
    config: Annotated[
        Path | None, typer.Option(help="YAML: lesions, asymmetries, how many of each.")
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Override one key, a.b=c; repeatable.")
    ] = None,
    participant_label: Labels = None,
    nprocs: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
) -> None:
    """Write a fixed evaluation set: lesions, controls and shams with masks and a manifest."""
    from hemitwin.pipeline.simulation.lesion_set import EvaluationSetConfig, simulate_lesions
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
