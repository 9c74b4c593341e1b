"""Training on pairs of brains: each is embedded once, also where it is validated."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from hemitwin.models import (
    EncodedImages,
    Items,
    LocalEncoder,
    Reference,
    Relations,
    SiameseNetwork,
    relate_brains,
)
from hemitwin.pipeline.statistics.metrics import auc
from hemitwin.pipeline.training.brain_data import IndexedPairs
from hemitwin.pipeline.training.config import RunConfig
from hemitwin.pipeline.training.task import SiameseTask, balanced_cross_entropy, channels_last

__all__ = ["BrainTask", "mean_hinge", "score_embedded"]


class BrainTask(SiameseTask):
    """As `SiameseTask`, for sets of brains.

    Parameters
    ----------
    config : RunConfig
        Network, objective and schedule.
    steps : int
        Optimizer steps in the whole run.
    pairs : IndexedPairs
        What validation scores.
    reference : Reference, optional
        Of the training brains.
    local : LocalEncoder, optional
        Of the training brains.
    """

    def __init__(
        self,
        config: RunConfig,
        *,
        steps: int,
        pairs: IndexedPairs,
        reference: Reference | None = None,
        local: LocalEncoder | None = None,
    ) -> None:
        super().__init__(config, steps=steps, reference=reference, local=local)
        self._pairs = pairs
        self._embedded: list[tuple[int, Tensor]] = []

    def validation_step(self, batch: Any, _: int) -> None:  # noqa: ANN401 (other data, other batches)
        """Keep the embedding of one brain until the epoch ends."""
        embedding: Tensor = self.network.embed(channels_last(batch.images)).float()
        self._embedded.append((int(batch.items.item[0]), embedding[0]))

    def on_validation_epoch_end(self) -> None:
        """Log the AUC and the loss of the validation pairs."""
        embeddings = torch.stack([one for _, one in sorted(self._embedded, key=_number)])
        self._embedded.clear()
        scores = score_embedded(self.network, embeddings, self._pairs)["score"]
        labels = self._pairs.different
        area = auc(labels, scores)
        if self.network.head.gives_logit:
            loss = balanced_cross_entropy(scores, labels)
        else:
            loss = mean_hinge(scores, labels, self._loss.margin)
        self.log_dict({"validation_auc": area, "validation_loss": loss}, prog_bar=True)

    def _relate(self, anchors: Items, others: Items) -> Relations:
        return relate_brains(anchors, others, self._loss.negatives)


def mean_hinge(
    scores: Float[np.ndarray, " n"], labels: Bool[np.ndarray, " n"], margin: float
) -> float:
    """Return the mean over every two pairs of what a different one lacks of `margin` to a same.

    Parameters
    ----------
    scores : (n,) float
        High for different brains.
    labels : (n,) bool
        True where the brains are different.
    margin : float
        By how much each different pair should be above each that is the same.

    Examples
    --------
    >>> mean_hinge(np.array([1.0, 0.0, 0.5]), np.array([True, False, False]), 0.75)
    0.125
    """
    same = np.sort(scores[~labels].astype(float))
    different = scores[labels].astype(float)
    # Sums from each place up: a matrix of all pairs of pairs would not fit the memory.
    sums = np.append(np.cumsum(same[::-1])[::-1], 0.0)
    first = np.searchsorted(same, different - margin, side="right")
    lacking = sums[first] + (margin - different) * (same.size - first)
    return float(lacking.sum() / (same.size * different.size))


def score_embedded(
    network: SiameseNetwork, embeddings: Tensor, pairs: IndexedPairs
) -> dict[str, np.ndarray]:
    """Score pairs of brains that have been embedded once each.

    Returns
    -------
    dict of str to (n,) float64
        ``distance``, and ``score``: the head's logit, or the distance again.
    """
    with torch.no_grad():
        one, other = (
            EncodedImages(embeddings[rows, None], embeddings[rows])
            for rows in (pairs.first, pairs.second)
        )
        output = network.head(one, other)
    return {
        "distance": output.distance.double().cpu().numpy(),
        "score": output.score.double().cpu().numpy(),
    }


def _number(embedded: tuple[int, Tensor]) -> int:
    return embedded[0]
