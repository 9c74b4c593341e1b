"""Settings of layer-wise relevance propagation."""

from typing import Literal

from pydantic import Field, model_validator

from hemitwin._frozen import Frozen
from hemitwin.interpret.engine.rules import (
    BoxRule,
    EpsilonRule,
    FlatRule,
    GammaRule,
    InputRule,
    Rule,
    ZPlusRule,
)

RuleName = Literal["epsilon", "gamma", "zplus"]
LayerKind = Literal["convolution", "dense"]


class LayerRule(Frozen):
    """
    Which layers a rule is for, by kind and depth.

    Examples
    --------
    >>> LayerRule(rule="zplus", last=3).covers("convolution", 4)
    False
    """

    rule: RuleName = Field(description="Their rule.")
    kind: LayerKind = Field(default="convolution", description="convolution, transposed or not.")
    first: int = Field(default=0, ge=0, description="First of its kind in the forward pass.")
    last: int | None = Field(default=None, ge=0, description="Last one; all without it.")

    @model_validator(mode="after")
    def _begins_before_it_ends(self) -> "LayerRule":
        if self.last is not None and self.last < self.first:
            msg = f"last must not be below first, got {self.first} and {self.last}; exchange them"
            raise ValueError(msg)
        return self

    def covers(self, kind: LayerKind, depth: int) -> bool:
        """Tell whether it is for the layer that is `depth`-th of its kind, from 0."""
        inside = self.first <= depth and (self.last is None or depth <= self.last)
        return kind == self.kind and inside


class LrpConfig(Frozen):
    """
    Settings of layer-wise relevance propagation.

    Examples
    --------
    >>> LrpConfig(rule="epsilon", epsilon=0).rule_of("convolution", 0)
    EpsilonRule(epsilon=0.0)
    >>> upper = LayerRule(rule="epsilon", first=8)
    >>> LrpConfig(composite=(upper,)).rule_of("convolution", 9)
    EpsilonRule(epsilon=1e-06)
    """

    rule: RuleName = Field(
        default="gamma",
        description="Rule of convolutions; other linear layers follow epsilon.",
    )
    epsilon: float = Field(
        default=1e-6, ge=0, description="Stabiliser of the denominators, in units of activation."
    )
    gamma: float = Field(
        default=0.25,
        ge=0,
        description="How much contributions with the output's sign are strengthened (gamma rule).",
    )
    composite: tuple[LayerRule, ...] = Field(
        default=(),
        description="Other rules by kind of layer and depth; the first that covers a layer is "
        "taken.",
    )
    input_rule: Literal["same", "box", "flat"] = Field(
        default="same",
        description="Rule of the layers that read the input itself: as the others, z^B between "
        "the image's lowest and highest value, or alike over the receptive field.",
    )
    batch_norm: Literal["affine", "folded"] = Field(
        default="affine",
        description="Scale and shift of their own, or part of the convolution before them.",
    )
    norm_statistics: Literal["scale", "all"] = Field(
        default="scale",
        description=(
            "What Group/Instance/LayerNorm hold constant: the spread (the mean stays a function "
            "of the input: Ali et al. 2022, arXiv:2202.07304), or the mean too."
        ),
    )

    def rule_of(self, kind: LayerKind, depth: int) -> Rule:
        """Return the rule of the layer that is `depth`-th of its kind in the forward pass."""
        otherwise: RuleName = self.rule if kind == "convolution" else "epsilon"
        covering = (one.rule for one in self.composite if one.covers(kind, depth))
        name = next(covering, otherwise)
        if name == "gamma":
            return GammaRule(self.gamma, self.epsilon)
        return ZPlusRule(self.epsilon) if name == "zplus" else EpsilonRule(self.epsilon)

    @property
    def rule_of_input(self) -> InputRule | None:
        """Rule of the layers on the input, where it is one of its own."""
        if self.input_rule == "same":
            return None
        return (
            BoxRule(epsilon=self.epsilon) if self.input_rule == "box" else FlatRule(self.epsilon)
        )
