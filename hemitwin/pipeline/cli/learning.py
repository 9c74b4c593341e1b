"""Verbs that train, score and compare."""

from pathlib import Path
from typing import Annotated

import typer

from hemitwin.pipeline.cli.options import Overrides, print_rows

__all__ = ["compare", "evaluate", "train"]


def train(
    config: Annotated[Path, typer.Argument(help="YAML file.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Run folder.")],
    overrides: Overrides = None,
) -> None:
    """Train a Siamese network and write a run folder."""
    from hemitwin.pipeline.stage.runner import epoch_progress
    from hemitwin.pipeline.training.config import load_config
    from hemitwin.pipeline.training.distributed import rank_and_world
    from hemitwin.pipeline.training.train import train

    with epoch_progress() as report:
        run = train(load_config(config, overrides or ()), out, progress=report)
    if rank_and_world()[0] > 0:
        return  # the first process speaks for all
    rows = {"run": str(run.folder), **run.summary_rows(), "curves": str(run.folder / "curves.png")}
    print_rows("hemitwin train", rows)


def evaluate(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    prepared: Annotated[Path | None, typer.Option(help="Prepared volumes, if moved.")] = None,
    simulated: Annotated[
        Path | None, typer.Option(help="Score this set of `simulate lesions` instead.")
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(help="Run on images or slices: score these, which it has never seen."),
    ] = None,
) -> None:
    """Score the test fold, with intervals and beside a baseline.

    The intervals are over families.
    """
    from hemitwin.pipeline.evaluation.evaluate import evaluate
    from hemitwin.pipeline.training.runs import load_run

    result = evaluate(load_run(run), prepared=prepared, simulated=simulated, images=images)
    written = {kind: str(path) for kind, path in result.files(run).items()}
    print_rows("hemitwin evaluate", {**result.to_rows(), **written})


def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Evaluated run folders; the first is held against the others."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the result.")] = Path(
        "comparison"
    ),
    simulated: Annotated[
        bool, typer.Option("--simulated", help="Compare the evaluations on a simulated set.")
    ] = False,
    draws: Annotated[int, typer.Option(min=100, help="Bootstrap draws over families.")] = 2000,
) -> None:
    """Compare evaluated runs by paired tests, in a forest plot.

    Every figure is compared.
    """
    from hemitwin.pipeline.evaluation.compare import compare

    result = compare(runs, out, simulated=simulated, draws=draws)
    for row in result.rows:
        print_rows(row.title, row.to_rows())
    kinds = {"written": "json", "table": "tsv", "picture": "png"}
    files = {name: str(out / f"compare.{suffix}") for name, suffix in kinds.items()}
    print_rows("hemitwin compare", files)
