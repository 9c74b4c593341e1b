"""Progress bars on standard error, so that standard output stays clean."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

__all__ = ["epoch_progress", "progress_bar"]


def progress_bar() -> Progress:
    """Return a bar that vanishes when the work is done; none where there is no terminal."""
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


@contextmanager
def epoch_progress() -> Iterator[Callable[[int, int], None]]:
    """Show training's epochs; gives the function that `train` reports to."""
    with progress_bar() as bar:
        task = bar.add_task("epochs", total=None)

        def report(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield report
