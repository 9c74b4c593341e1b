"""Rewrites the operations of a forward pass, so that input x gradient is the relevance."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode, resolve_name
from torch.utils._pytree import tree_leaves, tree_map

from hemitwin.interpret.engine.operations import OPERATIONS, changes_in_place, operation_name
from hemitwin.interpret.engine.propagation import Native, Propagation, carries


class RelevanceMode(TorchFunctionMode):
    """
    Context in which torch's operations follow the rules of relevance propagation.

    The model is not touched: no hook, attribute or copy. Parameters are read as constants, so
    they get no gradient; operations in place give new tensors, which stand in for the old ones.

    Not seen, because torch does not show them to a mode: custom `autograd.Function`, compiled and
    scripted code. The ledger of such a model does not close.

    Parameters
    ----------
    propagation : Propagation
        Rules and accounts.

    Raises
    ------
    NotImplementedError
        On an operation without a rule whose result depends on the explained input.
    """

    def __init__(self, propagation: Propagation) -> None:
        super().__init__()
        self._propagation = propagation
        self._successors: dict[int, tuple[Tensor, Tensor]] = {}

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: Sequence[type],
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        """Run one operation, rewritten where it carries relevance."""
        del types
        original = args[0] if args else None
        args, named = tree_map(self.settle, (tuple(args), dict(kwargs or {})))
        if not any(carries(leaf) for leaf in tree_leaves((args, named))):
            return func(*args, **named)
        if not args and "input" in named:
            args = (named.pop("input"),)
        in_place = bool(named.pop("inplace", False)) or changes_in_place(func)
        name = operation_name(func)
        if name not in OPERATIONS or named.get("out") is not None:
            return _run_unknown(func, args, named, in_place=in_place)
        named.pop("out", None)
        native = _out_of_place(name) if changes_in_place(func) else func
        result = OPERATIONS[name](self._propagation, native, *args, **named)
        if isinstance(result, Tensor):
            flow = self._propagation
            flow.largest_bytes = max(flow.largest_bytes, result.nbytes)
        if in_place and isinstance(original, Tensor) and isinstance(result, Tensor):
            self._replace(original, result, func)
        return result

    def settle(self, value: object) -> object:
        """Give what stands for a value: a constant for a parameter, the newest if it changed."""
        if not isinstance(value, Tensor):
            return value
        while id(value) in self._successors:
            value = self._successors[id(value)][1]
        # The inputs enter as views of their leaves, so any other leaf is a parameter.
        return value.detach() if value.requires_grad and value.is_leaf else value

    def _replace(self, old: Tensor, new: Tensor, func: Callable[..., object]) -> None:
        while id(old) in self._successors:
            old = self._successors[id(old)][1]
        if old._is_view():  # noqa: SLF001 - torch offers no public question
            msg = (
                f"an operation in place must not write through a view; {resolve_name(func)} does; "
                "use the form that is not in place"
            )
            raise NotImplementedError(msg)
        if new is not old:
            self._successors[id(old)] = (old, new)  # keeps the old one alive: ids are reused


def _run_unknown(
    func: Callable[..., object],
    args: Sequence[object],
    named: Mapping[str, object],
    *,
    in_place: bool,
) -> object:
    """Run an operation without a rule, if its result leaves the explained graph."""
    writes = in_place or named.get("out") is not None
    result = None if writes else func(*args, **named)
    attribute = operation_name(func) == "get"  # x.T, x.shape: no arithmetic
    if writes or (not attribute and any(carries(leaf) for leaf in tree_leaves(result))):
        msg = (
            f"every operation on the explained input must have a rule; {resolve_name(func)} has "
            "none; replace it in the model, or explain a part of the model without it"
        )
        raise NotImplementedError(msg)
    return result


def _out_of_place(name: str) -> Native:
    """Find the form of an operation that returns a new tensor."""
    places = (torch.Tensor, torch, F)
    found: Native = next(getattr(place, name) for place in places if hasattr(place, name))
    return found
