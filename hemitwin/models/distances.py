"""Distances of embeddings, from 0 to 2 each, pair by pair and all with all."""

import torch
from jaxtyping import Float
from pytorch_metric_learning.distances import BaseDistance, CosineSimilarity, LpDistance
from torch import Tensor
from torch.nn import functional as F

from hemitwin._shapes import Embedding
from hemitwin.models.config import Metric


def pair_distance(
    a: Embedding, b: Embedding, metric: Metric = "euclidean"
) -> Float[Tensor, " batch"]:
    """
    Measure the distance of the L2-normalised embeddings, row by row.

    Parameters
    ----------
    a, b : (B, D) float
        Embeddings.
    metric : {'euclidean', 'cosine', 'l1'}
        |a^ - b^|, 1 - a^.b^, or the sum of absolute differences over the square root of D.

    Returns
    -------
    (B,) float
        0 for the same direction, at most 2.

    Examples
    --------
    >>> pair_distance(torch.tensor([[2.0, 0.0]]), torch.tensor([[-1.0, 0.0]]))
    tensor([2.])
    """
    a, b = F.normalize(a), F.normalize(b)
    distance: Tensor
    if metric == "cosine":
        distance = 1 - (a * b).sum(dim=1)
    elif metric == "l1":
        distance = (a - b).abs().sum(dim=1) / a.shape[1] ** 0.5
    else:
        distance = torch.linalg.vector_norm(a - b, dim=1)
    return distance


def metric_learning_distance(metric: Metric) -> BaseDistance:
    """Return the same distance for pytorch-metric-learning's losses."""
    if metric == "cosine":
        return CosineSimilarity()
    return _ScaledL1() if metric == "l1" else LpDistance(normalize_embeddings=True, p=2)


def distance_matrix(measure: BaseDistance, a: Embedding, b: Tensor) -> Tensor:
    """Return all distances, (A, B), of which a large one means far."""
    matrix: Tensor = measure(a, b)
    return 1 - matrix if measure.is_inverted else matrix


class _ScaledL1(LpDistance):  # type: ignore[misc]  # the library has no types
    """L1 distance of L2-normalised embeddings over the root of their length."""

    def __init__(self) -> None:
        super().__init__(p=1, normalize_embeddings=True)

    def normalize(self, embeddings: Tensor, dim: int = 1, **_: object) -> Tensor:
        unit: Tensor = F.normalize(embeddings, dim=dim)
        return torch.div(unit, embeddings.shape[dim] ** 0.5)
