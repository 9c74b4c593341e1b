"""Verbs that make maps and scenes."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.table import Table

from hemitwin.pipeline.cli_options import (
    Derivatives,
    Desc,
    Labels,
    Modality,
    Pair,
    atlas_cache,
    chosen_labels,
    console,
    figure_text,
    finish,
    map_words,
    option_words,
    print_rows,
)

__all__ = ["explain", "export"]

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
        f"{figure_text(found['rank_agreement'])}, rank correlation over {found['regions']} regions"
    )
    for walk in ("deletion", "insertion"):
        height, chance = found[f"{walk}_height"], found[f"{walk}_height_by_chance"]
        rows[f"{walk} of regions"] = (
            f"mean height {figure_text(height)}, in random order {figure_text(chance)}"
        )
    print_rows(name, rows)


def _verdict(found: dict[str, Any]) -> str:
    word = "passed" if found["passed"] else "FAILED"
    return (
        f"{word}: {figure_text(found['value'])} (at most {found['limit']:g}), {found['meaning']}"
    )


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
