"""What every rewritten operation needs: the rules, the accounts, and who carries relevance."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from hemitwin.interpret.accounts import Accounts
from hemitwin.interpret.lrp_config import LayerKind, LrpConfig
from hemitwin.interpret.rules import LinearLayer, Rule, propagate

Native = Callable[..., Tensor]
"""The operation as torch runs it, out of place."""


def carries(value: object) -> bool:
    """Tell whether a value depends on the explained input."""
    return isinstance(value, Tensor) and value.requires_grad


@dataclass(frozen=True, eq=False)
class StandIn:
    """
    An image in place of an input; its value x gradient belongs to that input's relevance.

    Attributes
    ----------
    index : int
        Which input.
    leaf : (B, C, *spatial) float
        What the gradient is taken of.
    """

    index: int
    leaf: Tensor


@dataclass(frozen=True, eq=False)
class LastLayer:
    """A linear layer that has just run, for a norm that is to be folded into it."""

    output: Tensor
    layer: LinearLayer
    rule: Rule


@dataclass(eq=False)
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
    entering : tuple of Tensor
        The inputs as the model gets them.
    stand_ins : list of StandIn
        What rules of the input asked for.
    last : LastLayer or None
        The convolution before.
    """

    config: LrpConfig
    accounts: Accounts
    anchor: Tensor
    entering: tuple[Tensor, ...] = ()
    stand_ins: list[StandIn] = field(default_factory=list)
    last: LastLayer | None = None
    _met: Counter[LayerKind] = field(default_factory=Counter)

    def run(self, kind: LayerKind, layer: LinearLayer) -> Tensor:
        """Run a linear layer by the rule of its kind and depth, or of the input."""
        rule = self.config.rule_of(kind, self._met[kind])
        self._met[kind] += 1
        of_input, index = self.config.rule_of_input, self._entered(layer.x)
        if of_input is not None and index is not None:
            rule = of_input
            values = of_input.stand_ins(layer.x.detach())
            layer = replace(layer, stand_ins=tuple(self._stand_in(index, v) for v in values))
        output = propagate(layer, rule, self.accounts)
        if kind == "convolution":
            self.last = LastLayer(output, layer, rule)
        return output

    def _entered(self, x: Tensor) -> int | None:
        """Find the input that a tensor is, laid out anew at most."""
        same = (k for k, one in enumerate(self.entering) if one is x or _is_view_of(x, one))
        return next(same, None)

    def _stand_in(self, index: int, value: Tensor) -> Tensor:
        leaf = value.clone().requires_grad_()
        self.stand_ins.append(StandIn(index, leaf))
        return leaf.view_as(leaf)

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


def _is_view_of(x: Tensor, other: Tensor) -> bool:
    return x.data_ptr() == other.data_ptr() and x.shape == other.shape


def bilinear(x: Tensor, y: Tensor, product: Native) -> Tensor:
    """
    Multiply two factors that both carry relevance; each gets half.

    Achtibat et al. 2024 (arXiv:2402.05602), uniform rule.
    """
    return (product(x, y.detach()) + product(x.detach(), y)) / 2
