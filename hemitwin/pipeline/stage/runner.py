"""One case after another, or several at once: a bad one is recorded, the rest go on; bars."""

import logging
import multiprocessing
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Generic, Protocol, TypeVar, runtime_checkable

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from hemitwin._atomic import sweep_leftovers
from hemitwin.pipeline.stage.errors import CaseFailure, reason_of
from hemitwin.pipeline.stage.json_files import write_text

__all__ = ["Named", "Outcome", "epoch_progress", "run_cases"]

logger = logging.getLogger(__name__)


@runtime_checkable
class Named(Protocol):
    """Anything that a stage works on one by one."""

    @property
    def name(self) -> str:
        """The name for messages and files."""
        ...


C = TypeVar("C", bound=Named)
R = TypeVar("R")


@dataclass(frozen=True)
class Outcome(Generic[R]):
    """What a stage made of its cases.

    Parameters
    ----------
    results : tuple
        One result a case that passed, in the order of the cases.
    failures : tuple of CaseFailure
        The others, with reasons.
    """

    results: tuple[R, ...]
    failures: tuple[CaseFailure, ...]


def run_cases(
    function: Callable[[C], R],
    cases: Sequence[C],
    *,
    stage: str,
    out: Path,
    nprocs: int = 1,
    threads: int = 1,
) -> Outcome[R]:
    """Apply `function` to every case, in this process or in `nprocs` fresh ones.

    Parameters
    ----------
    function : callable
        Works on one case; must be picklable when `nprocs` is above 1.
    cases : sequence
        Each has a `name`.
    stage : str
        The verb, for messages and logs.
    out : Path
        The folder of the stage's results. A failed case leaves its traceback in its ``logs``, as
        ``<case>_<stage>.log``, if that can be written.
    nprocs : int
        Processes. Cores are shared out among them.
    threads : int
        Instead of processes, for short work that Python waits for (unpacking, arrays, writing):
        a fresh process needs seconds to load torch, and its memory.

    Returns
    -------
    Outcome
        Results and failures; nothing is raised for a single case's sake.
    """
    log_folder = out / "logs"
    sweep_leftovers(log_folder)
    attempt = partial(_attempt, function, stage, log_folder)
    with _progress_bar() as progress:
        bar = progress.add_task(stage, total=len(cases))
        if threads > 1:
            with ThreadPoolExecutor(threads) as pool:
                futures = [pool.submit(attempt, case) for case in cases]
                for _ in as_completed(futures):
                    progress.advance(bar)
            made = [future.result() for future in futures]
        elif nprocs <= 1 or len(cases) <= 1:
            made = []
            for case in cases:
                made.append(attempt(case))
                progress.advance(bar)
        else:
            made = _in_processes(attempt, cases, stage, nprocs, lambda: progress.advance(bar))
    results = tuple(one for one in made if not isinstance(one, CaseFailure))
    failures = tuple(one for one in made if isinstance(one, CaseFailure))
    for failure in failures:
        logger.error("%s: %s failed: %s", failure.case, failure.stage, failure.reason)
    return Outcome(results, failures)


def _attempt(function: Callable[[C], R], stage: str, log_folder: Path, case: C) -> R | CaseFailure:
    log = log_folder / f"{case.name}_{stage}.log"
    try:
        result = function(case)
    except Exception as error:  # noqa: BLE001 (one bad case must not end the others)
        with suppress(OSError):  # a folder that cannot be written: the reason says so already
            write_text(log, traceback.format_exc())
        return CaseFailure(case.name, stage, reason_of(error))
    with suppress(OSError):  # likewise, where all is done and nothing need be written
        log.unlink(missing_ok=True)
    return result


def _in_processes(
    attempt: Callable[[C], R | CaseFailure],
    cases: Sequence[C],
    stage: str,
    nprocs: int,
    advance: Callable[[], None],
) -> list[R | CaseFailure]:
    # Fresh processes: forked ones inherit locked thread pools of torch and ITK and may hang.
    context = multiprocessing.get_context("spawn")
    threads = max(1, torch.get_num_threads() // nprocs)
    level = logging.getLogger("hemitwin").getEffectiveLevel()
    with ProcessPoolExecutor(
        nprocs, mp_context=context, initializer=_begin_worker, initargs=(threads, level)
    ) as pool:
        futures = [pool.submit(attempt, case) for case in cases]
        for _ in as_completed(futures):
            advance()
    return [_result(future, case, stage) for future, case in zip(futures, cases, strict=True)]


def _result(future: Future[R | CaseFailure], case: Named, stage: str) -> R | CaseFailure:
    error = future.exception()
    if error is None:
        return future.result()
    reason = f"the process ended early ({error}); often memory: run with fewer --nprocs"
    return CaseFailure(case.name, stage, reason)


def _begin_worker(threads: int, level: int) -> None:
    torch.set_num_threads(threads)
    # A fresh process has no handlers: what a stage says of its cases would be lost.
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("hemitwin").setLevel(level)


def _progress_bar() -> Progress:
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
    with _progress_bar() as bar:
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
