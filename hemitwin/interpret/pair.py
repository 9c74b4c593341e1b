"""Why two images differ for a Siamese network."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from hemitwin._shapes import Batch
from hemitwin.interpret.engine.config import LrpConfig
from hemitwin.interpret.engine.forward_pass import (
    MEMORY_MB,
    Explanation,
    check_evaluation,
    run_forward,
)
from hemitwin.interpret.engine.ledger import Ledger
from hemitwin.models import Encoder, PairOutput

PairScore = Callable[[PairOutput], Float[Tensor, " pairs"]]
"""Picks the number to explain out of what a network says about pairs."""


@runtime_checkable
class SeenChannels(Protocol):
    """What an encoder is given of images, and the way of its relevance back to them."""

    @property
    def needs_pairs(self) -> bool:
        """Whether what is seen of an image depends on the one that it is compared with."""
        ...

    def of_images(self, images: Batch) -> Float[Tensor, " batch seen *grid"]:
        """Make the channels of images that are encoded by themselves."""
        ...

    def of_pair(
        self, left: Batch, right: Float[Tensor, " ..."]
    ) -> Float[Tensor, " both seen *grid"]:
        """Make the channels of pairs: those of the left images first."""
        ...

    def to_images(
        self,
        relevance: Float[Tensor, " batch seen *grid"],
        size: tuple[int, ...],
        channels: int = 1,
        *,
        pairs: bool,
    ) -> tuple[Float[Tensor, " batch channels *spatial"], dict[str, float]]:
        """Bring relevance back to images of a size, its sum kept; and tell each kind's share."""
        ...


@runtime_checkable
class HasEncoder(Protocol):
    """A Siamese network: both images go through its one encoder."""

    encoder: Encoder

    @property
    def seen(self) -> SeenChannels:
        """What the encoder is given of images."""
        ...

    def compare(self, inputs: Batch, size: tuple[int, ...]) -> PairOutput:
        """Compare the two halves of what `seen.of_pair` gave, of images of this size."""
        ...


@dataclass(frozen=True)
class PairExplanation:
    """
    Relevance of both images for a score of the pair.

    Attributes
    ----------
    relevance_left, relevance_right : (1, C, *spatial) float
        Signed; the right one lies as it was given (mirrored). Localisation is judged on
        relevance_left + relevance_right, which lie on each other.
    score : float
        What was explained.
    ledger : Ledger
        The balance of both.
    ledger_left, ledger_right : Ledger or None
        Where the score is a sum of one term a side, as the distance is.
    channels : dict of str to float
        What of the maps' sum comes from each kind of channel that the encoder is given; see
        `InputChannels.to_images`.
    """

    relevance_left: Float[Tensor, " 1 channels *spatial"]
    relevance_right: Float[Tensor, " 1 channels *spatial"]
    score: float
    ledger: Ledger
    ledger_left: Ledger | None = None
    ledger_right: Ledger | None = None
    channels: dict[str, float] = field(default_factory=dict)


def explain_pair(
    model: HasEncoder,
    left: Batch,
    right: Float[Tensor, " ..."],
    config: LrpConfig | None = None,
) -> PairExplanation:
    """
    Explain d = |a^ - b^|, the distance of the normalised embeddings.

    With the norms |a|, |b| and the direction u = (a^ - b^) / d held constant, d = u.a^ - u.b^
    is linear in both embeddings, and each term is d / 2.

    Parameters
    ----------
    model : SiameseNetwork or alike
        In evaluation mode; it is not changed.
    left, right : (1, C, *spatial) float32 or float64
        Two hemispheres, right mirrored onto left, or two brains.
    config : LrpConfig, optional
        Rules.

    Returns
    -------
    PairExplanation
        Maps, distance, ledgers. Equal embeddings (distance 0) have maps of zeros.

    Raises
    ------
    ValueError
        When the two differ in shape or are not one pair, or the model is in training mode where
        that matters.
    """
    check_pair(left, right)
    seen = model.seen.of_pair(left, right)
    run = run_forward(model.encoder, (seen,), config or LrpConfig())
    directions, distance = _directions(run.output.detach().double())
    (explanation,) = run.explain(directions[None])
    maps, shares = on_images(model, explanation.relevance[0], left, pairs=True)
    one, other = explanation.ledgers
    # What a side sees of the other is the other's relevance: no side has a balance of its own.
    left_side, right_side = (None, None) if model.seen.needs_pairs else (one, other)
    balance = one + other
    return PairExplanation(
        maps[:1], maps[1:], distance, balance, left_side, right_side, channels=shares
    )


def explain_score(
    model: HasEncoder,
    left: Batch,
    right: Float[Tensor, " ..."],
    score: PairScore,
    config: LrpConfig | None = None,
) -> PairExplanation:
    """
    Explain any score of a pair: a logit, a distance, a place in the decoder's maps.

    Parameters
    ----------
    model : SiameseNetwork or alike
        In evaluation mode; it is not changed.
    left, right : (1, C, *spatial) float32 or float64
        As for `explain_pair`.
    score : callable
        Picks a (1,) tensor out of the `PairOutput`, made of it by operations that have rules.
    config : LrpConfig, optional
        Rules.

    Returns
    -------
    PairExplanation
        With one ledger; norms, gates and thresholds are constants.

    Raises
    ------
    ValueError
        As `explain_pair` does, and when the score is not one number.

    Examples
    --------
    >>> from hemitwin.models import EncoderConfig, SiameseNetwork, build_encoder
    >>> encoder = build_encoder(EncoderConfig(width=4, blocks=(1,), spatial_dims=2))
    >>> network, images = SiameseNetwork(encoder).eval(), torch.rand(2, 1, 1, 16, 16)
    >>> explain_score(network, *images, lambda output: output.distance).ledger.closes()
    True
    """
    check_pair(left, right)
    if isinstance(model, nn.Module):
        check_evaluation(model)

    seen, size = model.seen.of_pair(left, right), tuple(left.shape[2:])
    run = run_forward(
        lambda images: score(model.compare(images, size)),
        (seen,),
        config or LrpConfig(),
        samples=1,
    )
    if run.output.shape != (1,):
        msg = f"the score must be one number, (1,); got {tuple(run.output.shape)}; pick or sum"
        raise ValueError(msg)
    (explanation,) = run.explain(torch.ones_like(run.output)[None])
    (ledger,) = explanation.ledgers
    maps, shares = on_images(model, explanation.relevance[0], left, pairs=True)
    return PairExplanation(maps[:1], maps[1:], ledger.explained, ledger, channels=shares)


def explain_embeddings(
    model: HasEncoder,
    images: Batch,
    directions: Float[Tensor, "targets dim"] | None = None,
    config: LrpConfig | None = None,
    *,
    memory_mb: int = MEMORY_MB,
) -> Iterator[Explanation]:
    """
    Explain components u.a of the embeddings a, all from one forward pass.

    Parameters
    ----------
    model : SiameseNetwork or alike
        In evaluation mode; it is not changed.
    images : (B, C, *spatial) float32 or float64
        Each is explained by itself.
    directions : (K, D) float, optional
        The u; by default the embedding's own dimensions, one by one.
    config : LrpConfig, optional
        Rules.
    memory_mb : int
        What the way back may take, about, in MiB; it decides how many targets go together.

    Yields
    ------
    Explanation
        One a direction, in order: relevance (B, C, *spatial), scores and ledgers of the images.

    Examples
    --------
    >>> from hemitwin.models import EncoderConfig, SiameseNetwork, build_encoder
    >>> config = EncoderConfig(width=4, blocks=(1,), spatial_dims=2, embedding_dim=3)
    >>> network = SiameseNetwork(build_encoder(config)).eval()
    >>> [len(one.score) for one in explain_embeddings(network, torch.rand(2, 1, 16, 16))]
    [2, 2, 2]
    """
    run = run_forward(model.encoder, (model.seen.of_images(images),), config or LrpConfig())
    count, dim = run.output.shape
    if directions is None:
        directions = torch.eye(dim, device=run.output.device)
    weights = directions[:, None].expand(-1, count, -1)
    for found in run.explain(weights, memory_mb=memory_mb):
        maps, _ = on_images(model, found.relevance[0], images, pairs=False)
        yield replace(found, relevance=(maps,))


def explain_embedding(
    encoder: Encoder,
    image: Batch,
    direction: Float[Tensor, " dim"],
    config: LrpConfig | None = None,
) -> tuple[Batch, Ledger]:
    """
    Explain one branch alone: the embedding's component direction . embedding.

    Parameters
    ----------
    encoder : Encoder
        In evaluation mode; it is not changed.
    image : (1, C, *spatial) float32 or float64
        One image.
    direction : (D,) float
        Weights of the embedding's entries, constants.
    config : LrpConfig, optional
        Rules.

    Returns
    -------
    (1, C, *spatial) float
        Signed relevance.
    Ledger
        Its balance.

    Raises
    ------
    ValueError
        When there is more than one image.
    """
    if len(image) != 1:
        msg = f"image must be one (1, C, *spatial); got {tuple(image.shape)}; explain one by one"
        raise ValueError(msg)
    run = run_forward(encoder, (image,), config or LrpConfig())
    (explanation,) = run.explain(direction[None, None])
    return explanation.relevance[0], explanation.ledgers[0]


def on_images(
    model: HasEncoder, relevance: Tensor, image: Tensor, *, pairs: bool
) -> tuple[Batch, dict[str, float]]:
    """Bring relevance of channels back to images like this one; see `SeenChannels.to_images`."""
    size, channels = tuple(image.shape[2:]), image.shape[1]
    return model.seen.to_images(relevance, size, channels, pairs=pairs)


def _directions(embeddings: Float[Tensor, "2 dim"]) -> tuple[Float[Tensor, "2 dim"], float]:
    """Give d's gradient with respect to both embeddings, norms constant, and d."""
    norms = torch.linalg.vector_norm(embeddings, dim=1, keepdim=True).clamp_min(1e-12)
    a, b = F.normalize(embeddings)
    distance = torch.linalg.vector_norm(a - b)
    u = (a - b) / distance if distance > 0 else torch.zeros_like(a)
    return torch.stack([u, -u]) / norms, float(distance)


def check_pair(left: Tensor, right: Tensor) -> None:
    """Refuse what is not two images (1, C, *spatial) of one shape; raises ValueError."""
    if left.shape != right.shape or len(left) != 1:
        msg = (
            "both sides must be one image (1, C, *spatial) of one shape; got "
            f"{tuple(left.shape)} and {tuple(right.shape)}; explain pair by pair on one grid"
        )
        raise ValueError(msg)


def check_grid(name: str, shape: tuple[int, ...], image: Tensor) -> None:
    """Refuse labels that do not lie on an image's grid; raises ValueError."""
    grid = tuple(image.shape[2:])
    if shape != grid:
        msg = (
            f"{name} must lie on the images' grid {grid}; got {shape}; bring them onto it, "
            "nearest neighbour"
        )
        raise ValueError(msg)


def inside_either(left: Tensor, right: Tensor) -> Bool[Tensor, " *spatial"]:
    """Tell where one of two images (1, C, *spatial) is not empty."""
    return ((left != 0) | (right != 0))[0].any(dim=0)
