"""ResNet-18 (He et al. 2016, arXiv:1512.03385), with the norm that was asked for everywhere.

MONAI's ResNet hands `norm` to one of its twelve normalisations only, hence this one.
"""

from collections import OrderedDict

from torch import nn

from hemitwin._shapes import Batch
from hemitwin.models.encoder_config import EncoderConfig
from hemitwin.models.layers import Features, conv_layer, norm_layer, stem_layers
from hemitwin.models.pooled_encoder import PooledEncoder
from hemitwin.models.staged_trunk import PyramidLevel, StagedTrunk


class _BasicBlock(nn.Module):
    """Two 3^d convolutions around a skip; the second activation follows the sum."""

    def __init__(
        self, config: EncoderConfig, in_channels: int, out_channels: int, *, stride: int
    ) -> None:
        super().__init__()
        self.conv1 = conv_layer(config, in_channels, out_channels, kernel=3, stride=stride)
        self.norm1 = norm_layer(config, out_channels)
        self.relu1 = nn.ReLU()
        self.conv2 = conv_layer(config, out_channels, out_channels, kernel=3)
        self.norm2 = norm_layer(config, out_channels)
        self.relu2 = nn.ReLU()
        self.skip: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.skip = nn.Sequential(
                conv_layer(config, in_channels, out_channels, kernel=1, stride=stride),
                norm_layer(config, out_channels),
            )

    def forward(self, x: Batch) -> Features:
        y = self.relu1(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        out: Features = self.relu2(y + self.skip(x))
        return out


def build_resnet(config: EncoderConfig) -> PooledEncoder:
    """
    Build a ResNet of basic blocks; `blocks=(2, 2, 2, 2)` is ResNet-18.

    Examples
    --------
    >>> build_resnet(EncoderConfig(width=8, spatial_dims=2)).feature_layers[-1]
    'trunk.stage4'
    """
    trunk: OrderedDict[str, nn.Module] = OrderedDict(stem=stem_layers(config))
    levels: list[PyramidLevel] = []
    channels = config.base_width
    for index, count in enumerate(config.stages):
        width = config.base_width * 2**index
        stage = nn.Sequential()
        for block in range(count):
            stride = 2 if index > 0 and block == 0 else 1
            stage.append(_BasicBlock(config, channels, width, stride=stride))
            channels = width
        trunk[f"stage{index + 1}"] = stage
        levels.append(PyramidLevel(f"stage{index + 1}", channels, config.stem * 2**index))
    return PooledEncoder(config, StagedTrunk(trunk, tuple(levels)), channels=channels)
