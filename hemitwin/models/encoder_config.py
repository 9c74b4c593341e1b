"""What an encoder is to be."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

EncoderName = Literal["resnet18", "densenet121", "unet"]
Norm = Literal["group", "instance", "batch"]
Pooling = Literal["average", "max", "average+max"]

_STAGES: dict[str, tuple[int, ...]] = {"resnet18": (2, 2, 2, 2), "densenet121": (6, 12, 24, 16)}
_WIDTH: dict[str, int] = {"resnet18": 64, "densenet121": 64, "unet": 32}


class EncoderConfig(BaseModel):
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

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: EncoderName = Field(default="resnet18", description="Architecture of the trunk.")
    spatial_dims: Literal[2, 3] = Field(default=3, description="2 for slices, 3 for volumes.")
    in_channels: int = Field(default=1, ge=1, description="Channels of the input.")
    embedding_dim: int = Field(default=128, ge=1, description="Length of the embedding.")
    norm: Norm = Field(default="group", description="Normalisation after each convolution.")
    pooling: Pooling = Field(
        default="average",
        description="Global pooling before the embedding; max sees small foci better.",
    )
    width: int | None = Field(
        default=None,
        ge=4,
        description="Channels of the first layer; default 64, for the unet 32.",
    )
    blocks: tuple[int, ...] | None = Field(
        default=None,
        min_length=1,
        description="Blocks in each stage (resnet18, densenet121); default as in the papers.",
    )
    stem_stride: Literal[1, 2, 4] | None = Field(
        default=None,
        description="Downsampling before the first stage (resnet18, densenet121); default 4.",
    )
    levels: int | None = Field(
        default=None, ge=2, le=7, description="Resolution levels (unet only); default 5."
    )

    @model_validator(mode="after")
    def _settings_belong_to_the_architecture(self) -> "EncoderConfig":
        foreign = ("blocks", "stem_stride") if self.name == "unet" else ("levels",)
        given = [field for field in foreign if getattr(self, field) is not None]
        if given:
            msg = f"settings must belong to the encoder; got {given} for {self.name!r}; leave out"
            raise ValueError(msg)
        if self.blocks is not None and min(self.blocks) < 1:
            msg = f"every stage must hold at least one block; got {self.blocks}; remove the stage"
            raise ValueError(msg)
        return self

    @property
    def base_width(self) -> int:
        """Channels of the first layer."""
        return self.width or _WIDTH[self.name]

    @property
    def stages(self) -> tuple[int, ...]:
        """Blocks per stage (empty for the U-Net, which has levels)."""
        return self.blocks or _STAGES.get(self.name, ())

    @property
    def stem(self) -> int:
        """Downsampling before the first stage."""
        return self.stem_stride or 4

    @property
    def depth(self) -> int:
        """Resolution levels of the U-Net."""
        return self.levels or 5

    @property
    def total_stride(self) -> int:
        """Voxels of the input along an axis for one voxel of the deepest map."""
        if self.name == "unet":
            return int(2 ** (self.depth - 1))
        return int(self.stem * 2 ** (len(self.stages) - 1))

    @property
    def minimum_size(self) -> int:
        """
        Smallest input along every spatial axis, in voxels.

        More than half the total stride, so that the deepest voxel sees more image than padding;
        with InstanceNorm the deepest map needs two voxels, because one voxel normalises to zero.
        """
        if self.norm == "instance":
            return self.total_stride + 1
        return self.total_stride // 2 + 1
