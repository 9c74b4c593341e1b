"""One rewritten forward pass, from which many scores can be explained."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from hemitwin.interpret.engine.accounts import Accounts, Booked
from hemitwin.interpret.engine.config import LrpConfig
from hemitwin.interpret.engine.ledger import Ledger
from hemitwin.interpret.engine.propagation import Propagation, StandIn, carries
from hemitwin.interpret.engine.relevance_mode import RelevanceMode

Forward = Callable[..., object]
"""A model or a function of tensors that gives one tensor."""

Targets = Float[Tensor, "targets batch *output"]

MEMORY_MB = 1024
"""What the way back may take by default, in MiB."""
_HELD_AT_A_TIME = 6
_MOST_TARGETS = 32


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
    largest_bytes : int
        Of the largest tensor on the way.
    """

    leaves: tuple[Tensor, ...]
    output: Tensor
    accounts: Accounts
    stand_ins: tuple[StandIn, ...] = ()
    largest_bytes: int = 0

    def explain(self, weights: Targets, *, memory_mb: int = MEMORY_MB) -> Iterator[Explanation]:
        """
        Propagate weighted sums of the output, one a sample and target, back to the inputs.

        Targets go back together, as many as the memory holds: the convolutions of one image are
        too small to keep a processor busy.

        Parameters
        ----------
        weights : (K, *output.shape) float
            Target k explains, for each sample, the sum of its output times weights[k], constants.
        memory_mb : int
            What the way back may take, about, in MiB; one target at a time takes what it needs.

        Yields
        ------
        Explanation
            Maps and ledgers of each target, in order. The graph is gone after the last.

        Raises
        ------
        ValueError
            When the weights do not fit the output, or the output is constant.
        """
        if weights.shape[1:] != self.output.shape:
            msg = (
                f"weights must be (K, {', '.join(map(str, self.output.shape))}), one for each "
                f"output; got {tuple(weights.shape)}; give targets of this model"
            )
            raise ValueError(msg)
        if not carries(self.output):
            msg = "the score must depend on the inputs; it is constant; explain another output"
            raise ValueError(msg)
        weights = weights.to(self.output.device)
        terms = weights.double() * self.output.detach().double()
        scores = terms.reshape(*terms.shape[:2], -1).sum(dim=2)
        chunks = weights.to(self.output.dtype).split(self.chunk(memory_mb))
        start = 0
        for index, chunk in enumerate(chunks):
            maps, booked = self._propagate(chunk, last=index == len(chunks) - 1)
            for row in range(len(chunk)):
                target = tuple(one[row] for one in maps)
                books: Booked = {account: sums[row] for account, sums in booked.items()}
                score = scores[start + row]
                yield Explanation(
                    target, score.to(self.output.dtype), _ledgers(target, score, books)
                )
            start += len(chunk)

    def chunk(self, memory_mb: int) -> int:
        """
        Choose how many targets go back together.

        A gradient, its product with a constant and a convolution's result are held at a time,
        beside one map for each input.
        """
        leaves = sum(leaf.nbytes for leaf in self._sources)
        each = _HELD_AT_A_TIME * self.largest_bytes + 2 * leaves
        return max(1, min(_MOST_TARGETS, memory_mb * 2**20 // max(1, each)))

    @property
    def _sources(self) -> tuple[Tensor, ...]:
        return *self.leaves, *(one.leaf for one in self.stand_ins)

    def _propagate(self, weights: Targets, *, last: bool) -> tuple[tuple[Tensor, ...], Booked]:
        """Send some targets back together; give maps (K, B, C, *spatial) and books (K, B)."""

        def pull(one: Tensor) -> tuple[tuple[Tensor, ...], Booked]:
            gradients = torch.autograd.grad(
                self.output, self._sources, one, retain_graph=not last, materialize_grads=True
            )
            return gradients, self.accounts.totals()

        device = self.output.device.type
        # Autocast would round the products on the way back.
        with (
            torch.inference_mode(mode=False),
            torch.enable_grad(),
            torch.autocast(device, enabled=False),
        ):
            weights = weights.clone()  # it may be an inference tensor
            if len(weights) == 1:
                gradients, booked = tree_map(lambda one: one[None], pull(weights[0]))
            else:
                gradients, booked = torch.vmap(pull)(weights)
        products = [(x * g).detach() for x, g in zip(self._sources, gradients, strict=True)]
        inputs = len(self.leaves)
        for one, product in zip(self.stand_ins, products[inputs:], strict=True):
            products[one.index] = products[one.index] + product
        return tuple(products[:inputs]), booked


def _ledgers(maps: Sequence[Tensor], score: Tensor, booked: Booked) -> tuple[Ledger, ...]:
    sums = [m.reshape(len(score), -1).sum(dim=1, dtype=torch.float64) for m in maps]
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
    *,
    samples: int | None = None,
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
    samples : int, optional
        How many samples the inputs' first axis holds: 1 where the model compares the images of a
        batch with one another; by default each is one.

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
        check_evaluation(forward)
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
        flow = Propagation(config, Accounts(samples or len(leaves[0])), anchor)
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
    return ForwardPass(leaves, output, flow.accounts, tuple(flow.stand_ins), flow.largest_bytes)


def _check_inputs(inputs: Sequence[Tensor]) -> None:
    found = [(str(x.dtype), tuple(x.shape)) for x in inputs]
    exact = all(x.dtype in {torch.float32, torch.float64} for x in inputs)
    if not inputs or not exact or len({len(x) for x in inputs}) != 1:
        msg = (
            "inputs must be float32 or float64 tensors (B, ...) of one batch size; "
            f"got {found}; convert them, relevance needs the precision"
        )
        raise ValueError(msg)


def check_evaluation(model: nn.Module) -> None:
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
