"""One encoder, two images, one head that compares them."""

import itertools
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hemitwin._shapes import Batch, Embedding
from hemitwin.models.config import HeadConfig, InputConfig
from hemitwin.models.decoder import AnomalyDecoder
from hemitwin.models.encoders.build import Encoder
from hemitwin.models.encoders.local import LocalEncoder
from hemitwin.models.encoders.pooled import PooledEncoder
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
from hemitwin.models.input_channels import InputChannels, coarse_inside, repeat
from hemitwin.models.normative_asymmetry import NormativeAsymmetry
from hemitwin.models.reference import Reference

BuiltEncoder = PooledEncoder | LocalEncoder
"""Encoders that carry their settings, so that a file of weights can bring them back."""


class SiameseNetwork(nn.Module):
    """
    A shared encoder over both images of a pair, and a head.

    Parameters
    ----------
    encoder : Encoder
        Used for both sides; called once a forward pass, on the two batches joined.
    head : PairHead, optional
        What compares them; the Euclidean distance by default.
    reference : Reference, optional
        Gives each image its deviation as a channel.
    normative : NormativeAsymmetry, optional
        What the network is held against; with `input.difference` what it sees, too.
    inputs : InputConfig, optional
        Which channels the encoder is given; by default the image, and its deviation.
    """

    encoder: Encoder
    head: PairHead
    reference: Reference | None
    normative: NormativeAsymmetry | None

    def __init__(
        self,
        encoder: Encoder,
        head: PairHead | None = None,
        reference: Reference | None = None,
        normative: NormativeAsymmetry | None = None,
        inputs: InputConfig | None = None,
    ) -> None:
        super().__init__()
        self.inputs = inputs or InputConfig()
        self.encoder = encoder
        self.head = head or DistanceHead()
        self.reference = reference
        self.normative = normative

    @property
    def seen(self) -> InputChannels:
        """What the encoder is given of images."""
        return InputChannels(self.inputs, self.reference, self.normative)

    @property
    def device(self) -> torch.device:
        """Where the weights lie, and images must; the CPU where there are none."""
        first = next(itertools.chain(self.parameters(), self.buffers()), None)
        return torch.device("cpu") if first is None else first.device

    def forward(self, left: Batch, right: Float[Tensor, " ..."]) -> PairOutput:
        """
        Compare two batches, pair by pair.

        Parameters
        ----------
        left, right : (B, C, *spatial) float
            Hemispheres, the right one mirrored onto the left; or two brains. With a reference C
            is 1.

        Returns
        -------
        PairOutput
            Embeddings, distance and what else the head gives.

        Raises
        ------
        ValueError
            When the two batches differ in shape.
        """
        if left.shape != right.shape:
            msg = (
                f"both sides must have one shape; got {tuple(left.shape)} and "
                f"{tuple(right.shape)}; split or crop them onto one grid"
            )
            raise ValueError(msg)
        return self.compare(self.seen.of_pair(left, right), tuple(left.shape[2:]))

    def compare(self, inputs: Batch, size: tuple[int, ...]) -> PairOutput:
        """Compare the two halves of what `seen.of_pair` gave, of images of this size."""
        both, pairs = self.encode(inputs), len(inputs) // 2
        return self.decide(both.select(slice(pairs)), both.select(slice(pairs, None)), size)

    def decide(
        self, left: EncodedImages, right: EncodedImages, size: tuple[int, ...]
    ) -> PairOutput:
        """Let the head compare; its maps lie on the images' grid, whatever the encoder's is."""
        output: PairOutput = self.head(left, right)
        if output.anomaly is None:
            return output
        return replace(output, anomaly=repeat(output.anomaly, self.inputs.packing, size))

    def exchanged(self) -> "SiameseNetwork":
        """Return what treats a right image as this does a left one; weights are shared.

        A network that sees how far a difference is from the norms knows left from right: it says
        of exchanged images, by exchanged norms, what it says of the images.
        """
        if self.normative is None or not self.inputs.difference:
            return self
        norms = self.normative.exchanged()
        other = SiameseNetwork(self.encoder, self.head, self.reference, norms, self.inputs)
        return other.train(self.training)

    def on_norms_grid(self, images: Batch) -> Float[Tensor, " batch channels *grid"]:
        """Bring images to the grid that reference and norms lie on: the encoder's."""
        return coarse_inside(images, self.inputs.packing)

    def embed(self, images: Batch) -> Embedding:
        """Embed images one by one, as a pair's two sides are; see `InputChannels.of_images`."""
        embeddings: Embedding = self.encoder(self.seen.of_images(images))
        return embeddings

    def encode(self, inputs: Batch) -> EncodedImages:
        """Run the encoder once on what `seen` gave, and keep the maps a head needs."""
        if self.head.needs_maps:
            encoder = self.encoder
            if not isinstance(encoder, PooledEncoder):
                msg = f"a decoder needs an encoder of build_encoder; got {type(encoder).__name__}"
                raise TypeError(msg)
            embedding, maps = encoder.forward_with_features(inputs)
            return EncodedImages(inputs, embedding, maps)
        return EncodedImages(inputs, self.encoder(inputs))


def build_head(
    config: HeadConfig, encoder: BuiltEncoder, generator: torch.Generator | None = None
) -> PairHead:
    """
    Build a head with freshly drawn weights.

    Parameters
    ----------
    config : HeadConfig
        Which, and its sizes.
    encoder : PooledEncoder or LocalEncoder
        What it stands on; a decoder needs the first.
    generator : torch.Generator, optional
        Source of the weights; without it they come from seed 0. Torch's global state is neither
        read nor advanced.

    Returns
    -------
    PairHead
        Of the kind that `config` names.

    Raises
    ------
    TypeError
        When a decoder is to stand on an encoder without a feature pyramid.
    ValueError
        When it is not said how many classes there are.
    """
    seed = 0 if generator is None else int(torch.randint(2**31, (), generator=generator))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        length = encoder.config.embedding_dim
        if config.name == "decoder":
            return _decoder(config, encoder)
        if config.name in {"classifier", "single"}:
            kind = PairClassifier if config.name == "classifier" else SingleClassifier
            return kind(length, config.hidden, config.metric)
        if config.name == "classes":
            return ClassHead(length, _class_count(config), config.metric)
        if config.name == "weighted_l1":
            return WeightedL1Head(length, config.metric)
        return (JointHead if config.name == "joint" else DistanceHead)(config.metric)


def _decoder(config: HeadConfig, encoder: BuiltEncoder) -> AnomalyDecoder:
    if not isinstance(encoder, PooledEncoder):
        msg = f"a decoder needs an encoder of build_encoder; got {type(encoder).__name__}"
        raise TypeError(msg)
    return AnomalyDecoder(
        encoder.config,
        encoder.pyramid_channels,
        width=config.decoder_width,
        fine_rounds=config.fine_rounds,
        peak_voxels=config.peak_voxels,
        metric=config.metric,
    )


def _class_count(config: HeadConfig) -> int:
    if config.classes is None:
        msg = "head.classes must say how many there are; got none; set it, or count the data's"
        raise ValueError(msg)
    return config.classes


def count_parameters(model: nn.Module) -> int:
    """
    Count the trainable numbers of a model.

    Examples
    --------
    >>> count_parameters(nn.Linear(3, 2))
    8
    """
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
