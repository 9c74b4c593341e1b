"""Layers that several encoders share, for two and three spatial dimensions."""

from jaxtyping import Float
from monai.networks.layers.factories import Conv, Pool
from monai.networks.layers.utils import get_norm_layer
from torch import Tensor, nn

from hemitwin.models.config import EncoderConfig
from hemitwin.models.encoders.folded import FoldedConv3d

Features = Float[Tensor, " batch features *coarser"]
"""Maps that a layer gives: its own channels, on its own grid."""

FeatureMap = Float[Tensor, " _ _ ..."]
"""The same, where several grids meet in one signature: batch, channels, spatial axes."""

_FEW = 4
"""Channels of an image: with more of them a strided convolution is fast as it is."""


def group_count(channels: int) -> int:
    """
    Count the groups of a GroupNorm: at most 8, with at least 4 channels in each.

    Examples
    --------
    >>> group_count(64), group_count(8), group_count(10)
    (8, 2, 2)
    """
    fitting = (n for n in range(8, 1, -1) if channels % n == 0 and channels // n >= 4)
    return next(fitting, 1)


def norm_spec(config: EncoderConfig, channels: int) -> tuple[str, dict[str, object]]:
    """Name the normalisation as MONAI's factories want it; always with learnt scale and shift."""
    if config.norm == "group":
        return "group", {"num_groups": group_count(channels), "affine": True}
    return config.norm, {"affine": True}


def norm_layer(config: EncoderConfig, channels: int) -> nn.Module:
    """Build the normalisation of `channels` channels."""
    layer: nn.Module = get_norm_layer(
        norm_spec(config, channels), spatial_dims=config.spatial_dims, channels=channels
    )
    return layer


def conv_layer(
    config: EncoderConfig,
    in_channels: int,
    out_channels: int,
    *,
    kernel: int,
    stride: int = 1,
    groups: int = 1,
) -> nn.Conv2d | nn.Conv3d:
    """Build a convolution without bias (a norm follows), padded so that stride alone shrinks."""
    if (config.spatial_dims, stride, groups) == (3, 2, 1) and in_channels <= _FEW:
        return FoldedConv3d(in_channels, out_channels, kernel)
    build = Conv[Conv.CONV, config.spatial_dims]
    layer: nn.Conv2d | nn.Conv3d = build(
        in_channels,
        out_channels,
        kernel,
        stride=stride,
        padding=kernel // 2,
        groups=groups,
        bias=False,
    )
    return layer


def conv_unit(
    config: EncoderConfig,
    convolution: nn.Conv2d | nn.Conv3d,
    activation: type[nn.Module] | None = nn.ReLU,
) -> nn.Sequential:
    """Put a norm and, out of place, an activation after a convolution."""
    unit = nn.Sequential()
    unit.add_module("conv", convolution)
    unit.add_module("norm", norm_layer(config, convolution.out_channels))
    if activation is not None:
        unit.add_module("activation", activation())
    return unit


def stem_layers(config: EncoderConfig) -> nn.Sequential:
    """
    Build the first layers: 7^d convolution with stride 2 and max pooling, or lighter ones.

    Stride 2 drops the pooling; stride 1 also takes a 3^d kernel, for coarse images.
    """
    kernel, stride = (3, 1) if config.stem == 1 else (7, 2)
    stem = nn.Sequential()
    stem.add_module(
        "conv",
        conv_layer(config, config.in_channels, config.base_width, kernel=kernel, stride=stride),
    )
    stem.add_module("norm", norm_layer(config, config.base_width))
    stem.add_module("relu", nn.ReLU())
    if config.stem == 4:
        stem.add_module("pool", Pool[Pool.MAX, config.spatial_dims](3, stride=2, padding=1))
    return stem


def average_pool(config: EncoderConfig) -> nn.Module:
    """Build a pooling that halves each axis and keeps the odd voxel at its end."""
    layer: nn.Module = Pool[Pool.AVG, config.spatial_dims](2, stride=2, ceil_mode=True)
    return layer


def max_pool(config: EncoderConfig) -> nn.Module:
    """Build a maximum over 2^d voxels that halves each axis and keeps the odd voxel at its end."""
    layer: nn.Module = Pool[Pool.MAX, config.spatial_dims](2, stride=2, ceil_mode=True)
    return layer
