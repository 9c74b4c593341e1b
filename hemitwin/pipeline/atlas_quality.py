"""How well a subject's own regions fit the subject's own tissue."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Int
from scipy import ndimage

from hemitwin.atlases import Parcellation, hcpmmp_volume
from hemitwin.pipeline.bids import Modality
from hemitwin.transforms import Deformation, Scan, grey_matter_limits

__all__ = ["AtlasQuality"]

_SMALL = 10
_REACH = 2
_CORTICAL_AREAS = 360


@dataclass(frozen=True)
class AtlasQuality:
    """Figures of one subject's regions.

    Parameters
    ----------
    grey_matter_overlap, overlap_before : float
        Dice of the cortical regions with the subject's grey matter (a class of brightness) within
        4 mm of them; and of the template's regions, not deformed.
    least_jacobian, largest_jacobian, folded_share : float
        Of the deformation over its whole grid; what is folded has a Jacobian of 0 or less.
    median_shift_mm : float
        How far the deformation moves the grid's voxels beyond the similarity.
    correlation_of_sides : float
        Of the native volumes of left and right regions.
    small : tuple of str
        Regions of fewer than ten voxels of the scan.
    """

    grey_matter_overlap: float
    overlap_before: float
    least_jacobian: float
    largest_jacobian: float
    folded_share: float
    median_shift_mm: float
    correlation_of_sides: float
    small: tuple[str, ...]

    @classmethod
    def of(
        cls,
        prepared: Scan,
        own: Parcellation,
        native: Parcellation,
        deformation: Deformation,
        modality: Modality,
    ) -> "AtlasQuality":
        """Measure them.

        Parameters
        ----------
        prepared : Scan
            The prepared volume.
        own : Parcellation
            The subject's regions on its grid.
        native : Parcellation
            And on the scan's own.
        deformation : Deformation
            Brain to template.
        modality : {'T1w', 'T2w', 'FLAIR'}
            Of the prepared volume: which brightness is grey matter.
        """
        inside = prepared.data != 0
        low, high = grey_matter_limits(prepared.data, inside, modality)
        grey = inside & (prepared.data > low) & (prepared.data <= high)
        before = hcpmmp_volume(prepared.data.shape, prepared.affine, cache_dir=None)
        jacobian = deformation.jacobian()
        moved = deformation.shift_mm.any(axis=-1)
        counts = np.bincount(native.labels.ravel(), minlength=len(native.regions) + 1)
        return cls(
            grey_matter_overlap=_overlap(own.labels, grey),
            overlap_before=_overlap(before.labels, grey),
            least_jacobian=float(jacobian.min()),
            largest_jacobian=float(jacobian.max()),
            folded_share=float((jacobian <= 0).mean()),
            median_shift_mm=float(np.median(np.linalg.norm(deformation.shift_mm[moved], axis=-1))),
            correlation_of_sides=_correlation(native, counts),
            small=tuple(r.name for r in native.regions if counts[r.index] < _SMALL),
        )

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "AtlasQuality":
        """Read them from a sidecar."""
        return cls(**{**content, "small": tuple(content["small"])})

    def to_dict(self) -> dict[str, Any]:
        """Write them for a sidecar."""
        return {**asdict(self), "small": list(self.small)}


def _overlap(labels: Int[np.ndarray, " x y z"], grey: np.ndarray) -> float:
    cortex = (labels > 0) & (labels <= _CORTICAL_AREAS)
    near = ndimage.binary_dilation(cortex, iterations=_REACH)
    both = (cortex & grey).sum()
    return float(2 * both / max(1, cortex.sum() + (grey & near).sum()))


def _correlation(native: Parcellation, counts: Int[np.ndarray, " labels"]) -> float:
    index = {region.name: region.index for region in native.regions}
    pairs = [
        (region.index, index[region.partner])
        for region in native.regions
        if region.hemisphere == "L" and region.partner is not None
    ]
    left, right = (counts[list(side)] for side in zip(*pairs, strict=True))
    return float(np.corrcoef(left, right)[0, 1])
