"""Which number of a pair is explained, and which voxels of the decoder's map it means."""

import torch
from jaxtyping import Float
from scipy import ndimage
from torch import Tensor

from hemitwin._shapes import Batch
from hemitwin.interpret import ComparesPairs, PairScore
from hemitwin.models import HeadConfig, PairOutput
from hemitwin.pipeline.explanation.request import ScoreName
from hemitwin.pipeline.stage.errors import UserError

__all__ = ["choose_score", "pair_score", "region_of_map"]


def choose_score(head: HeadConfig, wanted: ScoreName | None = None) -> ScoreName:
    """Return what is explained: what was asked for, else what the head ranks pairs by.

    Parameters
    ----------
    head : HeadConfig
        Of the network.
    wanted : {'distance', 'logit', 'map', 'embedding'}, optional
        ``map``: the decoder's own anomaly map, where it is highest. ``embedding``: the mean of
        each embedding's entries, both added; its relevance is the mean of all entries' relevance.

    Raises
    ------
    UserError
        The head does not give it.

    Examples
    --------
    >>> choose_score(HeadConfig(name="decoder")), choose_score(HeadConfig())
    ('logit', 'distance')
    """
    gives: dict[ScoreName, bool] = {
        "distance": True,
        "logit": head.name not in {"distance", "classes"},
        "map": head.name == "decoder",
        "embedding": True,
    }
    if wanted is None:
        return "logit" if gives["logit"] else "distance"
    if not gives[wanted]:
        known = ", ".join(name for name, given in gives.items() if given)
        msg = f"--target must be one that the head {head.name} gives ({known}), got {wanted}"
        raise UserError(msg)
    return wanted


def pair_score(name: ScoreName, network: ComparesPairs, left: Batch, right: Tensor) -> PairScore:
    """Return what picks a score out of a network's output for one pair and its likes.

    Parameters
    ----------
    name : {'distance', 'logit', 'map', 'embedding'}
        Which.
    network : SiameseNetwork or alike
        In evaluation mode.
    left, right : (1, 1, *spatial) float
        The pair: its map says which voxels ``map`` means.

    Returns
    -------
    callable
        From the `PairOutput` of B pairs to (B,).
    """
    if name == "distance":
        return lambda output: output.distance
    if name == "embedding":
        return _mean_of_entries
    if name == "logit":
        return _logit
    with torch.inference_mode():
        anomaly = network(left, right).anomaly
    region = region_of_map(_known(anomaly)).clone()
    return lambda output: (_known(output.anomaly) * region).flatten(1).sum(dim=1)


def region_of_map(
    anomaly: Float[Tensor, "1 sides *spatial"], *, of_peak: float = 0.0
) -> Float[Tensor, "1 sides *spatial"]:
    """Weigh the voxels of the region about a map's peak, so that they add up to its mean logit.

    Parameters
    ----------
    anomaly : (1, 2, *spatial) float
        Logits of both sides.
    of_peak : float
        The share of the peak's logit above which a voxel belongs to it.

    Returns
    -------
    (1, 2, *spatial) float
        1 / n in the n voxels that are likelier anomalous than not, above that share and connected
        with the peak, by faces, edges or corners and on its side; 0 elsewhere. The peak alone
        where it is unlikely.

    Examples
    --------
    >>> region_of_map(torch.tensor([[[3.0, 1.0, -1.0, 2.0], [0.0, 2.0, 0.0, 0.0]]])).tolist()
    [[[0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]]
    """
    peak = int(anomaly.argmax())
    side = peak // anomaly[0, 0].numel()
    values = anomaly[0, side].cpu().numpy()
    touching = ndimage.generate_binary_structure(values.ndim, values.ndim)
    least = max(0.0, of_peak * float(values.max()))
    labels, _ = ndimage.label(values > least, structure=touching)
    at_peak = labels.flat[peak - side * values.size]
    inside = torch.zeros_like(anomaly)
    if at_peak:
        inside[0, side] = torch.from_numpy((labels == at_peak).astype("float32")).to(anomaly)
    else:
        inside.view(-1)[peak] = 1.0
    return inside / inside.sum()


def _logit(output: PairOutput) -> Float[Tensor, " pairs"]:
    return _known(output.logit)


def _mean_of_entries(output: PairOutput) -> Float[Tensor, " pairs"]:
    return output.embedding_left.mean(dim=1) + output.embedding_right.mean(dim=1)


def _known(value: Tensor | None) -> Tensor:
    if value is None:
        msg = "the head must give what is explained; it does not; choose another target"
        raise TypeError(msg)
    return value
