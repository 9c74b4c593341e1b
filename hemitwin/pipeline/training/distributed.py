"""Several processes that share each batch: who started them, and what they gather."""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.lsf import LSFEnvironment
from lightning.fabric.plugins.environments.mpi import MPIEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.fabric.utilities.warnings import PossibleUserWarning
from torch import Tensor, distributed

from hemitwin.models import Items
from hemitwin.pipeline.stage.errors import UserError

__all__ = [
    "gather_batch",
    "process_environment",
    "quiet_lightning",
    "rank_and_world",
    "wait_for_all",
]

_LOGGERS = ("lightning.pytorch", "lightning.fabric")

_NOTHING_TO_MEND = (
    r".*isinstance.treespec, LeafSpec.*",  # Lightning's own use of torch
    r"Checkpoint directory .* exists and is not empty.*",  # said of every resumed run
)


def rank_and_world() -> tuple[int, int]:
    """Return this process's number and how many there are; (0, 1) where it is alone."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def gather_batch(embeddings: Tensor, items: Items) -> tuple[Tensor, Items]:
    """Join the embeddings of all processes, so that each mines among the whole batch.

    Each process computes the whole batch's loss and the gradient of its own embeddings in it,
    times the number of processes; DistributedDataParallel's mean over them then is the gradient
    of the loss over the whole batch.

    Parameters
    ----------
    embeddings : (b, D) float
        This process's share, of one size in all of them.
    items : Items
        Who they are.

    Returns
    -------
    (B, D) float
        By the processes' number.
    Items
        Likewise.
    """
    rank, world = rank_and_world()
    if world == 1:
        return embeddings, items
    rows = _gather(embeddings.detach().contiguous(), world)
    rows[rank] = embeddings.view_as(embeddings)
    if embeddings.requires_grad:
        rows[rank].register_hook(lambda gradient: gradient * world)
    return torch.cat(rows), Items.unpack(torch.cat(_gather(items.pack(), world)))


def wait_for_all() -> None:
    """Go on when every process has come this far."""
    if rank_and_world()[1] > 1:
        distributed.barrier()


def _gather(own: Tensor, world: int) -> list[Tensor]:
    everyone = [torch.empty_like(own) for _ in range(world)]
    distributed.all_gather(everyone, own)
    return everyone


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
