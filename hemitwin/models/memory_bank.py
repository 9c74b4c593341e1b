"""Embeddings of earlier batches, as further negatives."""

import torch
from torch import Tensor, nn

from hemitwin._shapes import Embedding
from hemitwin.models.relations import Items


class MemoryBank(nn.Module):
    """
    A ring of the last embeddings, without gradients (Wang et al. 2020, arXiv:1912.06798).

    Its content is in the state dict: a resumed training goes on with the same negatives.

    Parameters
    ----------
    size : int
        How many are kept; 0 for none.
    dim : int
        Length of an embedding.
    """

    embeddings: Tensor
    items: Tensor
    pushed: Tensor

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("embeddings", torch.zeros(size, dim))
        self.register_buffer("items", torch.zeros(size, 4, dtype=torch.int64))
        self.register_buffer("pushed", torch.zeros((), dtype=torch.int64))

    def __len__(self) -> int:
        """Return how many are kept by now."""
        return min(int(self.pushed), self.size)

    def read(self) -> tuple[Embedding, Items]:
        """Return what is kept, in no particular order."""
        kept = len(self)
        return self.embeddings[:kept].clone(), Items.unpack(self.items[:kept].clone())

    @torch.no_grad()
    def push(self, embeddings: Embedding, items: Items) -> None:
        """Keep a batch in the place of the oldest; of one larger than the bank, its last rows."""
        if self.size == 0:
            return
        rows, packed = embeddings.detach().float()[-self.size :], items.pack()[-self.size :]
        places = (torch.arange(len(rows), device=rows.device) + self.pushed) % self.size
        self.embeddings[places] = rows
        self.items[places] = packed
        self.pushed += len(rows)
