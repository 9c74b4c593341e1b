"""Several processes that share each batch, and look at all of its embeddings."""

import torch
from torch import Tensor, distributed
from torch.distributed.nn.functional import all_gather

from hemitwin.models import Items

__all__ = ["gather_batch", "rank_and_world"]


def rank_and_world() -> tuple[int, int]:
    """Return this process's number and how many there are; (0, 1) where it is alone."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def gather_batch(embeddings: Tensor, items: Items) -> tuple[Tensor, Items]:
    """Join the embeddings of all processes, so that each mines among the whole batch.

    Gradients flow back to the process that an embedding came from, summed over the processes;
    DistributedDataParallel's mean over them then is the gradient of the loss over the whole batch.

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
    _, world = rank_and_world()
    if world == 1:
        return embeddings, items
    packed = items.pack()
    everyone = [torch.empty_like(packed) for _ in range(world)]
    distributed.all_gather(everyone, packed)
    return torch.cat(list(all_gather(embeddings))), Items.unpack(torch.cat(everyone))
