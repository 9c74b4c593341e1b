"""Settings of layer-wise relevance propagation."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from hemitwin.interpret.rules import EpsilonRule, GammaRule, Rule


class LrpConfig(BaseModel):
    """
    Settings of layer-wise relevance propagation.

    Examples
    --------
    >>> LrpConfig(rule="epsilon", epsilon=0).convolution_rule
    EpsilonRule(epsilon=0.0)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rule: Literal["epsilon", "gamma"] = Field(
        default="gamma",
        description="Rule of convolutions; other linear layers always follow epsilon.",
    )
    epsilon: float = Field(
        default=1e-6, ge=0, description="Stabiliser of the denominators, in units of activation."
    )
    gamma: float = Field(
        default=0.25,
        ge=0,
        description="How much contributions with the output's sign are strengthened (gamma rule).",
    )
    norm_statistics: Literal["scale", "all"] = Field(
        default="scale",
        description=(
            "What Group/Instance/LayerNorm hold constant: the spread (the mean stays a function "
            "of the input: Ali et al. 2022, arXiv:2202.07304), or the mean too."
        ),
    )

    @property
    def convolution_rule(self) -> Rule:
        """Rule of (transposed) convolutions."""
        return GammaRule(self.gamma, self.epsilon) if self.rule == "gamma" else self.linear_rule

    @property
    def linear_rule(self) -> Rule:
        """Rule of dense layers and matrix products."""
        return EpsilonRule(self.epsilon)
