"""The objects of which a Workbench scene is made, from the session down to an overlay.

Workbench has no command that makes a scene; the names below are those its own files use, and are
checked by rendering.
"""

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

from hemitwin.atlases._scene_xml import (
    array,
    group,
    group_array,
    group_map,
    item,
    value_map,
)
from hemitwin.atlases.workbench_files import DataFile
from hemitwin.atlases.workbench_views import (
    Overlay,
    SurfaceMontage,
    View,
    VolumeSlices,
    WholeBrain,
)

__all__ = ["gui_manager"]

_STRUCTURES = {"L": "CORTEX_LEFT", "R": "CORTEX_RIGHT", None: "ALL"}
_WINDOW = (1200.0, 900.0)


def gui_manager(scene: View, folder: Path) -> ET.Element:
    """Build the whole state of Workbench for one scene; paths are relative to `folder`."""
    session = group(
        "SessionManager",
        "m_sessionManager",
        group_array("m_brains", [_brain(scene, folder)]),
        group_array("m_browserTabs", [_tab(scene)]),
        group_map("browserWindowContentMap", {0: _window()}),
    )
    # Rendering ignores it; wb_view needs it to put the tab into its window's toolbar.
    window = group(
        "BrainBrowserWindow",
        "m_brainBrowserWindows",
        item("integer", "m_browserWindowIndex", 0),
        group(
            "BrainBrowserWindowToolBar",
            "m_toolbar",
            array("integer", "tabIndices", [0]),
            item("integer", "selectedTabIndex", 0),
            item("boolean", "toolBarVisible", True),
        ),
        version=2,
    )
    return group(
        "GuiManager", "guiManager", session, group_array("m_brainBrowserWindows", [window])
    )


def _model_type(scene: View) -> str:
    kinds = {SurfaceMontage: "SURFACE_MONTAGE", VolumeSlices: "VOLUME_SLICES"}
    return f"MODEL_TYPE_{kinds.get(type(scene), 'WHOLE_BRAIN')}"


def _brain(scene: View, folder: Path) -> ET.Element:
    overlays = _overlay_set("m_overlaySet", scene.overlays, folder)
    if isinstance(scene, SurfaceMontage):
        content = _montage(scene, overlays)
    else:
        overlays.set("Name", "overlaySet")
        model = group("OverlaySet", "modelOverlay[0]", item("integer", "tabIndex", 0), overlays)
        content = [group_array("m_overlaySet", [model])]
    if isinstance(scene, WholeBrain):
        content.append(value_map("enumeratedType", "m_selectedSurfaceType", {0: "ANATOMICAL"}))
    model_type = item("enumeratedType", "m_modelType", _model_type(scene))
    return group(
        "Brain",
        "m_brains",
        _spec_file(scene.files, folder),
        group_array("models", [group("Model", "models", model_type, *content)]),
        # Workbench crashes when this list is missing, even if it is empty.
        group_array("m_brainStructures", []),
    )


def _spec_file(files: Sequence[DataFile], folder: Path) -> ET.Element:
    entries = [
        group(
            "SpecFileDataFile",
            "specFileDataFile",
            item("enumeratedType", "dataFileType", file.type),
            item("enumeratedType", "structure", _STRUCTURES[file.hemisphere]),
            item("pathName", "fileName", file.relative_to(folder)),
            item("boolean", "selected", True),
        )
        for file in files
    ]
    return group(
        "SpecFile",
        "specFile",
        item("pathName", "specFileName", ""),
        group_array("dataFilesArray", entries),
    )


def _overlay_set(name: str, overlays: Sequence[Overlay], folder: Path) -> ET.Element:
    layers = [
        group(
            "Overlay",
            "m_overlays",
            item("float", "m_opacity", overlay.opacity),
            item("boolean", "m_enabled", True),
            item("enumeratedType", "m_mapYokingGroup", "MAP_YOKING_GROUP_OFF"),
            item("pathName", "selectedMapFileNameWithPath", overlay.file.relative_to(folder)),
            item("string", "selectedMapFile", overlay.file.path.name),
            item("string", "selectedMapName", ""),
            item("integer", "selectedMapIndex", 0),
        )
        for overlay in overlays
    ]
    return group(
        "OverlaySet",
        name,
        item("integer", "m_numberOfDisplayedOverlays", len(overlays)),
        group_array("m_overlays", layers),
    )


def _montage(scene: SurfaceMontage, overlays: ET.Element) -> list[ET.Element]:
    surfaces = [
        group(
            "SurfaceSelectionModel",
            f"m_{side}{order}SurfaceSelectionModel",
            item("string", "m_selectedSurface", file.path.name),
        )
        for order in ("First", "Second")
        for side, file in (("left", scene.left), ("right", scene.right))
    ]
    shown = {"left": True, "right": True, "firstSurface": True, "secondSurface": False}
    shown |= {"lateral": True, "medial": True}
    cerebral = group(
        "SurfaceMontageConfigurationCerebral",
        "m_cerebralConfiguration[0]",
        item("enumeratedType", "m_layoutOrientation", "LANDSCAPE_LAYOUT_ORIENTATION"),
        overlays,
        *surfaces,
        *(item("boolean", f"m_{what}Enabled", on) for what, on in shown.items()),
    )
    return [
        item("integer", "montageVersion", 3),
        group_map("m_cerebellarConfiguration", {}),
        group_map("m_cerebralConfiguration", {0: cerebral}),
        group_map("m_flatMapsConfiguration", {}),
        value_map(
            "enumeratedType", "m_selectedConfigurationType", {0: "CEREBRAL_CORTEX_CONFIGURATION"}
        ),
    ]


def _tab(scene: View) -> ET.Element:
    slices = [] if isinstance(scene, SurfaceMontage) else [_slice_settings(scene)]
    return group(
        "BrowserTabContent",
        "m_browserTab",
        item("integer", "m_tabNumber", 0),
        item("string", "m_userName", ""),
        item("enumeratedType", "m_selectedModelType", _model_type(scene)),
        *slices,
        item("boolean", "m_lightingEnabled", True),
        item("enumeratedType", "m_brainModelYokingGroup", "YOKING_GROUP_OFF"),
        item("enumeratedType", "m_chartModelYokingGroup", "YOKING_GROUP_OFF"),
        version=7,
    )


def _slice_settings(scene: VolumeSlices | WholeBrain) -> ET.Element:
    plane, montage = ("ALL", None)
    if isinstance(scene, VolumeSlices):
        plane, montage = scene.plane, scene.montage
    rows, columns, spacing = montage or (1, 1, 5)
    drawing = "MONTAGE" if montage else "SINGLE"
    enums = {
        "m_sliceViewPlane": plane,
        "m_slicePlanesAllViewLayout": "GRID_LAYOUT",
        "m_sliceDrawingType": f"VOLUME_SLICE_DRAW_{drawing}",
        "m_sliceProjectionType": "VOLUME_SLICE_PROJECTION_ORTHOGONAL",
    }
    axes = ("Parasagittal", "Coronal", "Axial")
    return group(
        "VolumeSliceSettings",
        "m_volumeSliceSettings",
        *(item("enumeratedType", name, value) for name, value in enums.items()),
        item("integer", "m_montageNumberOfRows", rows),
        item("integer", "m_montageNumberOfColumns", columns),
        item("integer", "m_montageSliceSpacing", spacing),
        *(
            item("float", f"m_sliceCoordinate{axis}", float(position))
            for axis, position in zip(axes, scene.position_mm, strict=True)
        ),
        *(item("boolean", f"m_sliceEnabled{axis}", True) for axis in axes),
    )


def _window() -> ET.Element:
    width, height = _WINDOW
    return group(
        "BrowserWindowContent",
        "m_browserWindowContent",
        item("boolean", "m_validFlag", True),
        item("boolean", "m_tileTabsEnabled", False),
        item("float", "m_sceneGraphicsWidth", width),
        item("float", "m_sceneGraphicsHeight", height),
        item("integer", "m_sceneSelectedTabIndex", 0),
        array("integer", "m_sceneTabIndices", [0]),
        version=2,
    )
