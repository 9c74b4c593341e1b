"""Verbs that make maps, tables and scenes."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.table import Table

from hemitwin.pipeline.cli_options import (
    AtlasFiles,
    AtlasName,
    AtlasNameOrFiles,
    AtlasSpace,
    AtlasTable,
    Derivatives,
    Desc,
    Labels,
    Modality,
    Pair,
    atlas_cache,
    chosen_atlas,
    chosen_labels,
    console,
    finish,
    map_words,
    named_atlas,
    option_words,
    print_rows,
)

__all__ = ["atlas", "explain", "export", "parcellate", "tabulate"]

Method = Literal[
    "lrp", "input_x_gradient", "integrated_gradients", "grad_cam", "occlusion", "ablation"
]
"""As `interpret.Method`, which would import torch."""


def explain(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    derivatives: Derivatives,
    participant_label: Labels = None,
    pair: Pair = None,
    target: Annotated[
        Literal["distance", "logit", "map", "embedding"] | None,
        typer.Option(
            help="Score to explain; map: the decoder's map where it is highest; embedding: the "
            "mean of its entries. By default what pairs are ranked by."
        ),
    ] = None,
    method: Annotated[Method, typer.Option(help="How the score is shared out.")] = "lrp",
    components: Annotated[
        int | None,
        typer.Option(
            help="Explain so many principal directions of the embedding in place of a score, or "
            "with 0 each of its dimensions; volumes of one file."
        ),
    ] = None,
    lesion_seed: Annotated[
        int | None, typer.Option(help="Inject the lesion that this seed draws, then explain.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Sanity checks and faithfulness, in the sidecar.")
    ] = False,
    open_ledger: Annotated[
        bool,
        typer.Option("--open-ledger", help="Write named subjects' maps that do not add up, too."),
    ] = False,
) -> None:
    """Write why a pair's score is what it is, voxel by voxel, with its ledger."""
    from hemitwin.pipeline.explain import explain, explain_two
    from hemitwin.pipeline.map_request import MapRequest
    from hemitwin.pipeline.runs import load_run

    if components is not None:
        given: dict[str, object] = {"--pair": pair, "--target": target, "--check": check}
        given |= {"--lesion-seed": lesion_seed, "--open-ledger": open_ledger}
        given["--method"] = method != "lrp"
        _refuse_beside("--components", given)
        _explain_embedding(run, derivatives, participant_label, components)
        return
    request = MapRequest(method, target, lesion_seed, check=check, open_ledger=open_ledger)
    loaded, cache = load_run(run), atlas_cache()
    if pair is not None:
        _refuse_beside("--pair", {"--participant-label": participant_label})
    if pair is None:
        labels = chosen_labels(participant_label)
        outcome = explain(loaded, derivatives, labels=labels, request=request, cache=cache)
    else:
        outcome = explain_two(loaded, derivatives, pair, request=request, cache=cache)
    target_name = outcome.results[0].target if outcome.results else "score"
    table = Table("case", target_name, "above threshold", "ledger", title="hemitwin explain")
    for one in outcome.results:
        verdict = "yes" if one.flagged else "no"
        table.add_row(one.case.name, f"{one.score:.4f}", verdict, f"{one.ledger_ratio:.6f}")
    console.print(table)
    for one in outcome.results:
        _print_checks(one.case.name, one.checks)
    options = {
        "--target": target,
        "--method": method if method != "lrp" else None,
        "--lesion-seed": lesion_seed,
    }
    switches = [
        *(["--pair", *pair] if pair else []),
        *(["--check"] if check else []),
        *(["--open-ledger"] if open_ledger else []),
    ]
    finish(outcome, ["explain", str(run), str(derivatives), *option_words(options), *switches])


def _refuse_beside(option: str, others: Mapping[str, object]) -> None:
    from hemitwin.pipeline.errors import UserError

    given = [name for name, value in others.items() if value not in {None, False}]
    if given:
        msg = f"{option} must stand without {', '.join(given)}, which it does not heed; leave out"
        raise UserError(msg)


def _explain_embedding(
    run: Path, derivatives: Path, participant_label: list[str] | None, components: int
) -> None:
    from hemitwin.pipeline.embedding_maps import explain_embedding_of
    from hemitwin.pipeline.runs import load_run

    outcome = explain_embedding_of(
        load_run(run),
        derivatives,
        labels=chosen_labels(participant_label),
        components=components or None,
    )
    table = Table("case", "directions", "open ledger", title="hemitwin explain")
    for one in outcome.results:
        table.add_row(one.case.name, str(one.directions), f"{one.ledger_error:.1e}")
    console.print(table)
    finish(outcome, ["explain", str(run), str(derivatives), "--components", str(components)])


def _print_checks(name: str, checks: dict[str, Any]) -> None:
    if not checks:
        return
    rows = {verdict["check"]: _verdict(verdict) for verdict in checks["Sanity"]}
    found = checks["Faithfulness"]
    rows["agreement with ablation"] = (
        f"{_figure(found['rank_agreement'])}, rank correlation over {found['regions']} regions"
    )
    for walk in ("deletion", "insertion"):
        height, chance = found[f"{walk}_height"], found[f"{walk}_height_by_chance"]
        rows[f"{walk} of regions"] = (
            f"mean height {_figure(height)}, in random order {_figure(chance)}"
        )
    print_rows(name, rows)


def _verdict(found: dict[str, Any]) -> str:
    word = "passed" if found["passed"] else "FAILED"
    return f"{word}: {_figure(found['value'])} (at most {found['limit']:g}), {found['meaning']}"


def _figure(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3g}"


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
    """Sum relevance over the 379 HCP-MMP regions, or others; the rows add up to the score."""
    from hemitwin.pipeline.parcellate import parcellate

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
        top = one.table.nlargest(5, "sum")
        table = Table("region", "relevance", "share", title=f"{one.case.name}: largest regions")
        for row in top.itertuples():
            table.add_row(str(row.name), f"{row.sum:.5f}", f"{row.share:.1%}")
        console.print(table)
    options: dict[str, Any] = {"--atlas": tuple(atlas or ()), "--atlas-table": atlas_table}
    options |= {"--atlas-space": atlas_space, "--atlas-name": atlas_name}
    words = [*map_words(desc, modality), *option_words(options)]
    finish(outcome, ["parcellate", str(derivatives), *words])


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
    nprocs: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
) -> None:
    """Name the regions of each subject's own anatomy, on the scan's own grid."""
    from hemitwin.atlases import hcpmmp_atlas
    from hemitwin.pipeline.atlas_request import AtlasRequest
    from hemitwin.pipeline.lesion_masks import MaskSource
    from hemitwin.pipeline.subject_atlas import build_atlases

    files = chosen_atlas(atlas, atlas_table, atlas_space, atlas_name)
    request = AtlasRequest(
        hcpmmp_atlas() if files is None else files,
        surfaces,
        annotation,
        MaskSource(lesion_masks, anomaly_run),
    )
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
            f"{fit.grey_matter_overlap:.3f} ({_figure(fit.overlap_before)})",
            f"{_figure(fit.least_jacobian)} to {_figure(fit.largest_jacobian)}",
            "n/a" if fit.folded_share is None else f"{fit.folded_share:.1%}",
            _figure(fit.correlation_of_sides),
            str(len(fit.small)),
        )
    console.print(table)
    options = option_words(
        {
            "--surfaces": surfaces,
            "--annotation": annotation,
            "--atlas": tuple(atlas or ()),
            "--atlas-table": atlas_table,
            "--atlas-space": atlas_space,
            "--atlas-name": atlas_name,
            "--lesion-masks": lesion_masks,
            "--anomaly-run": anomaly_run,
            "--nprocs": nprocs,
        }
    )
    finish(outcome, ["atlas", str(derivatives), *map_words("lrp", modality), *options])


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
    """Sum any maps over regions: of HCP-MMP, of another atlas, or of a label volume."""
    from hemitwin.pipeline.tabulate import tabulate

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


def export(
    derivatives: Derivatives,
    participant_label: Labels = None,
    desc: Desc = "lrp",
    modality: Modality = "T1w",
    mapping: Annotated[
        Literal["trilinear", "ribbon"],
        typer.Option(
            help="Read relevance at the midthickness, or average it from the white to the pial "
            "surface."
        ),
    ] = "trilinear",
    smooth_mm: Annotated[
        float | None,
        typer.Option(min=0, max=40, help="Smooth maps by this FWHM: along the cortex, in voxels."),
    ] = None,
    render: Annotated[bool, typer.Option("--render", help="Draw the scenes, too.")] = False,
) -> None:
    """Write NIfTI, GIFTI and CIFTI files with a spec and a scene for Workbench."""
    from hemitwin.pipeline.export import ExportConfig, export

    outcome = export(
        derivatives,
        cache=atlas_cache(),
        labels=chosen_labels(participant_label),
        desc=desc,
        modality=modality,
        config=ExportConfig(mapping=mapping, smooth_mm=smooth_mm or None, render=render),
    )
    for one in outcome.results:
        for picture in one.pictures:
            console.print(str(picture), highlight=False, soft_wrap=True)
        console.print(f"wb_view {shlex.quote(str(one.scene))}", highlight=False, soft_wrap=True)
    taken = {"--mapping": mapping if mapping != "trilinear" else None, "--smooth-mm": smooth_mm}
    switches = ["--render"] if render else []
    words = [*map_words(desc, modality), *option_words(taken), *switches]
    finish(outcome, ["export", str(derivatives), *words])
