"""What stands on top of the shared encoder."""

from typing import Literal

from pydantic import Field

from hemitwin._frozen import Frozen
from hemitwin.models.objective_config import Metric

HeadName = Literal["distance", "joint", "classifier", "single", "decoder"]


class HeadConfig(Frozen):
    """Settings of one head."""

    name: HeadName = Field(
        default="distance",
        description="distance; joint: a logit that calibrates the distance; classifier: a logit "
        "from |a - b| and a * b; single: a logit of each image by itself, the larger counts; "
        "decoder: a map of each side, and a logit from it.",
    )
    metric: Metric = Field(default="euclidean", description="Distance of normalised embeddings.")
    hidden: int = Field(
        default=64, ge=1, description="classifier, single: width of the hidden layer."
    )
    decoder_width: int = Field(
        default=16, ge=4, description="decoder: channels at the finest level; doubled below."
    )
    peak_voxels: int = Field(
        default=8, ge=1, description="decoder: the logit is the mean of so many highest voxels."
    )
