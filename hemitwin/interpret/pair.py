"""Why two images differ for a Siamese network."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from hemitwin._shapes import Batch
from hemitwin.interpret.forward_pass import run_forward
from hemitwin.interpret.ledger import Ledger
from hemitwin.interpret.lrp_config import LrpConfig
from hemitwin.models import Encoder


@runtime_checkable
class HasEncoder(Protocol):
    """A Siamese network: both images go through its one encoder."""

    encoder: Encoder

    def see(self, images: Batch) -> Float[Tensor, " batch seen *spatial"]:
        """Return what the encoder sees of images."""
        ...

    def gather(self, relevance: Batch) -> Float[Tensor, " batch own *spatial"]:
        """Bring relevance of what the encoder sees back to the images."""
        ...


@dataclass(frozen=True)
class PairExplanation:
    """
    Relevance of both images for their distance.

    Attributes
    ----------
    relevance_left, relevance_right : (1, C, *spatial) float
        Signed; the right one lies as it was given (mirrored). Localisation is judged on
        relevance_left + relevance_right, which lie on each other.
    distance : float
        |a^ - b^|, the explained score.
    ledger_left, ledger_right : Ledger
        Each branch explains half of the distance.
    ledger : Ledger
        Their sum.
    """

    relevance_left: Float[Tensor, " 1 channels *spatial"]
    relevance_right: Float[Tensor, " 1 channels *spatial"]
    distance: float
    ledger_left: Ledger
    ledger_right: Ledger
    ledger: Ledger


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
    if left.shape != right.shape or len(left) != 1:
        msg = (
            "both sides must be one image (1, C, *spatial) of one shape; got "
            f"{tuple(left.shape)} and {tuple(right.shape)}; explain pair by pair on one grid"
        )
        raise ValueError(msg)
    seen = model.see(torch.cat([left, right]))
    run = run_forward(model.encoder, (seen,), config or LrpConfig())
    directions, distance = _directions(run.output.detach().double())
    explanation = run.explain(_weigh(run.output, directions))
    maps, (one, other) = model.gather(explanation.relevance[0]), explanation.ledgers
    return PairExplanation(maps[:1], maps[1:], distance, one, other, one + other)


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
    explanation = run.explain(_weigh(run.output, direction[None]))
    return explanation.relevance[0], explanation.ledgers[0]


def _directions(embeddings: Float[Tensor, "2 dim"]) -> tuple[Float[Tensor, "2 dim"], float]:
    """Give d's gradient with respect to both embeddings, norms constant, and d."""
    norms = torch.linalg.vector_norm(embeddings, dim=1, keepdim=True).clamp_min(1e-12)
    a, b = F.normalize(embeddings)
    distance = torch.linalg.vector_norm(a - b)
    u = (a - b) / distance if distance > 0 else torch.zeros_like(a)
    return torch.stack([u, -u]) / norms, float(distance)


def _weigh(
    embeddings: Float[Tensor, " batch dim"], directions: Float[Tensor, " batch dim"]
) -> Float[Tensor, " batch"]:
    with torch.inference_mode(mode=False), torch.enable_grad():
        # Double: near-equal embeddings cancel. Clone: it may be an inference tensor.
        return (embeddings.double() * directions.double().clone()).sum(dim=1)
