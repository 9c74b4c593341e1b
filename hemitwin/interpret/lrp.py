"""Layer-wise relevance propagation as a Captum attribution."""

from collections.abc import Sequence

import torch
from captum.attr import GradientAttribution
from jaxtyping import Float
from torch import Tensor

from hemitwin.interpret.engine.config import LrpConfig
from hemitwin.interpret.engine.forward_pass import MEMORY_MB, Explanation, Forward, run_forward

Target = int | tuple[int, ...] | Sequence[int] | Tensor | None
"""Which output: None (there is one), one index or tuple for all samples, or one index a sample."""


class Lrp(GradientAttribution):  # type: ignore[misc] # captum is read as untyped
    """
    Layer-wise relevance propagation through any model whose operations have rules.

    Parameters
    ----------
    forward_func : nn.Module or callable
        Takes the inputs (B, ...), gives (B,) or (B, ...). It is never changed.
    config : LrpConfig, optional
        Rules.

    Examples
    --------
    >>> model = torch.nn.Linear(2, 3)
    >>> Lrp(model).attribute(torch.ones(1, 2), target=0).shape
    torch.Size([1, 2])
    """

    def __init__(self, forward_func: Forward, config: LrpConfig | None = None) -> None:
        super().__init__(forward_func)
        self.config = config or LrpConfig()

    @property
    def multiplies_by_inputs(self) -> bool:
        """Relevance is input x (rewritten) gradient."""
        return True

    def has_convergence_delta(self) -> bool:
        """Tell Captum that there is a ledger; its residual is the delta."""
        return True

    def attribute(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        target: Target = None,
        additional_forward_args: object = None,
        *,
        return_convergence_delta: bool = False,
    ) -> Tensor | tuple[Tensor, ...] | tuple[Tensor | tuple[Tensor, ...], Tensor]:
        """
        Explain one output a sample, in Captum's manner.

        Parameters
        ----------
        inputs : (B, ...) float or tuple of them
            float32 or float64.
        target : int, tuple, sequence, Tensor or None
            Which output.
        additional_forward_args : object
            Constants for the model.
        return_convergence_delta : bool
            Whether to give the ledger's residual too.

        Returns
        -------
        Tensor or tuple of Tensor
            Signed relevance in the shape of the inputs; with the delta, a pair of it and (B,).
        """
        explanation = self.explain(inputs, target, additional_forward_args)
        maps = explanation.relevance if isinstance(inputs, tuple) else explanation.relevance[0]
        if return_convergence_delta:
            return maps, torch.tensor([ledger.residual for ledger in explanation.ledgers])
        return maps

    def explain(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        target: Target = None,
        additional_forward_args: object = None,
    ) -> Explanation:
        """Explain one output a sample, with score and ledgers; parameters as in `attribute`."""
        return self.attribute_targets(inputs, [target], additional_forward_args)[0]

    def attribute_targets(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        targets: Sequence[Target],
        additional_forward_args: object = None,
        *,
        memory_mb: int = MEMORY_MB,
    ) -> list[Explanation]:
        """
        Explain several outputs from one forward pass; parameters as in `attribute`.

        Parameters
        ----------
        inputs, targets, additional_forward_args
            As in `attribute`; one target or more.
        memory_mb : int
            What the way back of the targets that go together may take, about, in MiB.

        Returns
        -------
        list of Explanation
            In the order of the targets.
        """
        given = inputs if isinstance(inputs, tuple) else (inputs,)
        extra = additional_forward_args
        extra = extra if isinstance(extra, tuple) else (extra,) if extra is not None else ()
        run = run_forward(self.forward_func, given, self.config, extra)
        batch = len(given[0])
        weights = torch.stack([_select(run.output, target, batch) for target in targets])
        return list(run.explain(weights, memory_mb=memory_mb))


def _select(output: Tensor, target: Target, batch: int) -> Tensor:
    """Return 1 at the number picked for each sample and 0 elsewhere, in the output's shape."""
    with torch.inference_mode(mode=False), torch.enable_grad():
        places = torch.zeros_like(output, requires_grad=True)
        picked = _pick(places, target, batch)
        (chosen,) = torch.autograd.grad(picked.sum(), places)
    return chosen


def _pick(output: Tensor, target: Target, batch: int) -> Float[Tensor, " batch"]:
    if isinstance(target, int):
        target = (target,)
    if target is None:
        score = output.reshape(batch, -1).squeeze(1) if output.numel() == batch else output
    elif isinstance(target, tuple):
        score = output[(slice(None), *target)]
    else:
        index = torch.as_tensor(target, device=output.device)
        score = output[torch.arange(batch, device=output.device), index.expand(batch)]
    if score.shape != (batch,):
        msg = (
            f"target must pick one number for each of the {batch} samples; output has shape "
            f"{tuple(output.shape)} and target is {target}; give the index of an output"
        )
        raise ValueError(msg)
    return score
