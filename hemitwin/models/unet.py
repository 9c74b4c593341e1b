"""MONAI's residual U-Net (Kerfoot et al. 2019, doi:10.1007/978-3-030-12029-0_40) as encoder."""

from monai.networks.nets.unet import UNet
from torch import nn
from torch.nn import functional as F

from hemitwin._shapes import Batch
from hemitwin.models.encoder_config import EncoderConfig
from hemitwin.models.layers import Features, norm_spec
from hemitwin.models.pooled_encoder import PooledEncoder


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

    def forward(self, x: Batch) -> Features:
        missing = [-size % self.multiple for size in x.shape[2:]]
        if any(missing):
            x = F.pad(x, [edge for size in reversed(missing) for edge in (0, size)])
        out: Features = self.relu(self.net(x))
        return out


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
