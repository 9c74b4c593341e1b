"""The tab of a scene: what Workbench calls its view, its slices and its perspective."""

import xml.etree.ElementTree as ET

import numpy as np

from hemitwin.atlases._scene_xml import array, group, item
from hemitwin.atlases.workbench_views import SurfaceMontage, View, VolumeSlices, WholeBrain

__all__ = ["browser_tab", "model_type"]

_AXES = ("Parasagittal", "Coronal", "Axial")
# Workbench leaves a margin around slices, which labels need in part, and cuts a turned brain.
_SLICE_SCALING, _WHOLE_BRAIN_SCALING = 1.05, 0.85


def model_type(scene: View) -> str:
    """Name the model that shows a scene."""
    kinds = {SurfaceMontage: "SURFACE_MONTAGE", VolumeSlices: "VOLUME_SLICES"}
    return f"MODEL_TYPE_{kinds.get(type(scene), 'WHOLE_BRAIN')}"


def browser_tab(scene: View) -> ET.Element:
    """Build the tab: which model, through which slices, seen from where and how large."""
    slices = [] if isinstance(scene, SurfaceMontage) else [_slice_settings(scene)]
    montage = isinstance(scene, VolumeSlices) and scene.montage is not None
    return group(
        "BrowserTabContent",
        "m_browserTab",
        item("integer", "m_tabNumber", 0),
        item("string", "m_userName", ""),
        item("enumeratedType", "m_selectedModelType", model_type(scene)),
        *slices,
        *_viewing(scene),
        # Across a montage the lines hide more than they show.
        item("boolean", "m_displayVolumeAxesCrosshairs", not montage),
        item("boolean", "m_lightingEnabled", True),
        item("enumeratedType", "m_brainModelYokingGroup", "YOKING_GROUP_OFF"),
        item("enumeratedType", "m_chartModelYokingGroup", "YOKING_GROUP_OFF"),
        version=7,
    )


def _viewing(scene: View) -> list[ET.Element]:
    """Say from where and how large."""
    if isinstance(scene, SurfaceMontage):
        return []
    if isinstance(scene, VolumeSlices):
        scaling = item("float", "m_scaling", _SLICE_SCALING)
        kind = "ViewingTransformationsVolume"
        return [group(kind, "m_volumeSliceViewingTransformation", scaling)]
    turned = array("float", "m_rotationMatrix", _rotation(scene.seen_from))
    scaling = item("float", "m_scaling", _WHOLE_BRAIN_SCALING)
    return [group("ViewingTransformations", "m_viewingTransformation", scaling, turned)]


def _rotation(seen_from: tuple[float, float, float]) -> list[float]:
    """Turn the world so that this direction points at the viewer, and z is as high as it can."""
    towards = np.array(seen_from) / np.linalg.norm(seen_from)
    right = np.cross((0.0, 0.0, 1.0), towards)
    right /= np.linalg.norm(right)
    whole = np.eye(4)
    whole[:3, :3] = right, np.cross(towards, right), towards
    return [float(value) for value in whole.ravel()]


def _slice_settings(scene: VolumeSlices | WholeBrain) -> ET.Element:
    plane, montage, planes = "ALL", None, set(_AXES)
    if isinstance(scene, VolumeSlices):
        plane, montage = scene.plane, scene.montage
    else:
        planes = {axis for axis in _AXES if axis.upper() in scene.planes}
    rows, columns, spacing = montage or (1, 1, 5)
    drawing = "MONTAGE" if montage else "SINGLE"
    enums = {
        "m_sliceViewPlane": plane,
        "m_slicePlanesAllViewLayout": "GRID_LAYOUT",
        "m_sliceDrawingType": f"VOLUME_SLICE_DRAW_{drawing}",
        "m_sliceProjectionType": "VOLUME_SLICE_PROJECTION_ORTHOGONAL",
    }
    return group(
        "VolumeSliceSettings",
        "m_volumeSliceSettings",
        *(item("enumeratedType", name, value) for name, value in enums.items()),
        item("integer", "m_montageNumberOfRows", rows),
        item("integer", "m_montageNumberOfColumns", columns),
        item("integer", "m_montageSliceSpacing", spacing),
        *(
            item("float", f"m_sliceCoordinate{axis}", float(position))
            for axis, position in zip(_AXES, scene.position_mm, strict=True)
        ),
        *(item("boolean", f"m_sliceEnabled{axis}", axis in planes) for axis in _AXES),
    )
