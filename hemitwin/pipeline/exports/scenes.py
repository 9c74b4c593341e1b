"""The scenes of one subject."""

import numpy as np

from hemitwin.atlases import DataFile, Overlay, SurfaceMontage, View, VolumeSlices, WholeBrain
from hemitwin.pipeline.exports.material import ExportMaterial
from hemitwin.pipeline.exports.surfaces import ExportedSurfaces
from hemitwin.pipeline.exports.volumes import ExportedVolumes

__all__ = ["subject_scenes"]

_OPACITY = 0.8


def subject_scenes(
    made: ExportMaterial, volumes: ExportedVolumes, surfaces: ExportedSurfaces
) -> tuple[View, ...]:
    """Compose the scenes: cortex, regions, slices through the peak, and the brain as a whole.

    Parameters
    ----------
    made : ExportMaterial
        Of the case.
    volumes, surfaces
        The files that were written.

    Returns
    -------
    tuple of View
        Those over the scan are left out where the scan is nowhere any more.
    """
    left, right = made.shared.inflated
    peak = np.unravel_index(int(np.argmax(made.relevance.data)), made.relevance.data.shape)
    here = made.relevance.affine @ [*(float(index) for index in peak), 1.0]
    anatomy = Overlay(DataFile(made.case.scan))
    scenes: list[View] = [
        SurfaceMontage("relevance on the cortex", left, right, (Overlay(surfaces.dense),)),
        SurfaceMontage("relevance by region", left, right, (Overlay(surfaces.parcels),)),
        VolumeSlices(
            "relevance in template space",
            (Overlay(made.relevance_file, _OPACITY), anatomy),
            position_mm=_triple(here),
        ),
    ]
    if volumes.scan is not None:
        place = _triple(made.native.from_template @ here)
        layers = (Overlay(volumes.relevance, _OPACITY), Overlay(volumes.scan))
        scenes.append(VolumeSlices("relevance over the scan", layers, position_mm=place))
        scenes.append(_whole_brain(surfaces, layers, place, left=bool(here[0] < 0)))
    return tuple(scenes)


def _whole_brain(
    surfaces: ExportedSurfaces,
    layers: tuple[Overlay, ...],
    place: tuple[float, float, float],
    *,
    left: bool,
) -> WholeBrain:
    """Open the side of the peak: two slices through it, before the other side's cortex."""
    far = 1 if left else 0
    sideways = -1.0 if left else 1.0
    return WholeBrain(
        "whole brain",
        (surfaces.midthickness[far],),
        (Overlay(surfaces.metrics[far]), *layers),
        position_mm=place,
        planes=("AXIAL", "CORONAL"),
        seen_from=(sideways, 0.7, 0.6),
    )


def _triple(point: np.ndarray) -> tuple[float, float, float]:
    return float(point[0]), float(point[1]), float(point[2])
