"""Smoothing: on surfaces, over grayordinates, in volumes."""

import dataclasses

import nibabel as nib
import numpy as np
import pytest
from nibabel.cifti2.cifti2 import Cifti2Image
from nibabel.gifti.gifti import GiftiImage

from hemitwin.atlases import (
    Surface,
    load_fslr_surface,
    relevance_palette,
    save_dense_scalar,
    save_metric,
    save_surface,
    save_volume,
    smooth_grayordinates,
    smooth_on_surface,
    smooth_volume,
)
from hemitwin.atlases.grayordinates import load_grayordinates
from hemitwin.atlases.smoothing import vertex_areas


def make_plane(side=101, spacing_mm=1.0):
    """A square of right triangles, `side` points wide, in the plane z = 0."""
    x, y = np.meshgrid(np.arange(side), np.arange(side), indexing="ij")
    vertices = np.stack([x.ravel(), y.ravel(), 0 * x.ravel()], axis=1) * spacing_mm
    first = (x[:-1, :-1] * side + y[:-1, :-1]).ravel()
    lower = np.stack([first, first + side, first + side + 1], axis=1)
    upper = np.stack([first, first + side + 1, first + 1], axis=1)
    faces = np.concatenate([lower, upper]).astype(np.int32)
    return Surface(vertices.astype(np.float32), faces, "L", "midthickness")


def cortex_of(side):
    places = load_grayordinates()
    inside = np.zeros(places.n_vertices, dtype=bool)
    inside[places.vertices(side)] = True
    return inside


def make_map(surface, seed=0):
    """Noise with three blobs of 15 mm."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=len(surface.vertices))
    for vertex in rng.choice(len(surface.vertices), 3):
        squares = ((surface.vertices - surface.vertices[vertex]) ** 2).sum(axis=1)
        values += 3 * np.exp(-squares / 2 / 15**2)
    return values


def half_width(profile, spacing_mm):
    """Read the full width at half maximum off a symmetric profile, linearly between points."""
    centre = len(profile) // 2
    right = profile[centre:] / profile[centre]
    beyond = int(np.argmax(right < 0.5))
    share = (right[beyond - 1] - 0.5) / (right[beyond - 1] - right[beyond])
    return 2 * spacing_mm * (beyond - 1 + share)


@pytest.mark.parametrize("fwhm_mm", [8.0, 14.0])
def test_a_point_on_the_plane_becomes_the_gaussian_of_that_width(fwhm_mm):
    surface = make_plane()
    values = np.zeros(101 * 101)
    values[50 * 101 + 50] = 1
    smoothed = smooth_on_surface(values, surface, fwhm_mm).reshape(101, 101)
    sigma = fwhm_mm / np.sqrt(8 * np.log(2))
    offset = np.arange(101) - 50
    gaussian = np.exp(-(offset[:, None] ** 2 + offset**2) / 2 / sigma**2) / (2 * np.pi * sigma**2)
    assert half_width(smoothed[50], 1.0) == pytest.approx(fwhm_mm, rel=0.03)
    assert half_width(smoothed[:, 50], 1.0) == pytest.approx(fwhm_mm, rel=0.03)
    assert np.abs(smoothed - gaussian).max() < 0.05 * gaussian.max()
    variance = (smoothed * offset**2).sum() / smoothed.sum()
    assert variance == pytest.approx(sigma**2, rel=0.01)


@pytest.mark.parametrize(("spacing_mm", "fwhm_mm"), [(0.5, 8.0), (2.0, 20.0)])
def test_the_width_is_in_millimetres_and_not_in_edges(spacing_mm, fwhm_mm):
    surface = make_plane(81, spacing_mm)
    values = np.zeros(81 * 81)
    values[40 * 81 + 40] = 1
    smoothed = smooth_on_surface(values, surface, fwhm_mm).reshape(81, 81)
    assert half_width(smoothed[40], spacing_mm) == pytest.approx(fwhm_mm, rel=0.03)


def test_the_integral_over_the_cortex_is_kept():
    surface, inside = load_fslr_surface("L"), cortex_of("L")
    values = np.where(inside, make_map(surface), 0)
    # Only triangles that lie inside count: heat knows no others.
    faces = surface.faces[inside[surface.faces].all(axis=1)]
    areas = vertex_areas(dataclasses.replace(surface, faces=faces))
    smoothed = smooth_on_surface(values, surface, 8.0, inside)
    lone = inside & (areas == 0)
    assert areas @ smoothed == pytest.approx(areas @ values, rel=1e-9)
    np.testing.assert_array_equal(smoothed[lone], values[lone])
    assert smoothed[inside].std() < 0.6 * values[inside].std()


def test_a_constant_stays_and_nothing_crosses_the_medial_wall():
    surface, inside = load_fslr_surface("R"), cortex_of("R")
    smoothed = smooth_on_surface(np.where(inside, 2.0, 77.0), surface, 10.0, inside)
    np.testing.assert_allclose(smoothed[inside], 2.0, rtol=1e-9)
    assert (smoothed[~inside] == 0).all()


def test_many_maps_at_once_are_each_map_alone():
    surface = make_plane(21)
    maps = np.random.default_rng(0).normal(size=(3, 441))
    inside = surface.vertices[:, 0] > 3
    together = smooth_on_surface(maps, surface, 4.0, inside)
    for alone, one in zip(maps, together, strict=True):
        np.testing.assert_allclose(smooth_on_surface(alone, surface, 4.0, inside), one, atol=1e-12)


def test_areas_add_up_to_the_surface():
    assert vertex_areas(make_plane(11, 2.0)).sum() == pytest.approx(400.0)


def test_bad_requests_on_surfaces_are_refused():
    surface = make_plane(5)
    with pytest.raises(ValueError, match="positive number of millimetres, got 0"):
        smooth_on_surface(np.zeros(25), surface, 0.0)
    with pytest.raises(ValueError, match="one entry for each of 25 vertices"):
        smooth_on_surface(np.zeros(24), surface, 4.0)
    with pytest.raises(ValueError, match="one entry for each of 25 vertices"):
        smooth_on_surface(np.zeros((2, 24)), surface, 4.0)
    with pytest.raises(ValueError, match="values must be finite"):
        smooth_on_surface(np.full(25, np.nan), surface, 4.0)
    with pytest.raises(ValueError, match="lie in the brain, got 'flat'"):
        smooth_on_surface(np.zeros(25), dataclasses.replace(surface, kind="flat"), 4.0)


@pytest.fixture(scope="module")
def surfaces():
    return {side: load_fslr_surface(side) for side in ("L", "R")}


@pytest.fixture(scope="module")
def dense(surfaces):
    """Noise and blobs on the cortex, noise below it."""
    places = load_grayordinates()
    cortex = [make_map(surfaces[side])[places.vertices(side)] for side in ("L", "R")]
    deep = np.random.default_rng(1).normal(size=len(places.voxels))
    return np.concatenate([*cortex, deep])


def test_no_structure_leaks_into_another(surfaces):
    places = load_grayordinates()
    values = np.zeros(len(places))
    values[places.cortex("R")] = -5
    deep = values[places.subcortex]
    for number, (_, rows) in enumerate(places.structures):
        deep[rows] = number
    np.testing.assert_allclose(smooth_grayordinates(values, 6.0, surfaces), values, atol=1e-8)


def test_bad_requests_over_grayordinates_are_refused(surfaces):
    with pytest.raises(ValueError, match="values must be 91282 numbers"):
        smooth_grayordinates(np.zeros(5), 4.0, surfaces)
    swapped = {"L": surfaces["R"], "R": surfaces["L"]}
    with pytest.raises(ValueError, match="surface L must have that side"):
        smooth_grayordinates(np.zeros(91282), 4.0, swapped)


ROTATION = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])


@pytest.mark.parametrize("rotation", [np.eye(3), np.diag([-1.0, 1.0, 1.0]), ROTATION])
def test_volumes_are_smoothed_alike_in_every_direction_of_the_world(rotation):
    lengths = np.array([1.0, 2.0, 0.5])
    affine = np.eye(4)
    affine[:3, :3] = rotation @ np.diag(lengths)
    volume = np.zeros((49, 25, 97))
    volume[24, 12, 48] = 1
    smoothed = smooth_volume(volume, affine, 8.0)
    centred = np.indices(volume.shape).reshape(3, -1).T - [24, 12, 48]
    world = centred @ affine[:3, :3].T
    spread = (smoothed.ravel() / smoothed.sum()) @ world**2
    np.testing.assert_allclose(spread, (8.0**2 / 8 / np.log(2)) * np.ones(3), rtol=0.01)


def test_the_sum_of_a_volume_is_kept():
    volume = np.zeros((40, 40, 40))
    volume[12:28, 12:28, 12:28] = np.random.default_rng(0).normal(size=(16, 16, 16))
    smoothed = smooth_volume(volume, np.diag([2.0, 2.0, 2.0, 1.0]), 6.0)
    assert smoothed.sum(dtype=np.float64) == pytest.approx(volume.sum(), rel=1e-4)


def test_bad_requests_on_volumes_are_refused():
    sheared = np.eye(4)
    sheared[0, 1] = 0.2
    with pytest.raises(ValueError, match="right angles, got a sheared one"):
        smooth_volume(np.zeros((3, 3, 3)), sheared, 4.0)
    with pytest.raises(ValueError, match="positive number of millimetres, got nan"):
        smooth_volume(np.zeros((3, 3, 3)), np.eye(4), float("nan"))


def correlation(one, other):
    return float(np.corrcoef(one, other)[0, 1])


@pytest.mark.workbench
@pytest.mark.parametrize("fwhm_mm", [4.0, 8.0])
def test_workbench_smooths_a_surface_alike(wb_command, tmp_path, fwhm_mm):
    surface, inside = load_fslr_surface("L"), cortex_of("L")
    values = make_map(surface)
    names = ("s.surf.gii", "in.shape.gii", "roi.shape.gii", "out.shape.gii")
    mesh, metric, roi, out = (tmp_path / name for name in names)
    save_surface(mesh, surface)
    save_metric(metric, values, "L", name="map")
    save_metric(roi, inside.astype(float), "L", name="roi")
    wb_command(*("-metric-smoothing", mesh, metric, fwhm_mm, out, "-fwhm", "-roi", roi))
    theirs = GiftiImage.from_filename(out).agg_data()
    ours = smooth_on_surface(values, surface, fwhm_mm, inside)
    assert correlation(ours[inside], theirs[inside]) > 0.99
    np.testing.assert_array_equal(ours[~inside], theirs[~inside])


@pytest.mark.workbench
def test_workbench_smooths_grayordinates_alike(wb_command, tmp_path, surfaces, dense):
    source, out = tmp_path / "in.dscalar.nii", tmp_path / "out.dscalar.nii"
    save_dense_scalar(source, dense, name="map", palette=relevance_palette(dense))
    meshes = {side: tmp_path / f"{side}.surf.gii" for side in surfaces}
    for side, mesh in meshes.items():
        save_surface(mesh, surfaces[side])
    wb_command(
        *("-cifti-smoothing", source, 6, 6, "COLUMN", out, "-fwhm"),
        *("-left-surface", meshes["L"], "-right-surface", meshes["R"]),
    )
    theirs = Cifti2Image.from_filename(out).get_fdata()[0]
    ours = smooth_grayordinates(dense, 6.0, surfaces)
    places = load_grayordinates()
    for rows in (places.cortex("L"), places.cortex("R"), places.subcortex):
        assert correlation(ours[rows], theirs[rows]) > 0.99


@pytest.mark.workbench
def test_workbench_smooths_a_volume_alike(wb_command, tmp_path):
    affine = np.diag([2.0, 3.0, 2.5, 1.0])
    volume = np.zeros((40, 30, 32))
    volume[12:28, 10:20, 10:22] = np.random.default_rng(0).normal(size=(16, 10, 12))
    source, out = tmp_path / "in.nii.gz", tmp_path / "out.nii.gz"
    save_volume(source, volume, affine)
    wb_command(*("-volume-smoothing", source, 8, out, "-fwhm"))
    theirs = np.asarray(nib.Nifti1Image.from_filename(out).dataobj)
    inner = (slice(8, -8), slice(6, -6), slice(7, -7))
    ours = smooth_volume(volume, affine, 8.0)
    assert correlation(ours[inner].ravel(), theirs[inner].ravel()) > 0.999
