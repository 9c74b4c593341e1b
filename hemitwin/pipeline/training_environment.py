"""How Lightning is started: who made the processes, and that it keeps its talk to itself."""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.lsf import LSFEnvironment
from lightning.fabric.plugins.environments.mpi import MPIEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.fabric.utilities.warnings import PossibleUserWarning

from hemitwin.pipeline.stage.errors import UserError

__all__ = ["process_environment", "quiet_lightning"]

_LOGGERS = ("lightning.pytorch", "lightning.fabric")

_NOTHING_TO_MEND = (
    r".*isinstance.treespec, LeafSpec.*",  # Lightning's own use of torch
    r"Checkpoint directory .* exists and is not empty.*",  # said of every resumed run
)


def process_environment(devices: int) -> ClusterEnvironment:
    """Say who started the processes of a training.

    Slurm did only where ``srun`` started several. Lightning asks whether ``srun`` is installed and
    whether the job has a number of tasks, which is so on every login node and in every batch
    script that asks for tasks, and warns or waits for processes that nobody starts.

    Parameters
    ----------
    devices : int
        ``training.devices``: the processes that share each batch.

    Returns
    -------
    ClusterEnvironment
        Lightning's own where one process stands alone: it starts the others itself.

    Raises
    ------
    UserError
        ``srun`` started several, but not one for each device on one node.
    """
    if TorchElasticEnvironment.detect():
        return TorchElasticEnvironment()
    # Set by srun alone: a batch script has a job, and perhaps tasks, but no step of its own.
    tasks = int(os.environ.get("SLURM_STEP_NUM_TASKS", "1"))
    if "SLURM_STEP_ID" in os.environ and tasks > 1:
        _check_tasks(tasks, devices)
        # A job that is queued again goes on from its run folder's last state, like any other.
        return SLURMEnvironment(auto_requeue=False)
    for launcher in (LSFEnvironment, MPIEnvironment):
        if launcher.detect():
            return launcher()
    return LightningEnvironment()


def _check_tasks(tasks: int, devices: int) -> None:
    if tasks == devices and os.environ.get("SLURM_NTASKS_PER_NODE") == str(devices):
        return
    msg = (
        f"srun must start one task for each of training.devices ({devices}), all on one node, got "
        f"{tasks} tasks; leave srun out, or take 'srun --nodes=1 --ntasks-per-node={devices}'"
    )
    raise UserError(msg)


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Keep Lightning's advertisements, device notes and hints from whoever trains.

    Its warnings of what is wrong still pass, and all of its log where `hemitwin` logs at DEBUG.
    """
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    if not logging.getLogger("hemitwin").isEnabledFor(logging.DEBUG):
        for logger in loggers:
            logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PossibleUserWarning)
            for message in _NOTHING_TO_MEND:
                warnings.filterwarnings("ignore", message)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
