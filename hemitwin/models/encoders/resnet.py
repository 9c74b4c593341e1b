"""ResNets (He et al. 2016, arXiv:1512.03385) and ResNeXt (Xie et al. 2017, arXiv:1611.05431).

MONAI's ResNet hands `norm` to one of its twelve normalisations only, hence these. Bottlenecks
shrink in their 3^d convolution, not in the first 1^d one, as in the published ImageNet weights.
"""

from collections import OrderedDict
from math import gcd

from torch import nn

from hemitwin._shapes import Batch
from hemitwin.models.config import EncoderConfig
from hemitwin.models.encoders.layers import Features, conv_layer, norm_layer, stem_layers
from hemitwin.models.encoders.pooled import PooledEncoder
from hemitwin.models.encoders.trunks import PyramidLevel, StagedTrunk


class _BasicBlock(nn.Module):
    """Two 3^d convolutions around a skip; the second activation follows the sum."""

    expansion = 1

    def __init__(
        self, config: EncoderConfig, in_channels: int, width: int, *, stride: int
    ) -> None:
        super().__init__()
        self.conv1 = conv_layer(config, in_channels, width, kernel=3, stride=stride)
        self.norm1 = norm_layer(config, width)
        self.relu1 = nn.ReLU()
        self.conv2 = conv_layer(config, width, width, kernel=3)
        self.norm2 = norm_layer(config, width)
        self.relu2 = nn.ReLU()
        self.skip = _skip(config, in_channels, width, stride=stride)

    def forward(self, x: Batch) -> Features:
        y = self.relu1(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        out: Features = self.relu2(y + self.skip(x))
        return out


class _Bottleneck(nn.Module):
    """
    1^d, 3^d and 1^d convolutions around a skip; the last activation follows the sum.

    ResNeXt doubles the inner channels and splits them into groups: at width 64 into 32, of 4
    channels in the first stage.
    """

    expansion = 4

    def __init__(
        self, config: EncoderConfig, in_channels: int, width: int, *, stride: int
    ) -> None:
        super().__init__()
        split = config.name == "resnext50"
        inner = 2 * width if split else width
        groups = gcd(config.base_width // 2, inner) if split else 1
        out_channels = width * self.expansion
        self.conv1 = conv_layer(config, in_channels, inner, kernel=1)
        self.norm1 = norm_layer(config, inner)
        self.relu1 = nn.ReLU()
        self.conv2 = conv_layer(config, inner, inner, kernel=3, stride=stride, groups=groups)
        self.norm2 = norm_layer(config, inner)
        self.relu2 = nn.ReLU()
        self.conv3 = conv_layer(config, inner, out_channels, kernel=1)
        self.norm3 = norm_layer(config, out_channels)
        self.relu3 = nn.ReLU()
        self.skip = _skip(config, in_channels, out_channels, stride=stride)

    def forward(self, x: Batch) -> Features:
        y = self.relu1(self.norm1(self.conv1(x)))
        y = self.relu2(self.norm2(self.conv2(y)))
        y = self.norm3(self.conv3(y))
        out: Features = self.relu3(y + self.skip(x))
        return out


def _skip(config: EncoderConfig, in_channels: int, out_channels: int, *, stride: int) -> nn.Module:
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    return nn.Sequential(
        conv_layer(config, in_channels, out_channels, kernel=1, stride=stride),
        norm_layer(config, out_channels),
    )


def build_resnet(config: EncoderConfig) -> PooledEncoder:
    """
    Build a ResNet of basic blocks, or of bottlenecks (resnet50, resnext50).

    Parameters
    ----------
    config : EncoderConfig
        Its `blocks` are those of the stages: (2, 2, 2, 2) is ResNet-18.

    Returns
    -------
    PooledEncoder
        With a stage's last block as a level of the pyramid.

    Examples
    --------
    >>> build_resnet(EncoderConfig(width=8, spatial_dims=2)).feature_layers[-1]
    'trunk.stage4'
    >>> build_resnet(EncoderConfig(name="resnet50", width=8)).pyramid_channels
    (32, 64, 128, 256)
    """
    block_type = _Bottleneck if config.name in {"resnet50", "resnext50"} else _BasicBlock
    trunk: OrderedDict[str, nn.Module] = OrderedDict(stem=stem_layers(config))
    levels: list[PyramidLevel] = []
    channels = config.base_width
    for index, count in enumerate(config.stages):
        width = config.base_width * 2**index
        stage = nn.Sequential()
        for block in range(count):
            stride = 2 if index > 0 and block == 0 else 1
            stage.append(block_type(config, channels, width, stride=stride))
            channels = width * block_type.expansion
        trunk[f"stage{index + 1}"] = stage
        levels.append(PyramidLevel(f"stage{index + 1}", channels, config.stem * 2**index))
    return PooledEncoder(config, StagedTrunk(trunk, tuple(levels)), channels=channels)
