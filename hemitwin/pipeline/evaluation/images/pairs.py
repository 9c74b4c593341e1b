"""Pairs of test images that a Siamese network took for alike or different, rightly and wrongly."""

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from hemitwin.models import EncodedImages, SiameseNetwork
from hemitwin.pipeline.images.image_set import ImageSet

__all__ = ["choose_pairs"]

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
    count = len(images)
    chosen = np.unique(np.linspace(0, count - 1, min(_PAIRED, count)).round().astype(int))
    one, other = (chosen[places] for places in np.triu_indices(len(chosen), 1))
    rows = torch.from_numpy(embeddings).float().to(network.device)
    with torch.inference_mode():
        output = network.head(_of(rows[one]), _of(rows[other]))
    known = images.table.reset_index(drop=True)
    pairs = pd.DataFrame({"first": one, "second": other})
    for number, places in enumerate((one, other), start=1):
        for column in ("name", "label"):
            pairs[f"{column}_{number}"] = known[column].to_numpy()[places]
    pairs["score"] = output.score.double().cpu().numpy()
    pairs["different"] = pairs["label_1"] != pairs["label_2"]
    pairs["taken_for_different"] = pairs["score"] > threshold
    kinds = pairs.groupby(["different", "taken_for_different"])
    return pd.concat([_spread(some, each) for _, some in kinds], ignore_index=True)


def _spread(pairs: pd.DataFrame, count: int) -> pd.DataFrame:
    ordered = pairs.sort_values("score", kind="stable")
    places = np.linspace(0, len(ordered) - 1, min(count, len(ordered))).round().astype(int)
    return ordered.iloc[np.unique(places)]


def _of(embeddings: torch.Tensor) -> EncodedImages:
    return EncodedImages(embeddings[:, None], embeddings)
