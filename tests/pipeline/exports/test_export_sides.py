"""A map of one left area, exported by every route, and read by those who read such files."""

import shutil
import subprocess

import nibabel as nib
import numpy as np
import pytest
from nibabel.cifti2.cifti2 import Cifti2Image
from nilearn.image import load_img
from nilearn.surface import PolyMesh, SurfaceImage, load_surf_data, load_surf_mesh
from PIL import Image

from hemitwin.atlases import hcpmmp_regions, load_fslr_surface
from hemitwin.atlases.grayordinates import load_grayordinates
from hemitwin.pipeline.exports.export import ExportConfig, export
from hemitwin.pipeline.preparation.native_space import NativeSpace

pytestmark = pytest.mark.xdist_group("sides")


@pytest.fixture(scope="module")
def lit(person, tmp_path_factory, plant, cache):
    """The export of one person whose left V1 is lit."""
    root = shutil.copytree(person, tmp_path_factory.mktemp("sides"), dirs_exist_ok=True)
    plant(root / "derivatives")
    outcome = export(root / "derivatives", cache=cache)
    assert not outcome.failures
    return outcome.results[0]


def ending(exported, text):
    (path,) = [path for path in exported.files if path.name.endswith(text)]
    return path


def centroid(path, share=0.5):
    """Find the middle, in the file's millimetres, of what is above a share of the largest."""
    image = nib.Nifti1Image.from_filename(path)
    data = image.get_fdata()
    voxels = np.argwhere(data > share * data.max())
    return np.asarray(image.affine) @ [*voxels.mean(axis=0), 1.0]


def test_volumes_are_lit_on_the_left_behind(lit):
    native = ending(lit, "space-T1w_desc-lrp_relevance.nii.gz")
    template = native.with_name(native.name.replace("T1w", "MNI152NLin2009aSym"))
    back = np.linalg.inv(NativeSpace.of(lit.case, "test").from_template)
    for place in (centroid(template), back @ centroid(native)):
        assert place[0] < -3
        assert place[1] < -60
    middle = centroid(ending(lit, "desc-scan_T1w.nii.gz"), share=0.0)
    assert centroid(native)[0] < middle[0]


def metric(exported, side):
    path = ending(exported, f"hemi-{side}_space-fsLR_den-32k_desc-lrp_relevance.shape.gii")
    return load_surf_data(str(path))


def test_metrics_are_lit_on_the_left_behind(lit):
    left, right = metric(lit, "L"), metric(lit, "R")
    lit_vertices = load_fslr_surface("L").vertices[left > 0.3]
    assert len(lit_vertices) > 100
    assert (lit_vertices[:, 1] < -50).all()
    assert not right.any()


def test_grayordinates_and_parcels_are_lit_on_the_left(lit):
    places = load_grayordinates()
    dense = Cifti2Image.from_filename(ending(lit, ".dscalar.nii")).get_fdata()[0]
    assert dense[places.cortex("L")].max() > 0.9
    assert not dense[places.cortex("R")].any()
    parcels = Cifti2Image.from_filename(ending(lit, ".pscalar.nii"))
    names = parcels.header.get_axis(1).name
    assert names[int(np.argmax(parcels.get_fdata()[0]))] == "L_V1"
    shown = set(names[parcels.get_fdata()[0] != 0])
    sides = {region.name: region.hemisphere for region in hcpmmp_regions()}
    assert "R" not in {sides[name] for name in shown}


@pytest.mark.workbench
@pytest.mark.parametrize("scene", ["relevance on the cortex", "relevance by region"])
def test_pictures_are_lit_in_the_left_panels(lit, tmp_path, scene):
    """Workbench's montage has the left hemisphere in the left half: lateral above medial."""
    program = shutil.which("wb_command")
    if program is None:
        pytest.skip("wb_command is not installed (Debian: connectome-workbench)")
    picture = tmp_path / "a.png"
    subprocess.run(  # noqa: S603 (the program that was found on the path)
        [program, "-show-scene", lit.scene, scene, picture, "600", "450"], check=True
    )
    rgb = np.asarray(Image.open(picture).convert("RGB")).astype(int)
    coloured = np.ptp(rgb, axis=2) > 60
    assert coloured[:, :300].sum() > 200
    assert coloured[:, 300:].sum() == 0
    # V1 lies at the pole and on the medial wall, in Workbench's view of it on the left.
    assert coloured[225:, :300].sum() > coloured[:225, :300].sum()


def test_every_file_names_its_map_and_what_it_came_from(lit):
    made_by = {
        "Provenance": "hemitwin export --mapping trilinear",
        "ParentProvenance": "sub-01_space-MNI152NLin2009aSym_desc-lrp_relevance.nii.gz",
    }
    for tail in ("desc-lrp_relevance.shape.gii", "T1w_den-32k_midthickness.surf.gii"):
        for side, structure in (("L", "CortexLeft"), ("R", "CortexRight")):
            (path,) = [
                one for one in lit.files if f"hemi-{side}" in one.name and one.name.endswith(tail)
            ]
            image = nib.GiftiImage.from_filename(path)
            assert image.meta["AnatomicalStructurePrimary"] == structure
            assert made_by.items() <= dict(image.meta).items()
            assert image.meta["ProgramProvenance"].startswith("HemiTwin ")
            if tail.endswith(".shape.gii"):
                assert image.darrays[0].meta["Name"] == "sub-01 relevance"
    for tail in (".dscalar.nii", ".pscalar.nii"):
        header = Cifti2Image.from_filename(ending(lit, tail)).header
        assert made_by.items() <= dict(header.matrix.metadata or {}).items()
        assert header.get_axis(0).name.tolist() == ["sub-01 relevance"]


def test_nilearn_opens_volumes_surfaces_and_metrics(lit):
    data, meshes = {}, {}
    for side, name in (("L", "left"), ("R", "right")):
        mesh = ending(lit, f"hemi-{side}_space-T1w_den-32k_midthickness.surf.gii")
        data[name], meshes[name] = metric(lit, side), load_surf_mesh(str(mesh))
    image = SurfaceImage(PolyMesh(**meshes), data)
    assert image.shape[0] == 64984
    native = load_img(str(ending(lit, "space-T1w_desc-lrp_relevance.nii.gz")))
    scan = load_img(str(ending(lit, "desc-scan_T1w.nii.gz")))
    assert native.shape == scan.shape
    np.testing.assert_allclose(native.affine, scan.affine)


def test_smoothing_and_ribbon_keep_the_side(lit, cache):
    derivatives = lit.spec.parents[1]
    config = ExportConfig(mapping="ribbon", smooth_mm=6.0)
    (smooth,) = export(derivatives, cache=cache, config=config).results
    assert metric(smooth, "L").max() > 0.2
    assert not metric(smooth, "R").any()
    assert export(derivatives, cache=cache).results == (lit,)
