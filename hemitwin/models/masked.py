"""What is computed inside a brain, which nothing outside it enters: smoothing, the highest."""

import torch
from jaxtyping import Bool, Float
from monai.networks.layers.convutils import gaussian_1d
from torch import Tensor

from hemitwin._shapes import Batch

__all__ = ["gaussian_kernel", "mean_of_highest", "smooth_inside"]

_LEAST_SHARE = 0.2
_TRUNCATED = 3.0
_HIGHEST = 0.005


def gaussian_kernel(sd_voxels: float) -> Float[Tensor, " n"]:
    """
    Return the weights of a Gaussian along one axis; those of 0 change nothing.

    Examples
    --------
    >>> gaussian_kernel(0.0)
    tensor([1.])
    """
    if sd_voxels <= 0:
        return torch.ones(1)
    spread = torch.tensor(sd_voxels)
    return gaussian_1d(spread, truncated=_TRUNCATED, approx="sampled", normalize=True)


def smooth_inside(
    images: Batch, inside: Bool[Tensor, " batch channels *spatial"], kernel: Float[Tensor, " n"]
) -> Batch:
    """
    Take the weighted mean over each voxel's neighbours inside; 0 outside.

    Parameters
    ----------
    images : (B, C, *spatial) float
        What is smoothed; 0 outside.
    inside : (B, C, *spatial) bool
        Where the brain is.
    kernel : (n,) float
        Of `gaussian_kernel`.

    Examples
    --------
    >>> image = torch.tensor([[[1.0, 3.0, 0.0]]])
    >>> smooth_inside(image, image != 0, torch.tensor([0.25, 0.5, 0.25]))
    tensor([[[1.6667, 2.3333, 0.0000]]])
    """
    known = inside.to(images.dtype)
    total, share = images, known
    for axis in range(2, images.ndim):
        weights = _band(kernel.to(images), images.shape[axis])
        total, share = (_along(axis, one, weights) for one in (total, share))
    smooth: Tensor = total / share.clamp(min=_LEAST_SHARE) * known
    return smooth


def mean_of_highest(
    values: Float[Tensor, " batch *spatial"], inside: Bool[Tensor, " ..."]
) -> Float[Tensor, " batch"]:
    """
    Return each map's mean over the 0.5 % of the voxels inside that are highest, one at least.

    Examples
    --------
    >>> mean_of_highest(torch.tensor([[1.0, 3.0, 9.0]]), torch.tensor([[True, True, False]]))
    tensor([3.])
    """
    highest = [
        one[chosen].topk(max(1, int(_HIGHEST * int(chosen.sum())))).values.mean()
        for one, chosen in zip(values, inside, strict=True)
    ]
    return torch.stack(highest)


def _band(kernel: Float[Tensor, " n"], size: int) -> Float[Tensor, "size size"]:
    """Write a convolution along an axis as a matrix: one channel is slow as a convolution."""
    position = torch.arange(size, device=kernel.device)
    offset = position[:, None] - position + len(kernel) // 2
    known = (offset >= 0) & (offset < len(kernel))
    return torch.where(known, kernel[offset.clamp(0, len(kernel) - 1)], 0.0)


def _along(axis: int, images: Batch, weights: Float[Tensor, "size size"]) -> Batch:
    moved: Tensor = torch.movedim(images.movedim(axis, -1) @ weights, -1, axis)
    return moved
