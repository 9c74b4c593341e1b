"""The command line: arguments in, one stage called, a short table out."""

import logging
import os
import shlex
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.logging import RichHandler

from hemitwin import __version__
from hemitwin.pipeline.batches.batch import SlurmConfig
from hemitwin.pipeline.cli import data, group, learning, maps, regions
from hemitwin.pipeline.cli.fields import arguments_of, with_options
from hemitwin.pipeline.cli.headings import HeadedGroup
from hemitwin.pipeline.cli.options import (
    LABEL,
    SESSION,
    TYPED,
    atlas_cache,
    console,
    errors,
    print_rows,
    without_labels,
)
from hemitwin.pipeline.stage.errors import CaseError, UserError, reason_of

if TYPE_CHECKING:
    from hemitwin.pipeline.stage.bids import Case

__all__ = ["main", "spread_labels"]

logger = logging.getLogger("hemitwin")

app = typer.Typer(
    name="hemitwin",
    cls=HeadedGroup,
    help="Compare a brain with its mirror image, and name the cortical areas that differ.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
batch_app = typer.Typer(help="Write Slurm batches.", no_args_is_help=True)
simulate_app = typer.Typer(help="Make synthetic data whose truth is known.", no_args_is_help=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; exit with 2 for a bad request and 1 for failed cases.

    A request or a file that nothing can be done with (`UserError`, `OSError`) is told in one
    line, and so is the case that ends a verb (`CaseError`). Whatever else is raised is a fault of
    ours: one line names it and the file with its traceback; with ``--verbose`` it is raised.
    """
    words = spread_labels(sys.argv[1:] if arguments is None else arguments)
    TYPED.set(tuple(words))
    try:
        app(args=words, prog_name="hemitwin")
    except (UserError, OSError) as error:
        _print_error(reason_of(error))
        raise SystemExit(2) from error
    except CaseError as error:
        _print_error(str(error))
        raise SystemExit(1) from error
    except Exception as error:
        if logger.isEnabledFor(logging.DEBUG):
            raise
        _print_error(f"{reason_of(error)}; {_keep_traceback()}")
        raise SystemExit(1) from error


def _print_error(reason: str) -> None:
    errors.print(
        f"error: {reason}", style="bold red", markup=False, highlight=False, soft_wrap=True
    )


def _keep_traceback() -> str:
    """Write the traceback of what is being handled, and say where; or say how to see it."""
    from hemitwin.pipeline.stage.json_files import write_text

    path = atlas_cache() / "logs" / f"error-{os.getpid()}.log"
    try:
        write_text(path, traceback.format_exc())
    except OSError:
        return "this should not happen: please report what 'hemitwin --verbose' prints of it"
    return f"this should not happen: please report it with {path}"


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


def demo(
    out: Annotated[Path, typer.Argument(help="Folder to write; the demo owns it.")],
    seed: Annotated[int, typer.Option(help="Same seed, same demo.")] = 0,
) -> None:
    """Walk the whole way on synthetic people.

    Cohort, training, relevance, and scenes for Workbench.
    """
    from hemitwin.pipeline.cli.demo import run_demo

    summary = run_demo(out, cache=atlas_cache(), seed=seed)
    print_rows("hemitwin demo", summary.rows)


def batch_write(
    stage: Annotated[
        Literal["prepare", "explain", "atlas"], typer.Argument(help="What each task does.")
    ],
    arguments: Annotated[list[str], typer.Argument(help="The stage's own arguments.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The sbatch file.")],
    *,
    config: SlurmConfig,
) -> None:
    """Write a readable Slurm array for a stage."""
    from hemitwin.pipeline.batches.batch import StageCall, write_batch

    TYPED.set((stage, *arguments))  # from here on as if a task had been called
    command, cases_of = _STAGES[stage]
    cases = cases_of(arguments_of(command, _values_of(stage, arguments), stage))
    subjects = tuple(dict.fromkeys(case.subject for case in cases))
    call = StageCall(stage, tuple(without_labels(arguments)), subjects)
    path = write_batch(out, call, config)
    console.print(f"sbatch {shlex.quote(str(path))}", highlight=False, soft_wrap=True)


_Command = Callable[..., None]
_Cases = Callable[[Mapping[str, Any]], Sequence["Case"]]

_STAGES: Mapping[str, tuple[_Command, _Cases]] = {
    "prepare": (data.prepare, data.cases_to_prepare),
    "explain": (maps.explain, maps.cases_to_explain),
    "atlas": (regions.atlas, regions.cases_of_atlas),
}
"""The command of a stage, and what it works on by its arguments."""


def _values_of(stage: str, words: Sequence[str]) -> Mapping[str, Any]:
    """Read a stage's words as the stage itself does: what it would refuse is refused here."""
    verbs: dict[str, typer.core.TyperCommand] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    return verbs[stage].make_context(stage, list(words)).params


def doctor() -> None:
    """Say what is there, what is missing and what that costs."""
    from hemitwin.pipeline.cli.doctor import examine

    findings = examine(atlas_cache())
    signs = {True: "ok", False: "MISSING", None: "absent"}
    rows = {f"{signs[one.ok]:8}{one.name}": one.detail for one in findings}
    print_rows("hemitwin doctor", rows)
    if any(finding.ok is False for finding in findings):
        raise typer.Exit(1)


_VERBS: Mapping[str, Mapping[str, _Command]] = {
    "Start": {"demo": demo, "doctor": doctor},
    "Data": {"prepare": data.prepare, "slice": data.slice_},
    "Learning": {
        "train": learning.train,
        "evaluate": learning.evaluate,
        "compare": learning.compare,
    },
    "Maps": {"explain": maps.explain, "relate": group.relate},
    "Regions": {
        "atlas": regions.atlas,
        "parcellate": regions.parcellate,
        "tabulate": regions.tabulate,
    },
    "Groups": {"rank": group.rank, "asymmetry": group.asymmetry},
    "Files and clusters": {"export": maps.export},
}
"""The verbs by their headings in `hemitwin --help`."""


def _add_verbs() -> None:
    for heading, verbs in _VERBS.items():
        for name, verb in verbs.items():
            app.command(name, rich_help_panel=heading)(with_options(verb, name))
    for name, verb in (("cohort", data.simulate_cohort), ("lesions", data.simulate_lesions)):
        simulate_app.command(name)(with_options(verb, f"simulate {name}"))
    # The words of a stage are no options of `batch write`.
    settings = {"ignore_unknown_options": True}
    batch_app.command("write", context_settings=settings)(with_options(batch_write, "batch write"))
    app.add_typer(simulate_app, name="simulate", rich_help_panel="Data")
    app.add_typer(batch_app, name="batch", rich_help_panel="Files and clusters")


_add_verbs()
