"""The objects of which a Workbench scene is made, from the session down to an overlay.

Workbench has no command that makes a scene; the names below are those its own files use, and are
checked by rendering.
"""

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

from hemitwin.atlases._scene_tab import browser_tab, model_type
from hemitwin.atlases._scene_xml import array, group, group_array, group_map, item, value_map
from hemitwin.atlases.workbench_files import DataFile
from hemitwin.atlases.workbench_views import Overlay, SurfaceMontage, View, WholeBrain

__all__ = ["gui_manager"]

_STRUCTURES = {"L": "CORTEX_LEFT", "R": "CORTEX_RIGHT", None: "ALL"}
_WINDOW = (1200.0, 900.0)


def gui_manager(scene: View, folder: Path) -> ET.Element:
    """Build the whole state of Workbench for one scene; paths are relative to `folder`."""
    session = group(
        "SessionManager",
        "m_sessionManager",
        group_array("m_brains", [_brain(scene, folder)]),
        group_array("m_browserTabs", [browser_tab(scene)]),
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
    shown_by = item("enumeratedType", "m_modelType", model_type(scene))
    return group(
        "Brain",
        "m_brains",
        _spec_file(scene.files, folder),
        group_array("models", [group("Model", "models", shown_by, *content)]),
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
    cerebral, flat = {0: _cerebral(scene, overlays)}, {}
    if scene.flat:
        cerebral, flat = {}, {0: _flat_maps(scene, overlays)}
    chosen = "FLAT_CONFIGURATION" if scene.flat else "CEREBRAL_CORTEX_CONFIGURATION"
    return [
        item("integer", "montageVersion", 3),
        group_map("m_cerebellarConfiguration", {}),
        group_map("m_cerebralConfiguration", cerebral),
        group_map("m_flatMapsConfiguration", flat),
        value_map("enumeratedType", "m_selectedConfigurationType", {0: chosen}),
    ]


def _cerebral(scene: SurfaceMontage, overlays: ET.Element) -> ET.Element:
    surfaces = [
        _selected(f"m_{side}{order}SurfaceSelectionModel", file)
        for order in ("First", "Second")
        for side, file in (("left", scene.left), ("right", scene.right))
    ]
    shown = {"left": True, "right": True, "firstSurface": True, "secondSurface": False}
    shown |= {"lateral": True, "medial": True}
    return group(
        "SurfaceMontageConfigurationCerebral",
        "m_cerebralConfiguration[0]",
        item("enumeratedType", "m_layoutOrientation", "LANDSCAPE_LAYOUT_ORIENTATION"),
        overlays,
        *surfaces,
        *(item("boolean", f"m_{what}Enabled", on) for what, on in shown.items()),
    )


def _flat_maps(scene: SurfaceMontage, overlays: ET.Element) -> ET.Element:
    shown = {"left": True, "right": True, "cerebellum": False}
    return group(
        "SurfaceMontageConfigurationFlatMaps",
        "m_flatMapsConfiguration[0]",
        overlays,
        _selected("m_leftSurfaceSelectionModel", scene.left),
        _selected("m_rightSurfaceSelectionModel", scene.right),
        *(item("boolean", f"m_{what}Enabled", on) for what, on in shown.items()),
    )


def _selected(name: str, file: DataFile) -> ET.Element:
    chosen = item("string", "m_selectedSurface", file.path.name)
    return group("SurfaceSelectionModel", name, chosen)


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
