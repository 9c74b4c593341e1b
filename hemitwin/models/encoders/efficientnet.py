"""EfficientNet-B0 to B3 (Tan & Le 2019, arXiv:1905.11946).

MONAI's gives every norm the same number of groups, which not all of its layers' channels can be
divided by, runs one in-place activation several times a block, and drops blocks at random; this
one computes a fixed function.
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

_TOP_FACTOR = 4
_SQUEEZE = 4
_WIDTH_FACTORS = {"efficientnet_b2": 1.1, "efficientnet_b3": 1.2}


@dataclass(frozen=True)
class _Stage:
    expansion: int
    kernel: int
    channels: int


_STAGES = (
    _Stage(1, 3, 16),
    _Stage(6, 3, 24),
    _Stage(6, 5, 40),
    _Stage(6, 3, 80),
    _Stage(6, 5, 112),
    _Stage(6, 5, 192),
    _Stage(6, 3, 320),
)


def build_efficientnet(config: EncoderConfig) -> PooledEncoder:
    """
    Build an EfficientNet; all stages widen with `width`, their channels multiples of eight.

    Parameters
    ----------
    config : EncoderConfig
        Its `blocks` are those of the stages; fewer than seven leave the last ones out.

    Returns
    -------
    PooledEncoder
        With the last stage on each grid as a level of the pyramid.

    Examples
    --------
    >>> encoder = build_efficientnet(EncoderConfig(name="efficientnet_b0", spatial_dims=2))
    >>> encoder.feature_layers
    ('trunk.stage1', 'trunk.stage2', 'trunk.stage3', 'trunk.stage5', 'trunk.stage7')
    """
    return build_inverted_residuals(
        config, _plans(config), top_factor=_TOP_FACTOR, activation=nn.SiLU
    )


def _plans(config: EncoderConfig) -> Iterator[list[BlockPlan]]:
    factor = _WIDTH_FACTORS.get(config.name, 1.0) * config.base_width / config.architecture.width
    channels = config.base_width
    table = zip(_STAGES, config.stages, config.stage_strides, strict=False)
    for stage, count, stride in table:
        plans = []
        for block in range(count):
            plans.append(
                BlockPlan(
                    in_channels=channels,
                    inner=channels * stage.expansion,
                    out_channels=divisible_by_eight(stage.channels * factor),
                    kernel=stage.kernel,
                    stride=stride if block == 0 else 1,
                    squeezed=channels // _SQUEEZE,
                    activation=nn.SiLU,
                    squeeze_activation=nn.SiLU,
                )
            )
            channels = plans[-1].out_channels
        yield plans
