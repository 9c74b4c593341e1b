"""What turns volumes into embeddings, distances and losses."""

from hemitwin.models.architectures import ARCHITECTURES, Architecture, EncoderName
from hemitwin.models.encoder import BUILDERS, Encoder, build_encoder
from hemitwin.models.encoder_config import EncoderConfig
from hemitwin.models.losses import LossConfig, TripletLoss
from hemitwin.models.pooled_encoder import PooledEncoder
from hemitwin.models.siamese import (
    PairOutput,
    SiameseNetwork,
    count_parameters,
    pair_distance,
)
from hemitwin.models.staged_trunk import PyramidLevel, PyramidTrunk, StagedTrunk
from hemitwin.models.weights import load_weights, save_weights

__all__ = [
    "ARCHITECTURES",
    "BUILDERS",
    "Architecture",
    "Encoder",
    "EncoderConfig",
    "EncoderName",
    "LossConfig",
    "PairOutput",
    "PooledEncoder",
    "PyramidLevel",
    "PyramidTrunk",
    "SiameseNetwork",
    "StagedTrunk",
    "TripletLoss",
    "build_encoder",
    "count_parameters",
    "load_weights",
    "pair_distance",
    "save_weights",
]
