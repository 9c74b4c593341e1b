"""How well relevance finds a place that is known (positive relevance only).

Definitions: Arras, Osman & Samek 2022, CLEVR-XAI (doi:10.1016/j.inffus.2021.11.008); pointing
game: Zhang et al. 2018 (doi:10.1007/s11263-017-1059-x). A pair is judged on the sum of both maps
on one grid.
"""

import numpy as np
from jaxtyping import Bool, Float
from sklearn.metrics import average_precision_score

Relevance = Float[np.ndarray, " ..."]
Place = Bool[np.ndarray, " ..."]


def relevance_mass_accuracy(relevance: Relevance, mask: Place) -> float:
    """
    Measure the share of the positive relevance that lies in the mask.

    Parameters
    ----------
    relevance : (*spatial) float
        Signed map.
    mask : (*spatial) bool
        The known place.

    Returns
    -------
    float
        0 to 1; 0 where nothing is positive. By chance: the mask's share of the relevance's extent.

    Raises
    ------
    ValueError
        When the shapes differ, the mask is empty or the relevance is not finite.

    Examples
    --------
    >>> relevance_mass_accuracy(np.array([3.0, 1.0, -5.0]), np.array([True, False, False]))
    0.75
    """
    positive = _positive(relevance, mask)
    total = positive.sum()
    return float(positive[mask].sum() / total) if total > 0 else 0.0


def relevance_rank_accuracy(relevance: Relevance, mask: Place) -> float:
    """
    Measure how many of the K most relevant voxels lie in the mask of K voxels.

    Parameters and errors as in `relevance_mass_accuracy`. Voxels without positive relevance never
    count; among equal ones the earlier comes first.

    Returns
    -------
    float
        0 to 1.

    Examples
    --------
    >>> relevance_rank_accuracy(np.array([3.0, 2.0, 1.0]), np.array([True, False, True]))
    0.5
    """
    positive = _positive(relevance, mask).ravel()
    size = int(mask.sum())
    top = np.argsort(-positive, kind="stable")[:size]
    return float((mask.ravel()[top] & (positive[top] > 0)).sum() / size)


def pointing_game(relevance: Relevance, mask: Place) -> bool:
    """
    Tell whether the most relevant voxel lies in the mask; parameters as above.

    Returns
    -------
    bool
        False also where nothing is positive.

    Examples
    --------
    >>> pointing_game(np.array([3.0, 2.0]), np.array([False, True]))
    False
    """
    positive = _positive(relevance, mask).ravel()
    peak = int(positive.argmax())
    return bool(positive[peak] > 0 and mask.ravel()[peak])


def voxel_average_precision(relevance: Relevance, mask: Place) -> float:
    """
    Measure how well the relevance separates the mask's voxels from the others.

    Parameters and errors as in `relevance_mass_accuracy`.

    Returns
    -------
    float
        Average precision (area under the precision-recall curve) of the positive relevance, 0 to
        1; by chance the mask's share of the voxels.

    Examples
    --------
    >>> voxel_average_precision(np.array([3.0, 2.0, 1.0]), np.array([True, False, True]))
    0.8333333333333333
    """
    positive = _positive(relevance, mask)
    return float(average_precision_score(mask.ravel(), positive.ravel()))


def _positive(relevance: Relevance, mask: Place) -> Relevance:
    if relevance.shape != mask.shape or not mask.any():
        msg = (
            "mask must be of the relevance's shape and not empty; got "
            f"{mask.shape} with {int(mask.sum())} voxels for {relevance.shape}; bring both onto "
            "one grid"
        )
        raise ValueError(msg)
    if not np.isfinite(relevance).all():
        msg = "relevance must be finite; it holds NaN or infinity; explain in float32 or float64"
        raise ValueError(msg)
    return np.clip(relevance.astype(np.float64), 0, None)
