"""Why: attributions of a pair's score, and what shows whether they can be believed."""

from hemitwin._names import Method
from hemitwin.interpret.attributions import (
    AttributionConfig,
    ComparesPairs,
    PairMaps,
    attribute_embedding,
    attribute_pair,
)
from hemitwin.interpret.bilrp import RESIDUES, RegionMatches, match_regions, principal_directions
from hemitwin.interpret.engine.config import LayerRule, LrpConfig
from hemitwin.interpret.engine.forward_pass import Explanation
from hemitwin.interpret.engine.ledger import Ledger, known
from hemitwin.interpret.engine.relevance_mode import RelevanceMode
from hemitwin.interpret.engine.rules import BoxRule, EpsilonRule, FlatRule, GammaRule, ZPlusRule
from hemitwin.interpret.faithfulness import RegionEffects, mean_height, rank_agreement
from hemitwin.interpret.localisation import (
    pointing_game,
    relevance_mass_accuracy,
    relevance_rank_accuracy,
    voxel_average_precision,
)
from hemitwin.interpret.lrp import Lrp
from hemitwin.interpret.pair import (
    HasEncoder,
    PairExplanation,
    PairScore,
    explain_embedding,
    explain_embeddings,
    explain_pair,
    explain_score,
)
from hemitwin.interpret.sanity import (
    Verdict,
    check_permutation,
    check_randomisation,
    check_swap,
    same_maps,
)

__all__ = [
    "RESIDUES",
    "AttributionConfig",
    "BoxRule",
    "ComparesPairs",
    "EpsilonRule",
    "Explanation",
    "FlatRule",
    "GammaRule",
    "HasEncoder",
    "LayerRule",
    "Ledger",
    "Lrp",
    "LrpConfig",
    "Method",
    "PairExplanation",
    "PairMaps",
    "PairScore",
    "RegionEffects",
    "RegionMatches",
    "RelevanceMode",
    "Verdict",
    "ZPlusRule",
    "attribute_embedding",
    "attribute_pair",
    "check_permutation",
    "check_randomisation",
    "check_swap",
    "explain_embedding",
    "explain_embeddings",
    "explain_pair",
    "explain_score",
    "known",
    "match_regions",
    "mean_height",
    "pointing_game",
    "principal_directions",
    "rank_agreement",
    "relevance_mass_accuracy",
    "relevance_rank_accuracy",
    "same_maps",
    "voxel_average_precision",
]
