"""An encoder that knows places: each cell of the grid has patterns of its own."""

from collections.abc import Iterable
from math import prod
from typing import Literal

import torch
from jaxtyping import Float
from monai.networks.layers.factories import Conv
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from hemitwin._frozen import Frozen
from hemitwin._shapes import Batch, Embedding, Volume

_COMMON = 0.9
"""Share of the training images with brain at a voxel, from which on patterns see it."""
_LEAST_SPREAD = 1e-3
"""Patterns whose spread is a smaller share of the largest are rounding, and left out."""


class LocalEncoderConfig(Frozen):
    """
    Settings of an encoder of local patterns.

    Examples
    --------
    >>> LocalEncoderConfig(grid=(20, 24, 20), cells=7).embedding_dim
    224
    """

    name: Literal["local"] = "local"
    spatial_dims: Literal[2, 3] = Field(default=3, description="2 for slices, 3 for volumes.")
    in_channels: int = Field(default=1, ge=1, description="Channels of the input.")
    cell_voxels: int = Field(default=4, ge=2, description="Side of a cell.")
    patterns: int = Field(default=32, ge=1, description="Patterns of a cell, at most.")
    grid: tuple[int, ...] | None = Field(
        default=None, description="Voxels along each axis; training fills it in."
    )
    cells: int | None = Field(
        default=None, ge=1, description="Cells that hold brain; training fills it in."
    )

    @property
    def embedding_dim(self) -> int:
        """Length of the embedding; 0 before training."""
        return self.patterns * (self.cells or 0)


class LocalEncoder(nn.Module):
    """
    Take patterns out of each cell of the grid; the embedding is all of them.

    A convolution does the same everywhere, and pooling forgets where; brains that lie on one
    another in a template's space can be compared place by place. `fit` whitens each cell over
    the training images (its principal components, each divided by its spread): what all people
    vary in counts little, so that the product of two embeddings sees what two of them share.
    That alone tells twins apart; training goes on from there.

    Parameters
    ----------
    config : LocalEncoderConfig
        With `grid` and `cells` filled in; weights are zero until `fit` or a file gives them.

    Raises
    ------
    ValueError
        When `grid` or `cells` are missing, or the grid has another number of axes.

    References
    ----------
    Patterns of each part of an image: Pentland, Moghaddam and Starner 1994,
    doi:10.1109/CVPR.1994.323814.
    """

    spatial_dims: int
    cells: Tensor

    def __init__(self, config: LocalEncoderConfig) -> None:
        super().__init__()
        axes = config.spatial_dims
        if config.grid is None or config.cells is None or len(config.grid) != axes:
            msg = (
                f"config must have a grid of {axes} axes and a number of cells; got {config.grid} "
                f"and {config.cells}; take LocalEncoder.fit"
            )
            raise ValueError(msg)
        self.config = config
        self.grid = config.grid
        self.spatial_dims = axes
        # No layer of it shows where features lie: each has one value a cell, in the channels.
        self.feature_layers: tuple[str, ...] = ()
        self.register_buffer("cells", torch.zeros(config.cells, dtype=torch.long))
        self.patterns = Conv[Conv.CONV, axes](
            config.cells * config.in_channels,
            config.embedding_dim,
            config.cell_voxels,
            groups=config.cells,
        )
        nn.init.zeros_(self.patterns.weight)
        nn.init.zeros_(self.patterns.bias)

    @classmethod
    @torch.no_grad()
    def fit(cls, images: Iterable[Volume], config: LocalEncoderConfig) -> "LocalEncoder":
        """
        Take each cell's patterns from the training images.

        Parameters
        ----------
        images : iterable of (in_channels, *spatial) float
            Standardised, background 0 in the first channel, on one grid in one space.
        config : LocalEncoderConfig
            Size of the cells and number of patterns.

        Returns
        -------
        LocalEncoder
            Each dimension of its embedding has mean 0 and mean square 1 over these images.

        Raises
        ------
        ValueError
            When there are fewer than two images, or no voxel has brain in nine tenths of them.
        """
        stack = torch.stack(list(images))
        if len(stack) < 2:
            msg = f"local patterns must have two images at least; got {len(stack)}; add subjects"
            raise ValueError(msg)
        stack *= (stack[:, :1] != 0).float().mean(dim=0) >= _COMMON
        tiles = _tiles(stack, config.cell_voxels).flatten(2)
        occupied = torch.nonzero((tiles != 0).flatten(2).any(dim=2).any(dim=0))[:, 0]
        if not len(occupied):
            msg = "images must share brain; no voxel has it in nine tenths; align and prepare them"
            raise ValueError(msg)
        values = tiles[:, occupied].transpose(0, 1)
        mean = values.mean(dim=1, keepdim=True)
        _, spread, rows = torch.linalg.svd(values - mean, full_matrices=False)
        kept = min(config.patterns, spread.shape[1])
        spread, rows = spread[:, :kept], rows[:, :kept]
        scale = torch.where(spread > _LEAST_SPREAD * spread.max(), len(stack) ** 0.5 / spread, 0)
        weight = rows * scale[..., None]
        bias = -(weight @ mean.transpose(1, 2))[..., 0]
        encoder = cls(
            config.model_copy(
                update={
                    "grid": tuple(stack.shape[2:]),
                    "cells": len(occupied),
                    "patterns": kept,
                    "in_channels": stack.shape[1],
                }
            )
        )
        encoder.cells.copy_(occupied)
        encoder.patterns.weight.copy_(weight.reshape(encoder.patterns.weight.shape))
        encoder.patterns.bias.copy_(bias.flatten())
        return encoder

    def forward(self, x: Batch) -> Embedding:
        """
        Embed a batch.

        Parameters
        ----------
        x : (B, in_channels, *grid) float
            Images on the grid of those that it was fitted to.

        Returns
        -------
        (B, cells * patterns) float32
            Embeddings, not normalised.

        Raises
        ------
        ValueError
            When the images have another shape.
        """
        wanted = (self.config.in_channels, *self.grid)
        if tuple(x.shape[1:]) != wanted:
            msg = (
                f"input must be (B, {', '.join(map(str, wanted))}), as the images that the local "
                f"patterns are of; got shape {tuple(x.shape)}; prepare it as those"
            )
            raise ValueError(msg)
        tiles = _tiles(x, self.config.cell_voxels).index_select(1, self.cells)
        # Whitening divides by small spreads: in bf16 the rounding of the large ones drowns them.
        with torch.autocast(x.device.type, enabled=False):
            found: Embedding = self.patterns(tiles.flatten(1, 2).float()).flatten(1)
        return found


def _tiles(images: Batch, side: int) -> Float[Tensor, "batch tile channels *cell"]:
    """Cut images into cells, the last ones filled up with background."""
    sizes = images.shape[2:]
    filled = F.pad(images, [extent for size in reversed(sizes) for extent in (0, -size % side)])
    counts = [-(-size // side) for size in sizes]
    cut = filled.reshape(*images.shape[:2], *(one for count in counts for one in (count, side)))
    axes = range(len(sizes))
    ordered = cut.permute(0, *(2 + 2 * axis for axis in axes), 1, *(3 + 2 * axis for axis in axes))
    return ordered.reshape(len(images), prod(counts), images.shape[1], *(side for _ in axes))
