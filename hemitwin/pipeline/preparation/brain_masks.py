"""The brain in a scan: by the mask that came with it, or found."""

from typing import cast

import numpy as np

from hemitwin._shapes import Mask
from hemitwin.pipeline.stage.bids import Case
from hemitwin.transforms import Scan, brain_mask, load_mask, resample, voxel_sizes

__all__ = ["brain_of", "require_head"]

_FIELD_OF_VIEW_MM = (60.0, 600.0)
_MASK_LITRES = (0.1, 3.0)


def require_head(scan: Scan) -> None:
    """Refuse a scan whose field of view is not 60 to 600 mm along each axis.

    Raises
    ------
    ValueError
        If it is not: most often a wrong unit or voxel size in the header.
    """
    extent = np.array(scan.data.shape) * voxel_sizes(scan.affine)
    low, high = _FIELD_OF_VIEW_MM
    if extent.min() < low or extent.max() > high:
        sizes = " x ".join(f"{length:.3g}" for length in extent)
        msg = (
            f"a head's field of view must be {low:g} to {high:g} mm along each axis, got {sizes} "
            f"mm in {scan.path}; check the voxel sizes in its header"
        )
        raise ValueError(msg)


def brain_of(case: Case, scan: Scan) -> Mask:
    """Return the brain on the scan's grid, from the case's own mask where it has one.

    Raises
    ------
    ValueError
        If no brain is found, or the mask cannot be read, may be mirrored beside the scan, or holds
        less than 0.1 or more than 3 litres of it.
    """
    if case.mask is None:
        return brain_mask(scan)
    given = load_mask(case.mask, beside=scan)
    inside = Scan((given.data > 0).astype(np.float32), given.affine, case.mask)
    shape = cast("tuple[int, int, int]", scan.data.shape)
    mask = np.asarray(resample(inside, shape, scan.affine, np.eye(4)) >= 0.5)
    litres = float(mask.sum()) * abs(float(np.linalg.det(scan.affine[:3, :3]))) / 1e6
    low, high = _MASK_LITRES
    if not low <= litres <= high:
        msg = (
            f"a brain mask must hold {low:g} to {high:g} litres of the scan, got {litres:.3f} in "
            f"{case.mask}; check that it belongs to {scan.path}"
        )
        raise ValueError(msg)
    return mask
