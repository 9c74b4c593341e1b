"""Reading a volume from the white to the pial surface."""

import dataclasses

import numpy as np
import pytest
from nibabel.gifti.gifti import GiftiImage
from scipy import ndimage

from hemitwin.atlases import (
    load_fslr_surface,
    project_through_ribbon,
    project_to_surface,
    save_surface,
    save_volume,
    template_grid,
)
from hemitwin.atlases.surfaces.meshes import Surface


@pytest.fixture(scope="module")
def ribbon():
    return load_fslr_surface("L", "white"), load_fslr_surface("L", "pial")


def make_volume(resolution_mm=4.0, smooth_voxels=2.0):
    shape, affine = template_grid(resolution_mm)
    noise = np.random.default_rng(0).normal(size=shape)
    return ndimage.gaussian_filter(noise, smooth_voxels), affine


@pytest.mark.parametrize("layers", [1, 6])
def test_a_linear_field_is_read_in_the_middle_of_the_column(ribbon, layers):
    shape, affine = template_grid(4.0)
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    volume = (index @ affine[:3, :3].T + affine[:3, 3]) @ [1.0, 0.5, -2.0]
    white, pial = ribbon
    middle = (white.vertices + pial.vertices) / 2 @ [1.0, 0.5, -2.0]
    read = project_through_ribbon(volume, affine, white, pial, layers=layers)
    np.testing.assert_allclose(read, middle, atol=2e-3)


def test_one_layer_is_the_reading_between_the_surfaces(ribbon):
    volume, affine = make_volume()
    white, pial = ribbon
    between = (white.vertices.astype(float) + pial.vertices) / 2
    middle = Surface(between.astype(np.float32), white.faces, "L", "midthickness")
    one = project_through_ribbon(volume, affine, white, pial, layers=1)
    np.testing.assert_allclose(one, project_to_surface(volume, affine, middle), atol=1e-5)


def test_the_column_is_the_mean_of_its_layers(ribbon):
    volume, affine = make_volume(smooth_voxels=0.7)
    white, pial = ribbon
    readings = []
    for depth in (1 / 6, 3 / 6, 5 / 6):
        places = white.vertices + np.float32(depth) * (pial.vertices - white.vertices)
        layer = dataclasses.replace(white, vertices=places.astype(np.float32))
        readings.append(project_to_surface(volume, affine, layer))
    column = project_through_ribbon(volume, affine, white, pial, layers=3)
    np.testing.assert_allclose(column, np.mean(readings, axis=0), atol=1e-5)


def test_bad_ribbons_are_refused(ribbon):
    volume, affine = make_volume()
    white, pial = ribbon
    with pytest.raises(ValueError, match="between the white and the pial surface of one mesh"):
        project_through_ribbon(volume, affine, pial, white)
    other = load_fslr_surface("R", "pial")
    with pytest.raises(ValueError, match=r"got .* of \['L', 'R'\]"):
        project_through_ribbon(volume, affine, white, other)
    with pytest.raises(ValueError, match="layers must be 1 or more, got 0"):
        project_through_ribbon(volume, affine, white, pial, layers=0)


@pytest.mark.workbench
@pytest.mark.slow
def test_workbench_reads_the_ribbon_alike(ribbon, wb_command, tmp_path):
    """Workbench weighs whole voxels and does not interpolate: at 4 mm it is 0.97."""
    volume, affine = make_volume(resolution_mm=2.0)
    white, pial = ribbon
    middle = load_fslr_surface("L")
    paths = {one.kind: tmp_path / f"{one.kind}.surf.gii" for one in (white, middle, pial)}
    for one in (white, middle, pial):
        save_surface(paths[one.kind], one)
    source, out = tmp_path / "v.nii.gz", tmp_path / "out.func.gii"
    save_volume(source, volume, affine)
    wb_command(
        *("-volume-to-surface-mapping", source, paths["midthickness"], out),
        *("-ribbon-constrained", paths["white"], paths["pial"]),
    )
    theirs = GiftiImage.from_filename(out).agg_data()
    ours = project_through_ribbon(volume, affine, white, pial)
    assert np.corrcoef(ours, theirs)[0, 1] > 0.98
