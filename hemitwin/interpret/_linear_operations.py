"""Convolutions and matrix products."""

from torch import Tensor

from hemitwin.interpret.propagation import Native, Propagation, bilinear, carries
from hemitwin.interpret.rules import LinearLayer


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
    *geometry: object,
    **named: object,
) -> Tensor:
    """Run a convolution, transposed or not, by the convolution rule."""
    _refuse_carrying("a convolution", weight, bias)
    if bias is not None:
        bias = bias.view(-1, *(1,) * (weight.ndim - 2))

    def apply(a: Tensor, w: Tensor) -> Tensor:
        return native(a, w, None, *geometry, **named)

    axis = 1 if "transpose" in getattr(native, "__name__", "") else 0
    return flow.run("convolution", LinearLayer(apply, x, weight, bias, output_axis=axis))


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
