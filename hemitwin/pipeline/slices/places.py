"""Which of a plane's fixed positions are cut, of one subject."""

import numpy as np

from hemitwin._names import Plane
from hemitwin.pipeline.slices.config import SliceConfig
from hemitwin.pipeline.slices.source import SliceSource
from hemitwin.transforms import slice_positions

__all__ = ["places_of", "voxel_plane"]

_NORMAL = {"sagittal": 0, "coronal": 1, "axial": 2}


def places_of(source: SliceSource, plane: Plane, config: SliceConfig) -> tuple[float, ...]:
    """Choose the positions of a subject's slices.

    Parameters
    ----------
    source : SliceSource
        The subject's volumes.
    plane : 'axial', 'coronal' or 'sagittal'
        Orientation.
    config : SliceConfig
        Step, and which of the positions.

    Returns
    -------
    tuple of float
        Template mm, from low to high. Of a sagittal position and its mirror the left one stands
        for both. By the lesion there is one, a plane of voxels, or none where there is no lesion.
    """
    if config.positions == "lesion":
        return _at_the_lesion(source, plane)
    affine = source.prepared.affine
    places = slice_positions(source.brain, affine, plane, config.step_mm)
    if plane == "sagittal":
        places = tuple(place for place in places if place < 0)
    if config.positions == "area":
        least = config.least_area_mm2
        return tuple(place for place in places if _smaller_mm2(source, plane, place) >= least)
    if config.positions == "central":
        low, high = _extent_mm(source, plane)
        middle, reach = (low + high) / 2, config.central_share * (high - low) / 2
        return tuple(place for place in places if abs(place - middle) <= reach)
    return places


def voxel_plane(source: SliceSource, plane: Plane, position_mm: float) -> int:
    """Return the number of the prepared volume's plane that is nearest to a position, from 0."""
    axis, affine = _NORMAL[plane], source.prepared.affine
    index = (position_mm - affine[axis, 3]) / affine[axis, axis]
    return int(np.ceil(round(float(index), 6) - 0.5))


def _smaller_mm2(source: SliceSource, plane: Plane, place: float) -> float:
    """Return the brain's area in a slice; of a sagittal one and its mirror the smaller."""
    both = (place, -place) if plane == "sagittal" else (place,)
    return min(source.brain_mm2(plane, one) for one in both)


def _extent_mm(source: SliceSource, plane: Plane) -> tuple[float, float]:
    """Return from where to where the brain reaches; across the mid-plane equally far."""
    axis, affine = _NORMAL[plane], source.prepared.affine
    seen = np.flatnonzero(source.brain.any(axis=tuple({0, 1, 2} - {axis})))
    ends = sorted((affine[axis, 3] + affine[axis, axis] * seen[[0, -1]]).tolist())
    if plane == "sagittal":
        furthest = max(abs(end) for end in ends)
        return -furthest, furthest
    return ends[0], ends[1]


def _at_the_lesion(source: SliceSource, plane: Plane) -> tuple[float, ...]:
    if source.lesion is None:
        return ()
    axis, affine = _NORMAL[plane], source.lesion.affine
    areas = source.lesion.data.sum(axis=tuple({0, 1, 2} - {axis}))
    if not areas.max() > 0:
        return ()
    position = float(affine[axis, 3] + affine[axis, axis] * int(areas.argmax()))
    return (-abs(position) if plane == "sagittal" else position,)
