"""Triplet loss over the hemispheres of a batch, with mining inside it."""

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import BaseModel, ConfigDict, Field
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.losses import TripletMarginLoss
from torch import Tensor, nn

from hemitwin._shapes import Embedding

Triplets = tuple[Int[Tensor, " n"], Int[Tensor, " n"], Int[Tensor, " n"]]
"""Rows of the anchors, positives and negatives."""


class LossConfig(BaseModel):
    """Settings of the triplet loss."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    margin: float = Field(
        default=0.5,
        gt=0,
        le=2,
        description="How much farther the negative must be than the positive (distances: 0-2).",
    )
    negatives: Literal["lesion", "subject"] = Field(
        default="lesion",
        description="lesion: the subject's own lesioned halves; subject: other subjects' too.",
    )
    mining: Literal["hard", "all"] = Field(
        default="hard",
        description="hard: farthest positive and nearest negative of each anchor; all: every one.",
    )


class TripletLoss(nn.Module):
    """
    Triplet margin loss max(0, d(a, p) - d(a, n) + margin), averaged over the violated triplets.

    Anchor and positive are the two healthy halves of one subject (each half is anchor once).
    The negative stands on the positive's side: a lesioned half of that subject, or with
    `negatives="subject"` also any half of another one. Distances are those of `pair_distance`
    (Schroff et al. 2015, arXiv:1503.03832; mining: Hermans et al. 2017, arXiv:1703.07737).

    Parameters
    ----------
    config : LossConfig
        Margin, negatives, mining.
    """

    def __init__(self, config: LossConfig) -> None:
        super().__init__()
        self.config = config
        self._distance = LpDistance(normalize_embeddings=True, p=2)
        self._loss = TripletMarginLoss(margin=config.margin, distance=self._distance)

    def forward(
        self,
        embeddings: Embedding,
        subjects: Int[Tensor, " batch"],
        *,
        lesioned: Bool[Tensor, " batch"],
        sides: Int[Tensor, " batch"],
    ) -> Float[Tensor, ""]:
        """
        Score a batch of embedded halves.

        Parameters
        ----------
        embeddings : (B, D) float
            One row per half; several lesioned copies of a half may be there.
        subjects : (B,) int
            Whose half it is.
        lesioned : (B,) bool
            True where a lesion lies in the half.
        sides : (B,) int
            0 left, 1 right.

        Returns
        -------
        () float
            Mean over violated triplets; a zero that still has a gradient where there are none.
        """
        embeddings = embeddings.float() if embeddings.dtype.itemsize < 4 else embeddings
        with torch.no_grad():
            triplets = self._mine(embeddings, subjects, lesioned, sides)
        loss: Float[Tensor, ""] = self._loss(embeddings, indices_tuple=triplets)
        return loss

    def _mine(
        self, embeddings: Tensor, subjects: Tensor, lesioned: Tensor, sides: Tensor
    ) -> Triplets:
        same = subjects[:, None] == subjects[None]
        opposite = sides[:, None] != sides[None]
        healthy = ~lesioned
        positive = same & opposite & healthy[:, None] & healthy[None]
        negative = same & lesioned[None]
        if self.config.negatives == "subject":
            negative |= ~same
        negative &= opposite
        if self.config.mining == "hard":
            distances = self._distance(embeddings)
            positive = _keep_one(positive, distances)
            negative = _keep_one(negative, -distances)
        anchor, match, other = torch.where(positive[:, :, None] & negative[:, None, :])
        return anchor, match, other


def _keep_one(allowed: Bool[Tensor, " b b"], score: Float[Tensor, " b b"]) -> Bool[Tensor, " b b"]:
    """Keep in each row the allowed entry of the highest score."""
    best = torch.where(allowed, score, -torch.inf).argmax(dim=1, keepdim=True)
    return torch.zeros_like(allowed).scatter(1, best, value=True) & allowed
