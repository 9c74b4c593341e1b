"""What every rewritten operation needs: the rules, the accounts, and who carries relevance."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from hemitwin.interpret.accounts import Accounts
from hemitwin.interpret.lrp_config import LrpConfig

Native = Callable[..., Tensor]
"""The operation as torch runs it, out of place."""


def carries(value: object) -> bool:
    """Tell whether a value depends on the explained input."""
    return isinstance(value, Tensor) and value.requires_grad


@dataclass(frozen=True)
class Propagation:
    """
    One rewritten forward pass.

    Attributes
    ----------
    config : LrpConfig
        Rules.
    accounts : Accounts
        Where constants book.
    anchor : () float
        Zero that depends on the inputs.
    """

    config: LrpConfig
    accounts: Accounts
    anchor: Tensor

    def lift(self, constant: Tensor) -> Tensor:
        """
        Let a constant stand beside tensors that carry relevance; what it earns is booked.

        It hangs on the anchor, because autograd skips what does not lead to the inputs.
        """
        if carries(constant):
            return constant
        nothing = self.anchor.to(constant.dtype).expand(constant.shape)
        return self.accounts.book(nothing, constant, "constant")

    def alongside(self, *values: Tensor | float | int) -> tuple[Tensor, ...]:
        """Broadcast values to one shape, constants lifted."""
        like = next(v for v in values if isinstance(v, Tensor) and carries(v))
        tensors = [torch.as_tensor(v, dtype=like.dtype, device=like.device) for v in values]
        same = torch.broadcast_tensors(*tensors)
        return tuple(self.lift(t) for t in same)


def bilinear(x: Tensor, y: Tensor, product: Native) -> Tensor:
    """
    Multiply two factors that both carry relevance; each gets half.

    Achtibat et al. 2024 (arXiv:2402.05602), uniform rule.
    """
    return (product(x, y.detach()) + product(x.detach(), y)) / 2
