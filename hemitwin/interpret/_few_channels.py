"""The way back through a convolution of an image of few channels, where it is slow in torch."""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

_FEW = 4
"""Channels up to which a gradient by parts of the grid is faster than torch's own on a CPU."""

_CONVOLUTIONS: dict[int, Callable[[Tensor, Tensor], Tensor]] = {2: F.conv2d, 3: F.conv3d}


def convolve(
    native: Callable[..., Tensor],
    x: Tensor,
    weight: Tensor,
    *,
    stride: Sequence[int],
    padding: Sequence[int],
) -> Tensor:
    """
    Run a convolution without bias whose gradient is a convolution again, to many channels.

    A strided convolution back to one channel runs at a hundredth of a processor's speed: the
    innermost loop is over channels. Here the s x s x s places between two strides are channels of
    one plain convolution of the coarse gradient, and are laid out in space afterwards (as a pixel
    shuffle does: Shi et al. 2016, arXiv:1609.05158).

    Parameters
    ----------
    native : callable
        torch's convolution.
    x : (B, C, *spatial) float
        Few channels; carries relevance.
    weight : (O, C, *kernel) float
        Constants.
    stride, padding : sequence of int
        Along each axis; padding is with zeros.

    Returns
    -------
    (B, O, *coarse) float
        As torch gives it.
    """
    result: Tensor = _ByParts.apply(  # type: ignore[no-untyped-call]
        x, weight, native, tuple(stride), tuple(padding)
    )
    return result


def is_slow(x: Tensor, weight: Tensor, stride: Sequence[int]) -> bool:
    """Tell whether torch's own way back is slow for this convolution."""
    dims = x.ndim - 2
    return (
        dims in _CONVOLUTIONS
        and x.device.type == "cpu"
        and max(stride) > 1
        and x.shape[1] <= _FEW
        and weight.shape[1] == x.shape[1]
    )


class _ByParts(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch's own, which takes any attribute
        x: Tensor,
        weight: Tensor,
        native: Callable[..., Tensor],
        stride: tuple[int, ...],
        padding: tuple[int, ...],
    ) -> Tensor:
        ctx.size, ctx.weight, ctx.stride, ctx.padding = x.shape[2:], weight, stride, padding
        return native(x, weight, None, stride, padding)

    @staticmethod
    def backward(
        ctx: Any,  # noqa: ANN401
        *gradients: Tensor,
    ) -> tuple[Tensor, None, None, None, None]:
        found = input_gradient(gradients[0], ctx.weight, ctx.size, ctx.stride, ctx.padding)
        return found, None, None, None, None


def input_gradient(
    gradient: Tensor,
    weight: Tensor,
    size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
) -> Tensor:
    """
    Return the gradient of a convolution's input.

    x = s q + r is read by output t through tap s (q - t) + r + p: for each of the places r a
    convolution over q - t.

    Parameters
    ----------
    gradient : (B, O, *coarse) float
        Of the output.
    weight : (O, C, *kernel) float
        Of the convolution.
    size : sequence of int
        The input's spatial shape.
    stride, padding : sequence of int
        Of the convolution.

    Returns
    -------
    (B, C, *size) float
    """
    axes = range(len(size))
    first = [-((s - 1 + p) // s) for s, p in zip(stride, padding, strict=True)]
    last = [(k - 1 - p) // s for k, s, p in zip(weight.shape[2:], stride, padding, strict=True)]
    parts = _parts(weight, stride, padding, first, last)
    blocks = [-(-n // s) for n, s in zip(size, stride, strict=True)]
    edges: list[int] = []
    for axis in reversed(axes):
        edges += [last[axis], blocks[axis] - first[axis] - gradient.shape[2 + axis]]
    coarse = _CONVOLUTIONS[len(size)](F.pad(gradient, edges), parts)
    batch, channels, dims = coarse.shape[0], weight.shape[1], len(size)
    coarse = coarse.reshape(batch, channels, *stride, *blocks)
    order = [0, 1, *(place for axis in axes for place in (2 + dims + axis, 2 + axis))]
    fine = coarse.permute(order).reshape(
        batch, channels, *(b * s for b, s in zip(blocks, stride, strict=True))
    )
    return fine[(slice(None), slice(None), *(slice(n) for n in size))]


def _parts(
    weight: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    first: Sequence[int],
    last: Sequence[int],
) -> Tensor:
    """Sort the taps by place between strides: (C x places, O, *taps of a place)."""
    outputs, channels, *kernel = weight.shape
    taps = weight
    for axis, (size, step, pad) in enumerate(zip(kernel, stride, padding, strict=True)):
        offset = torch.arange(last[axis], first[axis] - 1, -1)
        tap = step * offset[:, None] + torch.arange(step) + pad
        known = ((tap >= 0) & (tap < size)).flatten().to(weight.dtype)
        along = [1] * weight.ndim
        along[2 + axis] = -1
        taps = taps.index_select(2 + axis, tap.clamp(0, size - 1).flatten()) * known.view(along)
    axes = range(len(kernel))
    lengths = [1 + b - a for a, b in zip(first, last, strict=True)]
    shape = [outputs, channels, *(n for axis in axes for n in (lengths[axis], stride[axis]))]
    order = [1, *(3 + 2 * axis for axis in axes), 0, *(2 + 2 * axis for axis in axes)]
    sorted_taps = taps.reshape(shape).permute(order)
    return sorted_taps.reshape(channels * prod(stride), outputs, *lengths)
