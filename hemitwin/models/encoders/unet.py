"""MONAI's residual U-Net (Kerfoot et al. 2019, doi:10.1007/978-3-030-12029-0_40) as encoder."""

import torch
from monai.networks.nets.unet import UNet
from torch import nn
from torch.nn import functional as F

from hemitwin._shapes import Batch
from hemitwin.models.config import EncoderConfig
from hemitwin.models.encoders.layers import FeatureMap, Features, norm_spec
from hemitwin.models.encoders.pooled import PooledEncoder
from hemitwin.models.encoders.trunks import PyramidLevel


class _UNetTrunk(nn.Module):
    """
    U-Net whose full-resolution maps are the features.

    The input is padded with background (0) at the far end of each axis, up to a multiple of the
    total stride: the up-sampled maps would not fit the skipped ones otherwise.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        width, depth = config.base_width, config.depth
        self.multiple = config.total_stride
        self.net = UNet(
            spatial_dims=config.spatial_dims,
            in_channels=config.in_channels,
            out_channels=width,
            channels=tuple(width * 2**level for level in range(depth)),
            strides=(2,) * (depth - 1),
            num_res_units=2,
            norm=norm_spec(config, width),
        )
        self.relu = nn.ReLU()
        # The bottom runs on the grid of the level above it and stands for it.
        strides = [2**level for level in range(1, depth)]
        channels = [width * 2**level for level in (*range(depth - 2), depth - 1)]
        self.levels = tuple(map(PyramidLevel, _contracting_layers(depth), channels, strides))

    def forward(self, x: Batch) -> Features:
        out: Features = self.relu(self.net(self._pad(x)))
        return out

    def forward_with_maps(self, x: Batch) -> tuple[FeatureMap, tuple[FeatureMap, ...]]:
        """Keep the contracting path's maps, without what the padding added at their far ends."""
        maps: list[FeatureMap] = []
        top = self._descend(self.net.model, self._pad(x), maps)
        del maps[-2]
        strides = (level.stride for level in self.levels)
        return self.relu(top), tuple(
            _crop(features, tuple(-(-size // stride) for size in x.shape[2:]))
            for features, stride in zip(maps, strides, strict=True)
        )

    def _pad(self, x: Batch) -> FeatureMap:
        missing = [-size % self.multiple for size in x.shape[2:]]
        if any(missing):
            x = F.pad(x, [edge for size in reversed(missing) for edge in (0, size)])
        return x

    def _descend(self, block: nn.Module, x: FeatureMap, maps: list[FeatureMap]) -> FeatureMap:
        """Run a level as MONAI's skip connection does; keep what its contracting half gives."""
        if not isinstance(block, nn.Sequential):
            maps.append(block(x))
            return maps[-1]
        down, skip, up = block
        skipped = down(x)
        maps.append(skipped)
        deeper = self._descend(skip.get_submodule("submodule"), skipped, maps)
        out: FeatureMap = up(torch.cat([skipped, deeper], dim=1))
        return out


def _crop(features: FeatureMap, sizes: tuple[int, ...]) -> FeatureMap:
    for axis, size in enumerate(sizes, start=2):
        features = features.narrow(axis, 0, size)
    return features


def _contracting_layers(depth: int) -> list[str]:
    """Name the contracting units that are the deepest of their grids."""
    nested = ["net.model" + ".1.submodule" * level for level in range(depth)]
    return [*(f"{block}.0" for block in nested[: depth - 2]), nested[-1]]


def build_unet(config: EncoderConfig) -> PooledEncoder:
    """
    Build a U-Net of `levels` resolutions with two residual units a level.

    Examples
    --------
    >>> build_unet(EncoderConfig(name="unet", width=4, levels=2)).feature_layers
    ('trunk.net.model.1', 'trunk.net.model.2')
    """
    return PooledEncoder(
        config,
        _UNetTrunk(config),
        channels=config.base_width,
        feature_layers=("trunk.net.model.1", "trunk.net.model.2"),
    )
