"""Convolutions and matrix products."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from hemitwin.interpret.engine.few_channels import convolve as few_channels
from hemitwin.interpret.engine.few_channels import is_slow
from hemitwin.interpret.engine.propagation import Native, Propagation, bilinear, carries
from hemitwin.interpret.engine.rules import LinearLayer


def _refuse_carrying(name: str, *constants: Tensor | None) -> None:
    if any(carries(c) for c in constants):
        msg = (
            f"weights of {name} must not depend on the explained input; these do; explain a model "
            "whose weights are fixed"
        )
        raise NotImplementedError(msg)


def convolve(
    flow: Propagation,
    native: Native,
    /,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *geometry: Any,  # noqa: ANN401 - stride, padding, dilation, groups
    **named: Any,  # noqa: ANN401
) -> Tensor:
    """Run a convolution, transposed or not, by the convolution rule."""
    _refuse_carrying("a convolution", weight, bias)
    if bias is not None:
        bias = bias.view(-1, *(1,) * (weight.ndim - 2))

    transposed = "transpose" in getattr(native, "__name__", "")
    plain = None if transposed else _plain_geometry(x.ndim - 2, *geometry, **named)

    def apply(a: Tensor, w: Tensor) -> Tensor:
        if plain is not None and carries(a) and is_slow(a, w):
            return few_channels(native, a, w, stride=plain[0], padding=plain[1])
        return native(a, w, None, *geometry, **named)

    axis = 1 if transposed else 0
    return flow.run("convolution", LinearLayer(apply, x, weight, bias, output_axis=axis))


def _plain_geometry(
    dims: int,
    stride: int | Sequence[int] = 1,
    padding: int | str | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Return stride and padding along each axis, where there is nothing else to a convolution."""
    if isinstance(padding, str) or groups != 1 or max(_each(dilation, dims)) > 1:
        return None
    return _each(stride, dims), _each(padding, dims)


def _each(value: int | Sequence[int], dims: int) -> tuple[int, ...]:
    wide = (value,) if isinstance(value, int) else tuple(value)
    return wide * dims if len(wide) == 1 else wide


def dense(
    flow: Propagation,
    native: Native,
    /,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
) -> Tensor:
    """Run a dense layer by the linear rule."""
    _refuse_carrying("a dense layer", weight, bias)
    return flow.run("dense", LinearLayer(native, x, weight, bias))


def multiply_matrices(flow: Propagation, native: Native, /, x: Tensor, other: Tensor) -> Tensor:
    """Run a matrix product: linear in the factor that carries, or shared by both."""
    if carries(x) and carries(other):
        return bilinear(x, other, native)
    layer = LinearLayer(native, x, other, None)
    if carries(other):
        layer = LinearLayer(lambda a, w: native(w, a), other, x, None)
    return flow.run("dense", layer)
