"""What an encoder is to be, what stands on top of it, and what training minimises."""

from math import prod
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from hemitwin._frozen import Frozen
from hemitwin.models.architectures import ARCHITECTURES, Architecture, EncoderName

Norm = Literal["group", "instance", "batch"]
Pooling = Literal["average", "max", "highest", "average+max", "average+highest"]
HeadName = Literal[
    "distance", "joint", "weighted_l1", "classifier", "single", "decoder", "classes"
]
Metric = Literal["euclidean", "cosine", "l1"]
ObjectiveName = Literal["triplet", "contrastive", "ntxent", "bce", "joint", "map", "softmax"]
Mining = Literal["hard", "semihard", "all"]
Negatives = Literal["lesion", "subject", "relative"]

_OPTIONAL = ("blocks", "stem_stride", "levels", "attention")


class EncoderConfig(Frozen):
    """
    Settings of one encoder.

    The default norm is `group`: InstanceNorm takes each channel's mean and spread away, which
    global pooling is about to measure; GroupNorm keeps the differences between the channels of a
    group, works on a batch of one, and couples no two samples (BatchNorm does).

    Examples
    --------
    >>> EncoderConfig(name="unet").total_stride
    16
    """

    name: EncoderName = Field(default="resnet18", description="Architecture of the trunk.")
    spatial_dims: Literal[2, 3] = Field(default=3, description="2 for slices, 3 for volumes.")
    in_channels: int = Field(default=1, ge=1, description="Channels of the input.")
    embedding_dim: int = Field(default=128, ge=1, description="Length of the embedding.")
    norm: Norm = Field(default="group", description="Normalisation after each convolution.")
    pooling: Pooling = Field(
        default="average",
        description="Global pooling before the embedding; small foci are lost in the average, and "
        "in max to a single voxel: highest is the mean of the highest hundredth of each channel.",
    )
    pooling_grid: int = Field(
        default=1,
        ge=1,
        description="Cells of the pooling along each axis: one forgets where a feature lay, more "
        "keep it, for brains that lie on one another.",
    )
    width: int | None = Field(
        default=None,
        ge=4,
        description="Channels of the first layer; default as in the papers (mostly 64).",
    )
    blocks: tuple[int, ...] | None = Field(
        default=None,
        min_length=1,
        description="Blocks in each stage (no U-Net); default as in the papers.",
    )
    stem_stride: Literal[1, 2, 4] | None = Field(
        default=None,
        description="Downsampling before the first stage (no U-Net or VGG; EfficientNet and "
        "MobileNet at most 2); default as in the papers.",
    )
    levels: int | None = Field(
        default=None, ge=2, le=7, description="Resolution levels (U-Nets only); default 5."
    )
    attention: bool | None = Field(
        default=None, description="Attention gates (unet_encoder only); default no."
    )

    @model_validator(mode="after")
    def _pooling_keeps_what_the_norm_left(self) -> "EncoderConfig":
        # Hardswish is (z² + 3z) / 6 between -3 and 3: of z with mean 0 and spread 1 always 1/6.
        if self.name == "mobilenet_v3" and (self.norm, self.pooling) == ("instance", "average"):
            msg = (
                "pooling must be max or average+max for mobilenet_v3 with instance norm; got "
                "average, which is the same for every image after Hardswish; or use the group norm"
            )
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _the_highest_have_no_cells(self) -> "EncoderConfig":
        if "highest" in self.pooling and self.pooling_grid > 1:
            msg = (
                f"pooling_grid must be 1 with pooling={self.pooling}, which looks for the highest "
                f"wherever they are; got {self.pooling_grid}; take max"
            )
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _settings_belong_to_the_architecture(self) -> "EncoderConfig":
        known = self.architecture
        foreign = [field for field in _OPTIONAL if field not in known.settings]
        given = [field for field in foreign if getattr(self, field) is not None]
        if given:
            msg = f"settings must belong to the encoder; got {given} for {self.name!r}; leave out"
            raise ValueError(msg)
        if self.stem_stride is not None and self.stem_stride not in known.stems:
            allowed = sorted(known.stems)
            msg = f"stem_stride of {self.name!r} must be in {allowed}; got {self.stem_stride}"
            raise ValueError(msg)
        if self.blocks is not None and min(self.blocks) < 1:
            msg = f"every stage must hold at least one block; got {self.blocks}; remove the stage"
            raise ValueError(msg)
        if known.strides and len(self.stages) > len(known.strides):
            msg = (
                f"{self.name!r} must have at most {len(known.strides)} stages; got blocks "
                f"{self.blocks}; give fewer"
            )
            raise ValueError(msg)
        return self

    @property
    def architecture(self) -> Architecture:
        """What the paper sets."""
        return ARCHITECTURES[self.name]

    @property
    def base_width(self) -> int:
        """Channels of the first layer."""
        return self.width or self.architecture.width

    @property
    def stages(self) -> tuple[int, ...]:
        """Blocks per stage (empty for a U-Net, which has levels)."""
        return self.blocks or self.architecture.blocks

    @property
    def stem(self) -> int:
        """Downsampling before the first stage."""
        return self.stem_stride or next(iter(self.architecture.stems), 1)

    @property
    def depth(self) -> int:
        """Resolution levels of a U-Net."""
        return self.levels or self.architecture.levels

    @property
    def stage_strides(self) -> tuple[int, ...]:
        """Downsampling of each stage (empty for a U-Net)."""
        count = len(self.stages)
        return self.architecture.strides[:count] or (1, *(2,) * (count - 1))[:count]

    @property
    def total_stride(self) -> int:
        """Voxels of the input along an axis for one voxel of the deepest map."""
        if self.depth:
            return int(2 ** (self.depth - 1))
        return self.stem * prod(self.stage_strides) * self.architecture.top_stride

    @property
    def minimum_size(self) -> int:
        """
        Smallest input along every spatial axis, in voxels.

        More than half the total stride, so that the deepest voxel sees more image than padding;
        with InstanceNorm the deepest map needs two voxels, because one voxel normalises to zero.
        BatchNorm in training needs two values a channel, thus two images at the smallest sizes.
        """
        if self.norm == "instance":
            return self.total_stride + 1
        return self.total_stride // 2 + 1


class TransferConfig(Frozen):
    """What an encoder starts from."""

    weights: Path = Field(
        description="Local file: torchvision's state_dict (.pth, .safetensors), or model."
        "safetensors of a run. Nothing is downloaded."
    )
    freeze_stages: int = Field(
        default=0, ge=0, description="So many of the first stages are not trained."
    )


class InputConfig(Frozen):
    """What an encoder is given beside each image itself."""

    packing: Literal[1, 2] = Field(
        default=1,
        description="2: blocks of 2 voxels an axis become channels, so that fine voxels cost what "
        "voxels of twice their size do.",
    )
    other: bool = Field(default=False, description="The other image of the pair, too.")
    difference: bool = Field(
        default=False,
        description="Halves: where they differ more than is usual, as z values of several widths "
        "(of `normative_asymmetry`).",
    )

    @property
    def needs_pairs(self) -> bool:
        """Whether an image cannot be encoded without the one that it is compared with."""
        return self.other or self.difference


class HeadConfig(Frozen):
    """Settings of one head."""

    name: HeadName = Field(
        default="distance",
        description="distance; joint: a logit that calibrates the distance; weighted_l1: a logit "
        "from |a - b|, each entry with a weight of its own, never negative; classifier: a logit "
        "from |a - b| and a * b; single: a logit of each image by itself, the larger counts; "
        "decoder: a map of each side, and a logit from it; classes: a logit of each class for "
        "each image by itself.",
    )
    metric: Metric = Field(default="euclidean", description="Distance of normalised embeddings.")
    hidden: int = Field(
        default=64, ge=1, description="classifier, single: width of the hidden layer."
    )
    decoder_width: int = Field(
        default=16, ge=4, description="decoder: channels at the finest level; doubled below."
    )
    fine_rounds: int = Field(
        default=1,
        ge=1,
        description="decoder: convolutions at the finest level, which is the images themselves.",
    )
    peak_voxels: int = Field(
        default=8, ge=1, description="decoder: the logit is the mean of so many highest voxels."
    )
    classes: int | None = Field(
        default=None, ge=2, description="classes: how many; by default as many as the data have."
    )


class LossConfig(Frozen):
    """Settings of the objective."""

    objective: ObjectiveName = Field(
        default="triplet",
        description="triplet, contrastive and ntxent act on distances, bce on the head's logit, "
        "joint on both, map on the decoder's voxels, softmax on the logits of the classes.",
    )
    margin: float = Field(
        default=0.5,
        gt=0,
        le=2,
        description="triplet: how much farther the negative must be than the positive; "
        "contrastive, joint: how far a negative must be (distances: 0-2).",
    )
    positive_margin: float = Field(
        default=0.0,
        ge=0,
        le=2,
        description="contrastive, joint: how far a positive may be; below margin.",
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
    lesion_weight: float = Field(
        default=0.5,
        gt=0,
        description="map: weight of the lesions' voxels beside all healthy ones together; small: "
        "a voxel must be much unlike healthy ones to count.",
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

    @model_validator(mode="after")
    def _positives_may_be_nearer_than_negatives(self) -> "LossConfig":
        if self.positive_margin >= self.margin:
            msg = (
                f"positive_margin must be below margin ({self.margin}), else no distance parts "
                f"positives from negatives; got {self.positive_margin}; lower it"
            )
            raise ValueError(msg)
        return self
