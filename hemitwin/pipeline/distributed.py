"""Several processes that share each batch, and look at all of its embeddings."""

import torch
from torch import Tensor, distributed

from hemitwin.models import Items

__all__ = ["gather_batch", "rank_and_world", "wait_for_all"]


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
