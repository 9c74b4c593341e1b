"""The contracting path of the U-Net, with attention gates (Oktay et al. 2018, arXiv:1804.03999).

MONAI's AttentionBlock always takes BatchNorm, hence the gate here; the residual units are MONAI's.
"""

from collections import OrderedDict

from monai.networks.blocks.convolutions import ResidualUnit
from monai.networks.layers.factories import Conv
from torch import Tensor, nn
from torch.nn import functional as F

from hemitwin._shapes import Batch
from hemitwin.models.config import EncoderConfig
from hemitwin.models.encoders.layers import FeatureMap, Features, norm_spec
from hemitwin.models.encoders.pooled import PooledEncoder
from hemitwin.models.encoders.trunks import PyramidLevel, StagedTrunk


class AttentionGate(nn.Module):
    """
    Weigh each place of a map by what the next coarser map holds there.

    The additive gate of Oktay et al. 2018, equations 1 and 2: a = sigmoid(psi(ReLU(W_x x + W_g g
    + b_g)) + b_psi), with 1^d convolutions, W_x on the coarser grid, and a brought back linearly
    onto the finer one; the map is multiplied by a. The gate holds no norm.

    Parameters
    ----------
    config : EncoderConfig
        Its spatial dimensions are used.
    channels, coarser_channels : int
        Channels of the map and of the next coarser one. The gate computes with `channels`.
    """

    def __init__(self, config: EncoderConfig, channels: int, coarser_channels: int) -> None:
        super().__init__()
        convolution = Conv[Conv.CONV, config.spatial_dims]
        self.mode = "bilinear" if config.spatial_dims == 2 else "trilinear"
        self.from_map = convolution(channels, channels, 1, stride=2, bias=False)
        self.from_coarser = convolution(coarser_channels, channels, 1)
        self.relu = nn.ReLU()
        self.weigh = convolution(channels, 1, 1)
        self.sigmoid = nn.Sigmoid()

    def forward(self, x: Batch, coarser: FeatureMap) -> Features:
        """Weigh (B, channels, *spatial) by (B, coarser_channels, *ceil(spatial / 2))."""
        joint = self.relu(self.from_map(x) + self.from_coarser(coarser))
        weights: Tensor = self.sigmoid(self.weigh(joint))
        out: Features = x * F.interpolate(weights, size=x.shape[2:], mode=self.mode)
        return out


class GatedTrunk(nn.Module):
    """
    Stages whose maps are gated by the next coarser ones.

    Attention gates stand in the skips of a U-Net, which an encoder has not. Here they stand
    between the maps and the embedding, as in the classifier of Schlemper et al. 2019
    (arXiv:1808.08114): each gated map and the coarsest one leave the trunk, are pooled globally,
    and embedded together. Gates take the coarser map as its stage gave it, before its own gate.

    Parameters
    ----------
    config : EncoderConfig
        Its spatial dimensions are used.
    stages : StagedTrunk
        Its levels halve the grid from one to the next.
    """

    levels: tuple[PyramidLevel, ...]

    def __init__(self, config: EncoderConfig, stages: StagedTrunk) -> None:
        super().__init__()
        self.stages = stages
        fine, coarsest = stages.levels[:-1], stages.levels[-1]
        self.gates = nn.ModuleList(
            AttentionGate(config, level.channels, coarser.channels)
            for level, coarser in zip(fine, stages.levels[1:], strict=True)
        )
        self.levels = (
            *(
                PyramidLevel(f"gates.{index}", level.channels, level.stride)
                for index, level in enumerate(fine)
            ),
            PyramidLevel(f"stages.{coarsest.layer}", coarsest.channels, coarsest.stride),
        )

    def forward(self, x: Batch) -> tuple[FeatureMap, ...]:
        """Give the gated maps, from fine to coarse, and the coarsest one."""
        _, maps = self.stages.forward_with_maps(x)
        gated = [
            gate(finer, coarser)
            for gate, finer, coarser in zip(self.gates, maps, maps[1:], strict=False)
        ]
        return (*gated, maps[-1])

    def forward_with_maps(self, x: Batch) -> tuple[tuple[FeatureMap, ...], tuple[FeatureMap, ...]]:
        """Give the gated maps as what leaves the trunk and as the pyramid."""
        maps = self.forward(x)
        return maps, maps


def build_unet_encoder(config: EncoderConfig) -> PooledEncoder:
    """
    Build the contracting path of the U-Net, of two residual units a level.

    Parameters
    ----------
    config : EncoderConfig
        With `attention`, every level but the coarsest is gated and embedded as well.

    Returns
    -------
    PooledEncoder
        With one map a resolution; the coarsest is that of the bottom.

    Examples
    --------
    >>> settings = {"name": "unet_encoder", "width": 4, "levels": 3}
    >>> build_unet_encoder(EncoderConfig(**settings)).feature_layers
    ('trunk.level1', 'trunk.bottom')
    >>> build_unet_encoder(EncoderConfig(**settings, attention=True)).feature_layers
    ('trunk.gates.0', 'trunk.stages.bottom')
    """
    stages: OrderedDict[str, nn.Module] = OrderedDict()
    levels: list[PyramidLevel] = []
    channels = config.in_channels
    for level in range(1, config.depth + 1):
        deepest = level == config.depth
        name, width = (
            "bottom" if deepest else f"level{level}",
            config.base_width * 2 ** (level - 1),
        )
        stages[name] = ResidualUnit(
            config.spatial_dims,
            channels,
            width,
            strides=1 if deepest else 2,
            norm=norm_spec(config, width),
        )
        channels = width
        levels.append(PyramidLevel(name, width, 2 ** min(level, config.depth - 1)))
    trunk = StagedTrunk(stages, tuple(levels))
    if not config.attention:
        return PooledEncoder(config, trunk, channels=channels)
    gated = GatedTrunk(config, trunk)
    leaving = tuple(level.channels for level in gated.levels)
    return PooledEncoder(config, gated, channels=leaving)
