"""Verbs that make maps and scenes."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from hemitwin.pipeline.cli.fields import Offer
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
    figure_text,
    finish,
    print_rows,
    refuse_beside,
    typed_options,
)
from hemitwin.pipeline.explanation.request import MapRequest
from hemitwin.pipeline.exports.config import ExportConfig

if TYPE_CHECKING:
    from hemitwin.pipeline.stage.bids import Case

__all__ = ["cases_to_explain", "explain", "export"]


def explain(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    derivatives: Derivatives,
    participant_label: Labels = None,
    pair: Pair = None,
    *,
    request: Annotated[MapRequest, Offer(without=("paired",))],
    components: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Explain so many principal directions of the embedding in place of a score, or "
            "with 0 each of its dimensions; volumes of one file.",
        ),
    ] = None,
) -> None:
    """Write why a pair's score is what it is, voxel by voxel.

    The map's ledger says whether it adds up to the score.
    """
    from hemitwin.pipeline.explanation.explain import explain, explain_two
    from hemitwin.pipeline.training.runs import load_run

    _refuse_unheeded(components=components is not None, pair=pair is not None)
    if components is not None:
        _explain_embedding(run, derivatives, participant_label, components)
        return
    loaded, cache = load_run(run), atlas_cache()
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
    finish(outcome, by_label=pair is None)


def _refuse_unheeded(*, components: bool, pair: bool) -> None:
    if components:
        refuse_beside("--components", typed_options() - {"--components", LABEL})
    if pair:
        refuse_beside("--pair", typed_options() & {LABEL, "--lesion-seed"})


def cases_to_explain(values: Mapping[str, Any]) -> tuple["Case", ...]:
    """Find what `explain` would work on, by the values of its command line.

    Raises
    ------
    UserError
        It would work on a pair, which cannot be spread over tasks; or `explain` would refuse.
    """
    from hemitwin.pipeline.cohort.brains import find_prepared
    from hemitwin.pipeline.explanation.two_brains import require_halves
    from hemitwin.pipeline.stage.errors import UserError
    from hemitwin.pipeline.training.runs import load_run

    _refuse_unheeded(components=values["components"] is not None, pair=False)
    if values["pair"] is not None:
        msg = "tasks must have subjects of their own, but --pair is one task; explain it by itself"
        raise UserError(msg)
    run = load_run(Path(values["run"]))
    if values["components"] is None:
        require_halves(run, "explain")
    labels, data = chosen_labels(values["participant_label"]), run.config.volumes
    folder = Path(values["derivatives"])
    return find_prepared(folder, labels=labels, modality=data.modality, space=data.space)


def _explain_embedding(
    run: Path,
    derivatives: Path,
    participant_label: list[str] | None,
    components: int,
) -> None:
    from hemitwin.pipeline.explanation.embedding_maps import explain_embedding_of
    from hemitwin.pipeline.training.runs import load_run

    outcome = explain_embedding_of(
        load_run(run),
        derivatives,
        labels=chosen_labels(participant_label),
        components=None if components == 0 else components,
    )
    table = Table("case", "directions", "open ledger", title="hemitwin explain")
    for one in outcome.results:
        table.add_row(one.case.name, str(one.directions), f"{one.ledger_error:.1e}")
    console.print(table)
    finish(outcome)


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
    *,
    config: ExportConfig,
) -> None:
    """Write NIfTI, GIFTI and CIFTI files for Workbench.

    A spec and a scene open them together.
    """
    from hemitwin.pipeline.exports.export import export

    outcome = export(
        derivatives,
        cache=atlas_cache(),
        labels=chosen_labels(participant_label),
        desc=desc,
        modality=modality,
        config=config,
    )
    for one in outcome.results:
        for picture in one.pictures:
            console.print(str(picture), highlight=False, soft_wrap=True)
        console.print(f"wb_view {shlex.quote(str(one.scene))}", highlight=False, soft_wrap=True)
    finish(outcome)
