import numpy as np
import pytest
from nilearn.datasets import load_mni152_gm_template

from hemitwin.atlases import (
    hcpmmp_regions,
    hcpmmp_surface_labels,
    hcpmmp_volume,
    load_fslr_surface,
    load_template,
    project_to_surface,
    template_grid,
)


def world_x(parcellation):
    return (
        parcellation.affine[0, 0] * np.arange(parcellation.labels.shape[0])
        + parcellation.affine[0, 3]
    )


def test_every_region_has_voxels_at_2_mm(atlas_2mm):
    counts = np.bincount(atlas_2mm.labels.ravel(), minlength=380)
    assert (counts[1:] > 0).all()


def test_no_region_crosses_the_mid_plane(atlas_2mm):
    x = world_x(atlas_2mm)
    for hemisphere, sign in (("L", -1), ("R", 1)):
        own = [r.index for r in atlas_2mm.regions if r.hemisphere == hemisphere]
        columns = np.isin(atlas_2mm.labels, own).any(axis=(1, 2))
        assert (x[columns] * sign > 0).all()


def test_cortical_voxels_take_the_nearest_vertex_by_brute_force(atlas_2mm):
    grey = load_template(2.0, kind="gm").data
    rng = np.random.default_rng(0)
    voxels = rng.permutation(np.argwhere(grey > 0.5))[:150]
    for voxel in voxels:
        label = atlas_2mm.labels[tuple(voxel)]
        if label > 360:
            continue
        point = atlas_2mm.affine[:3, :3] @ voxel + atlas_2mm.affine[:3, 3]
        side = "L" if point[0] < 0 else "R"
        distance = np.linalg.norm(load_cached(side) - point, axis=1)
        nearest = int(distance.argmin())
        expected = hcpmmp_surface_labels(side)[nearest] if distance[nearest] <= 3 else 0
        assert label == expected


def load_cached(side, _cache={}):  # noqa: B006  one surface a side is enough
    if side not in _cache:
        _cache[side] = load_fslr_surface(side).vertices
    return _cache[side]


def test_structures_keep_their_volume_and_place(atlas_2mm):
    from hemitwin.atlases.grayordinates import load_grayordinates  # noqa: PLC0415

    places = load_grayordinates()
    for name, rows in places.structures:
        index = atlas_2mm.region(name).index
        voxels = np.argwhere(atlas_2mm.labels == index)
        assert len(voxels) == pytest.approx(rows.stop - rows.start, rel=0.15)
        centre = voxels.mean(axis=0) @ atlas_2mm.affine[:3, :3].T + atlas_2mm.affine[:3, 3]
        source = places.voxels[rows].mean(axis=0) @ places.affine[:3, :3].T + places.affine[:3, 3]
        # Thin parts (the caudate's tail) fall between the two grids.
        assert np.linalg.norm(centre - source) < 1.5


def test_white_matter_and_background_have_no_area(atlas_2mm):
    grey, white = (load_template(2.0, kind=kind).data for kind in ("gm", "wm"))
    cortex = (atlas_2mm.labels > 0) & (atlas_2mm.labels <= 360)
    assert (grey[cortex] > 0.5).all()
    assert (white[cortex] < 0.5).mean() > 0.99


def test_surface_labels_hold_one_side_and_a_medial_wall():
    side = {region.index: region.hemisphere for region in hcpmmp_regions()}
    for hemisphere in ("L", "R"):
        labels = hcpmmp_surface_labels(hemisphere)
        present = set(np.unique(labels).tolist())
        assert labels.shape == (32492,)
        assert 0 in present
        assert len(present) == 181
        assert {side[index] for index in present - {0}} == {hemisphere}


@pytest.mark.parametrize(("hemisphere", "share"), [("L", 0.74), ("R", 0.76)])
def test_the_offset_between_the_two_mni_spaces_is_as_stated(hemisphere, share):
    image = load_mni152_gm_template(resolution=1)
    grey = np.asarray(image.dataobj, dtype=np.float32)
    values = project_to_surface(grey, image.affine, load_fslr_surface(hemisphere))
    cortex = hcpmmp_surface_labels(hemisphere) > 0
    assert (values[cortex] > 0.5).mean() == pytest.approx(share, abs=0.006)


def test_cache_gives_the_same_volume_and_is_rebuilt_when_broken(tmp_path):
    shape, affine = template_grid(8.0)
    first = hcpmmp_volume(shape, affine, cache_dir=tmp_path)
    (path,) = tmp_path.iterdir()
    again = hcpmmp_volume(shape, affine, cache_dir=tmp_path)
    for broken in (b"not an archive", path.read_bytes()[:200]):
        path.write_bytes(broken)
        rebuilt = hcpmmp_volume(shape, affine, cache_dir=tmp_path)
        np.testing.assert_array_equal(rebuilt.labels, first.labels)
    np.testing.assert_array_equal(again.labels, first.labels)
    assert list(tmp_path.iterdir()) == [path]


def test_cache_keeps_grids_apart(tmp_path):
    shape, affine = template_grid(8.0)
    moved = affine.copy()
    moved[1, 3] += 1
    for grid in (affine, moved):
        hcpmmp_volume(shape, grid, cache_dir=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_flipped_grid_holds_the_same_places(coarse_atlas):
    shape, affine = template_grid(4.0)
    flipped = affine @ np.diag([-1.0, 1, 1, 1])
    flipped[0, 3] = affine[0, 3] + affine[0, 0] * (shape[0] - 1)
    other = hcpmmp_volume(shape, flipped, cache_dir=None)
    np.testing.assert_array_equal(other.labels[::-1], coarse_atlas.labels)


def test_other_spaces_are_refused():
    with pytest.raises(ValueError, match=r"then use \.moved"):
        hcpmmp_volume((4, 4, 4), np.eye(4), cache_dir=None, space="MNI152NLin2009cAsym")
