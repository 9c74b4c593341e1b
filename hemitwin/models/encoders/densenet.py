"""DenseNet-121 and 169 (Huang et al. 2017, arXiv:1608.06993)."""

from collections import OrderedDict

import torch
from torch import nn

from hemitwin._shapes import Batch
from hemitwin.models.config import EncoderConfig
from hemitwin.models.encoders.layers import (
    Features,
    average_pool,
    conv_layer,
    norm_layer,
    stem_layers,
)
from hemitwin.models.encoders.pooled import PooledEncoder
from hemitwin.models.encoders.trunks import PyramidLevel, StagedTrunk

_BOTTLENECK = 4


class _DenseLayer(nn.Module):
    """Bottleneck of 1^d and 3^d convolutions whose maps are added to the input's channels."""

    def __init__(self, config: EncoderConfig, in_channels: int, growth: int) -> None:
        super().__init__()
        inner = _BOTTLENECK * growth
        self.layers = nn.Sequential(
            norm_layer(config, in_channels),
            nn.ReLU(),
            conv_layer(config, in_channels, inner, kernel=1),
            norm_layer(config, inner),
            nn.ReLU(),
            conv_layer(config, inner, growth, kernel=3),
        )

    def forward(self, x: Batch) -> Features:
        return torch.cat([x, self.layers(x)], dim=1)


def _transition(config: EncoderConfig, channels: int) -> nn.Sequential:
    return nn.Sequential(
        norm_layer(config, channels),
        nn.ReLU(),
        conv_layer(config, channels, channels // 2, kernel=1),
        average_pool(config),
    )


def build_densenet(config: EncoderConfig) -> PooledEncoder:
    """
    Build a DenseNet; `blocks=(6, 12, 24, 16)` is DenseNet-121. Growth is width / 2.

    Examples
    --------
    >>> small = EncoderConfig(name="densenet121", blocks=(1, 2), width=8, spatial_dims=2)
    >>> build_densenet(small).feature_layers
    ('trunk.block1', 'trunk.block2')
    """
    growth = config.base_width // 2
    channels = config.base_width
    trunk: OrderedDict[str, nn.Module] = OrderedDict(stem=stem_layers(config))
    levels: list[PyramidLevel] = []
    for index, count in enumerate(config.stages, start=1):
        if index > 1:
            trunk[f"transition{index - 1}"] = _transition(config, channels)
            channels //= 2
        block = nn.Sequential()
        for _ in range(count):
            block.append(_DenseLayer(config, channels, growth))
            channels += growth
        trunk[f"block{index}"] = block
        levels.append(PyramidLevel(f"block{index}", channels, config.stem * 2 ** (index - 1)))
    trunk["norm"] = norm_layer(config, channels)
    trunk["relu"] = nn.ReLU()
    return PooledEncoder(config, StagedTrunk(trunk, tuple(levels)), channels=channels)
