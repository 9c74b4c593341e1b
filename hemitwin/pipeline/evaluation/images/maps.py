"""Why an image was taken for its class, and two for alike or not: relevance and Grad-CAM."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from hemitwin._shapes import Batch
from hemitwin.interpret import (
    AttributionConfig,
    Ledger,
    LrpConfig,
    attribute_embedding,
    attribute_pair,
    explain_pair,
    explain_score,
)
from hemitwin.models import ClassHead, PairOutput, SiameseNetwork
from hemitwin.pipeline.images.picture import box_edges
from hemitwin.transforms import standardise_pixels

__all__ = ["ImageMaps", "central_box", "class_axes", "explain_image_pairs", "explain_images"]

PixelMask = Bool[np.ndarray, "rows columns"]

_LEAST = 1e-12


@dataclass(frozen=True, eq=False)
class ImageMaps:
    """Maps of one image for a score.

    Parameters
    ----------
    relevance, grad_cam : (rows, columns) float
        Signed relevance, added up over the channels; Grad-CAM without a negative part.
    score : float
        What is explained: how much more the embedding points to one class than to another, or
        the pair's score that both its images' maps share out.
    ledger_ratio : float
        (input + bias + stabiliser) / score of the relevance; 1 where nothing was lost.
    inside : dict of str to float
        Share of the relevance (of its size, whatever its sign) and of Grad-CAM in the region that
        was asked about; not a number without one.
    """

    relevance: Float[np.ndarray, "rows columns"]
    grad_cam: Float[np.ndarray, "rows columns"]
    score: float
    ledger_ratio: float
    inside: dict[str, float]

    @classmethod
    def of(
        cls, relevance: Tensor, grad_cam: Tensor, ledger: Ledger, region: PixelMask
    ) -> "ImageMaps":
        """Take one image's maps, (C, rows, columns)."""
        maps = {"relevance": relevance.sum(dim=0), "grad_cam": grad_cam.sum(dim=0)}
        arrays = {name: one.double().cpu().numpy() for name, one in maps.items()}
        inside = {
            name: float(np.abs(one[region]).sum() / max(np.abs(one).sum(), _LEAST))
            if region.any()
            else float("nan")
            for name, one in arrays.items()
        }
        return cls(arrays["relevance"], arrays["grad_cam"], ledger.explained, ledger.ratio, inside)


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


def central_box(shape: tuple[int, int], shares: tuple[float, float]) -> PixelMask:
    """Return the central box of an image.

    Parameters
    ----------
    shape : (2,) int
        Rows and columns.
    shares : (2,) float
        Of height and width.

    Examples
    --------
    >>> np.argwhere(central_box((10, 20), (0.5, 0.25))).min(axis=0)
    array([2, 7])
    """
    inside = np.zeros(shape, dtype=bool)
    left, top, right, bottom = box_edges((shape[1], shape[0]), shares)
    inside[top:bottom, left:right] = True
    return inside


def explain_images(
    network: SiameseNetwork,
    pixels: UInt8[np.ndarray, "n channels rows columns"],
    axes: Float[Tensor, "classes dim"],
    ranking: Int[np.ndarray, "n 2"],
    *,
    lrp: LrpConfig,
    regions: Bool[np.ndarray, "n rows columns"],
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
    regions : (n, rows, columns) bool
        Where relevance is counted; nowhere where nothing is known of an image.
    """
    found = []
    for one, (chosen, next_best), region in zip(pixels, ranking.tolist(), regions, strict=True):
        image = _seen(network, one)
        with torch.no_grad():
            norm = torch.linalg.vector_norm(network.embed(image)).clamp(min=_LEAST)
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
        found.append(ImageMaps.of(relevance[0], grad_cam[0], ledger, region))
    return found


def explain_image_pairs(
    network: SiameseNetwork,
    pixels: UInt8[np.ndarray, "n 2 channels rows columns"],
    *,
    lrp: LrpConfig,
    regions: Bool[np.ndarray, "n 2 rows columns"],
) -> list[tuple[ImageMaps, ImageMaps]]:
    """Explain how different the network takes two images to be: its logit, or the distance.

    Parameters
    ----------
    network : SiameseNetwork
        In evaluation mode.
    pixels : (n, 2, C, rows, columns) uint8
        Both images of each pair as the network sees them.
    lrp : LrpConfig
        Rules.
    regions : (n, 2, rows, columns) bool
        As for `explain_images`.

    Returns
    -------
    list of two ImageMaps
        Of both images; they share one score and one ledger.
    """

    def score(output: PairOutput) -> Float[Tensor, " batch"]:
        return output.score

    found = []
    for pair, places in zip(pixels, regions, strict=True):
        one, other = (_seen(network, image) for image in pair)
        if network.head.gives_logit:
            explained = explain_score(network, one, other, score, lrp)
        else:
            explained = explain_pair(network, one, other, lrp)
        cams = attribute_pair(network, one, other, score, AttributionConfig(method="grad_cam"))
        relevance = explained.relevance_left[0], explained.relevance_right[0]
        first, second = (
            ImageMaps.of(relevance[k], cams[k][0], explained.ledger, places[k]) for k in (0, 1)
        )
        found.append((first, second))
    return found


def _seen(network: SiameseNetwork, pixels: UInt8[np.ndarray, "channels rows columns"]) -> Batch:
    return standardise_pixels(pixels[None]).to(network.device)
