"""Losses over the relations of a batch, with mining inside it."""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int, UInt8
from pytorch_metric_learning.losses import ContrastiveLoss, NTXentLoss, TripletMarginLoss
from torch import Tensor, nn
from torch.nn import functional as F

from hemitwin._shapes import Embedding
from hemitwin.models.config import LossConfig, Metric
from hemitwin.models.distances import (
    distance_matrix,
    metric_learning_distance,
    pair_distance,
)
from hemitwin.models.heads import ClassHead, PairHead, SingleClassifier
from hemitwin.models.relations import Relations

Triplets = tuple[Int[Tensor, " n"], Int[Tensor, " n"], Int[Tensor, " n"]]
"""Rows of the anchors, positives and negatives."""


_PairMatrix = Bool[Tensor, "anchors others"]


class Objective(nn.Module):
    """
    One loss over embeddings and their relations.

    - `triplet`: max(0, d(a, p) - d(a, n) + margin), averaged over the violated triplets
      (Schroff et al. 2015, arXiv:1503.03832; batch-hard mining: Hermans et al. 2017,
      arXiv:1703.07737). Of whole pairs max(0, d(healthy pair) - d(lesioned pair) + margin): the
      anchor is a half that is seen beside its healthy and beside its lesioned other half.
    - `contrastive`: max(0, d(a, p) - positive margin) and max(0, margin - d(a, n)), each averaged
      over what is not 0 (Hadsell et al. 2006, doi:10.1109/CVPR.2006.100, whose positives have no
      margin).
    - `ntxent`: cross-entropy of the positive among the anchor's negatives, by cosine similarity
      over a temperature (Chen et al. 2020, arXiv:2002.05709).
    - `bce`: cross-entropy of the head's logit over all pairs, both classes with the same weight;
      of each image by itself where the head is a `SingleClassifier`.
    - `joint`: `bce` plus `contrastive`.
    - `softmax`: cross-entropy of each image's class by itself, every class of the batch with the
      same weight.

    Parameters
    ----------
    config : LossConfig
        Which, with margin, mining and temperature.
    metric : {'euclidean', 'cosine', 'l1'}
        Distance of the head.
    """

    def __init__(self, config: LossConfig, metric: Metric = "euclidean") -> None:
        super().__init__()
        self.config = config
        self._metric: Metric = metric
        self._distance = metric_learning_distance(metric)
        self._triplet = TripletMarginLoss(margin=config.margin, distance=self._distance)
        # Of similarities the library takes the bounds of these.
        margins: dict[str, Any] = {
            "pos_margin": config.positive_margin,
            "neg_margin": config.margin,
        }
        if self._distance.is_inverted:
            margins = {name: 1 - distance for name, distance in margins.items()}
        self._contrastive = ContrastiveLoss(**margins, distance=self._distance)
        self._ntxent = NTXentLoss(temperature=config.temperature)

    def forward(
        self,
        embeddings: Embedding,
        relations: Relations,
        head: PairHead,
        others: Float[Tensor, "others dim"] | None = None,
    ) -> Float[Tensor, ""]:
        """
        Score a batch.

        Parameters
        ----------
        embeddings : (A, D) float
            The anchors' rows.
        relations : Relations
            Of (A, B) pairs.
        head : PairHead
            Gives the logit for `bce` and `joint`, the classes' for `softmax`.
        others : (B, D) float, optional
            The columns: the batch itself by default, or batch and memory together.

        Returns
        -------
        () float
            A zero that still has a gradient where the batch holds nothing to learn from.
        """
        if embeddings.dtype.itemsize < 4:
            embeddings = embeddings.float()
        others = embeddings if others is None else others.to(embeddings.dtype)
        name = self.config.objective
        if name == "triplet":
            loss = self._triplets(embeddings, relations, others)
        elif name == "contrastive":
            loss = self._pairs(self._contrastive, embeddings, relations, others)
        elif name == "ntxent":
            loss = self._pairs(self._ntxent, embeddings, relations, others)
        elif name == "softmax":
            loss = _class_cross_entropy(embeddings, relations, head)
        elif isinstance(head, SingleClassifier):
            loss = _single_cross_entropy(embeddings, relations, head)
        else:
            loss = _cross_entropy(embeddings, relations, head, others)
        if name == "joint":
            contrast = self._pairs(self._contrastive, embeddings, relations, others)
            loss = loss + self.config.contrastive_weight * contrast
        return loss

    def _triplets(self, embeddings: Embedding, relations: Relations, others: Tensor) -> Tensor:
        if relations.compared is not None:
            return self._triplets_of_pairs(embeddings, relations, relations.compared)
        with torch.no_grad():
            distances = distance_matrix(self._distance, embeddings, others)
            triplets = mine(distances, relations, self.config.mining)
        value: Tensor = self._triplet(embeddings, indices_tuple=triplets, ref_emb=others)
        return value

    def _triplets_of_pairs(
        self, embeddings: Embedding, relations: Relations, compared: Int[Tensor, " anchors"]
    ) -> Tensor:
        """Hold each healthy pair's distance against those of lesioned pairs."""
        # Both directions of a pair are one distance.
        near, far = (torch.where(one.triu()) for one in (relations.positive, relations.negative))
        own, away = (
            pair_distance(embeddings[one], embeddings[other], self._metric)
            for one, other in (near, far)
        )
        healthy = len(own)
        with torch.no_grad():  # each healthy pair is an anchor, and its own only positive
            positive = torch.eye(healthy, dtype=torch.bool, device=own.device)
            negative = compared[near[0]][:, None] == compared[far[0]][None]
            found = Relations(F.pad(positive, (0, len(away))), F.pad(negative, (healthy, 0)))
            distances = torch.cat([own.diag(), away.expand(healthy, -1)], dim=1)
            anchor, _, other = mine(distances, found, self.config.mining)
        lacking = F.relu(own[anchor] - away[other - healthy] + self.config.margin)
        mean: Tensor = lacking.sum() / (lacking > 0).sum().clamp(min=1)
        return mean + 0 * embeddings.sum()

    def _pairs(
        self, loss: nn.Module, embeddings: Embedding, relations: Relations, others: Tensor
    ) -> Tensor:
        anchor, match = torch.where(relations.positive)
        away, other = torch.where(relations.negative)
        value: Tensor = loss(
            embeddings, indices_tuple=(anchor, match, away, other), ref_emb=others
        )
        return value


def mine(
    distances: Float[Tensor, "anchors others"], relations: Relations, mining: str
) -> Triplets:
    """
    Choose triplets.

    Parameters
    ----------
    distances : (A, B) float
        From anchors to others.
    relations : Relations
        Which pairs may be positives and negatives.
    mining : {'hard', 'semihard', 'all'}
        hard: each anchor's farthest positive with its nearest negative. semihard: each positive
        with the nearest negative beyond it, or with the farthest one where none is beyond. all:
        every triplet.

    Returns
    -------
    tuple of (n,) int
        Rows of anchors, columns of positives and negatives.
    """
    positive, negative = relations.positive, relations.negative
    if mining == "semihard":
        return _mine_semihard(distances, positive, negative)
    if mining == "hard":
        positive = _keep_one(positive, distances)
        negative = _keep_one(negative, -distances)
    anchor, match, other = torch.where(positive[:, :, None] & negative[:, None, :])
    return anchor, match, other


def _mine_semihard(distances: Tensor, positive: _PairMatrix, negative: _PairMatrix) -> Triplets:
    anchor, match = torch.where(positive & negative.any(dim=1, keepdim=True))
    allowed, away = negative[anchor], distances[anchor]
    beyond = allowed & (away > distances[anchor, match][:, None])
    nearest = torch.where(beyond, away, torch.inf).argmin(dim=1)
    farthest = torch.where(allowed, away, -torch.inf).argmax(dim=1)
    return anchor, match, torch.where(beyond.any(dim=1), nearest, farthest)


def _keep_one(
    allowed: _PairMatrix, score: Float[Tensor, "anchors others"]
) -> Bool[Tensor, "anchors others"]:
    """Keep in each row the allowed entry of the highest score."""
    best = torch.where(allowed, score, -torch.inf).argmax(dim=1, keepdim=True)
    return torch.zeros_like(allowed).scatter(1, best, value=True) & allowed


def _cross_entropy(
    embeddings: Embedding, relations: Relations, head: PairHead, others: Tensor
) -> Tensor:
    terms = []
    for pairs, target in ((relations.positive, 0.0), (relations.negative, 1.0)):
        anchor, other = torch.where(pairs)
        if not len(anchor):
            continue
        logit = head.logit(embeddings[anchor], others[other])
        if logit is None:
            msg = (
                "bce and joint need a head with a logit: joint, weighted_l1, classifier or decoder"
            )
            raise TypeError(msg)
        terms.append(F.binary_cross_entropy_with_logits(logit, torch.full_like(logit, target)))
    return torch.stack(terms).mean() if terms else 0 * embeddings.sum()


def _single_cross_entropy(
    embeddings: Embedding, relations: Relations, head: SingleClassifier
) -> Tensor:
    if relations.abnormal is None:
        msg = (
            "a classifier of single images must have their labels; got none, as of pairs of "
            "brains; take a head that compares"
        )
        raise TypeError(msg)
    logit, label = head.classify(embeddings), relations.abnormal
    terms = [
        F.binary_cross_entropy_with_logits(logit[chosen], label[chosen].to(logit))
        for chosen in (label, ~label)
        if chosen.any()
    ]
    return torch.stack(terms).mean()


def _class_cross_entropy(embeddings: Embedding, relations: Relations, head: PairHead) -> Tensor:
    if not isinstance(head, ClassHead) or relations.classes is None:
        labels = "without" if relations.classes is None else "with"
        msg = (
            "softmax must have a head of classes and images with classes; got "
            f"{type(head).__name__} and images {labels} classes; take head.name=classes, and "
            "images with classes"
        )
        raise TypeError(msg)
    logits, label = head.classify(embeddings), relations.classes
    counts = torch.bincount(label, minlength=logits.shape[1])
    if len(counts) > logits.shape[1]:
        msg = (
            f"classes must be numbered from 0 to {logits.shape[1] - 1}, as the head has so many; "
            f"got {len(counts) - 1}; set head.classes"
        )
        raise ValueError(msg)
    loss: Tensor = F.cross_entropy(logits, label, weight=1 / counts.clamp(min=1).to(logits))
    return loss


def map_loss(
    anomaly: Float[Tensor, "batch 2 *spatial"],
    lesions: UInt8[Tensor, "batch 2 *spatial"],
    logit: Float[Tensor, " batch"],
    *,
    lesion_weight: float = 0.5,
    pair_weight: float = 0.1,
) -> Float[Tensor, ""]:
    """
    Score the decoder's maps: cross-entropy of voxels, and of the pair.

    Every lesion counts alike, however small: its voxels' mean is taken first.

    Parameters
    ----------
    anomaly : (B, 2, *spatial) float
        Logits of both sides.
    lesions : (B, 2, *spatial) uint8
        Which of the pair's lesions lies at a voxel, counted from 1; 0 for none.
    logit : (B,) float
        Of the pair; its label is whether it has a lesion.
    lesion_weight : float
        Of the lesions' voxels, beside all healthy ones together. Where it is small, a voxel must
        be much unlike healthy ones before it counts.
    pair_weight : float
        Of the pair's cross-entropy. The logit is the map's peak: much weight on it pulls all
        voxels down before there is any peak, and nothing is learnt.

    Returns
    -------
    () float
        Their sum.
    """
    number = lesions.flatten(1).long()
    inside = number > 0
    voxels = F.binary_cross_entropy_with_logits(
        anomaly.float().flatten(1), inside.float(), reduction="none"
    )
    healthy = (voxels * ~inside).sum() / (~inside).sum()
    most = int(number.max()) + 1
    owner = torch.arange(len(number), device=number.device)[:, None] * most + number
    sums = voxels.new_zeros(len(number) * most).index_add(0, owner[inside], voxels[inside])
    sizes = torch.bincount(owner[inside], minlength=len(sums))
    found = sums / sizes.clamp(min=1)
    # As a share of all pairs: a batch without lesions has nothing to say of them.
    count = (sizes > 0).sum().clamp(min=1)
    label = inside.any(dim=1).float()
    each = found.sum() / count * label.mean()
    pair = F.binary_cross_entropy_with_logits(logit.float(), label)
    return healthy + lesion_weight * each + pair_weight * pair
