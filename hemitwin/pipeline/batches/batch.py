"""Batch: a readable Slurm array, one task for a share of the subjects."""

import math
import shlex
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from hemitwin._frozen import Frozen
from hemitwin.pipeline.stage.errors import UserError
from hemitwin.pipeline.stage.json_files import write_text

__all__ = ["SlurmConfig", "StageCall", "sbatch_text", "write_batch"]

_LABELS = "--participant-label"


class SlurmConfig(Frozen):
    """What a cluster is asked for."""

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
        A verb that takes ``--participant-label``.
    arguments : tuple of str
        As for `hemitwin STAGE`, without ``--participant-label``.
    subjects : tuple of str
        With ``sub-``.
    """

    stage: str
    arguments: tuple[str, ...]
    subjects: tuple[str, ...]


def write_batch(path: Path, call: StageCall, config: SlurmConfig) -> Path:
    """Write the sbatch file; submit it with ``sbatch``.

    Raises
    ------
    UserError
        `path` is there and is no file that this function wrote.
    """
    if path.exists() and b"# Written by hemitwin" not in path.read_bytes():
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
