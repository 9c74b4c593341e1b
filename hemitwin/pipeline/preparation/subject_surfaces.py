"""A subject's own cortical surfaces, where the source has them."""

import logging
import os
from pathlib import Path

import numpy as np

from hemitwin.atlases import load_surface
from hemitwin.pipeline.stage.bids import Case
from hemitwin.transforms import Scan

__all__ = ["checked_surfaces"]

logger = logging.getLogger(__name__)

_FSLR_VERTICES = 32_492
_LEAST_INSIDE = 0.99


def checked_surfaces(case: Case, scan: Scan, folder: Path) -> dict[str, str] | None:
    """Check a case's surfaces against its scan, for the prepared volume's sidecar.

    Parameters
    ----------
    case : Case
        With its `surfaces`, left and right.
    scan : Scan
        The scan they belong to.
    folder : Path
        Where the sidecar will lie.

    Returns
    -------
    dict of str to str or None
        By side, the path from `folder`. `None` where there are none, or one is damaged, of the
        wrong side or size, or does not lie in the scan; a warning says which.
    """
    if not case.surfaces:
        return None
    voxel_from_world = np.linalg.inv(scan.affine)
    for path, side in zip(case.surfaces, "LR", strict=True):
        try:
            vertices = load_surface(path, side).vertices
        except ValueError as error:
            logger.warning("%s: its surfaces are left out: %s", case.name, error)
            return None
        voxels = vertices @ voxel_from_world[:3, :3].T + voxel_from_world[:3, 3]
        inside = float(((voxels >= 0) & (voxels < scan.data.shape)).all(axis=1).mean())
        if len(vertices) != _FSLR_VERTICES or inside < _LEAST_INSIDE:
            logger.warning(
                "%s: its surfaces are left out: %s must have %d vertices that lie in the scan, "
                "got %d, of which %.0f %% do",
                case.name,
                path.name,
                _FSLR_VERTICES,
                len(vertices),
                100 * inside,
            )
            return None
    start = folder.resolve()
    return {
        side: os.path.relpath(path.resolve(), start)
        for path, side in zip(case.surfaces, "LR", strict=True)
    }
