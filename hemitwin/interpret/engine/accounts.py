"""Books the relevance that constants earn while gradients flow backwards."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

Account = Literal["bias", "stabiliser", "constant"]
ACCOUNTS: tuple[Account, ...] = ("bias", "stabiliser", "constant")
Booked = dict[Account, Tensor]
"""Sums by account, (B,) float64, or (K, B) of K targets."""


Back = Callable[[Tensor], Tensor]
"""From the gradient of an operation's result to the gradient of its argument."""


class _Rewritten(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch's own, which takes any attribute
        x: Tensor,
        operation: tuple[Tensor, Back],
    ) -> Tensor:
        del x
        # In a tuple, so that torch does not take the value for an argument and give a view of it.
        value, ctx.back = operation
        return value

    @staticmethod
    def backward(
        ctx: Any,  # noqa: ANN401
        *gradients: Tensor,
    ) -> tuple[Tensor, None]:
        return ctx.back(gradients[0]), None


class Accounts:
    """
    Sums of constant x gradient, one number a sample and account.

    Parameters
    ----------
    batch : int
        Samples of the explained batch; every booked tensor must have them as its first axis, or
        there is one sample only.
    """

    def __init__(self, batch: int) -> None:
        self._batch = batch
        self._entries: list[tuple[Account, Tensor]] = []

    def book(self, x: Tensor, constant: Tensor, account: Account) -> Tensor:
        """
        Add a constant to `x`; when a gradient comes back, book what the constant earned.

        Parameters
        ----------
        x : (...) float
            Carries relevance.
        constant : broadcastable to x
            Carries none.
        account : str
            Where to book.

        Returns
        -------
        (...) float
            x + constant.

        Raises
        ------
        ValueError
            When several samples are explained and the first axis of `x` does not tell them apart.
        """
        self._check(tuple(x.shape))
        constant = constant.detach()
        out = x + constant
        if out.requires_grad:
            out.register_hook(lambda gradient: self.earn(account, gradient * constant))
        return out

    def rewrite(self, x: Tensor, value: Tensor, back: Back) -> Tensor:
        """
        Give a value that stands for an operation on `x`, and its way back.

        Parameters
        ----------
        x : (...) float
            Carries relevance.
        value : (...) float
            Fresh tensor: the operation's result.
        back : callable
            From the gradient of the value to that of `x`; it calls `earn` for what constants get.
            It must hold no tensor that depends on the value: such a graph is never freed.

        Returns
        -------
        Tensor
            The value.

        Raises
        ------
        ValueError
            As `book` does.
        """
        self._check(tuple(value.shape))
        result: Tensor = _Rewritten.apply(x, (value, back))  # type: ignore[no-untyped-call]
        return result

    def earn(self, account: Account, earned: Tensor) -> None:
        """Note what constants earned: (B, ...) of the samples, or of one alone."""
        # Torch's sums are cascades: single precision suffices until here, and spares a copy.
        sums = earned.reshape(self._batch, -1).sum(dim=1)
        self._entries.append((account, sums.double()))

    def totals(self) -> Booked:
        """Give the sums per sample, and forget them."""
        sums: Booked = {name: torch.zeros(self._batch, dtype=torch.float64) for name in ACCOUNTS}
        for account, earned in self._entries:
            sums[account] = sums[account] + earned.cpu()  # not in place: under vmap
        self._entries.clear()
        return sums

    def _check(self, shape: tuple[int, ...]) -> None:
        if self._batch > 1 and (not shape or shape[0] != self._batch):
            msg = (
                f"the first axis must be the {self._batch} explained samples wherever a constant "
                f"is added; got a tensor of shape {shape}; explain one sample at a time"
            )
            raise ValueError(msg)
