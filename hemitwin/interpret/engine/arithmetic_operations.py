"""Sums, products, gates and distances."""

from collections.abc import Sequence

import torch
from torch import Tensor

from hemitwin.interpret.engine.norm_operations import normalise
from hemitwin.interpret.engine.propagation import Native, Propagation, bilinear, carries

Number = Tensor | float | int


def add(
    flow: Propagation, native: Native, /, x: Number, other: Number, *, alpha: float | int = 1
) -> Tensor:
    """Add; constants are booked."""
    del native
    left, right = flow.alongside(x, other)
    return left + alpha * right


def subtract(
    flow: Propagation, native: Native, /, x: Number, other: Number, *, alpha: float | int = 1
) -> Tensor:
    """Subtract; constants are booked."""
    del native
    left, right = flow.alongside(x, other)
    return left - alpha * right


def subtract_from(
    flow: Propagation, native: Native, /, x: Number, other: Number, *, alpha: float | int = 1
) -> Tensor:
    """Subtract the first from the second (torch.rsub)."""
    return subtract(flow, native, other, x, alpha=alpha)


def multiply(flow: Propagation, native: Native, /, x: Number, other: Number) -> Tensor:
    """Multiply; a switch gets nothing, two other factors that carry share."""
    del native
    if isinstance(x, Tensor) and isinstance(other, Tensor) and carries(x) and carries(other):
        if flow.switches(x) == flow.switches(other):
            return bilinear(x, other, torch.mul)
        return x.detach() * other if flow.switches(x) else x * other.detach()
    return torch.as_tensor(x * other)


def divide(flow: Propagation, native: Native, /, x: Number, other: Number) -> Tensor:
    """Divide; a divisor is a normaliser, hence a constant."""
    del flow, native
    if not carries(x):
        msg = "a constant divided by the explained input has no rule; rewrite it as a gate"
        raise NotImplementedError(msg)
    return torch.as_tensor(x / (other.detach() if isinstance(other, Tensor) else other))


def gate(
    flow: Propagation, native: Native, /, x: Tensor, *args: object, **named: object
) -> Tensor:
    """
    Pass all relevance through an element-wise f(x): x times the constant (f(x) - f(0)) / x.

    f(0) is booked as a constant.
    """
    with torch.no_grad():
        y, at_zero = (
            native(x, *args, **named),
            native(torch.zeros_like(x[..., :1]), *args, **named),
        )
        gain = torch.where(x.abs() > torch.finfo(x.dtype).tiny, (y - at_zero) / x, 0)
        constant = y - x * gain
    return flow.accounts.book(x * gain, constant, "constant")


def switch(
    flow: Propagation, native: Native, /, x: Tensor, *args: object, **named: object
) -> Tensor:
    """
    Run a sigmoid: a gate by itself, but where it multiplies a signal, the signal takes all.

    Arras et al. 2017, doi:10.18653/v1/W17-5221: what a gate earned would go to the constant that a
    sigmoid is at 0, half of all relevance at each of them.
    """
    result = gate(flow, native, x, *args, **named)
    flow.mark_switch(result)
    return result


def join(
    flow: Propagation, native: Native, /, tensors: Sequence[Tensor], *args: object, **named: object
) -> Tensor:
    """Concatenate or stack; constant parts are booked."""
    return native([flow.lift(t) for t in tensors], *args, **named)


def select(
    flow: Propagation, native: Native, /, condition: Tensor, x: Number, y: Number
) -> Tensor:
    """Choose element-wise by a condition, a constant."""
    del native
    left, right = flow.alongside(x, y)
    return torch.where(condition, left, right)


def fill_masked(
    flow: Propagation, native: Native, /, x: Tensor, mask: Tensor, value: Number
) -> Tensor:
    """Put a constant where the mask is true."""
    return select(flow, native, mask, value, x)


def extreme(flow: Propagation, native: Native, /, x: Number, y: Number) -> Tensor:
    """Take the larger or smaller element-wise: the winner takes all."""
    return native(*flow.alongside(x, y))


def pad_edges(
    flow: Propagation,
    native: Native,
    /,
    x: Tensor,
    pad: Sequence[int],
    mode: str = "constant",
    value: float | None = None,
) -> Tensor:
    """Pad with zeros, or by repeating voxels."""
    if value:
        msg = f"padding must be with 0 or with voxels of the image; got {value}; subtract it first"
        raise NotImplementedError(msg)
    padded = native(x, pad, mode, value)
    flow.follow(x, padded, lambda other: native(other, pad, mode, value))
    return padded


def dropout(
    flow: Propagation,
    native: Native,
    /,
    x: Tensor,
    p: float = 0.5,
    training: bool = True,
) -> Tensor:
    """Do nothing, as in evaluation."""
    del flow, native
    if training and p:
        msg = "dropout must be off; it is in training mode; call model.eval() before explaining"
        raise ValueError(msg)
    return x


def cosine(
    flow: Propagation, native: Native, /, x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8
) -> Tensor:
    """Multiply normalised vectors, norms constant; each side gets half of the cosine."""
    a, b = (normalise(flow, native, v, 2.0, dim, eps) for v in (x1, x2))
    return multiply(flow, native, a, b).sum(dim)


def distance(  # noqa: PLR0913, PLR0917 - torch's signature
    flow: Propagation,
    native: Native,
    /,
    x1: Tensor,
    x2: Tensor,
    p: float = 2.0,
    eps: float = 1e-6,
    keepdim: bool = False,
) -> Tensor:
    """Take the norm of the difference; torch adds eps to it, which is booked."""
    difference = add(flow, native, subtract(flow, native, x1, x2), eps)
    norm: Tensor = torch.linalg.vector_norm(difference, p, -1, keepdim)
    return norm
