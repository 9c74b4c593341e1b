"""Scenes, which `wb_view` shows as soon as it opens, and specs, the files that it offers to open.

Workbench has no command that makes a scene; the names below are those its own files use, and are
checked by rendering with `wb_command -show-scene`.
"""

import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from hemitwin._atomic import atomic_path
from hemitwin.atlases.workbench.views import (
    DataFile,
    Overlay,
    SurfaceMontage,
    View,
    VolumeSlices,
    WholeBrain,
)

__all__ = ["write_scene", "write_spec"]

_SPEC_STRUCTURES = {"L": "CortexLeft", "R": "CortexRight", None: "Invalid"}
_SCENE_STRUCTURES = {"L": "CORTEX_LEFT", "R": "CORTEX_RIGHT", None: "ALL"}
_WINDOW = (1200.0, 900.0)
_AXES = ("Parasagittal", "Coronal", "Axial")
# Workbench leaves a margin around slices, which labels need in part, and cuts a turned brain.
_SLICE_SCALING, _WHOLE_BRAIN_SCALING = 1.05, 0.85
Value = str | int | float | bool


def write_scene(path: Path, scenes: Sequence[View]) -> None:
    """Write a Workbench scene file with relative paths.

    Show it with `wb_view`, or render it with `wb_command -show-scene FILE NAME out.png 1200 900`.

    Parameters
    ----------
    path : Path
        Ends in `.scene`.
    scenes : sequence of SurfaceMontage, VolumeSlices or WholeBrain
        Their names must differ.

    Raises
    ------
    FileNotFoundError
        When a scene's file is not there: Workbench would render the rest and report success.
    ValueError
        When two scenes share a name, or the file's name does not end in `.scene`.
    """
    names = [scene.name for scene in scenes]
    if path.suffix != ".scene" or not names or len(set(names)) < len(names):
        msg = f"a .scene file needs scenes with different names, got {path.name} with {names}"
        raise ValueError(msg)
    for file in (file for scene in scenes for file in scene.files):
        if not file.path.is_file():
            msg = f"every file of a scene must exist, not found: {file.path}; write it first"
            raise FileNotFoundError(msg)
    root = ET.Element("SceneFile", Version="3")
    ET.SubElement(root, "MetaData")
    directory = ET.SubElement(root, "SceneInfoDirectory")
    for index, scene in enumerate(scenes):
        _describe(ET.SubElement(directory, "SceneInfo", Index=str(index)), scene.name)
    for index, scene in enumerate(scenes):
        element = ET.SubElement(root, "Scene", Index=str(index), Type="SCENE_TYPE_FULL")
        _describe(element, scene.name)
        element.append(_gui_manager(scene, path.parent))
    ET.indent(root)
    with atomic_path(path) as temporary:
        ET.ElementTree(root).write(temporary, encoding="UTF-8", xml_declaration=True)


def _describe(element: ET.Element, name: str) -> None:
    ET.SubElement(element, "Name").text = name
    ET.SubElement(element, "Description").text = ""


def write_spec(path: Path, files: Sequence[DataFile]) -> None:
    """Write a Workbench spec file with relative paths.

    Parameters
    ----------
    path : Path
        Ends in `.spec`.
    files : sequence of DataFile
        All selected, in this order.

    Raises
    ------
    FileNotFoundError
        When a file is not there: Workbench would open the rest without a word.
    ValueError
        When the name does not end in `.spec`.
    """
    if path.suffix != ".spec":
        msg = f"a spec file's name must end in .spec, got {path.name}; rename it"
        raise ValueError(msg)
    root = ET.Element("CaretSpecFile", Version="1.0")
    ET.SubElement(root, "MetaData")
    for file in files:
        if not file.path.is_file():
            msg = f"every file of a spec must exist, not found: {file.path}; write it first"
            raise FileNotFoundError(msg)
        ET.SubElement(
            root,
            "DataFile",
            Structure=_SPEC_STRUCTURES[file.hemisphere],
            DataFileType=file.type,
            Selected="true",
        ).text = file.relative_to(path.parent)
    ET.indent(root)
    with atomic_path(path) as temporary:
        ET.ElementTree(root).write(temporary, encoding="UTF-8", xml_declaration=True)


def _gui_manager(scene: View, folder: Path) -> ET.Element:
    """Build the whole state of Workbench for one scene; paths are relative to `folder`."""
    session = _group(
        "SessionManager",
        "m_sessionManager",
        _group_array("m_brains", [_brain(scene, folder)]),
        _group_array("m_browserTabs", [_browser_tab(scene)]),
        _group_map("browserWindowContentMap", {0: _window()}),
    )
    # Rendering ignores it; wb_view needs it to put the tab into its window's toolbar.
    window = _group(
        "BrainBrowserWindow",
        "m_brainBrowserWindows",
        _item("integer", "m_browserWindowIndex", 0),
        _group(
            "BrainBrowserWindowToolBar",
            "m_toolbar",
            _array("integer", "tabIndices", [0]),
            _item("integer", "selectedTabIndex", 0),
            _item("boolean", "toolBarVisible", True),
        ),
        version=2,
    )
    return _group(
        "GuiManager", "guiManager", session, _group_array("m_brainBrowserWindows", [window])
    )


def _brain(scene: View, folder: Path) -> ET.Element:
    overlays = _overlay_set("m_overlaySet", scene.overlays, folder)
    if isinstance(scene, SurfaceMontage):
        content = _montage(scene, overlays)
    else:
        overlays.set("Name", "overlaySet")
        model = _group("OverlaySet", "modelOverlay[0]", _item("integer", "tabIndex", 0), overlays)
        content = [_group_array("m_overlaySet", [model])]
    if isinstance(scene, WholeBrain):
        content.append(_value_map("enumeratedType", "m_selectedSurfaceType", {0: "ANATOMICAL"}))
    shown_by = _item("enumeratedType", "m_modelType", _model_type(scene))
    return _group(
        "Brain",
        "m_brains",
        _spec_file(scene.files, folder),
        _group_array("models", [_group("Model", "models", shown_by, *content)]),
        # Workbench crashes when this list is missing, even if it is empty.
        _group_array("m_brainStructures", []),
    )


def _spec_file(files: Sequence[DataFile], folder: Path) -> ET.Element:
    entries = [
        _group(
            "SpecFileDataFile",
            "specFileDataFile",
            _item("enumeratedType", "dataFileType", file.type),
            _item("enumeratedType", "structure", _SCENE_STRUCTURES[file.hemisphere]),
            _item("pathName", "fileName", file.relative_to(folder)),
            _item("boolean", "selected", True),
        )
        for file in files
    ]
    return _group(
        "SpecFile",
        "specFile",
        _item("pathName", "specFileName", ""),
        _group_array("dataFilesArray", entries),
    )


def _overlay_set(name: str, overlays: Sequence[Overlay], folder: Path) -> ET.Element:
    layers = [
        _group(
            "Overlay",
            "m_overlays",
            _item("float", "m_opacity", overlay.opacity),
            _item("boolean", "m_enabled", True),
            _item("enumeratedType", "m_mapYokingGroup", "MAP_YOKING_GROUP_OFF"),
            _item("pathName", "selectedMapFileNameWithPath", overlay.file.relative_to(folder)),
            _item("string", "selectedMapFile", overlay.file.path.name),
            _item("string", "selectedMapName", ""),
            _item("integer", "selectedMapIndex", 0),
        )
        for overlay in overlays
    ]
    return _group(
        "OverlaySet",
        name,
        _item("integer", "m_numberOfDisplayedOverlays", len(overlays)),
        _group_array("m_overlays", layers),
    )


def _montage(scene: SurfaceMontage, overlays: ET.Element) -> list[ET.Element]:
    cerebral, flat = {0: _cerebral(scene, overlays)}, {}
    if scene.flat:
        cerebral, flat = {}, {0: _flat_maps(scene, overlays)}
    chosen = "FLAT_CONFIGURATION" if scene.flat else "CEREBRAL_CORTEX_CONFIGURATION"
    return [
        _item("integer", "montageVersion", 3),
        _group_map("m_cerebellarConfiguration", {}),
        _group_map("m_cerebralConfiguration", cerebral),
        _group_map("m_flatMapsConfiguration", flat),
        _value_map("enumeratedType", "m_selectedConfigurationType", {0: chosen}),
    ]


def _cerebral(scene: SurfaceMontage, overlays: ET.Element) -> ET.Element:
    surfaces = [
        _selected(f"m_{side}{order}SurfaceSelectionModel", file)
        for order in ("First", "Second")
        for side, file in (("left", scene.left), ("right", scene.right))
    ]
    shown = {"left": True, "right": True, "firstSurface": True, "secondSurface": False}
    shown |= {"lateral": True, "medial": True}
    return _group(
        "SurfaceMontageConfigurationCerebral",
        "m_cerebralConfiguration[0]",
        _item("enumeratedType", "m_layoutOrientation", "LANDSCAPE_LAYOUT_ORIENTATION"),
        overlays,
        *surfaces,
        *(_item("boolean", f"m_{what}Enabled", on) for what, on in shown.items()),
    )


def _flat_maps(scene: SurfaceMontage, overlays: ET.Element) -> ET.Element:
    shown = {"left": True, "right": True, "cerebellum": False}
    return _group(
        "SurfaceMontageConfigurationFlatMaps",
        "m_flatMapsConfiguration[0]",
        overlays,
        _selected("m_leftSurfaceSelectionModel", scene.left),
        _selected("m_rightSurfaceSelectionModel", scene.right),
        *(_item("boolean", f"m_{what}Enabled", on) for what, on in shown.items()),
    )


def _selected(name: str, file: DataFile) -> ET.Element:
    chosen = _item("string", "m_selectedSurface", file.path.name)
    return _group("SurfaceSelectionModel", name, chosen)


def _window() -> ET.Element:
    width, height = _WINDOW
    return _group(
        "BrowserWindowContent",
        "m_browserWindowContent",
        _item("boolean", "m_validFlag", True),
        _item("boolean", "m_tileTabsEnabled", False),
        _item("float", "m_sceneGraphicsWidth", width),
        _item("float", "m_sceneGraphicsHeight", height),
        _item("integer", "m_sceneSelectedTabIndex", 0),
        _array("integer", "m_sceneTabIndices", [0]),
        version=2,
    )


def _model_type(scene: View) -> str:
    """Name the model that shows a scene."""
    kinds = {SurfaceMontage: "SURFACE_MONTAGE", VolumeSlices: "VOLUME_SLICES"}
    return f"MODEL_TYPE_{kinds.get(type(scene), 'WHOLE_BRAIN')}"


def _browser_tab(scene: View) -> ET.Element:
    """Build the tab: which model, through which slices, seen from where and how large."""
    slices = [] if isinstance(scene, SurfaceMontage) else [_slice_settings(scene)]
    montage = isinstance(scene, VolumeSlices) and scene.montage is not None
    return _group(
        "BrowserTabContent",
        "m_browserTab",
        _item("integer", "m_tabNumber", 0),
        _item("string", "m_userName", ""),
        _item("enumeratedType", "m_selectedModelType", _model_type(scene)),
        *slices,
        *_viewing(scene),
        # Across a montage the lines hide more than they show.
        _item("boolean", "m_displayVolumeAxesCrosshairs", not montage),
        _item("boolean", "m_lightingEnabled", True),
        _item("enumeratedType", "m_brainModelYokingGroup", "YOKING_GROUP_OFF"),
        _item("enumeratedType", "m_chartModelYokingGroup", "YOKING_GROUP_OFF"),
        version=7,
    )


def _viewing(scene: View) -> list[ET.Element]:
    """Say from where and how large."""
    if isinstance(scene, SurfaceMontage):
        return []
    if isinstance(scene, VolumeSlices):
        scaling = _item("float", "m_scaling", _SLICE_SCALING)
        kind = "ViewingTransformationsVolume"
        return [_group(kind, "m_volumeSliceViewingTransformation", scaling)]
    turned = _array("float", "m_rotationMatrix", _rotation(scene.seen_from))
    scaling = _item("float", "m_scaling", _WHOLE_BRAIN_SCALING)
    return [_group("ViewingTransformations", "m_viewingTransformation", scaling, turned)]


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
    return _group(
        "VolumeSliceSettings",
        "m_volumeSliceSettings",
        *(_item("enumeratedType", name, value) for name, value in enums.items()),
        _item("integer", "m_montageNumberOfRows", rows),
        _item("integer", "m_montageNumberOfColumns", columns),
        _item("integer", "m_montageSliceSpacing", spacing),
        *(
            _item("float", f"m_sliceCoordinate{axis}", float(position))
            for axis, position in zip(_AXES, scene.position_mm, strict=True)
        ),
        *(_item("boolean", f"m_sliceEnabled{axis}", axis in planes) for axis in _AXES),
    )


def _item(kind: str, name: str, value: Value) -> ET.Element:
    """Write one value; `kind` is integer, float, boolean, string, pathName or enumeratedType."""
    element = ET.Element("Object", Type=kind, Name=name)
    element.text = _text(value)
    return element


def _group(kind: str, name: str, *children: ET.Element, version: int = 1) -> ET.Element:
    """Write an object of class `kind` with its members."""
    attributes = {"Type": "class", "Class": kind, "Name": name, "Version": str(version)}
    element = ET.Element("Object", attributes)
    element.extend(children)
    return element


def _array(kind: str, name: str, values: Sequence[Value]) -> ET.Element:
    """Write a list of plain values."""
    element = ET.Element("ObjectArray", Type=kind, Name=name, Length=str(len(values)))
    for index, value in enumerate(values):
        ET.SubElement(element, "Element", Index=str(index)).text = _text(value)
    return element


def _group_array(name: str, groups: Sequence[ET.Element]) -> ET.Element:
    """Write a list of objects."""
    element = ET.Element("ObjectArray", Type="class", Name=name, Length=str(len(groups)))
    for index, child in enumerate(groups):
        ET.SubElement(element, "Element", Index=str(index)).append(child)
    return element


def _group_map(name: str, groups: Mapping[int, ET.Element]) -> ET.Element:
    """Write objects by number."""
    element = ET.Element("ObjectMap", Type="class", Name=name)
    for key, child in groups.items():
        ET.SubElement(element, "Value", Key=str(key)).append(child)
    return element


def _value_map(kind: str, name: str, values: Mapping[int, Value]) -> ET.Element:
    """Write plain values by number."""
    element = ET.Element("ObjectMap", Type=kind, Name=name)
    for key, value in values.items():
        ET.SubElement(element, "Value", Key=str(key)).text = _text(value)
    return element


def _text(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
