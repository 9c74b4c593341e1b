"""Why an image was taken for its class and not for the next: relevance and Grad-CAM."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from hemitwin.interpret import AttributionConfig, LrpConfig, attribute_embedding
from hemitwin.models import ClassHead, SiameseNetwork
from hemitwin.transforms import standardise_images

__all__ = ["ImageMaps", "central_box", "class_axes", "explain_images"]


@dataclass(frozen=True, eq=False)
class ImageMaps:
    """Maps of one image for its being taken for one class rather than another.

    Parameters
    ----------
    relevance, grad_cam : (rows, columns) float
        Signed relevance, added up over the channels; Grad-CAM without a negative part.
    score : float
        What is explained: how much more the embedding points to the class than to the other.
    ledger_ratio : float
        (input + bias + stabiliser) / score of the relevance; 1 where nothing was lost.
    inside : dict of str to float
        Share of the relevance (of its size, whatever its sign) and of Grad-CAM in the box.
    """

    relevance: Float[np.ndarray, "rows columns"]
    grad_cam: Float[np.ndarray, "rows columns"]
    score: float
    ledger_ratio: float
    inside: dict[str, float]


def class_axes(
    network: SiameseNetwork, templates: Float[Tensor, "classes dim"]
) -> Float[Tensor, "classes dim"]:
    """Return the direction of each class among normalised embeddings.

    Parameters
    ----------
    network : SiameseNetwork
        With a classifier's head the weights of its classes are taken, else the templates.
    templates : (classes, D) float
        Mean normalised embeddings of the classes' training images.
    """
    if isinstance(network.head, ClassHead):
        weight = network.head.out.weight.detach()
        scaled: Tensor = weight * weight.shape[1] ** 0.5
        return scaled
    return templates.to(network.device)


def central_box(shape: tuple[int, int], shares: tuple[float, float]) -> tuple[int, int, int, int]:
    """Return top, left, bottom and right of the central box of an image, in pixels.

    Examples
    --------
    >>> central_box((10, 20), (0.5, 0.25))
    (2, 7, 7, 12)
    """
    sides = [max(1, round(share * side)) for share, side in zip(shares, shape, strict=True)]
    top, left = ((side - inner) // 2 for side, inner in zip(shape, sides, strict=True))
    return top, left, top + sides[0], left + sides[1]


def explain_images(
    network: SiameseNetwork,
    pixels: UInt8[np.ndarray, "n channels rows columns"],
    axes: Float[Tensor, "classes dim"],
    ranking: Int[np.ndarray, "n 2"],
    *,
    lrp: LrpConfig,
    box: tuple[float, float],
) -> list[ImageMaps]:
    """Explain why each image was taken for one class rather than for another.

    The explained score is w . a with w = (u - v) / |a|: a is the image's embedding, whose norm is
    held constant, u and v are the directions of both classes.

    Parameters
    ----------
    network : SiameseNetwork
        In evaluation mode.
    pixels : (n, C, rows, columns) uint8
        The images as the network sees them.
    axes : (classes, D) float
        As `class_axes` gives them.
    ranking : (n, 2) int
        The class that each was taken for, and the one it is held against.
    lrp : LrpConfig
        Rules.
    box : (2,) float
        Shares of height and width of the central box.
    """
    top, left, bottom, right = central_box(pixels.shape[2:], box)
    found = []
    for one, (chosen, next_best) in zip(pixels, ranking.tolist(), strict=True):
        image = standardise_images(torch.from_numpy(one)[None].float() / 255).to(network.device)
        with torch.no_grad():
            norm = torch.linalg.vector_norm(network.embed(image)).clamp(min=1e-12)
        direction = (axes[chosen] - axes[next_best]) / norm
        relevance, ledger = attribute_embedding(
            network, image, direction, AttributionConfig(method="lrp", lrp=lrp)
        )
        grad_cam, _ = attribute_embedding(
            network, image, direction, AttributionConfig(method="grad_cam")
        )
        if ledger is None:
            msg = "relevance must come with its ledger; got none"
            raise RuntimeError(msg)
        maps = {"relevance": relevance[0].sum(dim=0), "grad_cam": grad_cam[0].sum(dim=0)}
        arrays = {name: one.double().cpu().numpy() for name, one in maps.items()}
        inside = {
            name: float(np.abs(one[top:bottom, left:right]).sum() / max(np.abs(one).sum(), 1e-30))
            for name, one in arrays.items()
        }
        found.append(
            ImageMaps(
                arrays["relevance"], arrays["grad_cam"], ledger.explained, ledger.ratio, inside
            )
        )
    return found
