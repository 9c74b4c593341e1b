"""The way back through a convolution of an image of few channels, where it is slow in torch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

_FEW = 4
"""Channels up to which a gradient by parts of the grid is faster than torch's own on a CPU."""

_CONVOLUTIONS: dict[int, Callable[..., Tensor]] = {2: F.conv2d, 3: F.conv3d}


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

    A convolution back to one channel runs at a hundredth of a processor's speed: the innermost
    loop is over channels. Here neighbouring places are channels of one convolution of the
    gradient, and are laid out in space afterwards (as a pixel shuffle does: Shi et al. 2016,
    arXiv:1609.05158).

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


def is_slow(x: Tensor, weight: Tensor) -> bool:
    """Tell whether torch's own way back is slow for this convolution."""
    dims = x.ndim - 2
    return (
        dims in _CONVOLUTIONS
        and x.device.type == "cpu"
        and x.shape[1] <= _FEW
        and max(weight.shape[2:]) > 1
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

    Output t reads x through tap x + p - s t. The places x = m q + r of block q, where m is s, or 2
    if s is 1, are read by the outputs t = (m / s) q + u, each place through tap r + p - s u: a
    convolution over u, with the m x m x m places of a block as channels.

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
    batch, channels, dims = gradient.shape[0], weight.shape[1], len(size)
    axes = [
        _Axis(*one)
        for one in zip(size, weight.shape[2:], stride, padding, gradient.shape[2:], strict=True)
    ]
    edges = [edge for axis in reversed(axes) for edge in axis.edges]
    steps = tuple(axis.step for axis in axes)
    coarse = _CONVOLUTIONS[dims](F.pad(gradient, edges), _parts(weight, axes), stride=steps)
    coarse = coarse.reshape(
        batch, channels, *(axis.block for axis in axes), *(axis.blocks for axis in axes)
    )
    order = [0, 1, *(place for k in range(dims) for place in (2 + dims + k, 2 + k))]
    fine = coarse.permute(order).reshape(
        batch, channels, *(axis.block * axis.blocks for axis in axes)
    )
    return fine[(slice(None), slice(None), *(slice(n) for n in size))]


@dataclass(frozen=True)
class _Axis:
    """Places along one axis: input size, taps, stride and padding, and the output's size."""

    size: int
    taps: int
    stride: int
    padding: int
    outputs: int

    @property
    def block(self) -> int:
        """Input places of a block."""
        return self.stride if self.stride > 1 else 2

    @property
    def step(self) -> int:
        """Outputs from block to block."""
        return self.block // self.stride

    @property
    def blocks(self) -> int:
        return -(-self.size // self.block)

    @property
    def first(self) -> int:
        """Lowest u."""
        return -((self.taps - 1 - self.padding) // self.stride)

    @property
    def length(self) -> int:
        """How many u there are."""
        return (self.block - 1 + self.padding) // self.stride - self.first + 1

    @property
    def edges(self) -> tuple[int, int]:
        """Zeros to put before and after the outputs; a negative number takes some away."""
        needed = self.step * (self.blocks - 1) + self.length
        return -self.first, needed + self.first - self.outputs

    def tap(self) -> Tensor:
        """Return the tap of each u and place, (u, places)."""
        reached = torch.arange(self.first, self.first + self.length)
        return torch.arange(self.block) + self.padding - self.stride * reached[:, None]


def _parts(weight: Tensor, axes: Sequence[_Axis]) -> Tensor:
    """Sort the taps by place in a block: (C x places, O, *u)."""
    outputs, channels, dims = weight.shape[0], weight.shape[1], len(axes)
    parts = weight
    for k, axis in enumerate(axes):
        tap = axis.tap().flatten().to(weight.device)
        known = ((tap >= 0) & (tap < axis.taps)).to(weight.dtype)
        along = [1] * weight.ndim
        along[2 + k] = -1
        parts = parts.index_select(2 + k, tap.clamp(0, axis.taps - 1)) * known.view(along)
    parts = parts.reshape(
        outputs, channels, *(n for axis in axes for n in (axis.length, axis.block))
    )
    places = range(dims)
    parts = parts.permute(1, *(3 + 2 * k for k in places), 0, *(2 + 2 * k for k in places))
    return parts.reshape(-1, outputs, *(axis.length for axis in axes))
