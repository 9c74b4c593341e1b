"""The size that all pictures of a folder have."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np

from hemitwin._names import Plane
from hemitwin.pipeline.slices.config import SliceConfig
from hemitwin.pipeline.stage.bids import Case
from hemitwin.pipeline.stage.errors import UserError, reason_of
from hemitwin.transforms import SliceGrid, load_geometry

__all__ = ["PictureSize"]

_AXES: Mapping[Plane, tuple[int, int]] = {
    "axial": (1, 0),
    "coronal": (2, 0),
    "sagittal": (2, 1),
}
"""World axes along rows and columns."""


@dataclass(frozen=True)
class PictureSize:
    """Pixels of whole slices, the same for every subject of a folder.

    Parameters
    ----------
    pixel_mm : float
        Edge of a pixel: template mm of prepared volumes, the subject's own mm of native scans.
    shapes : mapping of str to (2,) int
        Rows and columns of a whole slice, by plane.
    centre_mm : (3,) float
        Template RAS+ mm of the pictures' middle: that of the prepared field of view.
    """

    pixel_mm: float
    shapes: Mapping[Plane, tuple[int, int]]
    centre_mm: tuple[float, float, float]

    @classmethod
    def of(cls, cases: Sequence[Case], config: SliceConfig) -> "PictureSize":
        """Settle it by the first prepared volume that can be read.

        Raises
        ------
        UserError
            None can be read.
        """
        reason = ""
        for case in cases:
            try:
                shape, affine = load_geometry(case.scan)
            except (OSError, ValueError) as error:  # the case's own failure, where it is cut
                reason = reason_of(error)
                continue
            return cls._for(np.array(shape), affine, config)
        msg = f"a prepared volume must be readable, but none is; prepare again ({reason})"
        raise UserError(msg)

    @classmethod
    def _for(cls, shape: np.ndarray, affine: np.ndarray, config: SliceConfig) -> "PictureSize":
        voxels_mm = np.abs(affine[:3, :3]).sum(axis=1)
        field_mm = np.abs(affine[:3, :3]) @ shape
        x, y, z = (affine @ [*((shape - 1) / 2), 1])[:3].tolist()
        as_it_is = config.source == "prepared" and config.spacing_mm is None
        pixel_mm = float(voxels_mm[0]) if as_it_is else config.native_mm
        counts = np.rint(field_mm / pixel_mm).astype(int).tolist()
        if not as_it_is:  # even, so that the mid-plane lies between two columns
            counts = [2 * math.ceil(length / pixel_mm / 2 - 1e-6) for length in field_mm.tolist()]
        shapes: dict[Plane, tuple[int, int]] = {}
        for plane in get_args(Plane):
            rows, columns = (counts[axis] for axis in _AXES[plane])
            shapes[plane] = (config.pixels or rows, config.pixels or columns)
        return cls(round(pixel_mm, 6), shapes, (x, y, z))

    def grid(self, plane: Plane, mm_per_template_mm: float) -> SliceGrid:
        """Return a plane's pixels in template mm, for a subject of this scale."""
        pixel_mm = self.pixel_mm / mm_per_template_mm
        return SliceGrid(plane, self.shapes[plane], pixel_mm, self.centre_mm)

    def described(self, config: SliceConfig) -> dict[str, object]:
        """Say it for the folder's settings: rows and columns of what is written."""
        size_px = {}
        for plane in config.planes:
            rows, columns = self.shapes[plane]
            halved = config.part == "hemisphere" and plane != "sagittal"
            size_px[plane] = [rows, columns // 2 if halved else columns]
        return {"pixel_mm": self.pixel_mm, "size_px": size_px}
