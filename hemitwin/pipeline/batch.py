"""Batch: a readable Slurm array, one task for a share of the subjects."""

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from hemitwin.pipeline.bids import normalise_labels, subjects_in
from hemitwin.pipeline.errors import UserError
from hemitwin.pipeline.outputs import write_text
from hemitwin.pipeline.sources import find_sources

__all__ = ["SlurmConfig", "StageCall", "read_stage_call", "sbatch_text", "write_batch"]

Stage = Literal["prepare", "explain", "atlas"]

_USAGE: Mapping[Stage, str] = MappingProxyType(
    {
        "prepare": "BIDS_DIR OUT participant",
        "explain": "RUN DERIVATIVES",
        "atlas": "DERIVATIVES",
    }
)
"""What each stage must be given; its subjects are in the folder that `_FOLDER` names."""
_FOLDER: Mapping[Stage, int] = MappingProxyType({"prepare": 0, "explain": 1, "atlas": 0})

_LABELS = "--participant-label"


class SlurmConfig(BaseModel):
    """What a cluster is asked for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    subjects_per_task: int = Field(default=4, ge=1, description="Subjects in one array task.")
    cpus: int = Field(default=2, ge=1, description="Cores of a task.")
    memory_gb: int = Field(default=6, ge=1, description="Memory of a task in GB.")
    time: str = Field(
        default="01:00:00",
        pattern=r"^(\d+-)?\d{1,2}:\d{2}:\d{2}$",
        description="Time limit of a task.",
    )
    at_once: int = Field(default=20, ge=1, description="Tasks that run at once, at most.")
    partition: str | None = Field(default=None, description="Partition; the site's own default.")
    account: str | None = Field(default=None, description="Account to be charged.")
    setup: str | None = Field(
        default=None,
        description="A shell line before the work, such as 'source /path/.venv/bin/activate'.",
    )


@dataclass(frozen=True)
class StageCall:
    """A stage with its arguments, and the subjects it is to be spread over.

    Parameters
    ----------
    stage : str
        ``prepare``, ``explain`` or ``atlas``.
    arguments : tuple of str
        As for `hemitwin STAGE`, without ``--participant-label``.
    subjects : tuple of str
        With ``sub-``.
    """

    stage: Stage
    arguments: tuple[str, ...]
    subjects: tuple[str, ...]


def read_stage_call(stage: str, arguments: Sequence[str]) -> StageCall:
    """Take a stage's command line apart and find its subjects.

    Parameters
    ----------
    stage : str
        The verb.
    arguments : sequence of str
        What follows it: ``BIDS OUT participant ...`` for prepare, ``RUN DERIVATIVES ...`` for
        explain, ``DERIVATIVES ...`` for atlas. ``--participant-label`` limits the subjects.

    Raises
    ------
    UserError
        The stage cannot be spread, a path is missing, or a subject is not in the data.
    """
    known: Stage | None = next((one for one in get_args(Stage) if one == stage), None)
    if known is None:
        msg = f"batch write takes {' or '.join(get_args(Stage))}, got {stage!r}"
        raise UserError(msg)
    rest, labels = _take_labels(arguments)
    positional = [word for word in rest if not word.startswith("-")]
    usage = _USAGE[known]
    if len(positional) < min(2, len(usage.split())):
        msg = f"batch write {stage} needs {usage}, got {' '.join(arguments) or 'nothing'}"
        raise UserError(msg)
    folder = Path(positional[_FOLDER[known]])
    present = (
        tuple(dict.fromkeys(case.subject for case in find_sources(folder)))
        if stage == "prepare"
        else subjects_in(folder)
    )
    wanted = normalise_labels(labels) or present
    unknown = sorted(set(wanted) - set(present))
    if unknown:
        msg = f"every participant must be in {folder}, but {', '.join(unknown)} is not"
        raise UserError(msg)
    return StageCall(known, tuple(rest), wanted)


def write_batch(path: Path, call: StageCall, config: SlurmConfig) -> Path:
    """Write the sbatch file; submit it with ``sbatch``.

    Raises
    ------
    UserError
        `path` is there and is no file that this function wrote.
    """
    if path.exists() and "# Written by hemitwin" not in path.read_text(encoding="utf-8"):
        msg = f"{path} must be new or written by hemitwin, but it is another file; choose a name"
        raise UserError(msg)
    return write_text(path, sbatch_text(call, config))


def sbatch_text(call: StageCall, config: SlurmConfig) -> str:
    """Return the array's script.

    A task works on its own subjects; done work is skipped by content, so that resubmitting the
    file finishes what is missing.
    """
    tasks = math.ceil(len(call.subjects) / config.subjects_per_task)
    lines = [
        "#!/bin/bash",
        f"# Written by hemitwin: {call.stage} for {len(call.subjects)} subjects, {tasks} tasks.",
        "# Done work is recognised by content: submit the file again to finish what is missing.",
        f"#SBATCH --job-name=hemitwin-{call.stage}",
        f"#SBATCH --array=0-{tasks - 1}%{config.at_once}",
        f"#SBATCH --cpus-per-task={config.cpus}",
        f"#SBATCH --mem={config.memory_gb}G",
        f"#SBATCH --time={config.time}",
        f"#SBATCH --output=hemitwin-{call.stage}-%A_%a.log",
        "#SBATCH --requeue",
    ]
    optional = {"partition": config.partition, "account": config.account}
    lines += [f"#SBATCH --{key}={value}" for key, value in optional.items() if value]
    labels = [name.removeprefix("sub-") for name in call.subjects]
    per_task = config.subjects_per_task
    command = shlex.join(["hemitwin", call.stage, *call.arguments])
    lines += [
        "",
        "set -euo pipefail",
        *([config.setup] if config.setup else []),
        "export OMP_NUM_THREADS=$SLURM_CPUS_PER_TASK",
        "",
        "subjects=(",
        *(
            f"  {' '.join(labels[start : start + per_task])}"
            for start in range(0, len(labels), per_task)
        ),
        ")",
        f'mine=("${{subjects[@]:$((SLURM_ARRAY_TASK_ID * {per_task})):{per_task}}}")',
        'labels=("${mine[@]/#/' + _LABELS + '=}")',
        f'{command} "${{labels[@]}}"',
    ]
    return "\n".join(lines) + "\n"


def _take_labels(arguments: Sequence[str]) -> tuple[list[str], list[str] | None]:
    """Take ``--participant-label 01 02`` (or ``=01``) out of a command line."""
    rest: list[str] = []
    labels: list[str] | None = None
    taking = False
    for word in arguments:
        if word == _LABELS or word.startswith(f"{_LABELS}="):
            labels = labels or []
            labels += word.split("=", 1)[1:]
            taking = word == _LABELS
        elif taking and not word.startswith("-"):
            labels = [*(labels or []), word]
        else:
            taking = False
            rest.append(word)
    return rest, labels
