"""Which place of one image is matched with which place of another."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from hemitwin._shapes import Batch, Embedding
from hemitwin.interpret.engine.config import LrpConfig
from hemitwin.interpret.engine.forward_pass import MEMORY_MB, Explanation
from hemitwin.interpret.pair import HasEncoder, check_grid, check_pair, explain_embeddings

Labels = Int[np.ndarray, " ..."]
"""Region of each voxel; 0 for none."""

RESIDUES = ("unassigned", "bias")
"""What completes the rows and columns: voxels of no region, and constants."""


@dataclass(frozen=True, eq=False)
class RegionMatches:
    """
    How much each pair of regions adds to the similarity of two images.

    Attributes
    ----------
    matrix : (P + 2, P + 2) float64
        Rows for the left image and columns for the right one, in the order of the regions asked
        for, then `unassigned` and `bias` (which holds stabilisers and constants too). Signed.
    similarity : float
        Cosine of the two embeddings: what the whole matrix sums to when no direction is left out.
    directions : int
        How many were explained, K.
    neglected : float
        Share of the similarity that the K directions leave out: 1 - sum / similarity. It may be
        negative, when what is left out speaks against the match.
    ledger_error : float
        Largest |residual| of a ledger over the largest explained component.
    """

    matrix: Float[np.ndarray, "rows columns"]
    similarity: float
    directions: int
    neglected: float
    ledger_error: float


def principal_directions(
    embeddings: Embedding, count: int | None = None
) -> Float[Tensor, "count dim"]:
    """
    Return the directions in which normalised embeddings are longest, not centred.

    The similarity of two embeddings is a sum over orthogonal directions, u.a^ times u.b^, of which
    the mean of all is one; hence nothing is subtracted before the singular value decomposition.

    Parameters
    ----------
    embeddings : (N, D) float
        Of the images that stand for the network's use.
    count : int, optional
        How many, at most D; all of them by default, which lose nothing.

    Returns
    -------
    (count, D) float64
        Orthonormal rows, the longest first.

    Raises
    ------
    ValueError
        When `count` is not between 1 and D.

    Examples
    --------
    >>> principal_directions(torch.tensor([[3.0, 0.0], [2.0, 0.0]]), 1).abs()
    tensor([[1., 0.]], dtype=torch.float64)
    """
    dim = embeddings.shape[1]
    count = dim if count is None else count
    if not 1 <= count <= dim:
        msg = f"count must be from 1 to the embedding's {dim} dimensions; got {count}; lower it"
        raise ValueError(msg)
    unit = F.normalize(embeddings.detach().double())
    directions: Tensor = torch.linalg.svd(unit, full_matrices=True).Vh[:count]
    return directions


def match_regions(  # noqa: PLR0913 - two images with their labels, and how
    model: HasEncoder,
    left: Batch,
    right: Float[Tensor, " ..."],
    *,
    labels_left: Labels,
    labels_right: Labels,
    regions: Int[np.ndarray, " regions"],
    directions: Float[Tensor, "targets dim"],
    config: LrpConfig | None = None,
    memory_mb: int = MEMORY_MB,
) -> RegionMatches:
    """
    Share the cosine similarity of two images out to pairs of regions (BiLRP).

    a^.b^ = sum_k (u_k.a^)(u_k.b^) over orthonormal directions. Relevance is linear in its target,
    so that each factor is the sum of its own map; summed over regions first, their products are
    one matrix of P x P and never one of voxels x voxels, for 2K backward passes. (Eberle et al.
    2022, doi:10.1109/TPAMI.2020.3020738.)

    Parameters
    ----------
    model : SiameseNetwork or alike
        In evaluation mode; it is not changed.
    left, right : (1, C, *spatial) float32 or float64
        Two hemispheres, right mirrored onto left, or two brains.
    labels_left, labels_right : (*spatial) int
        Region of each voxel; what is not in `regions` counts as unassigned.
    regions : (P,) int
        Values of the labels, in the order of the rows.
    directions : (K, D) float
        Orthonormal rows, as `principal_directions` gives them.
    config : LrpConfig, optional
        Rules.
    memory_mb : int
        What the way back may take, about, in MiB.

    Returns
    -------
    RegionMatches
        The matrix and what it leaves out.

    Raises
    ------
    ValueError
        When the images are not one pair, or labels do not lie on their grid.
    """
    check_pair(left, right)
    for labels in (labels_left, labels_right):
        check_grid("labels", labels.shape, left)
    places = torch.stack(
        [torch.from_numpy(_rows(labels, regions)) for labels in (labels_left, labels_right)]
    )
    images = torch.cat([left, right])
    sums, error = _regional(
        explain_embeddings(model, images, directions, config, memory_mb=memory_mb),
        places,
        len(regions),
    )
    with torch.no_grad():
        embeddings = model.encoder(model.seen.of_images(images)).double().cpu()
    norms = torch.linalg.vector_norm(embeddings, dim=1).clamp_min(1e-12)
    one, other = sums.div(norms[None, :, None]).unbind(1)
    matrix = (one.T @ other).numpy()
    similarity = float(F.cosine_similarity(embeddings[:1], embeddings[1:]))
    neglected = 1 - float(matrix.sum()) / similarity if similarity else float("nan")
    return RegionMatches(matrix, similarity, len(directions), neglected, error)


def _regional(
    explanations: Iterable[Explanation], places: Int[Tensor, "2 voxels"], count: int
) -> tuple[Float[Tensor, "targets 2 rows"], float]:
    """Sum each map over regions as it comes; give the sums and the worst ledger's error."""
    rows, residual, largest = [], 0.0, 1e-30
    for found in explanations:
        voxels = found.relevance[0].double().sum(dim=1).flatten(1).cpu()
        sums = torch.zeros(2, count + 1, dtype=torch.float64).scatter_add_(1, places, voxels)
        rest = [[ledger.booked - ledger.input] for ledger in found.ledgers]
        rows.append(torch.cat([sums, torch.tensor(rest, dtype=torch.float64)], dim=1))
        residual = max(residual, *(abs(ledger.residual) for ledger in found.ledgers))
        largest = max(largest, *(abs(ledger.explained) for ledger in found.ledgers))
    return torch.stack(rows), residual / largest


def _rows(labels: Labels, regions: Int[np.ndarray, " regions"]) -> Int[np.ndarray, " voxels"]:
    """Give each voxel the row of its region; the row after the last for those without."""
    order = np.argsort(regions)
    flat = labels.reshape(-1)
    position = np.searchsorted(regions, flat, sorter=order).clip(0, len(regions) - 1)
    row = order[position]
    return np.where(regions[row] == flat, row, len(regions)).astype(np.int64)
