"""Whole-brain scenes: from where they are seen, and which slices they show."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from hemitwin.atlases import (
    DataFile,
    Overlay,
    Palette,
    WholeBrain,
    load_fslr_surface,
    save_metric,
    save_surface,
    write_scene,
)


def make_side(folder, side):
    """A midthickness whose frontal pole is marked."""
    surface = load_fslr_surface(side)
    mesh = DataFile(folder / f"{side}.surf.gii", side)
    metric = DataFile(folder / f"{side}.shape.gii", side)
    save_surface(mesh.path, surface)
    front = (surface.vertices[:, 1] > 35).astype(np.float32)
    save_metric(metric.path, front, side, name="front", palette=Palette(1.0, 0.1))
    return mesh, metric


def tab_of(path):
    root = ET.parse(path).getroot()  # noqa: S314  our own file
    (tab,) = [one for one in root.iter("Object") if one.get("Class") == "BrowserTabContent"]
    return tab


@pytest.mark.parametrize("seen_from", [(-1.0, 0.7, 0.6), (1.0, 0.0, 0.0), (0.1, -2.0, -0.5)])
def test_the_world_is_turned_towards_the_viewer(tmp_path, seen_from):
    mesh, metric = make_side(tmp_path, "R")
    scene = WholeBrain("w", (mesh,), (Overlay(metric),), seen_from=seen_from)
    write_scene(tmp_path / "w.scene", [scene])
    tab = tab_of(tmp_path / "w.scene")
    (turned,) = [one for one in tab.iter("ObjectArray") if one.get("Name") == "m_rotationMatrix"]
    matrix = np.array([float(one.text or "") for one in turned]).reshape(4, 4)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(4), atol=1e-12)
    assert np.linalg.det(matrix) == pytest.approx(1)
    forward = matrix @ np.array([*seen_from, 0.0]) / np.linalg.norm(seen_from)
    np.testing.assert_allclose(forward, np.array([0.0, 0.0, 1.0, 0.0]), atol=1e-12)
    assert (matrix @ [0, 0, 1, 0])[1] > 0  # up is up


def test_only_the_planes_asked_for_are_on(tmp_path):
    mesh, metric = make_side(tmp_path, "L")
    scene = WholeBrain("w", (mesh,), (Overlay(metric),), planes=("AXIAL", "CORONAL"))
    write_scene(tmp_path / "w.scene", [scene])
    shown = {one.get("Name"): one.text for one in tab_of(tmp_path / "w.scene").iter("Object")}
    planes = {axis: shown[f"m_sliceEnabled{axis}"] for axis in ("Axial", "Parasagittal")}
    assert planes == {"Axial": "true", "Parasagittal": "false"}


def test_bad_whole_brains_are_refused(tmp_path):
    left = DataFile(tmp_path / "a.surf.gii", "L")
    with pytest.raises(ValueError, match=r"one a side, got \['L', 'L'\]"):
        WholeBrain("a", (left, left), ())
    with pytest.raises(ValueError, match="the view not from above"):
        WholeBrain("a", (left,), (), seen_from=(0.0, 0.0, 1.0))
    with pytest.raises(ValueError, match="planes must be of"):
        WholeBrain("a", (left,), (), planes=("ALL",))


@pytest.mark.workbench
@pytest.mark.parametrize(("side", "sideways"), [("L", -1.0), ("R", 1.0)])
def test_seen_from_its_side_a_brain_has_its_front_there(tmp_path, wb_command, side, sideways):
    mesh, metric = make_side(tmp_path, side)
    scene = WholeBrain("w", (mesh,), (Overlay(metric),), planes=(), seen_from=(sideways, 0.0, 0.0))
    write_scene(tmp_path / "w.scene", [scene])
    wb_command("-show-scene", tmp_path / "w.scene", "w", tmp_path / "w.png", 600, 450)
    rgb = np.asarray(Image.open(tmp_path / "w.png").convert("RGB")).astype(int)
    coloured = np.ptp(rgb, axis=2) > 60
    grey = (rgb.min(axis=2) > 60) & ~coloured
    front, rest = (np.argwhere(one).mean(axis=0)[1] for one in (coloured, grey))
    assert (front - rest) * sideways > 100
