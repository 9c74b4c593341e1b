"""The command line: arguments in, one stage called, a short table out."""

import logging
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.logging import RichHandler

from hemitwin import __version__
from hemitwin.pipeline import cli_data, cli_learning, cli_maps, cli_regions, cli_relations
from hemitwin.pipeline.cli_options import (
    LABEL,
    SESSION,
    atlas_cache,
    console,
    errors,
    print_rows,
)
from hemitwin.pipeline.errors import UserError

__all__ = ["main", "spread_labels"]

app = typer.Typer(
    name="hemitwin",
    help="Compare a brain with its mirror image, and name the cortical areas that differ.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
batch_app = typer.Typer(help="Slurm batches.", no_args_is_help=True)
simulate_app = typer.Typer(help="Synthetic data whose truth is known.", no_args_is_help=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; exit with 2 for a bad request and 1 for failed cases."""
    words = spread_labels(sys.argv[1:] if arguments is None else arguments)
    try:
        app(args=words, prog_name="hemitwin")
    except (UserError, FileNotFoundError) as error:
        errors.print(f"error: {error}", style="bold red", markup=False, highlight=False)
        raise SystemExit(2) from error


def spread_labels(words: Sequence[str]) -> list[str]:
    """Allow ``--participant-label 01 02``, as BIDS apps do, beside one option a label.

    Examples
    --------
    >>> spread_labels(["--participant-label", "01", "02", "--nprocs", "2"])
    ['--participant-label', '01', '--participant-label', '02', '--nprocs', '2']
    """
    spread: list[str] = []
    taking = ""
    for word in words:
        if word in {LABEL, SESSION}:
            taking = word
        elif taking and not word.startswith("-"):
            spread += [taking, word]
        else:
            taking = ""
            spread.append(word)
    return spread


@app.callback(invoke_without_command=True)
def _root(
    *,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more.")] = False,
) -> None:
    if version:
        console.print(f"hemitwin {__version__}", highlight=False)
        raise typer.Exit
    handler = RichHandler(console=errors, show_path=False, show_time=False, markup=False)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[handler])
    logging.getLogger("hemitwin").setLevel(logging.DEBUG if verbose else logging.INFO)


@app.command()
def demo(
    out: Annotated[Path, typer.Argument(help="Folder to write; the demo owns it.")],
    seed: Annotated[int, typer.Option(help="Same seed, same demo.")] = 0,
) -> None:
    """Walk the whole way on synthetic people: cohort, training, relevance, Workbench."""
    from hemitwin.pipeline.demo import run_demo

    summary = run_demo(out, cache=atlas_cache(), seed=seed)
    print_rows("hemitwin demo", summary.rows)


@batch_app.command(name="write", context_settings={"ignore_unknown_options": True})
def batch_write(
    stage: Annotated[str, typer.Argument(help="prepare, explain or atlas.")],
    arguments: Annotated[list[str], typer.Argument(help="The stage's own arguments.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The sbatch file.")],
    subjects_per_task: Annotated[int, typer.Option(min=1, help="Subjects in a task.")] = 4,
    cpus: Annotated[int, typer.Option(min=1, help="Cores of a task.")] = 2,
    memory_gb: Annotated[int, typer.Option(min=1, help="Memory of a task.")] = 6,
    time: Annotated[str, typer.Option(help="Time limit of a task.")] = "01:00:00",
    partition: Annotated[str | None, typer.Option(help="Partition.")] = None,
    account: Annotated[str | None, typer.Option(help="Account.")] = None,
    setup: Annotated[str | None, typer.Option(help="Shell line before the work.")] = None,
) -> None:
    """Write a readable Slurm array for a stage."""
    from hemitwin.pipeline.batch import SlurmConfig, read_stage_call, write_batch
    from hemitwin.pipeline.config import validated

    values = {
        "subjects_per_task": subjects_per_task,
        "cpus": cpus,
        "memory_gb": memory_gb,
        "time": time,
        "partition": partition,
        "account": account,
        "setup": setup,
    }
    call = read_stage_call(stage, arguments)
    path = write_batch(out, call, validated(SlurmConfig, values, "batch write"))
    console.print(f"sbatch {shlex.quote(str(path))}", highlight=False, soft_wrap=True)


app.command()(cli_data.prepare)
app.command()(cli_learning.train)
app.command()(cli_learning.evaluate)
app.command()(cli_learning.compare)
app.command()(cli_maps.explain)
app.command()(cli_regions.atlas)
app.command()(cli_regions.parcellate)
app.command()(cli_regions.tabulate)
app.command()(cli_relations.relate)
app.command()(cli_relations.rank)
app.command()(cli_relations.asymmetry)
app.command()(cli_maps.export)
app.command(name="slice")(cli_data.slice_)
simulate_app.command(name="cohort")(cli_data.simulate_cohort)
simulate_app.command(name="lesions")(cli_data.simulate_lesions)
app.add_typer(simulate_app, name="simulate")
app.add_typer(batch_app, name="batch")


@app.command()
def doctor() -> None:
    """Say which versions and programs are there, what is missing and what that costs."""
    from hemitwin.pipeline.doctor import examine

    findings = examine(atlas_cache())
    signs = {True: "ok", False: "MISSING", None: "absent"}
    rows = {f"{signs[one.ok]:8}{one.name}": one.detail for one in findings}
    print_rows("hemitwin doctor", rows)
    if any(finding.ok is False for finding in findings):
        raise typer.Exit(1)
