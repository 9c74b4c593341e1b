"""What an encoder is given of images, channel by channel, and the way of relevance back."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from hemitwin._shapes import Batch
from hemitwin.models.config import InputConfig
from hemitwin.models.normative_asymmetry import NormativeAsymmetry
from hemitwin.models.reference import Reference

__all__ = ["InputChannels", "coarse_inside", "pack", "repeat", "spread", "unpack"]

Seen = Float[Tensor, " batch seen *grid"]
OfBoth = Float[Tensor, " both seen *grid"]
Coarse = Float[Tensor, " batch channels *grid"]
Size = tuple[int, ...]

_LEAST_SHARE = 0.5
"""Of a block that has to be brain, for its mean to count."""


@dataclass(frozen=True, eq=False)
class InputChannels:
    """
    Make channels of images: themselves, the other image, and how far both are from the norms.

    With `packing` the encoder works on a grid of larger voxels and still sees every one of the
    images': each block of them becomes as many channels. What is known of other people lies on
    that larger grid.

    Parameters
    ----------
    config : InputConfig
        Which channels there are.
    reference : Reference, optional
        Of images without lesions, on the packed grid: each image's deviation is a channel.
    normative : NormativeAsymmetry, optional
        Of pairs without lesions, on the packed grid.
    """

    config: InputConfig
    reference: Reference | None = None
    normative: NormativeAsymmetry | None = None

    @property
    def needs_pairs(self) -> bool:
        """See `InputConfig.needs_pairs`."""
        return self.config.needs_pairs

    def widths(self, channels: int, spatial_dims: int) -> dict[str, int]:
        """
        Count the channels of each kind, in their order.

        Parameters
        ----------
        channels, spatial_dims : int
            Of the images.

        Examples
        --------
        >>> InputChannels(InputConfig(packing=2, other=True)).widths(1, 3)
        {'image': 8, 'other': 8}
        """
        packed = channels * self.config.packing**spatial_dims
        widths = {"image": packed}
        if self.config.other:
            widths["other"] = packed
        if self.reference is not None:
            widths["deviation"] = self.reference.channels - 1
        if self.config.difference:
            widths["difference"] = NormativeAsymmetry.channels
        return widths

    def of_images(self, images: Batch) -> Seen:
        """
        Make the channels of images that are encoded by themselves.

        Parameters
        ----------
        images : (B, C, *spatial) float
            With a reference C is 1.

        Raises
        ------
        ValueError
            When there are channels that depend on the image that each is compared with.
        """
        if self.needs_pairs:
            msg = (
                "an image must come with the one that it is compared with, since this network "
                "sees their difference; got it alone; ask about pairs, or train a network "
                "without input.other and input.difference"
            )
            raise ValueError(msg)
        return self._joined([pack(images, self.config.packing)], images)

    def of_pair(self, left: Batch, right: Float[Tensor, " ..."]) -> OfBoth:
        """
        Make the channels of pairs: those of the left images first.

        Parameters
        ----------
        left, right : (B, C, *spatial) float
            The right one mirrored onto the left, or two brains.

        Returns
        -------
        (2 B, seen, *grid) float
            Of a right image the difference is the left one's with its sign changed: exchanging
            two images exchanges what is seen of them, but for the mean difference of left and
            right that the norms know of.

        Raises
        ------
        ValueError
            When the difference is asked for and there are no norms.
        """
        images, factor = torch.cat([left, right]), self.config.packing
        parts = [pack(images, factor)]
        if self.config.other:
            parts.append(parts[0].roll(len(left), 0))
        if not self.config.difference:
            return self._joined(parts, images)
        if self.normative is None:
            msg = "input.difference must have the norms of pairs without lesions; got none"
            raise ValueError(msg)
        found = self.normative.seen(coarse_inside(left, factor), coarse_inside(right, factor))
        return self._joined(parts, images, torch.cat([found, -found]))

    def to_images(
        self, relevance: Seen, size: Size, channels: int = 1, *, pairs: bool
    ) -> tuple[Float[Tensor, " batch channels *spatial"], dict[str, float]]:
        """
        Bring the relevance of channels back to the images that they are made of; the sum is kept.

        Parameters
        ----------
        relevance : (B, seen, *grid) float
            Of what `of_images` or `of_pair` gave.
        size : tuple of int
            Of the images.
        channels : int
            Of the images.
        pairs : bool
            Whether it is of pairs, left images first.

        Returns
        -------
        (B, C, *size) float
            A voxel's own and those that it has as the other image's other; the deviation's,
            spread evenly over its block; and a half of the difference's, which is of both images
            alike.
        dict of str to float
            The sum over each kind of channel.
        """
        factor, half = self.config.packing, len(relevance) // 2
        widths = self.widths(channels, len(size))
        parts = dict(zip(widths, relevance.split(list(widths.values()), dim=1), strict=True))
        shares = {name: float(part.sum(dtype=torch.float64)) for name, part in parts.items()}
        found = unpack(parts["image"], factor, size)
        if pairs and "other" in parts:
            found = found + unpack(parts["other"], factor, size).roll(half, 0)
        for name in ("deviation", "difference"):
            if name not in parts:
                continue
            whole = parts[name].sum(dim=1, keepdim=True)
            if name == "difference":
                whole = (whole + whole.roll(half, 0)) / 2
            found = found + spread(whole, factor, size) / channels
        return found, shares

    def _joined(self, parts: list[Tensor], images: Batch, *more: Tensor) -> Seen:
        if self.reference is not None:
            small = coarse_inside(images, self.config.packing)
            parts = [*parts, self.reference.deviation(small)]
        seen = [*parts, *more]
        return torch.cat(seen, dim=1) if len(seen) > 1 else seen[0]


def pack(images: Batch, factor: int) -> Seen:
    """
    Write each block of voxels as channels of one; sizes are filled up with 0.

    Parameters
    ----------
    images : (B, C, *spatial) float
        Of any number of axes.
    factor : int
        Voxels along each edge of a block.

    Returns
    -------
    (B, C factor^d, *grid) float

    Examples
    --------
    >>> pack(torch.arange(3.0)[None, None], 2).tolist()
    [[[0.0, 2.0], [1.0, 0.0]]]
    """
    if factor == 1:
        return images
    axes = images.ndim - 2
    filled = [end for size in reversed(images.shape[2:]) for end in (0, -size % factor)]
    blocks = F.pad(images, filled)
    for axis in range(axes):
        blocks = blocks.unflatten(2 + 2 * axis, (-1, factor))
    inner, outer = range(3, 3 + 2 * axes, 2), range(2, 2 + 2 * axes, 2)
    packed: Seen = blocks.permute(0, 1, *inner, *outer).flatten(1, 1 + axes)
    return packed


def unpack(packed: Seen, factor: int, size: Size) -> Batch:
    """
    Undo `pack`.

    Examples
    --------
    >>> image = torch.rand(2, 3, 5, 4)
    >>> bool((unpack(pack(image, 2), 2, (5, 4)) == image).all())
    True
    """
    if factor == 1:
        return packed
    axes = len(size)
    blocks = packed.unflatten(1, (-1, *(factor,) * axes))
    order = [place for axis in range(axes) for place in (2 + axes + axis, 2 + axis)]
    whole = blocks.permute(0, 1, *order)
    for axis in range(axes):
        whole = whole.flatten(2 + axis, 3 + axis)
    found: Batch = whole[(slice(None), slice(None), *(slice(n) for n in size))]
    return found


def spread(coarse: Coarse, factor: int, size: Size) -> Batch:
    """
    Share each block's value out evenly to its voxels.

    Examples
    --------
    >>> spread(torch.tensor([[[6.0, 2.0]]]), 2, (3,)).tolist()
    [[[3.0, 3.0, 2.0]]]
    """
    count = pack(torch.ones(1, 1, *size, device=coarse.device), factor).sum(dim=1, keepdim=True)
    return repeat(coarse / count, factor, size)


def repeat(coarse: Coarse, factor: int, size: Size) -> Batch:
    """Give each voxel its block's value."""
    if factor == 1:
        return coarse
    whole = F.interpolate(coarse, scale_factor=factor, mode="nearest")
    return whole[(slice(None), slice(None), *(slice(n) for n in size))]


def coarse_inside(images: Batch, factor: int) -> Coarse:
    """
    Take each block's mean over its voxels inside the brain; 0 where it is less than half brain.

    Examples
    --------
    >>> coarse_inside(torch.tensor([[[1.0, 3.0, 2.0, 0.0, 0.0, 0.0]]]), 2).tolist()
    [[[2.0, 2.0, 0.0]]]
    """
    if factor == 1:
        return images
    blocks = pack(images, factor).unflatten(1, (images.shape[1], -1))
    count = (blocks != 0).sum(dim=2)
    mean = blocks.sum(dim=2) / count.clamp(min=1)
    return torch.where(count >= _LEAST_SHARE * blocks.shape[2], mean, 0.0)
