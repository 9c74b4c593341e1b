"""What turns volumes into embeddings, distances and losses."""

from hemitwin.models.architectures import ARCHITECTURES, Architecture, EncoderName
from hemitwin.models.decoder import AnomalyDecoder
from hemitwin.models.distances import pair_distance
from hemitwin.models.encoder import BUILDERS, Encoder, build_encoder
from hemitwin.models.encoder_config import EncoderConfig
from hemitwin.models.gradient_cache import embed_in_chunks
from hemitwin.models.head_config import HeadConfig
from hemitwin.models.heads import (
    DistanceHead,
    JointHead,
    PairClassifier,
    PairOutput,
    Side,
    SingleClassifier,
)
from hemitwin.models.local_encoder import LocalEncoder, LocalEncoderConfig
from hemitwin.models.memory_bank import MemoryBank
from hemitwin.models.objective_config import LossConfig
from hemitwin.models.objectives import Objective, map_loss, mine
from hemitwin.models.pooled_encoder import PooledEncoder
from hemitwin.models.reference import Reference
from hemitwin.models.relations import Items, Relations, relate_brains, relate_halves
from hemitwin.models.siamese import (
    BuiltEncoder,
    SiameseNetwork,
    build_head,
    count_parameters,
    take,
)
from hemitwin.models.staged_trunk import PyramidLevel, PyramidTrunk, StagedTrunk
from hemitwin.models.weights import load_weights, save_weights

__all__ = [
    "ARCHITECTURES",
    "BUILDERS",
    "AnomalyDecoder",
    "Architecture",
    "BuiltEncoder",
    "DistanceHead",
    "Encoder",
    "EncoderConfig",
    "EncoderName",
    "HeadConfig",
    "Items",
    "JointHead",
    "LocalEncoder",
    "LocalEncoderConfig",
    "LossConfig",
    "MemoryBank",
    "Objective",
    "PairClassifier",
    "PairOutput",
    "PooledEncoder",
    "PyramidLevel",
    "PyramidTrunk",
    "Reference",
    "Relations",
    "SiameseNetwork",
    "Side",
    "SingleClassifier",
    "StagedTrunk",
    "build_encoder",
    "build_head",
    "count_parameters",
    "embed_in_chunks",
    "load_weights",
    "map_loss",
    "mine",
    "pair_distance",
    "relate_brains",
    "relate_halves",
    "save_weights",
    "take",
]
