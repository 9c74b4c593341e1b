"""What turns volumes into embeddings, distances and losses."""

from hemitwin.models.architectures import ARCHITECTURES, Architecture, EncoderName
from hemitwin.models.config import (
    EncoderConfig,
    HeadConfig,
    InputConfig,
    LossConfig,
    Negatives,
    TransferConfig,
)
from hemitwin.models.decoder import AnomalyDecoder
from hemitwin.models.distances import pair_distance
from hemitwin.models.encoders.build import BUILDERS, Encoder, build_encoder
from hemitwin.models.encoders.local import LocalEncoder, LocalEncoderConfig
from hemitwin.models.encoders.pooled import PooledEncoder
from hemitwin.models.encoders.trunks import PyramidLevel, PyramidTrunk, StagedTrunk
from hemitwin.models.gradient_cache import embed_in_chunks
from hemitwin.models.heads import (
    ClassHead,
    DistanceHead,
    EncodedImages,
    JointHead,
    PairClassifier,
    PairHead,
    PairOutput,
    SingleClassifier,
    WeightedL1Head,
)
from hemitwin.models.input_channels import InputChannels, coarse_inside, pack
from hemitwin.models.memory_bank import MemoryBank
from hemitwin.models.normative_asymmetry import NormativeAsymmetry
from hemitwin.models.objectives import Objective, map_loss, mine
from hemitwin.models.reference import Reference
from hemitwin.models.relations import (
    Items,
    Relations,
    relate_brains,
    relate_classes,
    relate_halves,
    relate_whole_pairs,
)
from hemitwin.models.siamese import BuiltEncoder, SiameseNetwork, build_head, count_parameters
from hemitwin.models.transfer import Transfer, freeze, transfer_weights
from hemitwin.models.weights import load_weights, save_weights

__all__ = [
    "ARCHITECTURES",
    "BUILDERS",
    "AnomalyDecoder",
    "Architecture",
    "BuiltEncoder",
    "ClassHead",
    "DistanceHead",
    "EncodedImages",
    "Encoder",
    "EncoderConfig",
    "EncoderName",
    "HeadConfig",
    "InputChannels",
    "InputConfig",
    "Items",
    "JointHead",
    "LocalEncoder",
    "LocalEncoderConfig",
    "LossConfig",
    "MemoryBank",
    "Negatives",
    "NormativeAsymmetry",
    "Objective",
    "PairClassifier",
    "PairHead",
    "PairOutput",
    "PooledEncoder",
    "PyramidLevel",
    "PyramidTrunk",
    "Reference",
    "Relations",
    "SiameseNetwork",
    "SingleClassifier",
    "StagedTrunk",
    "Transfer",
    "TransferConfig",
    "WeightedL1Head",
    "build_encoder",
    "build_head",
    "coarse_inside",
    "count_parameters",
    "embed_in_chunks",
    "freeze",
    "load_weights",
    "map_loss",
    "mine",
    "pack",
    "pair_distance",
    "relate_brains",
    "relate_classes",
    "relate_halves",
    "relate_whole_pairs",
    "save_weights",
    "transfer_weights",
]
