"""Heads that compare two embeddings; each is the same for (a, b) and (b, a)."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from hemitwin._shapes import Embedding
from hemitwin.models.config import Metric
from hemitwin.models.distances import pair_distance
from hemitwin.models.encoders.layers import FeatureMap

_SLOPE, _THRESHOLD = 5.0, 0.5
"""Of a distance as a logit, before any training."""


@dataclass(frozen=True)
class EncodedImages:
    """
    Images of one side of the pairs, and what the encoder made of them.

    Attributes
    ----------
    inputs : (B, C, *spatial) float
        What the encoder was given.
    embedding : (B, D) float
        Not normalised.
    maps : tuple of (B, channels, *coarser) float
        The feature pyramid, from fine to coarse; empty for heads that need none.
    """

    inputs: Float[Tensor, "batch channels *spatial"]
    embedding: Embedding
    maps: tuple[FeatureMap, ...] = ()

    @classmethod
    def of_embeddings(cls, embedding: Embedding) -> "EncodedImages":
        """Wrap embeddings, for a head that looks at nothing else: there are no images to them."""
        return cls(embedding[:, None], embedding)

    def select(self, rows: Tensor | slice) -> "EncodedImages":
        """Return some images, in the order of `rows`, with all that was made of them."""
        return EncodedImages(
            self.inputs[rows], self.embedding[rows], tuple(one[rows] for one in self.maps)
        )


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
        Of the pair being abnormal, or of two different sets; where the head has one.
    anomaly : (B, 2, *spatial) float or None
        Logits of each voxel, where the head has them; left first, right mirrored.
    """

    embedding_left: Float[Tensor, " batch dim"]
    embedding_right: Float[Tensor, " batch dim"]
    distance: Float[Tensor, " batch"]
    logit: Float[Tensor, " batch"] | None = None
    anomaly: Float[Tensor, " batch 2 *spatial"] | None = None

    @property
    def score(self) -> Float[Tensor, " batch"]:
        """What pairs are ranked by, higher for more different: the logit, else the distance."""
        return self.distance if self.logit is None else self.logit


class PairHead(nn.Module):
    """
    What compares two embeddings: always with their distance, and with a logit where it has one.

    Parameters
    ----------
    metric : {'euclidean', 'cosine', 'l1'}
        See `pair_distance`.

    Attributes
    ----------
    needs_maps : bool
        Whether it compares the feature pyramids, too.
    gives_logit : bool
        Whether its `PairOutput` holds a logit.
    """

    needs_maps = False
    gives_logit = False

    def __init__(self, metric: Metric = "euclidean") -> None:
        super().__init__()
        self.metric: Metric = metric

    def forward(self, left: EncodedImages, right: EncodedImages) -> PairOutput:
        """Compare pair by pair."""
        a, b = left.embedding, right.embedding
        return PairOutput(a, b, pair_distance(a, b, self.metric), self.logit(a, b))

    def logit(self, a: Embedding, b: Embedding) -> Float[Tensor, " batch"] | None:
        """Return the logit of pairs of embeddings, where there is one."""
        del a, b
        return None


class DistanceHead(PairHead):
    """The distance alone."""


class JointHead(PairHead):
    """
    A logit that calibrates the distance d: k (d - t), with a slope k > 0 and a threshold t learnt.

    Parameters
    ----------
    metric : {'euclidean', 'cosine', 'l1'}
        See `pair_distance`.
    """

    gives_logit = True

    def __init__(self, metric: Metric = "euclidean") -> None:
        super().__init__(metric)
        self.log_slope = nn.Parameter(torch.tensor(math.log(_SLOPE)))
        self.threshold = nn.Parameter(torch.tensor(_THRESHOLD))

    def logit(self, a: Embedding, b: Embedding) -> Float[Tensor, " batch"]:
        """Return the logit of pairs of embeddings."""
        return self.log_slope.exp() * (pair_distance(a, b, self.metric) - self.threshold)


class WeightedL1Head(PairHead):
    """
    A logit w . |a^ - b^| + c of the normalised embeddings, with weights w >= 0 and c learnt.

    The weights are softplus of what is learnt: no entry in which the two differ can make them
    more alike, so that the logit orders pairs as a distance does. Before any training it is
    that of a `JointHead` with the L1 distance.

    Parameters
    ----------
    embedding_dim : int
        Length D of the embeddings.
    metric : {'euclidean', 'cosine', 'l1'}
        Of the distance that is reported beside the logit.
    """

    gives_logit = True

    def __init__(self, embedding_dim: int, metric: Metric = "euclidean") -> None:
        super().__init__(metric)
        # The inverse of softplus; all weights then add up to the slope.
        raw = math.log(math.expm1(_SLOPE / embedding_dim))
        self.raw_weight = nn.Parameter(torch.full((embedding_dim,), raw))
        self.bias = nn.Parameter(torch.tensor(-_SLOPE * _THRESHOLD))

    def logit(self, a: Embedding, b: Embedding) -> Float[Tensor, " batch"]:
        """Return the logit of pairs of embeddings."""
        # As in `PairClassifier`: entries of a unit vector are about D^-1/2.
        apart = (F.normalize(a) - F.normalize(b)).abs() * a.shape[1] ** 0.5
        logit: Tensor = (apart * F.softplus(self.raw_weight)).sum(dim=1) + self.bias
        return logit


class ClassHead(PairHead):
    """
    A linear classifier of each image by itself: a plain network, beside the Siamese one.

    Pairs are scored by the distance, which the classes shape but no loss of pairs does.

    Parameters
    ----------
    embedding_dim : int
        Length D of the embeddings.
    classes : int
        How many there are.
    metric : {'euclidean', 'cosine', 'l1'}
        Of the distance.
    """

    def __init__(self, embedding_dim: int, classes: int, metric: Metric = "euclidean") -> None:
        super().__init__(metric)
        self.out = nn.Linear(embedding_dim, classes)

    def classify(self, embedding: Embedding) -> Float[Tensor, " batch classes"]:
        """Return the logit of each class for each image."""
        # As in `PairClassifier`: entries of a unit vector are about D^-1/2.
        logits: Tensor = self.out(F.normalize(embedding) * embedding.shape[1] ** 0.5)
        return logits


class SingleClassifier(PairHead):
    """
    A classifier of each image by itself, what a Siamese network is held against.

    The pair's logit is the larger of both: one abnormal side makes an abnormal pair. No image is
    compared with another.

    Parameters
    ----------
    embedding_dim : int
        Length D of the embeddings.
    hidden : int
        Width of the hidden layer.
    metric : {'euclidean', 'cosine', 'l1'}
        Of the distance that is reported beside the logit.
    """

    gives_logit = True

    def __init__(self, embedding_dim: int, hidden: int, metric: Metric = "euclidean") -> None:
        super().__init__(metric)
        self.hidden = nn.Linear(embedding_dim, hidden)
        self.relu = nn.ReLU()
        self.out = nn.Linear(hidden, 1)

    def logit(self, a: Embedding, b: Embedding) -> Float[Tensor, " batch"]:
        """Return the logit of pairs of embeddings."""
        return torch.maximum(self.classify(a), self.classify(b))

    def classify(self, embedding: Embedding) -> Float[Tensor, " batch"]:
        """Return the logit of each image's being abnormal."""
        # As in `PairClassifier`: entries of a unit vector are about D^-1/2.
        unit = F.normalize(embedding) * embedding.shape[1] ** 0.5
        logit: Tensor = self.out(self.relu(self.hidden(unit)))
        return logit[:, 0]


class PairClassifier(PairHead):
    """
    A logit from |a - b| and a * b of the normalised embeddings, which no order of a and b changes.

    Parameters
    ----------
    embedding_dim : int
        Length D of the embeddings.
    hidden : int
        Width of the hidden layer.
    metric : {'euclidean', 'cosine', 'l1'}
        Of the distance that is reported beside the logit.
    """

    gives_logit = True

    def __init__(self, embedding_dim: int, hidden: int, metric: Metric = "euclidean") -> None:
        super().__init__(metric)
        self.hidden = nn.Linear(2 * embedding_dim, hidden)
        self.relu = nn.ReLU()
        self.out = nn.Linear(hidden, 1)

    def logit(self, a: Embedding, b: Embedding) -> Float[Tensor, " batch"]:
        """Return the logit of pairs of embeddings."""
        # Entries of a unit vector are about D^-1/2; the layer wants inputs of about 1.
        scale = a.shape[1] ** 0.5
        a, b = F.normalize(a) * scale, F.normalize(b) * scale
        logit: Tensor = self.out(self.relu(self.hidden(torch.cat([(a - b).abs(), a * b], dim=1))))
        return logit[:, 0]
