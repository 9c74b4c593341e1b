"""What every rewritten operation needs: the rules, the accounts, and who carries relevance."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from hemitwin.interpret.engine.accounts import Accounts
from hemitwin.interpret.engine.config import LayerKind, LrpConfig
from hemitwin.interpret.engine.rules import LinearLayer, Rule, propagate

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
class Entered:
    """
    An input as the model got it, or laid out anew since.

    Attributes
    ----------
    tensor : Tensor
        It.
    index : int
        Which input.
    replay : callable
        Does to an image in place of the input what has been done to the input.
    """

    tensor: Tensor
    index: int
    replay: Callable[[Tensor], Tensor]


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
    entered : list of Entered
        The inputs, as far as they have not been computed with.
    stand_ins : list of StandIn
        What rules of the input asked for.
    last : LastLayer or None
        The convolution before.
    largest_bytes : int
        Of the largest result so far.
    """

    config: LrpConfig
    accounts: Accounts
    anchor: Tensor
    entered: list[Entered] = field(default_factory=list)
    stand_ins: list[StandIn] = field(default_factory=list)
    last: LastLayer | None = None
    largest_bytes: int = 0
    _met: Counter[LayerKind] = field(default_factory=Counter)
    _switches: dict[int, Tensor] = field(default_factory=dict)

    def run(self, kind: LayerKind, layer: LinearLayer) -> Tensor:
        """Run a linear layer by the rule of its kind and depth, or of the input."""
        rule = self.config.rule_of(kind, self._met[kind])
        self._met[kind] += 1
        of_input, source = self.config.rule_of_input, self._source(layer.x)
        if of_input is not None and source is not None:
            rule = of_input
            values = of_input.stand_ins(self.entered[source.index].tensor.detach())
            layer = replace(layer, stand_ins=tuple(self._stand_in(source, v) for v in values))
        output = propagate(layer, rule, self.accounts)
        if kind == "convolution":
            self.last = LastLayer(output, layer, rule)
        return output

    def enter(self, inputs: Sequence[Tensor]) -> None:
        """Note the inputs, in their order, before the model runs."""
        self.entered += [Entered(x, index, _itself) for index, x in enumerate(inputs)]

    def follow(self, x: Tensor, result: object, again: Callable[[Tensor], Tensor]) -> None:
        """Note that `result` is `x` rearranged: an input stays one, a switch stays one."""
        if not isinstance(result, Tensor):
            return
        source = self._source(x)
        if source is not None:
            replay = source.replay
            self.entered.append(Entered(result, source.index, lambda v: again(replay(v))))
        if self.switches(x):
            self.mark_switch(result)

    def mark_switch(self, x: Tensor) -> None:
        """Note that `x` says how much of another tensor passes."""
        self._switches[id(x)] = x  # keeps it alive: ids are reused

    def switches(self, x: Tensor) -> bool:
        """Tell whether `x` says how much of another tensor passes."""
        return id(x) in self._switches

    def _source(self, x: Tensor) -> Entered | None:
        return next((one for one in self.entered if _is_same(one.tensor, x)), None)

    def _stand_in(self, source: Entered, value: Tensor) -> Tensor:
        leaf = value.clone().requires_grad_()
        self.stand_ins.append(StandIn(source.index, leaf))
        return source.replay(leaf.view_as(leaf))

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


def _is_same(x: Tensor, other: Tensor) -> bool:
    return x is other or (x.data_ptr() == other.data_ptr() and x.shape == other.shape)


def _itself(x: Tensor) -> Tensor:
    return x


def bilinear(x: Tensor, y: Tensor, product: Native) -> Tensor:
    """
    Multiply two factors that both carry relevance; each gets half.

    Achtibat et al. 2024 (arXiv:2402.05602), uniform rule.
    """
    return (product(x, y.detach()) + product(x.detach(), y)) / 2
