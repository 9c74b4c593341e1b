"""The Siamese U-Net decoder: where on which side the two images differ."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from hemitwin.models.config import EncoderConfig, Metric
from hemitwin.models.distances import pair_distance
from hemitwin.models.encoders.layers import FeatureMap, Features, conv_layer, norm_layer
from hemitwin.models.heads import EncodedImages, PairHead, PairOutput


class _Fusion(nn.Module):
    """Bring |difference|, own features and the coarser level together."""

    def __init__(
        self, config: EncoderConfig, own: int, coarser: int, channels: int, *, rounds: int
    ) -> None:
        super().__init__()
        self.reduce = conv_layer(config, 2 * own + coarser, channels, kernel=1)
        self.blocks = nn.Sequential()
        for _ in range(rounds):
            self.blocks.append(norm_layer(config, channels))
            self.blocks.append(nn.ReLU())
            self.blocks.append(conv_layer(config, channels, channels, kernel=3))
        self.norm = norm_layer(config, channels)
        self.relu = nn.ReLU()

    def forward(self, own: FeatureMap, other: FeatureMap, coarser: FeatureMap | None) -> Features:
        reduced = self._joined(own, other, coarser)
        out: Features = self.relu(self.norm(self.blocks(reduced)))
        return out

    def _joined(self, own: FeatureMap, other: FeatureMap, coarser: FeatureMap | None) -> Features:
        difference = (own - other).abs()
        if self.training:
            return self._added(difference, own, coarser)
        parts = [difference, own]
        if coarser is not None:
            parts.append(F.interpolate(coarser, size=own.shape[2:], mode="nearest"))
        joined: Features = self.reduce(torch.cat(parts, dim=1))
        return joined

    def _added(
        self, difference: FeatureMap, own: FeatureMap, coarser: FeatureMap | None
    ) -> Features:
        """Convolve the parts one by one: the same, without laying them side by side.

        The coarser level is reduced on its own grid. Rules of relevance are of one convolution,
        which is why this is for training alone.
        """
        convolve = F.conv3d if own.ndim == 5 else F.conv2d
        count = own.shape[1]
        weight = self.reduce.weight
        reduced = convolve(difference, weight[:, :count])
        reduced = reduced + convolve(own, weight[:, count : 2 * count])
        if coarser is None:
            return reduced
        below = convolve(coarser, weight[:, 2 * count :])
        return reduced + F.interpolate(below, size=own.shape[2:], mode="nearest")


class AnomalyDecoder(PairHead):
    """
    Decode the absolute differences of the two feature pyramids, with each side's own features.

    One decoder serves both sides: its map of a side sees |f_a - f_b|, which is the same for both,
    and that side's features, without which nothing could tell the side. Exchanging the images
    exchanges the maps. The finest level is the images themselves.

    Parameters
    ----------
    config : EncoderConfig
        Of the encoder: spatial dimensions, channels, norm.
    pyramid_channels : tuple of int
        The encoder's, from fine to coarse.
    width : int
        Channels at the finest level; twice as many at each coarser one, at most 8 times.
    fine_rounds : int
        Convolutions at the finest level.
    peak_voxels : int
        The logit of a pair is the mean of so many highest voxels of both maps.
    metric : {'euclidean', 'cosine', 'l1'}
        Of the distance that is reported beside the logit.

    References
    ----------
    Feature differences on skip connections: Daudt et al. 2018, doi:10.1109/ICIP.2018.8451652.
    """

    needs_maps = True
    gives_logit = True

    def __init__(
        self,
        config: EncoderConfig,
        pyramid_channels: tuple[int, ...],
        *,
        width: int = 16,
        fine_rounds: int = 1,
        peak_voxels: int = 8,
        metric: Metric = "euclidean",
    ) -> None:
        super().__init__(metric)
        self.peak_voxels = peak_voxels
        owns = (config.in_channels, *pyramid_channels)
        widths = [width * min(2**level, 8) for level in range(len(owns))]
        self.levels = nn.ModuleList(
            _Fusion(config, own, coarser, channels, rounds=fine_rounds if level == 0 else 2)
            for level, (own, channels, coarser) in enumerate(
                zip(owns, widths, [*widths[1:], 0], strict=True)
            )
        )
        out = nn.Conv3d if config.spatial_dims == 3 else nn.Conv2d
        self.out = out(widths[0], 1, 1)

    def forward(self, left: EncodedImages, right: EncodedImages) -> PairOutput:
        """Compare pair by pair, and map each side."""
        a, b = left.embedding, right.embedding
        own = [torch.cat(both) for both in zip(_pyramid(left), _pyramid(right), strict=True)]
        other = [torch.cat(both) for both in zip(_pyramid(right), _pyramid(left), strict=True)]
        coarser: FeatureMap | None = None
        for level in reversed(range(len(own))):
            coarser = self.levels[level](own[level], other[level], coarser)
        anomaly = torch.cat(self.out(coarser).chunk(2), dim=1)
        distance = pair_distance(a, b, self.metric)
        return PairOutput(a, b, distance, self.peak(anomaly), anomaly)

    def peak(self, anomaly: Float[Tensor, "batch 2 *spatial"]) -> Float[Tensor, " batch"]:
        """Return the mean of the highest voxels of both sides."""
        voxels = anomaly.flatten(1)
        peak: Tensor = voxels.topk(min(self.peak_voxels, voxels.shape[1]), dim=1).values.mean(1)
        return peak


def _pyramid(side: EncodedImages) -> tuple[Tensor, ...]:
    return side.inputs, *side.maps
