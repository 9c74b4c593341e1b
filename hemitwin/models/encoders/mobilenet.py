"""MobileNetV3-Large (Howard et al. 2019, arXiv:1905.02244).

The paper's dense layer of 1280 units before the classifier is left out: the embedding follows the
global pooling, as in every encoder here.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from hemitwin.models.config import EncoderConfig
from hemitwin.models.encoders.inverted_residual import (
    BlockPlan,
    build_inverted_residuals,
    divisible_by_eight,
)
from hemitwin.models.encoders.pooled import PooledEncoder

_TOP_FACTOR = 6
_SQUEEZE = 4


@dataclass(frozen=True)
class _Stage:
    """Kernel, channels that leave, inner channels block by block, and what else its blocks do."""

    kernel: int
    channels: int
    inner: tuple[int, ...]
    squeezes: bool
    activation: type[nn.Module]


_STAGES = (
    _Stage(3, 16, (16,), squeezes=False, activation=nn.ReLU),
    _Stage(3, 24, (64, 72), squeezes=False, activation=nn.ReLU),
    _Stage(5, 40, (72, 120), squeezes=True, activation=nn.ReLU),
    _Stage(3, 80, (240, 200, 184), squeezes=False, activation=nn.Hardswish),
    _Stage(3, 112, (480, 672), squeezes=True, activation=nn.Hardswish),
    _Stage(5, 160, (672, 960), squeezes=True, activation=nn.Hardswish),
)


def build_mobilenet(config: EncoderConfig) -> PooledEncoder:
    """
    Build a MobileNetV3-Large; all stages widen with `width`, their channels multiples of eight.

    Parameters
    ----------
    config : EncoderConfig
        Its `blocks` are those of the stages; fewer than six leave the last ones out, and further
        blocks of a stage are like its last.

    Returns
    -------
    PooledEncoder
        With the last stage on each grid as a level of the pyramid.

    Examples
    --------
    >>> encoder = build_mobilenet(EncoderConfig(name="mobilenet_v3", spatial_dims=2))
    >>> encoder.pyramid_channels, encoder.pyramid_strides
    ((16, 24, 40, 112, 160), (2, 4, 8, 16, 32))
    """
    return build_inverted_residuals(
        config, _plans(config), top_factor=_TOP_FACTOR, activation=nn.Hardswish
    )


def _plans(config: EncoderConfig) -> Iterator[list[BlockPlan]]:
    factor = config.base_width / config.architecture.width
    channels = config.base_width
    table = zip(_STAGES, config.stages, config.stage_strides, strict=False)
    for stage, count, stride in table:
        plans = []
        for block in range(count):
            inner = divisible_by_eight(stage.inner[min(block, len(stage.inner) - 1)] * factor)
            plans.append(
                BlockPlan(
                    in_channels=channels,
                    inner=inner,
                    out_channels=divisible_by_eight(stage.channels * factor),
                    kernel=stage.kernel,
                    stride=stride if block == 0 else 1,
                    squeezed=divisible_by_eight(inner // _SQUEEZE) if stage.squeezes else 0,
                    activation=stage.activation,
                    gate=nn.Hardsigmoid,
                )
            )
            channels = plans[-1].out_channels
        yield plans
