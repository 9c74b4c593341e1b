"""How relevance passes a linear layer: rules as data, one way to apply them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from hemitwin.interpret.engine.accounts import Accounts


@dataclass(frozen=True)
class LinearLayer:
    """
    A linear map about to be run.

    Attributes
    ----------
    apply : callable
        (x, weight) to the output without bias.
    x, weight : Tensor
        Input that carries relevance, and weights that do not.
    bias : Tensor or None
        Broadcastable to the output.
    stand_ins : tuple of Tensor
        Images in place of x that an `InputRule` asked for.
    output_axis : int
        Axis of a convolution's weights along which its outputs lie.
    """

    apply: Callable[[Tensor, Tensor], Tensor]
    x: Tensor
    weight: Tensor
    bias: Tensor | None
    stand_ins: tuple[Tensor, ...] = ()
    output_axis: int = 0


@runtime_checkable
class Rule(Protocol):
    """
    What a rule decides: the numerators of its shares, and their stabiliser.

    The share of input i in output j is n_ij / (sum_i n_ij + n_bj + epsilon sign).
    """

    @property
    def epsilon(self) -> float:
        """Absolute stabiliser of the denominators."""
        ...

    def numerators(
        self, layer: LinearLayer, linear: Tensor, bias: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Give sum_i n_ij, differentiable in x, and n_bj, from the plain sums."""
        ...


@dataclass(frozen=True)
class EpsilonRule:
    """LRP-epsilon (Bach et al. 2015, doi:10.1371/journal.pone.0130140): n_ij = x_i w_ij."""

    epsilon: float = 1e-6

    def numerators(
        self, layer: LinearLayer, linear: Tensor, bias: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Give the plain sums back."""
        del layer
        return linear, bias


@dataclass(frozen=True)
class GammaRule:
    """
    Generalised LRP-gamma (Andeol et al. 2021; Schnake et al. 2022, arXiv:2006.03589).

    n_ij = x_i w_ij + gamma (x_i w_ij)^+ where the output is positive or zero, and with (.)^-
    where it is negative; hence it stands signed inputs.
    """

    gamma: float = 0.25
    epsilon: float = 1e-6

    def numerators(
        self, layer: LinearLayer, linear: Tensor, bias: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Strengthen the contributions that have the output's sign."""
        positive, positive_bias = positive_part(layer, linear), bias.clamp(min=0)
        # (x w)^- is x w - (x w)^+, so that both cases are a x w + b (x w)^+.
        with torch.no_grad():
            up = (linear + bias >= 0).to(linear)
            a, b = (1 + self.gamma) - self.gamma * up, self.gamma * (2 * up - 1)
        return linear * a + positive * b, bias * a + positive_bias * b


@dataclass(frozen=True)
class ZPlusRule:
    """
    LRP-z+, alias alpha 1 beta 0 (Montavon et al. 2017, doi:10.1016/j.patcog.2016.11.008).

    n_ij = (x_i w_ij)^+. An output that nothing speaks for keeps its relevance, which is booked.
    """

    epsilon: float = 1e-6

    def numerators(
        self, layer: LinearLayer, linear: Tensor, bias: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Keep the positive contributions."""
        del linear
        return positive_part(layer), bias.clamp(min=0)


@runtime_checkable
class InputRule(Rule, Protocol):
    """A rule of the layers on the input itself, whose shares are not multiples of the input."""

    def stand_ins(self, x: Tensor) -> tuple[Tensor, ...]:
        """Give the images whose value x gradient is added to the input's relevance."""
        ...


@dataclass(frozen=True)
class BoxRule:
    """
    LRP-z^B for inputs between bounds (Montavon et al. 2017, doi:10.1016/j.patcog.2016.11.008).

    n_ij = x_i w_ij - low w_ij^+ - high w_ij^-. The bounds are those of each image and channel
    where none are given.
    """

    low: float | None = None
    high: float | None = None
    epsilon: float = 1e-6

    def stand_ins(self, x: Tensor) -> tuple[Tensor, ...]:
        """Give an image of the lowest and one of the highest values."""
        dims = tuple(range(2, x.ndim))
        bounds = (
            x.amin(dims, keepdim=True) if self.low is None else x.new_full((), self.low),
            x.amax(dims, keepdim=True) if self.high is None else x.new_full((), self.high),
        )
        return tuple(bound.expand(x.shape) for bound in bounds)

    def numerators(
        self, layer: LinearLayer, linear: Tensor, bias: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Take away what the bounds would give; the bias gets none."""
        low, high = layer.stand_ins
        up, down = layer.weight.clamp(min=0), layer.weight.clamp(max=0)
        return linear - layer.apply(low, up) - layer.apply(high, down), torch.zeros_like(bias)


@dataclass(frozen=True)
class FlatRule:
    """Shares alike over the receptive field (Bach et al. 2016, arXiv:1602.07186): n_ij = 1."""

    epsilon: float = 1e-6

    def stand_ins(self, x: Tensor) -> tuple[Tensor, ...]:
        """Give an image of ones."""
        return (torch.ones_like(x),)

    def numerators(
        self, layer: LinearLayer, linear: Tensor, bias: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Count the inputs of each output; the bias gets none."""
        del linear
        (ones,) = layer.stand_ins
        return layer.apply(ones, torch.ones_like(layer.weight)), torch.zeros_like(bias)


def positive_part(layer: LinearLayer, linear: Tensor | None = None) -> Tensor:
    """
    Give sum_i (x_i w_ij)^+.

    From the plain sums it is (sum x w + sum |x| |w|) / 2, one convolution less for signed inputs;
    but rounding leaves something where nothing is positive, which a rule must not divide by.
    """
    if not bool((layer.x < 0).any()):  # after a ReLU
        return layer.apply(layer.x, layer.weight.clamp(min=0))
    if linear is not None:
        return (linear + layer.apply(layer.x.abs(), layer.weight.abs())) / 2
    up = layer.apply(layer.x.clamp(min=0), layer.weight.clamp(min=0))
    return up + layer.apply(layer.x.clamp(max=0), layer.weight.clamp(max=0))


def propagate(layer: LinearLayer, rule: Rule, accounts: Accounts) -> Tensor:
    """
    Run a linear layer so that input x gradient is the input's relevance under the rule.

    The value is that of the plain layer: numerators are scaled by the constant
    output / denominator, what the bias earned is booked as `bias`, and what the stabiliser
    took as `stabiliser`.

    Parameters
    ----------
    layer : LinearLayer
        Map, input, weights.
    rule : Rule
        Which shares.
    accounts : Accounts
        Where to book.

    Returns
    -------
    Tensor
        The layer's output.
    """
    linear = layer.apply(layer.x, layer.weight)
    bias = linear.new_zeros(()) if layer.bias is None else layer.bias
    numerator, bias_share = rule.numerators(layer, linear, bias)
    if numerator is linear and rule.epsilon == 0:
        return linear if layer.bias is None else accounts.book(linear, bias, "bias")
    with torch.no_grad():
        z = linear + bias
        denominator = z if numerator is linear else numerator + bias_share
        ratio = _stabilised_ratio(z, denominator, rule.epsilon)
        absorbed = torch.addcmul(z, denominator, ratio, value=-1)

    biased = layer.bias is not None

    def back(gradient: Tensor) -> Tensor:
        shared = gradient * ratio
        if biased:
            accounts.earn("bias", _total(shared, bias_share))
        # Without a stabiliser, too, an output whose shares are all 0 cannot pass its relevance on.
        accounts.earn("stabiliser", gradient * absorbed)
        return shared

    return accounts.rewrite(numerator, z, back)


def _stabilised_ratio(z: Tensor, denominator: Tensor, epsilon: float) -> Tensor:
    """Give z over the denominator, which epsilon keeps from 0; 1 where there is nothing."""
    if epsilon == 0:
        return torch.where(denominator == 0, 1.0, z / denominator)
    stabilised = denominator.abs().add_(epsilon).copysign_(denominator + 0.0)
    return z / stabilised


def _total(gradient: Tensor, constant: Tensor) -> Tensor:
    """Multiply, over space first where the constant is the same there: (B, C) or as large."""
    if (
        gradient.ndim > 2
        and constant.ndim == gradient.ndim - 1
        and constant.numel() == constant.shape[0]
    ):
        return gradient.flatten(2).sum(dim=2) * constant.flatten()
    return gradient * constant
