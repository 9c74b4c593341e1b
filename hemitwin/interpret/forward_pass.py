"""One rewritten forward pass, from which many scores can be explained."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hemitwin.interpret.accounts import Accounts
from hemitwin.interpret.ledger import Ledger
from hemitwin.interpret.lrp_config import LrpConfig
from hemitwin.interpret.propagation import Propagation, StandIn, carries
from hemitwin.interpret.relevance_mode import RelevanceMode

Forward = Callable[..., object]
"""A model or a function of tensors that gives one tensor."""


@dataclass(frozen=True)
class Explanation:
    """
    Relevance of every input for one score a sample.

    Attributes
    ----------
    relevance : tuple of (B, C, *spatial) float
        Signed; one map for each input, in their order.
    score : (B,) float
        What was explained.
    ledgers : tuple of Ledger
        One a sample.
    """

    relevance: tuple[Tensor, ...]
    score: Float[Tensor, " batch"]
    ledgers: tuple[Ledger, ...]


@dataclass(frozen=True)
class ForwardPass:
    """
    The graph of a rewritten forward pass.

    Attributes
    ----------
    leaves : tuple of Tensor
        Copies of the inputs.
    output : Tensor
        What the model gave.
    accounts : Accounts
        What constants earn.
    stand_ins : tuple of StandIn
        What else belongs to the inputs' relevance.
    """

    leaves: tuple[Tensor, ...]
    output: Tensor
    accounts: Accounts
    stand_ins: tuple[StandIn, ...] = ()

    def explain(self, score: Float[Tensor, " batch"], *, last: bool = True) -> Explanation:
        """
        Propagate scores, one a sample, back to the inputs.

        Parameters
        ----------
        score : (B,) float
            Linear in `output`.
        last : bool
            Whether the graph may be freed.

        Returns
        -------
        Explanation
            Maps and ledgers.
        """
        if not carries(score):
            msg = "the score must depend on the inputs; it is constant; explain another output"
            raise ValueError(msg)
        sources = [*self.leaves, *(one.leaf for one in self.stand_ins)]
        # Autocast would round the products on the way back.
        with torch.autocast(score.device.type, enabled=False):
            gradients = torch.autograd.grad(
                score,
                sources,
                torch.ones_like(score),
                retain_graph=not last,
                materialize_grads=True,
            )
        products = [(x * g).detach() for x, g in zip(sources, gradients, strict=True)]
        inputs = len(self.leaves)
        for one, product in zip(self.stand_ins, products[inputs:], strict=True):
            products[one.index] = products[one.index] + product
        maps, score = tuple(products[:inputs]), score.detach()
        return Explanation(maps, score, _ledgers(maps, score, self.accounts))


def _ledgers(maps: Sequence[Tensor], score: Tensor, accounts: Accounts) -> tuple[Ledger, ...]:
    booked = accounts.totals()
    sums = [m.reshape(len(m), -1).sum(dim=1, dtype=torch.float64) for m in maps]
    inputs = torch.stack(sums).sum(dim=0)
    return tuple(
        Ledger(
            input=float(inputs[sample]),
            bias=float(booked["bias"][sample]),
            stabiliser=float(booked["stabiliser"][sample]),
            constant=float(booked["constant"][sample]),
            explained=float(score[sample]),
        )
        for sample in range(len(score))
    )


def run_forward(
    forward: Forward,
    inputs: Sequence[Tensor],
    config: LrpConfig,
    extra: Sequence[object] = (),
) -> ForwardPass:
    """
    Run a model once, rewritten.

    Parameters
    ----------
    forward : callable
        Model or function, in evaluation mode; it is not changed.
    inputs : sequence of (B, C, *spatial) float32 or float64
        What relevance is wanted for.
    config : LrpConfig
        Rules.
    extra : sequence
        Further arguments, constants.

    Returns
    -------
    ForwardPass
        Output and graph.

    Raises
    ------
    ValueError
        When the inputs are not single or double precision or differ in batch size, the model is
        in training mode where that matters, or no layer reads the input as `input_rule` wants.
    TypeError
        When the model does not give one tensor.
    NotImplementedError
        When the model uses an operation without a rule.
    """
    _check_inputs(inputs)
    if isinstance(forward, nn.Module):
        _check_evaluation(forward)
    device = inputs[0].device.type
    with (
        torch.inference_mode(mode=False),
        torch.enable_grad(),
        torch.autocast(device, enabled=False),
    ):
        leaves = tuple(x.as_subclass(Tensor).detach().clone().requires_grad_() for x in inputs)
        anchor = torch.stack([leaf.flatten()[:0].sum() for leaf in leaves]).sum()
        constants = [e.detach() if isinstance(e, Tensor) else e for e in extra]
        entering = tuple(leaf.view_as(leaf) for leaf in leaves)
        flow = Propagation(config, Accounts(len(leaves[0])), anchor)
        flow.enter(entering)
        with RelevanceMode(flow) as mode:
            output = forward(*entering, *constants)
        output = mode.settle(output)
    if not isinstance(output, Tensor):
        msg = (
            f"the model must give one tensor; got {type(output).__name__}; wrap it in a function "
            "that picks one, for example lambda a, b: model(a, b).distance"
        )
        raise TypeError(msg)
    if config.rule_of_input is not None and not flow.stand_ins:
        msg = (
            f"input_rule {config.input_rule} must find a convolution or dense layer that reads an "
            "input as it is; the model has none; take input_rule same"
        )
        raise ValueError(msg)
    return ForwardPass(leaves, output, flow.accounts, tuple(flow.stand_ins))


def _check_inputs(inputs: Sequence[Tensor]) -> None:
    found = [(str(x.dtype), tuple(x.shape)) for x in inputs]
    exact = all(x.dtype in {torch.float32, torch.float64} for x in inputs)
    if not inputs or not exact or len({len(x) for x in inputs}) != 1:
        msg = (
            "inputs must be float32 or float64 tensors (B, ...) of one batch size; "
            f"got {found}; convert them, relevance needs the precision"
        )
        raise ValueError(msg)


def _check_evaluation(model: nn.Module) -> None:
    """Refuse training mode before the pass, because running statistics would already move."""
    for name, module in model.named_modules():
        stored = isinstance(module, nn.modules.batchnorm._NormBase) and module.track_running_stats  # noqa: SLF001
        drops = isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0  # noqa: SLF001
        if module.training and (stored or drops):
            msg = (
                f"the model must be in evaluation mode; {name or 'it'} ({type(module).__name__}) "
                "is in training mode; call model.eval() before explaining"
            )
            raise ValueError(msg)
