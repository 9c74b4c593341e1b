"""What Workbench says of an exported subject."""

import shutil
import subprocess
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from hemitwin.pipeline.explanation.explain import explain
from hemitwin.pipeline.exports.export import ExportConfig, export
from hemitwin.pipeline.exports.render import render_scenes

WB_COMMAND = shutil.which("wb_command")

pytestmark = [
    pytest.mark.workbench,
    pytest.mark.xdist_group("path"),
    pytest.mark.skipif(WB_COMMAND is None, reason="wb_command is not installed"),
]

STRUCTURES = {"hemi-L": "CortexLeft", "hemi-R": "CortexRight"}


@pytest.fixture(scope="module")
def exported(run, prepared, cache):
    assert not explain(run, prepared.derivatives, labels=("02",)).failures
    outcome = export(prepared.derivatives, cache=cache, labels=("02",))
    assert not outcome.failures
    return outcome.results[0]


def _wb(*words):
    done = subprocess.run(  # noqa: S603 (the program that was found on the path)
        [str(WB_COMMAND), *map(str, words)], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def test_every_file_is_what_it_says(exported):
    for path in exported.files:
        if path.suffix in {".spec", ".scene"}:
            continue
        code, told = _wb("-file-information", path)
        assert code == 0, told
        for entity, structure in STRUCTURES.items():
            if entity in path.name:
                assert structure in told.replace(" ", "")


def test_every_scene_renders_without_an_error(exported, tmp_path):
    for number, name in enumerate(exported.scene_names):
        picture = tmp_path / f"{number}.png"
        code, told = _wb("-show-scene", exported.scene, name, picture, 600, 450)
        assert code == 0, told
        assert "ERRORS loading scene" not in told
        assert "SEVERE" not in told
        assert np.asarray(Image.open(picture).convert("L")).std() > 5


def test_every_scene_renders_where_the_zipped_folder_was_unpacked(exported, prepared, tmp_path):
    kept = tmp_path / "kept"
    shutil.copytree(prepared.derivatives, kept, ignore=shutil.ignore_patterns("sub-0[!2]", ".*"))
    packed = shutil.make_archive(str(tmp_path / "packed"), "zip", kept)
    shutil.rmtree(kept)
    moved = tmp_path / "elsewhere" / "derivatives"
    shutil.unpack_archive(packed, moved)
    scene = moved / exported.scene.relative_to(prepared.derivatives)
    root = ET.parse(scene).getroot()  # noqa: S314  our own file
    files = [one.text or "" for one in root.iter("Object") if one.get("Name") == "fileName"]
    assert all((scene.parent / name).resolve().is_relative_to(moved) for name in files)
    assert len(exported.scene_names) == 5
    for picture in render_scenes(scene, exported.scene_names, str(WB_COMMAND)):
        assert picture.is_relative_to(moved)
        assert np.asarray(Image.open(picture).convert("L")).std() > 5


def test_a_scene_without_its_files_is_no_picture(exported, tmp_path):
    lost = tmp_path / "lost" / exported.scene.name
    lost.parent.mkdir()
    shutil.copy(exported.scene, lost)
    with pytest.raises(RuntimeError, match="wb_command must draw the scene"):
        render_scenes(lost, exported.scene_names[:1], str(WB_COMMAND))
    assert list(lost.parent.iterdir()) == [lost]


def test_a_picture_of_every_scene_is_drawn_when_asked_for(prepared, cache, exported):
    (again,) = export(
        prepared.derivatives, cache=cache, labels=("02",), config=ExportConfig(render=True)
    ).results
    assert len(again.pictures) == len(exported.scene_names)
    for path in again.pictures:
        with Image.open(path) as picture:
            assert picture.size == (1200, 900)


def test_the_parcels_are_workbenchs_own(exported, prepared, tmp_path):
    dense = next(path for path in exported.files if path.name.endswith(".dscalar.nii"))
    ours = next(path for path in exported.files if path.name.endswith(".pscalar.nii"))
    labels = prepared.derivatives / "atlas" / "tpl-fsLR_den-91k_atlas-HCPMMP1_dseg.dlabel.nii"
    theirs = tmp_path / "theirs.pscalar.nii"
    code, told = _wb("-cifti-parcellate", dense, labels, "COLUMN", theirs)
    assert code == 0, told
    tables = []
    for path in (ours, theirs):
        text = tmp_path / f"{path.name}.txt"
        assert _wb("-cifti-convert", "-to-text", path, text)[0] == 0
        tables.append(np.loadtxt(text))
    assert len(tables[0]) == 379
    np.testing.assert_allclose(np.sort(tables[0]), np.sort(tables[1]), rtol=1e-4, atol=1e-8)
