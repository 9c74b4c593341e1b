"""Embed a batch that is larger than memory allows, with the gradients of the whole batch."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hemitwin._shapes import Batch, Embedding


def embed_in_chunks(
    encoder: Callable[[Tensor], Tensor], images: Batch, chunk: int | None = None
) -> Embedding:
    """
    Embed images a few at a time; what one chunk computes is forgotten until its turn backwards.

    The loss sees all embeddings at once, so that its negatives are mined among all of them. In the
    backward pass each chunk is embedded once more and takes its gradients: memory grows with the
    chunk, not with the batch, for the price of a second forward pass (gradient caching: Gao et al.
    2021, arXiv:2101.06983; here by way of `torch.utils.checkpoint`).

    Parameters
    ----------
    encoder : callable
        (b, C, *spatial) to (b, D).
    images : (B, C, *spatial) float
        The whole batch.
    chunk : int, optional
        Images at a time; all at once without it.

    Returns
    -------
    (B, D) float
        Embeddings with a gradient.

    Raises
    ------
    ValueError
        When the encoder holds a BatchNorm in training mode: its statistics would be those of a
        chunk, and be updated twice.
    """
    if chunk is None or len(images) <= chunk:
        return encoder(images)
    if isinstance(encoder, nn.Module):
        _refuse_batch_statistics(encoder)
    parts = [
        checkpoint(encoder, part, use_reentrant=False, preserve_rng_state=False)
        for part in images.split(chunk)
    ]
    return torch.cat(parts)


def _refuse_batch_statistics(encoder: nn.Module) -> None:
    for name, module in encoder.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training:  # noqa: SLF001
            msg = (
                f"chunks need a norm that couples no two images; got {type(module).__name__} in "
                f"training mode ({name}); set encoder.norm to group or instance, or leave "
                "training.chunk out"
            )
            raise ValueError(msg)
