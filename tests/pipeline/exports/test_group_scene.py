"""The scene of a group's ranking."""

import shutil
import xml.etree.ElementTree as ET

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from hemitwin.atlases import (
    hcpmmp_regions,
    hcpmmp_volume,
    relevance_palette,
    save_parcel_scalar,
    save_table,
    template_grid,
)
from hemitwin.pipeline.exports.group_scene import write_group_scene
from hemitwin.pipeline.exports.render import render_scenes
from hemitwin.pipeline.stage.errors import UserError
from hemitwin.pipeline.stage.json_files import read_json

pytestmark = pytest.mark.xdist_group("group scene")

RANKINGS = ("share", "enrichment")


def write_ranking(folder):
    """What `hemitwin rank` leaves, in the order of its ranks."""
    regions = hcpmmp_regions()
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"index": [one.index for one in regions]})
    for name in RANKINGS:
        table[name] = rng.gamma(1.0, size=len(regions))
        values = table[name].to_numpy()
        path = folder / f"group_atlas-HCPMMP1_desc-lrpranking{name}_relevance.pscalar.nii"
        save_parcel_scalar(path, values, name=name, palette=relevance_palette(values))
    path = folder / "group_atlas-HCPMMP1_desc-lrpranking_relevance.tsv"
    save_table(path, table.sort_values("share", ascending=False))
    return table


@pytest.fixture(scope="module")
def group(tmp_path_factory, cache):
    folder = tmp_path_factory.mktemp("group") / "derivatives"
    table = write_ranking(folder)
    return table, write_group_scene(folder, "lrp", cache=cache)


def test_every_region_is_painted_with_its_figure(group, cache):
    table, made = group
    labels = hcpmmp_volume(*template_grid(2.0), cache_dir=cache).labels
    for name, path in zip(RANKINGS, made.volumes, strict=True):
        image = nib.Nifti1Image.from_filename(path)
        values = np.asarray(image.dataobj)
        assert not values[labels == 0].any()
        for row in table.itertuples():
            found = values[labels == row.index]
            np.testing.assert_allclose(found, getattr(row, name), rtol=1e-6)
        said = read_json(path.with_name(path.name.replace(".nii.gz", ".json")))
        assert name in said["Description"]


def test_spec_and_scene_have_relative_paths_that_exist(group):
    _, made = group
    for path, tag, wanted in ((made.scene, "Object", "fileName"), (made.spec, "DataFile", None)):
        root = ET.parse(path).getroot()  # noqa: S314  our own file
        files = [one.text or "" for one in root.iter(tag) if one.get("Name") == wanted]
        assert files
        assert all((path.parent / file).is_file() for file in files)
        assert all(file.startswith("../") for file in files)
    assert made.scene.name == "group.scene"
    assert made.pictures == ()


def test_a_ranking_that_is_not_there_is_asked_for(tmp_path, cache):
    with pytest.raises(UserError, match=r"must hold the ranking.*hemitwin rank"):
        write_group_scene(tmp_path, "lrp", cache=cache)


@pytest.mark.workbench
def test_every_scene_renders_where_the_folder_was_moved(group, tmp_path):
    program = shutil.which("wb_command")
    if program is None:
        pytest.skip("wb_command is not installed (Debian: connectome-workbench)")
    _, made = group
    moved = tmp_path / "elsewhere"
    shutil.copytree(made.scene.parents[1], moved)
    assert len(made.scene_names) == 6
    for picture in render_scenes(moved / "workbench/group.scene", made.scene_names, program):
        rgb = np.asarray(Image.open(picture).convert("RGB")).astype(int)
        assert rgb.std() > 20
        assert (np.ptp(rgb, axis=2) > 60).mean() > 0.003  # not the anatomy alone
