"""How well a subject's own regions fit the subject's own tissue."""

from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int
from scipy import ndimage

from hemitwin._shapes import Mask
from hemitwin.atlases import Atlas, Parcellation
from hemitwin.pipeline.stage.bids import Modality
from hemitwin.transforms import Deformation, Scan, grey_matter_limits

__all__ = ["AtlasQuality", "fit_by_region"]

_SMALL = 10
_REACH = 2
_LEAST_PAIRS = 3


@dataclass(frozen=True)
class AtlasQuality:
    """Figures of one subject's regions.

    Parameters
    ----------
    grey_matter_overlap, overlap_before : float
        Dice of the cortical regions with the subject's grey matter (a class of brightness) within
        4 mm of them; and of the template's regions, not deformed.
    least_jacobian, largest_jacobian, folded_share : float or None
        Of the deformation over its whole grid; what is folded has a Jacobian of 0 or less. None,
        as the other figures about a deformation, where the subject's surfaces made one needless.
    median_shift_mm : float or None
        How far the deformation moves the grid's voxels beyond the similarity.
    correlation_of_sides : float or None
        Of the native volumes of left and right regions; None of an atlas without pairs.
    small : tuple of str
        Regions of fewer than ten voxels of the scan.
    """

    grey_matter_overlap: float
    overlap_before: float | None
    least_jacobian: float | None
    largest_jacobian: float | None
    folded_share: float | None
    median_shift_mm: float | None
    correlation_of_sides: float | None
    small: tuple[str, ...]

    @classmethod
    def of(
        cls,
        prepared: Scan,
        own: Parcellation,
        native: Parcellation,
        by_template: tuple[Atlas, Deformation] | None,
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
        by_template : (Atlas, Deformation) or None
            The atlas and what brought it there; None for regions from the subject's surfaces.
        modality : {'T1w', 'T2w', 'FLAIR'}
            Of the prepared volume: which brightness is grey matter.
        """
        grey = _grey_matter(prepared, modality)
        cortical = _cortical(own)
        counts = _counts(native)
        overlap = partial(_overlap, cortical=cortical, grey=grey)
        before, jacobian, shift = None, None, None
        if by_template is not None:
            atlas, deformation = by_template
            before = overlap(atlas.volume(prepared.data.shape, prepared.affine).labels)
            jacobian = deformation.jacobian()
            lengths = np.linalg.norm(deformation.shift_mm, axis=-1)
            shift = float(np.median(lengths[lengths > 0]))
        return cls(
            grey_matter_overlap=overlap(own.labels),
            overlap_before=before,
            least_jacobian=None if jacobian is None else float(jacobian.min()),
            largest_jacobian=None if jacobian is None else float(jacobian.max()),
            folded_share=None if jacobian is None else float((jacobian <= 0).mean()),
            median_shift_mm=shift,
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


def fit_by_region(
    prepared: Scan, own: Parcellation, native: Parcellation, modality: Modality
) -> pd.DataFrame:
    """Say of each region how well the scan covers it.

    Parameters
    ----------
    prepared, own, native, modality
        As for `AtlasQuality.of`.

    Returns
    -------
    DataFrame
        index, name; n_voxels and volume_mm3 on the scan's own grid; grey_share, the share of the
        region's prepared voxels that has the brightness of grey matter; few, whether it has fewer
        than ten voxels of the scan.
    """
    counts = _counts(native)
    size = abs(np.linalg.det(native.affine[:3, :3]))
    grey = _grey_matter(prepared, modality)
    whole, part = _counts(own), np.bincount(own.labels[grey], minlength=len(_counts(own)))
    rows = [
        {
            "index": region.index,
            "name": region.name,
            "n_voxels": int(counts[region.index]),
            "volume_mm3": float(counts[region.index] * size),
            "grey_share": float(part[region.index] / whole[region.index])
            if whole[region.index]
            else np.nan,
            "few": bool(counts[region.index] < _SMALL),
        }
        for region in native.regions
    ]
    return pd.DataFrame(rows)


def _grey_matter(prepared: Scan, modality: Modality) -> Mask:
    inside = prepared.data != 0
    low, high = grey_matter_limits(prepared.data, inside, modality)
    grey: np.ndarray = inside & (prepared.data > low) & (prepared.data <= high)
    return grey


def _counts(parcels: Parcellation) -> Int[np.ndarray, " labels"]:
    length = max(region.index for region in parcels.regions) + 1
    return np.bincount(parcels.labels.ravel(), minlength=length)


def _cortical(parcels: Parcellation) -> Bool[np.ndarray, " labels"]:
    """Tell the labels of cortex; all of an atlas that names no cortex."""
    chosen = [one.index for one in parcels.regions if one.cortex is not None]
    found = np.zeros(len(_counts(parcels)), dtype=bool)
    found[chosen or [one.index for one in parcels.regions]] = True
    return found


def _overlap(
    labels: Int[np.ndarray, " x y z"], cortical: Bool[np.ndarray, " labels"], grey: Mask
) -> float:
    cortex = cortical[labels]
    near = ndimage.binary_dilation(cortex, iterations=_REACH)
    both = (cortex & grey).sum()
    return float(2 * both / max(1, cortex.sum() + (grey & near).sum()))


def _correlation(native: Parcellation, counts: Int[np.ndarray, " labels"]) -> float | None:
    index = {region.name: region.index for region in native.regions}
    pairs = [
        (region.index, index[region.partner])
        for region in native.regions
        if region.hemisphere == "L" and region.partner is not None
    ]
    if len(pairs) < _LEAST_PAIRS:
        return None
    left, right = (counts[list(side)] for side in zip(*pairs, strict=True))
    return float(np.corrcoef(left, right)[0, 1])
