"""Label volumes whose numbers have names."""

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int32

from hemitwin._shapes import Affine
from hemitwin.atlases.regions import Region
from hemitwin.atlases.world import check_affine

__all__ = ["Parcellation", "check_regions", "region_centres"]


@dataclass(frozen=True, eq=False)
class Parcellation:
    """Voxel labels with the table of their regions.

    Attributes
    ----------
    labels : (x, y, z) int32
        Region indices; 0 is no region.
    affine : (4, 4) float
        Voxel index to RAS+ mm of `space`.
    regions : tuple of Region
        Every label in the volume has a region; a region may have no voxel.
    space : str
        Name of the space, for example "MNI152NLin2009aSym" or "T1w".

    Raises
    ------
    ValueError
        When a label has no region, indices or names repeat, or partners do not point at
        each other.
    """

    labels: Int32[np.ndarray, " x y z"]
    affine: Affine
    regions: tuple[Region, ...]
    space: str

    def __post_init__(self) -> None:
        """Check that labels, names and partners belong together."""
        check_affine(self.affine)
        check_regions(self.regions)
        known = {0, *(region.index for region in self.regions)}
        unknown = sorted({int(label) for label in np.unique(self.labels)} - known)
        if unknown:
            msg = f"every label must have a region, got {unknown[:5]} without; complete the table"
            raise ValueError(msg)

    def region(self, name: str) -> Region:
        """Look a region up by name.

        Raises
        ------
        KeyError
            When no region has that name.
        """
        for region in self.regions:
            if region.name == name:
                return region
        msg = f"region must be one of {len(self.regions)} names such as 'L_V1', got {name!r}"
        raise KeyError(msg)

    def moved(self, target_from_source: Affine, *, space: str) -> "Parcellation":
        """Give the same labels a place in another space (an affine map; nothing is resampled).

        Parameters
        ----------
        target_from_source : (4, 4) float
            RAS+ mm of the present space to RAS+ mm of `space`.
        space : str
            Name of the new space.

        Returns
        -------
        Parcellation
            The labels unchanged, with the affine of the new space.
        """
        check_affine(target_from_source)
        return replace(self, affine=target_from_source @ self.affine, space=space)


def check_regions(regions: tuple[Region, ...]) -> None:
    """Refuse regions that contradict each other.

    Raises
    ------
    ValueError
        When indices or names repeat, an index is below 1, or partners do not point at each other.
    """
    by_name = {region.name: region for region in regions}
    for what in ("name", "index"):
        counts = Counter(getattr(region, what) for region in regions)
        if twice := [value for value, count in counts.items() if count > 1]:
            msg = (
                f"names and indices of regions must be unique, got the {what} {twice[0]!r} "
                f"{counts[twice[0]]} times; tell the regions apart, for example by their side"
            )
            raise ValueError(msg)
    for region in regions:
        if region.index < 1:
            msg = f"indices must be 1 or more (0 is no region), got {region.index}; renumber"
            raise ValueError(msg)
        if region.partner is None:
            continue
        partner = by_name.get(region.partner)
        if partner is None or partner.partner != region.name:
            msg = f"partners must point at each other, got {region.name} -> {region.partner}"
            raise ValueError(msg)


def region_centres(parcellation: Parcellation) -> Float[np.ndarray, "regions 3"]:
    """Find the mean place of each region's voxels.

    Parameters
    ----------
    parcellation : Parcellation
        Every region must have a voxel.

    Returns
    -------
    (regions, 3) float
        RAS+ mm of the parcellation's space, in the order of its regions.

    Raises
    ------
    ValueError
        A region has no voxel.
    """
    voxels = np.argwhere(parcellation.labels > 0)
    labels = parcellation.labels[tuple(voxels.T)]
    points = voxels @ parcellation.affine[:3, :3].T + parcellation.affine[:3, 3]
    rows = [region.index for region in parcellation.regions]
    length = max(rows) + 1
    count = np.bincount(labels, minlength=length)[rows]
    if not count.all():
        missing = parcellation.regions[int(np.argmin(count))].name
        msg = f"every region must have a voxel, {missing} has none; take a finer grid"
        raise ValueError(msg)
    sums = [np.bincount(labels, weights=axis, minlength=length)[rows] for axis in points.T]
    return np.stack(sums, axis=1) / count[:, None]
