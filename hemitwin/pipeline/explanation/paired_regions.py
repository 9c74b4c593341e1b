"""Which region of one image is held against which of the other."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int

from hemitwin.atlases import Parcellation, Region, hcpmmp_volume
from hemitwin.pipeline.cohort.brains import Brain
from hemitwin.pipeline.training.compared import BRAINS
from hemitwin.pipeline.training.runs import Run
from hemitwin.transforms import split_hemispheres

__all__ = ["PairedRegions", "atlas_on_grid"]


def atlas_on_grid(run: Run, brain: Brain, cache: Path) -> Parcellation:
    """Return the atlas on a brain's grid, in the space that the run's volumes lie in."""
    x, y, z = (int(size) for size in brain.mask.shape)
    return hcpmmp_volume((x, y, z), brain.affine, cache_dir=cache, space=run.config.volumes.space)


@dataclass(frozen=True, eq=False)
class PairedRegions:
    """The atlas on the grids of two images that are compared.

    Parameters
    ----------
    labels_left, labels_right : (*spatial) int
        On the grids of both images, the right half's mirrored onto the left. A region and its
        counterpart have one number, that of the region in `rows`.
    rows, columns : tuple of Region
        Of the left and of the right image, counterparts at one place: homotopic regions of two
        hemispheres, the same region of two brains.
    """

    labels_left: Int[np.ndarray, " *spatial"]
    labels_right: Int[np.ndarray, " *spatial"]
    rows: tuple[Region, ...]
    columns: tuple[Region, ...]

    @classmethod
    def of(cls, run: Run, brain: Brain, cache: Path) -> "PairedRegions":
        """Build them for what a run compares, on a brain's grid.

        Parameters
        ----------
        run : Run
            On hemispheres or on pairs of brains.
        brain : Brain
            Whose grid it is; that of the other brain, too.
        cache : Path
            Where the atlas is kept between runs.

        Returns
        -------
        PairedRegions
            Of two brains all regions; of two hemispheres those of the left half, and the brain
            stem, of which each half has its own, where it has voxels.
        """
        atlas = atlas_on_grid(run, brain, cache)
        if run.config.compared is BRAINS:
            return cls(atlas.labels, atlas.labels, atlas.regions, atlas.regions)
        return cls._of_halves(atlas)

    @classmethod
    def _of_halves(cls, atlas: Parcellation) -> "PairedRegions":
        number = np.zeros(len(atlas.regions) + 1, dtype=np.int64)  # a right region's partner
        rows, columns = [], []
        for region in atlas.regions:
            crosses = region.partner is None and bool((atlas.labels == region.index).any())
            if region.hemisphere == "L" or crosses:
                other = atlas.region(region.partner or region.name)
                number[other.index] = region.index
                rows.append(region)
                columns.append(other)
        volume = torch.from_numpy(atlas.labels)[None].float()
        halves = split_hemispheres(volume, atlas.affine)
        left, right = (one[0].long().numpy() for one in (halves.left, halves.right))
        return cls(left, number[right], tuple(rows), tuple(columns))

    @property
    def values(self) -> Int[np.ndarray, " regions"]:
        """The numbers of the regions in both label volumes, in the order of the rows."""
        return np.array([region.index for region in self.rows])

    def spread(
        self, block: Float[np.ndarray, "regions regions"], count: int
    ) -> Float[np.ndarray, "count count"]:
        """Write a matrix of the rows and columns into one of all regions.

        Parameters
        ----------
        block : (P, P) float
            Rows of the left image, columns of the right one.
        count : int
            How many regions the atlas has.

        Returns
        -------
        (count, count) float
            Of two brains the block itself. Of two hemispheres it is symmetric: the block where
            left rows meet right columns, its transpose where right rows meet left columns, and
            zeros within a hemisphere.
        """
        rows, columns = (
            np.array([region.index - 1 for region in regions])
            for regions in (self.rows, self.columns)
        )
        whole = np.zeros((count, count))
        if self.rows != self.columns:
            whole[np.ix_(columns, rows)] = block.T
        whole[np.ix_(rows, columns)] = block
        return whole
