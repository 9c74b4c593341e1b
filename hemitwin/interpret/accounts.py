"""Books the relevance that constants earn while gradients flow backwards."""

from typing import Literal

import torch
from torch import Tensor

Account = Literal["bias", "stabiliser", "constant"]
ACCOUNTS: tuple[Account, ...] = ("bias", "stabiliser", "constant")
Booked = dict[Account, Tensor]
"""Sums by account, (B,) float64, or (K, B) of K targets."""


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

        def earn(gradient: Tensor) -> None:
            earned = (gradient * constant).reshape(self._batch, -1)
            self._entries.append((account, earned.sum(dim=1, dtype=torch.float64)))

        if out.requires_grad:
            out.register_hook(earn)
        return out

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
