"""Inverted residual blocks (Sandler et al. 2018, arXiv:1801.04381) with squeeze and excitation."""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from monai.networks.layers.factories import Conv, Pool
from torch import nn

from hemitwin._shapes import Batch
from hemitwin.models.config import EncoderConfig
from hemitwin.models.encoders.layers import Features, conv_layer, conv_unit
from hemitwin.models.encoders.pooled import PooledEncoder
from hemitwin.models.encoders.trunks import PyramidLevel, StagedTrunk


@dataclass(frozen=True)
class BlockPlan:
    """
    One inverted residual block.

    Attributes
    ----------
    in_channels, inner, out_channels : int
        Channels that come, those of the depth-wise convolution, and those that leave.
    kernel, stride : int
        Of the depth-wise convolution.
    squeezed : int
        Channels between squeeze and excitation; 0 for none.
    activation : type of nn.Module
        After expansion and depth-wise convolution.
    squeeze_activation, gate : type of nn.Module
        Inside squeeze and excitation, and at its end.
    """

    in_channels: int
    inner: int
    out_channels: int
    kernel: int
    stride: int
    squeezed: int
    activation: type[nn.Module]
    squeeze_activation: type[nn.Module] = nn.ReLU
    gate: type[nn.Module] = nn.Sigmoid


def divisible_by_eight(channels: int | float) -> int:
    """
    Round channels to a multiple of eight, never down by more than a tenth.

    Examples
    --------
    >>> divisible_by_eight(35.2), divisible_by_eight(18), divisible_by_eight(3)
    (32, 24, 8)
    """
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * channels else rounded + 8


class SqueezeExcitation(nn.Module):
    """
    Weigh channels by what all of the image holds (Hu et al. 2018, arXiv:1709.01507).

    Parameters
    ----------
    config : EncoderConfig
        Its spatial dimensions are used.
    plan : BlockPlan
        Its inner and squeezed channels, and their activations.
    """

    def __init__(self, config: EncoderConfig, plan: BlockPlan) -> None:
        super().__init__()
        convolution = Conv[Conv.CONV, config.spatial_dims]
        self.weigh = nn.Sequential(
            Pool[Pool.ADAPTIVEAVG, config.spatial_dims](1),
            convolution(plan.inner, plan.squeezed, 1),
            plan.squeeze_activation(),
            convolution(plan.squeezed, plan.inner, 1),
            plan.gate(),
        )

    def forward(self, x: Batch) -> Features:
        """Multiply each channel of (B, C, *spatial) by a weight between 0 and 1."""
        out: Features = x * self.weigh(x)
        return out


class InvertedResidual(nn.Module):
    """
    Expansion, depth-wise convolution and projection, around a skip where shapes agree.

    Parameters
    ----------
    config : EncoderConfig
        Norm and spatial dimensions.
    plan : BlockPlan
        Sizes and activations. Without more inner channels there is no expansion.
    """

    def __init__(self, config: EncoderConfig, plan: BlockPlan) -> None:
        super().__init__()
        inner, layers = plan.inner, OrderedDict[str, nn.Module]()
        if inner != plan.in_channels:
            expand = conv_layer(config, plan.in_channels, inner, kernel=1)
            layers["expand"] = conv_unit(config, expand, plan.activation)
        depthwise = conv_layer(
            config, inner, inner, kernel=plan.kernel, stride=plan.stride, groups=inner
        )
        layers["depthwise"] = conv_unit(config, depthwise, plan.activation)
        if plan.squeezed:
            layers["squeeze"] = SqueezeExcitation(config, plan)
        project = conv_layer(config, inner, plan.out_channels, kernel=1)
        layers["project"] = conv_unit(config, project, None)
        self.layers = nn.Sequential(layers)
        self.has_skip = plan.stride == 1 and plan.in_channels == plan.out_channels

    def forward(self, x: Batch) -> Features:
        """Map (B, in_channels, *spatial) to (B, out_channels, *ceil(spatial / stride))."""
        out: Features = self.layers(x)
        return x + out if self.has_skip else out


def build_inverted_residuals(
    config: EncoderConfig,
    stages: Iterable[Sequence[BlockPlan]],
    *,
    top_factor: int,
    activation: type[nn.Module],
) -> PooledEncoder:
    """
    Build stem, stages and the 1^d convolution at the top.

    Parameters
    ----------
    config : EncoderConfig
        Its stem is a 3^d convolution.
    stages : iterable of sequences of BlockPlan
        Blocks of each stage, in the order in which they run.
    top_factor : int
        Channels that leave the trunk, for one of the last stage.
    activation : type of nn.Module
        After the stem and the top.

    Returns
    -------
    PooledEncoder
        With the last stage on each grid as a level of the pyramid.
    """
    channels, stride = config.base_width, config.stem
    stem = conv_layer(config, config.in_channels, channels, kernel=3, stride=stride)
    trunk: OrderedDict[str, nn.Module] = OrderedDict(stem=conv_unit(config, stem, activation))
    levels: list[PyramidLevel] = []
    for index, plans in enumerate(stages, start=1):
        trunk[f"stage{index}"] = nn.Sequential(*(InvertedResidual(config, p) for p in plans))
        channels, stride = plans[-1].out_channels, stride * plans[0].stride
        levels.append(PyramidLevel(f"stage{index}", channels, stride))
    top = conv_layer(config, channels, top_factor * channels, kernel=1)
    trunk["top"] = conv_unit(config, top, activation)
    return PooledEncoder(config, StagedTrunk(trunk, tuple(levels)), channels=top_factor * channels)
