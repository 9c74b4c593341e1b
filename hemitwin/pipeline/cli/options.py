"""What the verbs of the command line share: options, tables, and how a stage ends."""

import os
import shlex
from collections.abc import Collection, Sequence
from contextvars import ContextVar
from itertools import dropwhile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from hemitwin.pipeline.stage import bids

if TYPE_CHECKING:
    from hemitwin.atlases import Atlas
    from hemitwin.pipeline.stage.runner import Outcome

__all__ = [
    "LABEL",
    "SESSION",
    "TYPED",
    "AtlasFiles",
    "AtlasName",
    "AtlasNameOrFiles",
    "AtlasSpace",
    "AtlasTable",
    "Derivatives",
    "Desc",
    "Labels",
    "Modality",
    "Overrides",
    "Pair",
    "Processes",
    "atlas_cache",
    "chosen_atlas",
    "chosen_labels",
    "console",
    "errors",
    "figure_text",
    "finish",
    "named_atlas",
    "print_rows",
    "refuse_beside",
    "typed_options",
    "without_labels",
]

console = Console()
errors = Console(stderr=True)

TYPED: ContextVar[tuple[str, ...]] = ContextVar("typed")
"""The words of the command line, after ``hemitwin``: `main` sets them."""

LABEL = "--participant-label"
SESSION = "--session-id"

Labels = Annotated[
    list[str] | None,
    typer.Option(LABEL, help="Subjects, with or without 'sub-'; several after one another."),
]
Desc = Annotated[
    str, typer.Option(help="Which map: the word after desc- in its name, as explain wrote it.")
]
Pair = Annotated[
    tuple[str, str] | None,
    typer.Option(help="Two brains, for a run that compares brains: sub-01 sub-02."),
]
Modality = Annotated[bids.Modality, typer.Option(help="Image type.")]
Processes = Annotated[int, typer.Option(min=1, help="Processes.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", help="Override one key, a.b=c; repeatable.")
]
Derivatives = Annotated[Path, typer.Argument(help="Folder that `hemitwin prepare` wrote.")]
AtlasFiles = Annotated[
    list[Path] | None,
    typer.Option(
        "--atlas",
        help="Another atlas: NIfTI with a dseg.tsv, .dlabel.nii, or two .label.gii of fsLR 32k "
        "(give the option twice).",
    ),
]
AtlasNameOrFiles = Annotated[
    list[str] | None,
    typer.Option(
        "--atlas",
        help="Files of another atlas, or the name of one that `hemitwin atlas` has written.",
    ),
]
AtlasTable = Annotated[
    Path | None, typer.Option(help="Names of a NIfTI atlas; by default the .tsv beside it.")
]
AtlasSpace = Annotated[
    str | None,
    typer.Option(help="Space of a NIfTI atlas: MNI152NLin2009aSym or MNI152NLin6Asym."),
]

AtlasName = Annotated[
    str | None, typer.Option(help="What to call it in files: letters and digits.")
]


def chosen_atlas(
    files: list[Path] | None, table: Path | None, space: str | None, name: str | None
) -> "Atlas | None":
    """Load the atlas whose files were given, or return `None`."""
    from hemitwin.atlases import load_atlas
    from hemitwin.pipeline.stage.errors import UserError

    if not files:
        _refuse_without_files(table, space, name)
        return None
    from hemitwin.transforms import load_labels

    if files[0].name.endswith((".gii", ".dlabel.nii")):
        foreign = {"--atlas-table": table, "--atlas-space": space}
        given = [option for option, value in foreign.items() if value is not None]
        refuse_beside(f"--atlas {files[0]}, which has names and a mesh of its own,", given)
    try:
        return load_atlas(files, read_labels=load_labels, table=table, space=space, name=name)
    except (FileNotFoundError, ValueError) as error:
        raise UserError(str(error)) from error


def named_atlas(
    words: list[str] | None, table: Path | None, space: str | None, name: str | None
) -> "Atlas | str":
    """Take one word that is no file as an atlas' name, and load the files of others."""
    from hemitwin.atlases import HCPMMP

    if words and len(words) == 1 and "." not in words[0]:
        _refuse_without_files(table, space, name)
        return words[0]
    return chosen_atlas([Path(word) for word in words or []], table, space, name) or HCPMMP


def _refuse_without_files(table: Path | None, space: str | None, name: str | None) -> None:
    from hemitwin.pipeline.stage.errors import UserError

    options = {"--atlas-table": table, "--atlas-space": space, "--atlas-name": name}
    if given := [option for option, value in options.items() if value is not None]:
        msg = (
            f"{', '.join(given)} must stand beside the files of an atlas, got none; name them "
            f"with --atlas, or leave it out"
        )
        raise UserError(msg)


def chosen_labels(labels: Sequence[str] | None) -> tuple[str, ...] | None:
    """Return the subjects asked for, or `None` for all."""
    return tuple(labels) if labels else None


def typed_options() -> set[str]:
    """Name a verb's options that were typed, whatever their values: ``--lesion-seed``."""
    own = dropwhile(lambda word: word.startswith("-"), TYPED.get())  # what stands after the verb
    return {word.split("=", 1)[0] for word in own if word.startswith("--")} - {"--"}


def refuse_beside(branch: str, options: Collection[str]) -> None:
    """Refuse options that were typed and that this way of a verb does not heed.

    Raises
    ------
    UserError
        There are some.
    """
    from hemitwin.pipeline.stage.errors import UserError

    if options:
        named = ", ".join(sorted(options))
        msg = f"{branch} must stand without {named}, which it does not heed; leave that out"
        raise UserError(msg)


def without_labels(words: Sequence[str]) -> list[str]:
    """Take ``--participant-label``, each with its one label, out of a command line.

    Examples
    --------
    >>> without_labels(["a", "--participant-label", "01", "--participant-label=02", "b"])
    ['a', 'b']
    """
    kept: list[str] = []
    is_label = False
    for word in words:
        if not (is_label or word == LABEL or word.startswith(f"{LABEL}=")):
            kept.append(word)
        is_label = word == LABEL and not is_label
    return kept


def atlas_cache() -> Path:
    """Tell where the atlas is kept: `HEMITWIN_CACHE`, the XDG folder, or the home folder."""
    if folder := os.environ.get("HEMITWIN_CACHE"):
        return Path(folder)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "hemitwin"


def print_rows(title: str, rows: dict[str, str]) -> None:
    """Print aligned lines; no line is broken, so that paths can be copied."""
    width = max(len(name) for name in rows)
    lines = [title, *(f"  {name:{width}}  {value}" for name, value in rows.items())]
    console.print("\n".join(lines), soft_wrap=True, highlight=False, markup=False)


def finish(outcome: "Outcome[Any]", note: str = "", *, by_label: bool = True) -> None:
    """Say what was done; end with 1 and the line to rerun when a case failed.

    Parameters
    ----------
    outcome : Outcome
        Of the stage.
    note : str
        What else was done.
    by_label : bool
        Whether the verb's cases are chosen by ``--participant-label``: then the line has the
        words as they were typed, with the labels of the failed cases.
    """
    done = f"{len(outcome.results)} done{f', {note}' if note else ''}"
    console.print(f"{done}, {len(outcome.failures)} failed", highlight=False)
    if outcome.failures:
        words = list(TYPED.get())
        if by_label:
            labels = dict.fromkeys(
                failure.case.split("_")[0].removeprefix("sub-") for failure in outcome.failures
            )
            words = without_labels(words)
            end = words.index("--") if "--" in words else len(words)
            words[end:end] = [LABEL, *labels]
        again = shlex.join(["hemitwin", *words])
        errors.print(f"run again: {again}", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(1)


def figure_text(value: float | None) -> str:
    """Write a figure with three digits, or that there is none."""
    return "n/a" if value is None else f"{value:.3g}"
