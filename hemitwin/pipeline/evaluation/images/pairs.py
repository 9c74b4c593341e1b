"""Pairs of test images that a Siamese network took for alike or different, rightly and wrongly."""

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int

from hemitwin.models import EncodedImages, SiameseNetwork
from hemitwin.pipeline.images.image_set import ImageSet

__all__ = ["choose_pairs", "spread"]

_PAIRED = 256
"""Images of which every two are looked at, at most."""


def choose_pairs(
    network: SiameseNetwork,
    embeddings: Float[np.ndarray, "n dim"],
    images: ImageSet,
    *,
    threshold: float,
    each: int,
) -> pd.DataFrame:
    """Choose pairs of each kind: alike or different, taken for it or not.

    Parameters
    ----------
    network : SiameseNetwork
        With a head that compares; in evaluation mode.
    embeddings : (n, D) float
        Of the images.
    images : ImageSet
        All with a class.
    threshold : float
        Of the score, from validation: above it a pair is taken for different.
    each : int
        Pairs of a kind, at most, spread over its scores.

    Returns
    -------
    DataFrame
        A row a pair: ``first`` and ``second`` (places of the images), ``name_1``, ``name_2``,
        ``label_1``, ``label_2``, ``score``, ``different``, ``taken_for_different``.
    """
    chosen = spread(len(images), _PAIRED)
    one, other = (chosen[places] for places in np.triu_indices(len(chosen), 1))
    rows = torch.from_numpy(embeddings).float().to(network.device)
    with torch.inference_mode():
        output = network.head(
            EncodedImages.of_embeddings(rows[one]), EncodedImages.of_embeddings(rows[other])
        )
    known = images.table.reset_index(drop=True)
    pairs = pd.DataFrame({"first": one, "second": other})
    for number, places in enumerate((one, other), start=1):
        for column in ("name", "label"):
            pairs[f"{column}_{number}"] = known[column].to_numpy()[places]
    pairs["score"] = output.score.double().cpu().numpy()
    pairs["different"] = pairs["label_1"] != pairs["label_2"]
    pairs["taken_for_different"] = pairs["score"] > threshold
    kinds = pairs.groupby(["different", "taken_for_different"])
    ordered = [some.sort_values("score", kind="stable") for _, some in kinds]
    return pd.concat([some.iloc[spread(len(some), each)] for some in ordered], ignore_index=True)


def spread(count: int, wanted: int) -> Int[np.ndarray, " kept"]:
    """Return so many places of `count`, at most, from the first to the last.

    Examples
    --------
    >>> spread(9, 3).tolist(), spread(2, 3).tolist(), spread(0, 3).tolist()
    ([0, 4, 8], [0, 1], [])
    """
    places = np.linspace(0, max(count - 1, 0), min(wanted, count)).round().astype(np.int64)
    return np.unique(places)
