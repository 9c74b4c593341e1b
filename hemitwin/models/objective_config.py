"""What training minimises."""

from typing import Literal

from pydantic import Field

from hemitwin._frozen import Frozen
from hemitwin.models.relations import Negatives

ObjectiveName = Literal["triplet", "contrastive", "ntxent", "bce", "joint", "map"]
Metric = Literal["euclidean", "cosine", "l1"]
Mining = Literal["hard", "semihard", "all"]


class LossConfig(Frozen):
    """Settings of the objective."""

    objective: ObjectiveName = Field(
        default="triplet",
        description="triplet, contrastive and ntxent act on distances, bce on the head's logit, "
        "joint on both, map on the decoder's voxels.",
    )
    margin: float = Field(
        default=0.5,
        gt=0,
        le=2,
        description="triplet: how much farther the negative must be than the positive; "
        "contrastive, joint: how far a negative must be (distances: 0-2).",
    )
    negatives: Negatives = Field(
        default="lesion",
        description="lesion: the subject's own lesioned halves; subject: other subjects', too; "
        "relative (pairs of brains): relatives that are no twins, too.",
    )
    mining: Mining = Field(
        default="hard",
        description="hard: farthest positive and nearest negative of each anchor; semihard: the "
        "nearest negative beyond each positive; all: every triplet.",
    )
    temperature: float = Field(default=0.1, gt=0, description="ntxent: scale of similarities.")
    contrastive_weight: float = Field(
        default=1.0, ge=0, description="joint: weight of the contrastive part."
    )
    pair_weight: float = Field(
        default=0.1,
        ge=0,
        description="map: weight of the pair's cross-entropy beside its voxels'.",
    )
    memory: int = Field(
        default=0,
        ge=0,
        description="Embeddings of earlier batches kept as further negatives.",
    )
