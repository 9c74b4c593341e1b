"""Verbs that name places: a subject's regions, and tables of maps by regions."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from hemitwin.pipeline.cli.options import (
    AtlasFiles,
    AtlasName,
    AtlasNameOrFiles,
    AtlasSpace,
    AtlasTable,
    Derivatives,
    Desc,
    Labels,
    Modality,
    Processes,
    atlas_cache,
    chosen_atlas,
    chosen_labels,
    console,
    figure_text,
    finish,
    named_atlas,
    refuse_beside,
    typed_options,
)

if TYPE_CHECKING:
    import pandas as pd

    from hemitwin.pipeline.regions.finder import AtlasRequest
    from hemitwin.pipeline.stage.bids import Case

__all__ = ["atlas", "cases_of_atlas", "parcellate", "tabulate"]


def parcellate(
    derivatives: Derivatives,
    participant_label: Labels = None,
    desc: Desc = "lrp",
    modality: Modality = "T1w",
    atlas: AtlasNameOrFiles = None,
    atlas_table: AtlasTable = None,
    atlas_space: AtlasSpace = None,
    atlas_name: AtlasName = None,
) -> None:
    """Sum relevance over the 379 HCP-MMP regions, or others.

    The rows of a table add up to the score.
    """
    from hemitwin.pipeline.regions.parcellate import parcellate

    named = named_atlas(atlas, atlas_table, atlas_space, atlas_name)
    outcome = parcellate(
        derivatives,
        cache=atlas_cache(),
        labels=chosen_labels(participant_label),
        desc=desc,
        modality=modality,
        atlas=named,
    )
    for one in outcome.results[:1]:
        console.print(_largest_regions(one.case.name, one.table))
    finish(outcome)


def _largest_regions(name: str, table: "pd.DataFrame") -> Table:
    """Show the regions with the largest sums, and apart from them what completes the score."""
    shown = Table(
        *("region", "sum", "positive", "negative", "share of positive"),
        title=f"{name}: largest regions",
        caption="In a sum positive and negative cancel: it has no share.",
    )
    positive = table["positive"].sum()

    def add(label: str, rows: "pd.DataFrame", *, parted: bool = True) -> None:
        total, above = rows["sum"].sum(), rows["positive"].sum()
        parts = [f"{above:.5f}", f"{total - above:.5f}"] if parted else []
        share = [f"{above / positive:.1%}"] if parted and positive > 0 else []
        shown.add_row(label, f"{total:.5f}", *parts, *share)

    regions = table[table["index"] > 0]
    top = regions.nlargest(5, "sum")
    for row in top.index:
        add(str(top["name"][row]), top.loc[[row]])
    add(f"{len(regions) - len(top)} others", regions.drop(top.index))
    shown.add_section()
    add("unassigned", table[table["index"] == 0])
    add("bias, stabiliser", table[table["index"] < 0], parted=False)
    shown.add_section()
    add("score", table, parted=False)
    return shown


def atlas(
    derivatives: Derivatives,
    participant_label: Labels = None,
    surfaces: Annotated[
        Path | None,
        typer.Option(
            help="Folder of FreeSurfer, FastSurfer or HCP subjects, called sub-01 or 01, of a "
            "session sub-01_ses-1: their own surfaces in place of a deformation."
        ),
    ] = None,
    annotation: Annotated[
        str | None,
        typer.Option(help="Areas of label/lh.NAME.annot in place of the atlas: aparc."),
    ] = None,
    atlas: AtlasFiles = None,
    atlas_table: AtlasTable = None,
    atlas_space: AtlasSpace = None,
    atlas_name: AtlasName = None,
    lesion_masks: Annotated[
        Path | None,
        typer.Option(
            help="Folder with <subject>*_mask.nii.gz, in the scans' space: kept out of the "
            "registration (cost-function masking)."
        ),
    ] = None,
    anomaly_run: Annotated[
        Path | None,
        typer.Option(
            help="Run with a decoder: what its map marks is kept out of the registration."
        ),
    ] = None,
    modality: Modality = "T1w",
    nprocs: Processes = 1,
) -> None:
    """Name the regions of each subject's own anatomy.

    The labels lie on the scan's own grid.
    """
    from hemitwin.pipeline.regions.atlas import build_atlases

    values = {"atlas": atlas, "atlas_table": atlas_table, "atlas_space": atlas_space}
    values |= {"atlas_name": atlas_name, "surfaces": surfaces, "annotation": annotation}
    values |= {"lesion_masks": lesion_masks, "anomaly_run": anomaly_run}
    request = _request_of(values)
    outcome = build_atlases(
        derivatives,
        labels=chosen_labels(participant_label),
        modality=modality,
        request=request,
        nprocs=nprocs,
    )
    columns = ("case", "grey matter (before)", "Jacobian", "folded", "sides", "small regions")
    table = Table(*columns, title="hemitwin atlas")
    for one in outcome.results:
        fit = one.quality
        table.add_row(
            one.case.name,
            f"{fit.grey_matter_overlap:.3f} ({figure_text(fit.overlap_before)})",
            f"{figure_text(fit.least_jacobian)} to {figure_text(fit.largest_jacobian)}",
            "n/a" if fit.folded_share is None else f"{fit.folded_share:.1%}",
            figure_text(fit.correlation_of_sides),
            str(len(fit.small)),
        )
    console.print(table)
    finish(outcome)


def _request_of(values: Mapping[str, Any]) -> "AtlasRequest":
    from hemitwin.atlases import hcpmmp_atlas
    from hemitwin.pipeline.regions.finder import AtlasRequest
    from hemitwin.pipeline.regions.hidden_lesions import MaskSource

    def path(name: str) -> Path | None:
        return None if values[name] is None else Path(values[name])

    files = [Path(one) for one in values["atlas"] or ()]
    found = chosen_atlas(files, path("atlas_table"), values["atlas_space"], values["atlas_name"])
    return AtlasRequest(
        hcpmmp_atlas() if found is None else found,
        path("surfaces"),
        values["annotation"],
        MaskSource(path("lesion_masks"), path("anomaly_run")),
    )


def cases_of_atlas(values: Mapping[str, Any]) -> tuple["Case", ...]:
    """Find what `atlas` would work on, by the values of its command line."""
    from hemitwin.pipeline.cohort.brains import find_prepared

    _request_of(values).check()
    labels = chosen_labels(values["participant_label"])
    return find_prepared(Path(values["derivatives"]), labels=labels, modality=values["modality"])


def tabulate(
    maps: Annotated[
        list[Path], typer.Argument(help="NIfTI volumes, 3D or 4D, or .dscalar.nii files.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The table, .tsv.")],
    space: Annotated[
        str, typer.Option(help="Of the volumes: MNI152NLin2009aSym or MNI152NLin6Asym.")
    ] = "MNI152NLin2009aSym",
    dseg: Annotated[
        Path | None,
        typer.Option(help="A label volume in the maps' own space, in place of an atlas."),
    ] = None,
    dseg_table: Annotated[
        Path | None, typer.Option(help="Its names; by default the .tsv beside it.")
    ] = None,
    atlas: AtlasFiles = None,
    atlas_table: AtlasTable = None,
    atlas_space: AtlasSpace = None,
    atlas_name: AtlasName = None,
) -> None:
    """Sum any maps over regions of any atlas.

    The atlas is HCP-MMP, another one, or a label volume of the maps' own space.
    """
    from hemitwin.pipeline.regions.tabulate import tabulate

    dense = all(path.name.endswith(".dscalar.nii") for path in maps)
    if dseg is not None or dense:
        branch = "a .dscalar.nii file" if dense else "--dseg"
        refuse_beside(branch, typed_options() & {"--space"})
    table = tabulate(
        maps,
        out,
        atlas=chosen_atlas(atlas, atlas_table, atlas_space, atlas_name),
        dseg=dseg,
        dseg_table=dseg_table,
        space=space,
    )
    regions = table.loc[table["index"] > 0, "name"].nunique()
    words = f"{table['map'].nunique()} maps, {regions} regions: {out}"
    console.print(words, highlight=False, soft_wrap=True)
