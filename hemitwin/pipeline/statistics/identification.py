"""Identification: whether a mate is among the k nearest of everybody."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from hemitwin.pipeline.statistics.bootstrap import Clusters, Estimate, unavailable

__all__ = ["identification_rates", "ranks_of_mates"]


def ranks_of_mates(
    distances: Float[np.ndarray, "rows columns"], mates: Bool[np.ndarray, "n n"]
) -> Int[np.ndarray, " probes"]:
    """Return at which place each probe's nearest mate comes among all who are no mates, from 1.

    A probe may have several mates, as each of three scans of one person has two: they are no
    impostors of one another, and the nearest of them counts.

    Parameters
    ----------
    distances : (n, n) float
        Row: probe; column: whom it is compared with. The diagonal is not looked at.
    mates : (n, n) bool
        Whom each row is to be recognised as. Rows without a mate are no probes, but everybody is
        compared with them too.

    Returns
    -------
    (probes,) int
        Of the rows with a mate, in their order. Somebody as near as the mate comes before it, so
        that a network which cannot tell people apart identifies nobody.

    Raises
    ------
    ValueError
        A matrix is not square, a distance is NaN, or somebody is their own mate.

    Examples
    --------
    >>> distances = np.array([[0, 1, 2], [1, 0, 3], [2, 1, 0]], dtype=float)
    >>> mates = np.array([[False, True, False], [True, False, False], [False, False, False]])
    >>> ranks_of_mates(distances, mates).tolist()
    [1, 1]
    """
    size = len(mates)
    if distances.shape != (size, size) or np.isnan(distances).any():
        msg = (
            f"distances must be a matrix of {size} x {size} numbers, as that of mates is, got "
            f"{distances.shape} with {int(np.isnan(distances).sum())} NaN; compare all pairs"
        )
        raise ValueError(msg)
    if mates.diagonal().any():
        wrong = np.flatnonzero(mates.diagonal()).tolist()
        msg = f"a mate must be another row, but {wrong} are their own; leave the diagonal False"
        raise ValueError(msg)
    probes = np.flatnonzero(mates.any(axis=1))
    rows, own = distances[probes], mates[probes]
    nearest = np.where(own, rows, np.inf).min(axis=1, initial=np.inf)
    before = (rows <= nearest[:, None]) & ~own
    before[np.arange(probes.size), probes] = False
    return np.asarray(1 + before.sum(axis=1))


def identification_rates(
    distances: Float[np.ndarray, "rows columns"],
    mates: Bool[np.ndarray, "n n"],
    families: Sequence[str],
    *,
    ks: Sequence[int] = (1, 5, 10),
    draws: int = 2000,
    seed: int = 0,
) -> dict[int, Estimate]:
    """Return the share of probes with a mate among the k nearest, for each k.

    Parameters
    ----------
    distances : (n, n) float
    mates : (n, n) bool
        As for `ranks_of_mates`.
    families : sequence of str
        Each row's family.
    ks : sequence of int
        How many of the nearest.
    draws, seed : int
        Of the bootstrap over the probes' families. Those whom a probe is compared with stay the
        same ones: a family drawn twice would put every mate there twice.

    Returns
    -------
    dict of int to Estimate
        By k; NaN with a reason where k others are all that some probe has to find one mate among.

    Raises
    ------
    ValueError
        As for `ranks_of_mates`, or nobody has a mate.

    Examples
    --------
    >>> distances = np.array([[0, 1, 2], [1, 0, 3], [2, 1, 0]], dtype=float)
    >>> mates = np.array([[False, True, False], [True, False, False], [False, False, False]])
    >>> identification_rates(distances, mates, ["a", "a", "b"], ks=(1,))[1].value
    1.0
    """
    ranks = ranks_of_mates(distances, mates)
    if ranks.size == 0:
        msg = "somebody must have a mate, but none of them has; identification needs pairs"
        raise ValueError(msg)
    counts = mates.sum(axis=1)
    probes = [families[k] for k in np.flatnonzero(counts).tolist()]
    weights = np.concatenate(list(Clusters.of(probes).weights_in_parts(draws, seed)))
    others = len(mates) - int(counts.max())  # who are no mates, and one who is
    return {
        k: Estimate.of(
            float((ranks <= k).mean()), weights @ (ranks <= k).astype(float) / weights.sum(1)
        )
        if k < others
        else unavailable(f"there are only {others} others to find the mate among")
        for k in ks
    }
