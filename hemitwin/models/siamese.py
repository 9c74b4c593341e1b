"""One encoder, two images, one distance."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from hemitwin._shapes import Batch, Embedding
from hemitwin.models.encoder import Encoder


@dataclass(frozen=True)
class PairOutput:
    """
    What a Siamese network says about pairs.

    Attributes
    ----------
    embedding_left, embedding_right : (B, D) float
        Embeddings as the encoder gave them, not normalised.
    distance : (B,) float
        Between the normalised embeddings, 0 to 2; the same for (left, right) and (right, left).
    logit : (B,) float or None
        Where the head has one.
    anomaly : (B, 2, *spatial) float or None
        Where the head has one; left first, right mirrored.
    """

    embedding_left: Float[Tensor, " batch dim"]
    embedding_right: Float[Tensor, " batch dim"]
    distance: Float[Tensor, " batch"]
    logit: Float[Tensor, " batch"] | None = None
    anomaly: Float[Tensor, " batch 2 *spatial"] | None = None


def pair_distance(a: Embedding, b: Embedding) -> Float[Tensor, " batch"]:
    """
    Measure the Euclidean distance of the L2-normalised embeddings, row by row.

    Parameters
    ----------
    a, b : (B, D) float
        Embeddings.

    Returns
    -------
    (B,) float
        0 for the same direction, 2 for the opposite one.

    Examples
    --------
    >>> pair_distance(torch.tensor([[2.0, 0.0]]), torch.tensor([[-1.0, 0.0]]))
    tensor([2.])
    """
    distance: Tensor = torch.linalg.vector_norm(F.normalize(a) - F.normalize(b), dim=1)
    return distance


class SiameseNetwork(nn.Module):
    """
    A shared encoder over both images of a pair.

    Parameters
    ----------
    encoder : Encoder
        Used for both sides; called once a forward pass, on the two batches joined.
    """

    encoder: Encoder

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, left: Batch, right: Float[Tensor, " ..."]) -> PairOutput:
        """
        Compare two batches, pair by pair.

        Parameters
        ----------
        left, right : (B, C, *spatial) float
            Hemispheres, the right one mirrored onto the left; or two brains.

        Returns
        -------
        PairOutput
            Embeddings and distance.

        Raises
        ------
        ValueError
            When the two batches differ in shape.
        """
        if left.shape != right.shape:
            msg = (
                f"both sides must have one shape; got {tuple(left.shape)} and "
                f"{tuple(right.shape)}; split or crop them onto one grid"
            )
            raise ValueError(msg)
        a, b = self.encoder(torch.cat([left, right])).chunk(2)
        return PairOutput(embedding_left=a, embedding_right=b, distance=pair_distance(a, b))


def count_parameters(model: nn.Module) -> int:
    """
    Count the trainable numbers of a model.

    Examples
    --------
    >>> count_parameters(nn.Linear(3, 2))
    8
    """
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
