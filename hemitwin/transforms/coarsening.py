"""Whole-number changes of the voxel size that lose nothing that matters: means and exact sums."""

import numpy as np
from jaxtyping import Float
from torch import Tensor

from hemitwin._shapes import Affine

__all__ = ["coarsen", "refine_sum"]


def coarsen(
    volume: Float[Tensor, " c x y z"], affine: Affine, *, factor: int
) -> tuple[Float[Tensor, " c X Y Z"], Affine]:
    """Replace blocks of ``factor**3`` voxels by their mean.

    Parameters
    ----------
    volume : (C, X, Y, Z)
        Each spatial size must be a multiple of `factor`.
    affine : (4, 4)
        Voxel index to world millimetres.
    factor : int
        1 returns the volume itself.

    Returns
    -------
    volume : (C, X/factor, Y/factor, Z/factor)
    affine : (4, 4)
        Of the coarse grid: its voxel centres are the centres of the blocks.

    Raises
    ------
    ValueError
        A size is no multiple of `factor`.

    Examples
    --------
    >>> import torch
    >>> coarse, affine = coarsen(torch.ones(1, 4, 6, 8), np.eye(4), factor=2)
    >>> tuple(coarse.shape), affine[:3, 3].tolist()
    ((1, 2, 3, 4), [0.5, 0.5, 0.5])
    """
    if any(size % factor for size in volume.shape[1:]):
        msg = (
            f"each spatial size must be a multiple of {factor}, got {tuple(volume.shape[1:])}; "
            f"choose a resolution that is a whole multiple of the prepared one"
        )
        raise ValueError(msg)
    if factor == 1:
        return volume, affine
    channels, x, y, z = volume.shape
    blocks = volume.reshape(
        channels, x // factor, factor, y // factor, factor, z // factor, factor
    )
    return blocks.mean(dim=(2, 4, 6)), affine @ _fine_from_coarse(factor)


def refine_sum(
    volume: Float[Tensor, " c x y z"], affine: Affine, *, factor: int
) -> tuple[Float[Tensor, " c X Y Z"], Affine]:
    """Share each voxel's value out evenly among ``factor**3`` finer ones: the sum stays.

    Parameters
    ----------
    volume : (C, X, Y, Z)
        A map whose values add up, such as relevance.
    affine : (4, 4)
        Voxel index to world millimetres.
    factor : int
        1 returns the volume itself.

    Returns
    -------
    volume : (C, X*factor, Y*factor, Z*factor)
    affine : (4, 4)
        Of the fine grid.

    Examples
    --------
    >>> import torch
    >>> fine, _ = refine_sum(torch.ones(1, 2, 2, 2), np.eye(4), factor=2)
    >>> tuple(fine.shape), float(fine.sum())
    ((1, 4, 4, 4), 8.0)
    """
    if factor == 1:
        return volume, affine
    fine = volume / factor**3
    for axis in (1, 2, 3):
        fine = fine.repeat_interleave(factor, dim=axis)
    return fine, affine @ np.linalg.inv(_fine_from_coarse(factor))


def _fine_from_coarse(factor: int) -> Affine:
    matrix = np.diag([float(factor)] * 3 + [1.0])
    matrix[:3, 3] = (factor - 1) / 2
    return matrix
