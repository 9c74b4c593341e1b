"""The template registered to a prepared brain, with what is kept out of it."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from scipy import ndimage

from hemitwin._shapes import Affine, Grid, Mask
from hemitwin.atlases import template_grid, template_on_grid
from hemitwin.transforms import Deformation, Scan, load_mask, register_deformation, resample

__all__ = ["LesionMask", "register_subject"]

_WORKING_MM = 2.0
_TISSUE, _CLOSING = 0.5, 3


@dataclass(frozen=True, eq=False)
class LesionMask:
    """Where a brain has no counterpart in the template.

    Parameters
    ----------
    path : Path
        The mask; read when it is first needed.
    scan_from_template : (4, 4) float
        Template RAS+ mm to the mask's own.
    beside : Scan, optional
        The grid of the scan that it comes with.
    """

    path: Path
    scan_from_template: Affine
    beside: Scan | None = None

    @cached_property
    def scan(self) -> Scan:
        """The mask as a volume."""
        return load_mask(self.path, beside=self.beside)


def register_subject(prepared: Scan, lesion: LesionMask | None) -> Deformation:
    """Register the template to a prepared brain, at 2 mm or on its own coarser grid.

    Parameters
    ----------
    prepared : Scan
        The prepared volume.
    lesion : LesionMask or None
        What pulls nowhere.
    """
    shape, affine = prepared.data.shape, prepared.affine
    brain = prepared.data
    if abs(affine[0, 0]) < _WORKING_MM:
        shape, affine = template_grid(_WORKING_MM)
        brain = resample(prepared, shape, affine, np.eye(4))
    hidden: Mask | None = None
    if lesion is not None:
        there = lesion.scan_from_template
        hidden = resample(lesion.scan, shape, affine, there, order=0) > 0.5
    return register_deformation(brain, _template(shape, affine), affine, lesion=hidden)


def _template(shape: tuple[int, int, int], affine: Affine) -> Grid:
    """Return the template without the fluid around it, which stripped scans do not have."""
    image, grey, white = (
        template_on_grid(shape, affine, kind=kind) for kind in ("T1w", "gm", "wm")
    )
    tissue = ndimage.binary_opening(grey + white > _TISSUE)
    inside = ndimage.binary_fill_holes(ndimage.binary_closing(tissue, iterations=_CLOSING))
    return np.where(inside, image, np.float32(0))
