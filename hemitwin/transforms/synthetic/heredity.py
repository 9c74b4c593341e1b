"""Deformations that relatives share, in stated places and to a stated degree."""

import numpy as np
from jaxtyping import Float
from pydantic import Field

from hemitwin._frozen import Frozen
from hemitwin._shapes import Affine, Grid
from hemitwin.transforms.synthetic.anatomy import AnatomySpec, anatomy_displacement

__all__ = ["Genes", "heritable_displacement", "least_jacobian", "limit_folding"]

_STEPS = 20


class Genes(Frozen):
    """What a person has from its parents: one part is every sibling's, one is its own.

    Identical twins share both; fraternal twins and siblings share the first only, and so half of
    the variance, as full siblings do in the additive model (Falconer and Mackay 1996, chapter 9).
    """

    family_seed: int = Field(ge=0, description="Of the part that all siblings share.")
    person_seed: int = Field(ge=0, description="Of the part that identical twins alone share.")


def heritable_displacement(
    share: Grid, affine: Affine, spec: AnatomySpec, genes: Genes
) -> Float[np.ndarray, "3 x y z"]:
    """Return a person's displacement, of which a share of the variance is inherited.

    With s(p) = w(p) h2, where w is 1 inside the heritable regions and 0 outside, u is
    sqrt(s) g + sqrt(1 - s) e: g the genes' field, e the person's own, both of the size and
    smoothness that `spec` states. Over families, u of identical twins correlates by s(p), u of
    siblings by s(p) / 2, and u of others by 0.

    Parameters
    ----------
    share : (x, y, z) float
        s: the heritability at each voxel, 0 to 1.
    affine : (4, 4)
        Voxel index to template RAS+ millimetres, axes along the world's.
    spec : AnatomySpec
        The person's own field; relatives must agree in its smoothness.
    genes : Genes
        What it has from its parents.

    Returns
    -------
    (3, x, y, z) float
        Millimetres, RAS order.

    Raises
    ------
    ValueError
        If `share` leaves 0 to 1, or the affine is rotated or sheared.
    """
    if share.min() < 0 or share.max() > 1:
        msg = f"share must lie in 0 to 1, got {share.min():g} to {share.max():g}; normalise it"
        raise ValueError(msg)

    def field(seed: int) -> Float[np.ndarray, "3 x y z"]:
        return anatomy_displacement(share.shape, affine, spec.model_copy(update={"seed": seed}))

    genetic = (field(genes.family_seed) + field(genes.person_seed)) / np.sqrt(2)
    return np.asarray(np.sqrt(share) * genetic + np.sqrt(1 - share) * field(spec.seed))


def least_jacobian(displacement_mm: Float[np.ndarray, "3 x y z"], affine: Affine) -> float:
    """Return the least Jacobian determinant of p -> p + u(p) on the grid.

    Parameters
    ----------
    displacement_mm : (3, x, y, z) float
        u, in RAS order.
    affine : (4, 4)
        Voxel index to RAS+ millimetres, axes along the world's.

    Returns
    -------
    float
        Above 0 where nothing folds; 1 without displacement. By central differences.

    Examples
    --------
    >>> half = -0.5 * np.indices((5, 5, 5), dtype=float)
    >>> round(least_jacobian(half, np.eye(4)), 6)
    0.125
    """
    return float(_determinant(_invariants(displacement_mm, affine), 1.0).min())


def limit_folding(
    displacement_mm: Float[np.ndarray, "3 x y z"], affine: Affine, *, least: float
) -> Float[np.ndarray, "3 x y z"]:
    """Make a displacement smaller as a whole, until nothing is squeezed below a bound.

    Parameters
    ----------
    displacement_mm : (3, x, y, z) float
        In RAS order.
    affine : (4, 4)
        Voxel index to RAS+ millimetres, axes along the world's.
    least : float
        Bound of the Jacobian determinant: above 0, below 1.

    Returns
    -------
    (3, x, y, z) float
        The same field where it holds the bound, else one that is a fraction of it everywhere.
    """
    invariants = _invariants(displacement_mm, affine)
    if _determinant(invariants, 1.0).min() >= least:
        return displacement_mm
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        held = _determinant(invariants, middle).min() >= least
        low, high = (middle, high) if held else (low, middle)
    return low * displacement_mm


def _invariants(
    displacement_mm: Float[np.ndarray, "3 x y z"], affine: Affine
) -> Float[np.ndarray, "3 x y z"]:
    """Trace, sum of principal minors and determinant of the displacement's gradient."""
    spacing_mm = [float(step) for step in np.diag(affine)[:3]]
    (a, b, c), (d, e, f), (g, h, i) = (np.gradient(one, *spacing_mm) for one in displacement_mm)
    minors = a * e - b * d + a * i - c * g + e * i - f * h
    determinant = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)
    return np.stack([a + e + i, minors, determinant])


def _determinant(invariants: Float[np.ndarray, "3 x y z"], scale: float) -> Grid:
    """Of I + scale G: the characteristic polynomial of the gradient G."""
    first, second, third = invariants
    return np.asarray(1 + scale * (first + scale * (second + scale * third)))
