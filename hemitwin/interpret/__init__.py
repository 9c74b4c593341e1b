"""Why: relevance propagation and its judges."""

from hemitwin.interpret.forward_pass import Explanation
from hemitwin.interpret.ledger import Ledger
from hemitwin.interpret.localisation import (
    pointing_game,
    relevance_mass_accuracy,
    relevance_rank_accuracy,
)
from hemitwin.interpret.lrp import Lrp
from hemitwin.interpret.lrp_config import LayerRule, LrpConfig
from hemitwin.interpret.pair import HasEncoder, PairExplanation, explain_embedding, explain_pair
from hemitwin.interpret.relevance_mode import RelevanceMode
from hemitwin.interpret.rules import BoxRule, EpsilonRule, FlatRule, GammaRule, ZPlusRule

__all__ = [
    "BoxRule",
    "EpsilonRule",
    "Explanation",
    "FlatRule",
    "GammaRule",
    "HasEncoder",
    "LayerRule",
    "Ledger",
    "Lrp",
    "LrpConfig",
    "PairExplanation",
    "RelevanceMode",
    "ZPlusRule",
    "explain_embedding",
    "explain_pair",
    "pointing_game",
    "relevance_mass_accuracy",
    "relevance_rank_accuracy",
]
