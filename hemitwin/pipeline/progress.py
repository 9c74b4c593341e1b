"""Progress bars on standard error, so that standard output stays clean."""

from collections.abc import Callable, Iterator, Mapping
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
def epoch_progress() -> Iterator[Callable[[int, int, Mapping[str, float]], None]]:
    """Show training's epochs and distances; gives the function that `train` reports to."""
    with progress_bar() as bar:
        task = bar.add_task("epochs", total=None)

        def report(done: int, total: int, values: Mapping[str, float]) -> None:
            bar.update(task, completed=done, total=total, description=_state(values))

        yield report


def _state(values: Mapping[str, float]) -> str:
    """Say where training stands.

    Examples
    --------
    >>> _state({"positive_distance": 0.21, "negative_distance": 0.8, "validation_auc": 0.9})
    'epochs, distance + 0.210 - 0.800, AUC 0.900'
    """
    told = ["epochs"]
    if "positive_distance" in values:
        near, far = values["positive_distance"], values["negative_distance"]
        told.append(f"distance + {near:.3f} - {far:.3f}")
    if "validation_auc" in values:
        told.append(f"AUC {values['validation_auc']:.3f}")
    return ", ".join(told)
