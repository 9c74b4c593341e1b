"""VGG (Simonyan & Zisserman 2015, arXiv:1409.1556) with a norm after each convolution."""

from collections import OrderedDict

from torch import nn

from hemitwin.models.config import EncoderConfig
from hemitwin.models.encoders.layers import conv_layer, conv_unit, max_pool
from hemitwin.models.encoders.pooled import PooledEncoder
from hemitwin.models.encoders.trunks import PyramidLevel, StagedTrunk

_WIDEST = 8


def build_vgg(config: EncoderConfig) -> PooledEncoder:
    """
    Build the convolutions and poolings of a VGG; global pooling stands for its dense layers.

    Parameters
    ----------
    config : EncoderConfig
        Its `blocks` are the convolutions of each stage: (1, 1, 2, 2, 2) is VGG-11.

    Returns
    -------
    PooledEncoder
        With each stage, before its pooling, as a level of the pyramid; the finest has the input's
        own grid.

    Examples
    --------
    >>> build_vgg(EncoderConfig(name="vgg11", width=4, spatial_dims=2)).pyramid_strides
    (1, 2, 4, 8, 16)
    """
    trunk: OrderedDict[str, nn.Module] = OrderedDict()
    levels: list[PyramidLevel] = []
    channels = config.in_channels
    for index, count in enumerate(config.stages):
        width = config.base_width * min(2**index, _WIDEST)
        stage = nn.Sequential()
        for _ in range(count):
            stage.append(conv_unit(config, conv_layer(config, channels, width, kernel=3)))
            channels = width
        trunk[f"stage{index + 1}"] = stage
        trunk[f"pool{index + 1}"] = max_pool(config)
        levels.append(PyramidLevel(f"stage{index + 1}", channels, 2**index))
    return PooledEncoder(config, StagedTrunk(trunk, tuple(levels)), channels=channels)
