"""FreeSurfer's meshes come to fsLR as Workbench brings them there."""

import numpy as np
import pytest
from nibabel.gifti.gifti import GiftiImage
from nilearn.datasets import fetch_surf_fsaverage

from hemitwin.atlases import Surface, load_fslr_surface, save_surface, surface_on_fslr
from hemitwin.atlases.hcp_files import fsaverage_sphere, hcp_file
from hemitwin.atlases.surfaces.spheres import fslr_interpolation, interpolate_on_sphere


@pytest.fixture(scope="module")
def fsaverage5():
    """Left surfaces of FreeSurfer's average, whose registered sphere is the fsaverage sphere."""
    files = fetch_surf_fsaverage("fsaverage5")

    def load(kind):
        points, faces = (
            array.data for array in GiftiImage.from_filename(files[f"{kind}_left"]).darrays
        )
        return Surface(points.astype(np.float32), faces.astype(np.int32), "L", "white")

    return {kind: load(kind) for kind in ("sphere", "white", "pial")}


def test_weights_are_barycentric(fsaverage5):
    sphere = fsaverage5["sphere"]
    rng = np.random.default_rng(0)
    chosen = rng.integers(len(sphere.faces), size=200)
    weights = rng.dirichlet(np.ones(3), size=200)
    corners = sphere.vertices[sphere.faces[chosen]].astype(float)
    points = np.einsum("ij,ijk->ik", weights, corners)
    found = interpolate_on_sphere(points, sphere.vertices.astype(float), sphere.faces)
    np.testing.assert_allclose(found.weights.sum(axis=1), 1)
    np.testing.assert_allclose(found(sphere.vertices.astype(float)), points, atol=0.01)


def test_a_vertex_takes_its_own_value(fsaverage5):
    sphere = fsaverage5["sphere"].vertices.astype(float)
    found = interpolate_on_sphere(sphere, sphere, fsaverage5["sphere"].faces)
    np.testing.assert_allclose(found(sphere), sphere, atol=1e-4)


def test_the_average_of_freesurfer_lies_where_that_of_the_connectome_does(fsaverage5):
    place = fslr_interpolation(fsaverage5["sphere"])
    middle = (fsaverage5["white"].vertices + fsaverage5["pial"].vertices) / 2
    moved, group = place(middle.astype(float)), load_fslr_surface("L").vertices
    # MNI305 and MNI152 differ by millimetres; a wrong sphere would be off by centimetres.
    for axis in range(3):
        assert np.corrcoef(moved[:, axis], group[:, axis])[0, 1] > 0.99
    assert np.linalg.norm(moved - group, axis=1).mean() < 4


def test_another_mesh_is_no_surface_on_fslr():
    with pytest.raises(ValueError, match="32492 vertices, got 10"):
        surface_on_fslr(np.zeros((10, 3)), "L", "white")


@pytest.mark.workbench
def test_surfaces_are_resampled_as_by_workbench(fsaverage5, tmp_path, wb_command):
    own, white = tmp_path / "own.surf.gii", tmp_path / "white.surf.gii"
    save_surface(
        own, Surface(fsaverage5["sphere"].vertices, fsaverage5["sphere"].faces, "L", "sphere")
    )
    save_surface(white, fsaverage5["white"])
    fs, lr = tmp_path / "fs.surf.gii", tmp_path / "lr.surf.gii"
    vertices, faces, there = fsaverage_sphere("L")
    save_surface(fs, Surface(vertices, faces, "L", "sphere"))
    save_surface(lr, Surface(there, faces, "L", "sphere"))
    moved, theirs = tmp_path / "moved.surf.gii", tmp_path / "theirs.surf.gii"
    wb_command("-surface-sphere-project-unproject", own, fs, lr, moved)
    standard = hcp_file("S1200.L.sphere.32k_fs_LR.surf.gii")
    wb_command("-surface-resample", white, moved, standard, "BARYCENTRIC", theirs)
    ours = fslr_interpolation(fsaverage5["sphere"])(fsaverage5["white"].vertices.astype(float))
    distance = np.linalg.norm(GiftiImage.from_filename(theirs).darrays[0].data - ours, axis=1)
    assert np.median(distance) < 0.01
    assert np.quantile(distance, 0.999) < 0.2
