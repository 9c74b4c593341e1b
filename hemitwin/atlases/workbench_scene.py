"""Scenes: what `wb_view` shows as soon as it opens, and `wb_command -show-scene` renders."""

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

from hemitwin._atomic import atomic_path
from hemitwin.atlases._scene_elements import gui_manager
from hemitwin.atlases.workbench_views import View

__all__ = ["write_scene"]


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
        element.append(gui_manager(scene, path.parent))
    ET.indent(root)
    with atomic_path(path) as temporary:
        ET.ElementTree(root).write(temporary, encoding="UTF-8", xml_declaration=True)


def _describe(element: ET.Element, name: str) -> None:
    ET.SubElement(element, "Name").text = name
    ET.SubElement(element, "Description").text = ""
