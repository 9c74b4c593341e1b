"""Identification: whether the mate is among the k nearest of everybody."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from hemitwin.pipeline.bootstrap import Clusters, Estimate, unavailable

__all__ = ["identification_rates", "ranks_of_mates"]


def ranks_of_mates(
    distances: Float[np.ndarray, "rows columns"], mates: Int[np.ndarray, " n"]
) -> Int[np.ndarray, " probes"]:
    """Return at which place each probe's mate comes among all others, from 1.

    Parameters
    ----------
    distances : (n, n) float
        Row: probe; column: whom it is compared with. The diagonal is not looked at.
    mates : (n,) int
        Index of each row's mate; -1 for people who have none: they are no probes, but everybody
        is compared with them too.

    Returns
    -------
    (probes,) int
        Of the rows with a mate, in their order. Somebody as near as the mate comes before it, so
        that a network which cannot tell people apart identifies nobody.

    Raises
    ------
    ValueError
        The matrix is not square, a distance is NaN, or somebody is their own mate.

    Examples
    --------
    >>> distances = np.array([[0, 1, 2], [1, 0, 3], [2, 1, 0]], dtype=float)
    >>> ranks_of_mates(distances, np.array([1, 2, -1])).tolist()
    [1, 2]
    """
    size = mates.size
    if distances.shape != (size, size) or np.isnan(distances).any():
        msg = (
            f"distances must be a matrix of {size} x {size} numbers, one row a mate, got "
            f"{distances.shape} with {int(np.isnan(distances).sum())} NaN; compare all pairs"
        )
        raise ValueError(msg)
    probes = np.flatnonzero(mates >= 0)
    if (mates[probes] == probes).any() or (mates >= size).any():
        msg = f"a mate must be another row below {size}, got {mates.tolist()}; write -1 for none"
        raise ValueError(msg)
    rows = distances[probes]
    as_near = rows <= rows[np.arange(probes.size), mates[probes]][:, None]
    as_near[np.arange(probes.size), probes] = False
    return np.asarray(as_near.sum(1))


def identification_rates(
    distances: Float[np.ndarray, "rows columns"],
    mates: Int[np.ndarray, " n"],
    families: Sequence[str],
    *,
    ks: Sequence[int] = (1, 5, 10),
    draws: int = 2000,
    seed: int = 0,
) -> dict[int, Estimate]:
    """Return the share of probes whose mate is among the k nearest, for each k.

    Parameters
    ----------
    distances, mates : (n, n) float, (n,) int
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
        By k; NaN with a reason where k others are all there are.

    Raises
    ------
    ValueError
        As for `ranks_of_mates`, or nobody has a mate.

    Examples
    --------
    >>> distances = np.array([[0, 1, 2], [1, 0, 3], [2, 1, 0]], dtype=float)
    >>> rates = identification_rates(distances, np.array([1, 0, -1]), ["a", "a", "b"], ks=(1,))
    >>> rates[1].value
    1.0
    """
    ranks = ranks_of_mates(distances, mates)
    if ranks.size == 0:
        msg = "somebody must have a mate, but all of them are -1; identification needs pairs"
        raise ValueError(msg)
    probes = [families[k] for k in np.flatnonzero(mates >= 0).tolist()]
    weights = np.concatenate(list(Clusters.of(probes).weights_in_parts(draws, seed)))
    others = mates.size - 1
    return {
        k: Estimate.of(
            float((ranks <= k).mean()), weights @ (ranks <= k).astype(float) / weights.sum(1)
        )
        if k < others
        else unavailable(f"there are only {others} others to find the mate among")
        for k in ks
    }
