"""The one shape all encoders have: trunk, pooling, linear embedding."""

from collections import OrderedDict

import torch
from monai.networks.layers.factories import Pool
from torch import Tensor, nn

from hemitwin._shapes import Batch, Embedding
from hemitwin.models.config import EncoderConfig
from hemitwin.models.encoders.layers import FeatureMap
from hemitwin.models.encoders.trunks import Leaving, PyramidTrunk

_HIGHEST = 0.01


class PooledEncoder(nn.Module):
    """
    Trunk, pooling to one cell or a few, and a linear layer.

    Parameters
    ----------
    config : EncoderConfig
        What the trunk was built from.
    trunk : nn.Module and PyramidTrunk
        (B, in_channels, *spatial) to (B, channels, *coarser).
    channels : int or tuple of int
        Channels that leave the trunk; several, where several maps leave it and are pooled each.
    feature_layers : tuple of str, optional
        Names of the submodules whose maps show where features lie, coarse last; without it those
        of the pyramid.

    Attributes
    ----------
    pyramid_channels : tuple of int
        Channels of each map of the pyramid, from fine to coarse.
    pyramid_strides : tuple of int
        Voxels of the input for one voxel of the map, the same along every axis. An axis of n
        voxels gives maps of ceil(n / stride), whose first voxel lies at the input's first.
    frozen : tuple of str
        Names of the submodules that stay in evaluation mode; see `freeze`.
    """

    config: EncoderConfig
    spatial_dims: int
    feature_layers: tuple[str, ...]
    pyramid_channels: tuple[int, ...]
    pyramid_strides: tuple[int, ...]
    frozen: tuple[str, ...] = ()

    def __init__(
        self,
        config: EncoderConfig,
        trunk: nn.Module,
        *,
        channels: int | tuple[int, ...],
        feature_layers: tuple[str, ...] | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(trunk, PyramidTrunk):
            msg = f"trunk must give a feature pyramid; got {type(trunk).__name__}; use StagedTrunk"
            raise TypeError(msg)
        self.config = config
        self.spatial_dims = config.spatial_dims
        self.feature_layers = feature_layers or tuple(
            f"trunk.{level.layer}" for level in trunk.levels
        )
        self.pyramid_channels = tuple(level.channels for level in trunk.levels)
        self.pyramid_strides = tuple(level.stride for level in trunk.levels)
        self.trunk = trunk
        leaving = (channels,) if isinstance(channels, int) else channels
        self.pools = nn.ModuleDict(_pools(config, len(leaving)))
        cells = config.pooling_grid**config.spatial_dims
        pooled = cells * sum(leaving) * len(self.pools) // len(leaving)
        self.embed = nn.Linear(pooled, config.embedding_dim)

    def forward(self, x: Batch) -> Embedding:
        """
        Embed a batch.

        Parameters
        ----------
        x : (B, in_channels, *spatial) float
            Images; every spatial axis at least `config.minimum_size` voxels.

        Returns
        -------
        (B, embedding_dim) float
            Embeddings, not normalised.

        Raises
        ------
        ValueError
            When the number of axes or channels is wrong, or an axis is too short.
        """
        self._check(tuple(x.shape))
        return self._pool_and_embed(self.trunk(x))

    def forward_with_features(self, x: Batch) -> tuple[Embedding, tuple[FeatureMap, ...]]:
        """
        Embed a batch and keep its feature pyramid, in one pass.

        Parameters
        ----------
        x : (B, in_channels, *spatial) float
            As for `forward`.

        Returns
        -------
        (B, embedding_dim) float
            The embeddings that `forward` gives.
        tuple of (B, pyramid_channels[i], *ceil(spatial / pyramid_strides[i])) float
            The pyramid that `features` gives.

        Raises
        ------
        ValueError
            As `forward` does.
        """
        self._check(tuple(x.shape))
        top, maps = self._run(x)
        return self._pool_and_embed(top), maps

    def features(self, x: Batch) -> tuple[FeatureMap, ...]:
        """
        Compute the feature pyramid of a batch, one map a resolution.

        Parameters
        ----------
        x : (B, in_channels, *spatial) float
            As for `forward`.

        Returns
        -------
        tuple of (B, pyramid_channels[i], *ceil(spatial / pyramid_strides[i])) float
            From fine to coarse: the maps of `feature_layers`; the full U-Net's are those of its
            contracting path.

        Raises
        ------
        ValueError
            As `forward` does.

        Examples
        --------
        >>> from hemitwin.models import EncoderConfig, build_encoder
        >>> encoder = build_encoder(EncoderConfig(width=4, blocks=(1, 1), spatial_dims=2))
        >>> [tuple(level.shape) for level in encoder.features(torch.zeros(1, 1, 17, 16))]
        [(1, 4, 5, 4), (1, 8, 3, 2)]
        """
        self._check(tuple(x.shape))
        return self._run(x)[1]

    def _run(self, x: Batch) -> tuple[Leaving, tuple[FeatureMap, ...]]:
        trunk: PyramidTrunk = self.trunk
        return trunk.forward_with_maps(x)

    def _pool_and_embed(self, leaving: Leaving) -> Embedding:
        maps = (leaving,) if isinstance(leaving, Tensor) else leaving
        kinds = len(self.pools) // len(maps)
        pooled = [
            pool(maps[index // kinds]).flatten(1) for index, pool in enumerate(self.pools.values())
        ]
        embedding: Embedding = self.embed(torch.cat(pooled, dim=1))
        return embedding

    def train(self, mode: bool = True) -> "PooledEncoder":
        """Set the mode, but of what is frozen."""
        super().train(mode)
        for name in self.frozen:
            self.get_submodule(name).eval()
        return self

    @torch.no_grad()
    def centre(self, images: Batch) -> None:
        """
        Move the embeddings' mean over a batch to zero, by the bias of the last layer.

        Pooled features are positive, so that untrained embeddings all point one way: their
        normalised distances are near zero, and so are the gradients. Centring them once before
        training lets it begin at once (data-dependent initialisation: Krähenbühl et al. 2016,
        arXiv:1511.06856).

        Parameters
        ----------
        images : (B, in_channels, *spatial) float
            A batch as training will see it.
        """
        self.embed.bias.sub_(self(images).mean(dim=0))

    def _check(self, shape: tuple[int, ...]) -> None:
        config = self.config
        if len(shape) != config.spatial_dims + 2 or shape[1] != config.in_channels:
            msg = (
                f"input must be (B, {config.in_channels}, *spatial) with {config.spatial_dims} "
                f"spatial axes; got shape {shape}; add the batch or channel axis"
            )
            raise ValueError(msg)
        if min(shape[2:]) < config.minimum_size:
            msg = (
                f"every spatial axis must have at least {config.minimum_size} voxels for "
                f"{config.name} with {config.norm} norm; got {shape[2:]}; use a finer grid, fewer "
                "stages or levels, a smaller stem_stride, or the group norm"
            )
            raise ValueError(msg)


def _pools(config: EncoderConfig, maps: int) -> "OrderedDict[str, nn.Module]":
    """Build one module a map and kind: none is to run twice."""
    return OrderedDict(
        (name if maps == 1 else f"{name}{index}", _pool(config, name))
        for index in range(1, maps + 1)
        for name in config.pooling.split("+")
    )


def _pool(config: EncoderConfig, name: str) -> nn.Module:
    if name == "highest":
        return HighestMean()
    kinds = {"average": Pool.ADAPTIVEAVG, "max": Pool.ADAPTIVEMAX}
    pool: nn.Module = Pool[kinds[name], config.spatial_dims](config.pooling_grid)
    return pool


class HighestMean(nn.Module):
    """
    Pool each channel to the mean of its highest hundredth, one value at least.

    Between the average, in which a small focus is lost, and the maximum, which learns from one
    voxel at a time (top-k pooling of instances: Li and Vasconcelos 2015,
    doi:10.1109/CVPR.2015.7299056).
    """

    def forward(self, x: Batch) -> FeatureMap:
        """Pool (B, channels, *spatial) to (B, channels, 1)."""
        values = x.flatten(2)
        count = max(1, round(_HIGHEST * values.shape[2]))
        pooled: FeatureMap = values.topk(count, dim=2).values.mean(dim=2, keepdim=True)
        return pooled
