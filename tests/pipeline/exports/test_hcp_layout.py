"""An HCP subject's maps under the HCP's names, in the exact layout of its tree."""

import shutil
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from hemitwin.atlases import (
    TEMPLATE_SPACE,
    load_fslr_surface,
    save_surface,
    template_on_grid,
    warp_surface,
)
from hemitwin.atlases.formats.nifti import save_volume
from hemitwin.pipeline.exports.export import export
from hemitwin.pipeline.preparation.prepare import PrepareConfig, prepare
from hemitwin.pipeline.stage.json_files import digest_file

pytestmark = pytest.mark.xdist_group("hcp layout")

SUBJECT = "100307"
OWN = tuple(f"{SUBJECT}.{side}.midthickness_MSMAll.32k_fs_LR.surf.gii" for side in "LR")


def write_tree(folder, *, surfaces):
    """The template as an ACPC scan at 4 mm, six tenths of a millimetre aside."""
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    affine[:3, 3] = (-96, -130, -90)
    shape = (48, 58, 48)
    moved = np.eye(4)
    moved[:3, 3] = (0.6, 0.0, 0.0)
    data = template_on_grid(shape, np.linalg.inv(moved) @ affine)
    structural = folder / SUBJECT / "T1w"
    save_volume(structural / "T1w_acpc_dc_restore_brain.nii.gz", data, affine)
    for side, name in zip("LR", OWN, strict=True):
        if surfaces:
            surface = load_fslr_surface(side, space=TEMPLATE_SPACE)
            save_surface(structural / "fsaverage_LR32k" / name, warp_surface(surface, moved))
    return folder


def exported_from(folder, plant, cache, *, surfaces):
    tree = write_tree(folder / "hcp", surfaces=surfaces)
    out = folder / "derivatives"
    assert not prepare(tree, out, config=PrepareConfig(resolution_mm=4.0)).failures
    plant(out)
    outcome = export(out, cache=cache)
    assert not outcome.failures
    return tree, out / "hcp", outcome.results[0]


@pytest.fixture(scope="module")
def laid_out(tmp_path_factory, plant, cache):
    """A tree with surfaces of its own, what is laid over it, and the export."""
    return exported_from(tmp_path_factory.mktemp("hcp"), plant, cache, surfaces=True)


def tree_of(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): digest_file(path) for path in files}


def test_names_and_places_are_those_of_the_hcp(laid_out):
    have_names_and_places_of_the_hcp(laid_out, surfaces=True)


def test_so_they_are_with_the_surfaces_of_the_group(tmp_path, plant, cache):
    exported = exported_from(tmp_path, plant, cache, surfaces=False)
    have_names_and_places_of_the_hcp(exported, surfaces=False)


def have_names_and_places_of_the_hcp(laid_out, *, surfaces):
    _, laid, exported = laid_out
    meshes = f"{SUBJECT}/T1w/fsaverage_LR32k/{SUBJECT}"
    own = {f"{SUBJECT}/T1w/fsaverage_LR32k/{name}" for name in OWN}
    group = {f"{meshes}.{side}.midthickness_S1200.32k_fs_LR.surf.gii" for side in "LR"}
    files = tree_of(laid)
    assert set(files) == {
        f"{SUBJECT}/T1w/lrp_relevance.nii.gz",
        f"{meshes}.L.lrp_relevance.32k_fs_LR.shape.gii",
        f"{meshes}.R.lrp_relevance.32k_fs_LR.shape.gii",
        f"{meshes}.lrp_relevance.32k_fs_LR.dscalar.nii",
        f"{meshes}.lrp_relevance.HCPMMP1.pscalar.nii",
        f"{meshes}.lrp_relevance.32k_fs_LR.wb.spec",
        *(own if surfaces else group),
    }
    assert {laid / name for name in files} <= set(exported.files)
    originals = {digest_file(path) for path in exported.files if "hcp" not in path.parts}
    copies = {name: digest for name, digest in files.items() if "lrp" in name}
    assert {digest for name, digest in copies.items() if "spec" not in name} <= originals


def test_the_spec_opens_what_lies_beside_it(laid_out):
    _, laid, _ = laid_out
    (spec,) = laid.rglob("*.wb.spec")
    root = ET.parse(spec).getroot()  # noqa: S314  our own file
    listed = {element.text: element.get("Structure") for element in root.findall("DataFile")}
    assert all((spec.parent / str(name)).is_file() for name in listed)
    assert listed[OWN[0]] == "CortexLeft"
    assert listed["../lrp_relevance.nii.gz"] == "Invalid"
    assert len(listed) == 7


def test_laid_over_the_tree_nothing_of_the_subject_is_changed(laid_out, tmp_path):
    whole, laid, _ = laid_out
    tree = shutil.copytree(whole, tmp_path / "tree")
    before = tree_of(tree)
    shutil.copytree(laid, tree, dirs_exist_ok=True)
    after = tree_of(tree)
    assert {name: after[name] for name in before} == before
    assert len(after) == len(before) + 6


def test_other_sources_have_no_hcp_names(one_prepared, plant, cache):
    plant(one_prepared)
    assert not export(one_prepared, cache=cache).failures
    assert not (one_prepared / "hcp").exists()
