"""COVID-Net (Wang, Lin & Wong 2020, doi:10.1038/s41598-020-76550-z).

The paper gives the blocks and their order but not every width; the stages' channels here are those
of public reimplementations. Global pooling stands for its flattened map and dense layers.
"""

from collections import OrderedDict

from torch import nn

from hemitwin._shapes import Batch
from hemitwin.models.config import EncoderConfig
from hemitwin.models.encoders.layers import Features, conv_layer, conv_unit, max_pool
from hemitwin.models.encoders.pooled import PooledEncoder
from hemitwin.models.encoders.trunks import PyramidLevel, StagedTrunk

_STAGE_CHANNELS = (56, 112, 216, 424)  # at width 56


class _Pepx(nn.Sequential):
    """
    Projection, expansion, depth-wise representation, projection, extension.

    Projections halve the channels that came, the expansion gives three quarters of them: the paper
    leaves both open. Every convolution is followed by the norm and a ReLU.
    """

    def __init__(self, config: EncoderConfig, in_channels: int, out_channels: int) -> None:
        super().__init__()
        projected, expanded = in_channels // 2, 3 * in_channels // 4
        depthwise = conv_layer(config, expanded, expanded, kernel=3, groups=expanded)
        parts = {
            "projection1": conv_layer(config, in_channels, projected, kernel=1),
            "expansion": conv_layer(config, projected, expanded, kernel=1),
            "depthwise": depthwise,
            "projection2": conv_layer(config, expanded, projected, kernel=1),
            "extension": conv_layer(config, projected, out_channels, kernel=1),
        }
        for name, convolution in parts.items():
            self.add_module(name, conv_unit(config, convolution))


class _Stage(nn.Module):
    """
    PEPX blocks, each of which sees the sum of all that came before it in the stage.

    A 1^d convolution passes the stage's input by all of them: through these, what one stage gives
    reaches every block of the next.
    """

    def __init__(
        self, config: EncoderConfig, in_channels: int, out_channels: int, *, count: int
    ) -> None:
        super().__init__()
        self.skip = conv_unit(config, conv_layer(config, in_channels, out_channels, kernel=1))
        self.blocks = nn.ModuleList(
            _Pepx(config, in_channels if block == 0 else out_channels, out_channels)
            for block in range(count)
        )

    def forward(self, x: Batch) -> Features:
        first, *others = self.blocks
        out: Features = self.skip(x) + first(x)
        for block in others:
            out = out + block(out)
        return out


def build_covidnet(config: EncoderConfig) -> PooledEncoder:
    """
    Build COVID-Net: 3, 4, 6 and 3 PEPX blocks between 2^d max pooling, with long skips.

    Parameters
    ----------
    config : EncoderConfig
        Its `blocks` are the PEPX blocks of each stage.

    Returns
    -------
    PooledEncoder
        With each stage as a level of the pyramid.

    Examples
    --------
    >>> build_covidnet(EncoderConfig(name="covidnet", spatial_dims=2)).pyramid_channels
    (56, 112, 216, 424)
    """
    channels = config.base_width
    trunk: OrderedDict[str, nn.Module] = OrderedDict(stem=_stem(config))
    levels: list[PyramidLevel] = []
    for index, count in enumerate(config.stages):
        if index > 0:
            trunk[f"pool{index}"] = max_pool(config)
        wider = _stage_channels(config, index)
        trunk[f"stage{index + 1}"] = _Stage(config, channels, wider, count=count)
        levels.append(PyramidLevel(f"stage{index + 1}", wider, config.stem * 2**index))
        channels = wider
    return PooledEncoder(config, StagedTrunk(trunk, tuple(levels)), channels=channels)


def _stem(config: EncoderConfig) -> nn.Sequential:
    kernel, stride = (3, 1) if config.stem == 1 else (7, 2)
    convolution = conv_layer(
        config, config.in_channels, config.base_width, kernel=kernel, stride=stride
    )
    stem = conv_unit(config, convolution)
    if config.stem == 4:
        stem.add_module("pool", max_pool(config))
    return stem


def _stage_channels(config: EncoderConfig, index: int) -> int:
    """Scale the stage's channels with the width; those beyond the fourth stage double."""
    last = len(_STAGE_CHANNELS) - 1
    published = _STAGE_CHANNELS[min(index, last)] << max(index - last, 0)
    return round(published * config.base_width / _STAGE_CHANNELS[0])
