import numpy as np
import pytest

from hemitwin.atlases import (
    TEMPLATE_SPACE,
    hcpmmp_atlas,
    hcpmmp_regions,
    hcpmmp_surface_labels,
    hcpmmp_volume,
    load_fslr_surface,
    load_template,
    project_to_surface,
    template_grid,
)
from hemitwin.atlases.surfaces.meshes import FSLR_VOLUME_SPACE


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
    ribbon = {side: ribbon_of(side) for side in "LR"}
    rng = np.random.default_rng(0)
    voxels = rng.permutation(np.argwhere(grey > 0.5))[:150]
    for voxel in voxels:
        label = atlas_2mm.labels[tuple(voxel)]
        if label > 360:
            continue
        point = atlas_2mm.affine[:3, :3] @ voxel + atlas_2mm.affine[:3, 3]
        side = "L" if point[0] < 0 else "R"
        distance = np.linalg.norm(ribbon[side] - point, axis=-1)
        _, vertex = np.unravel_index(distance.argmin(), distance.shape)
        expected = hcpmmp_surface_labels(side)[vertex] if distance.min() <= 3 else 0
        assert label == expected


def ribbon_of(side):
    """Five layers from white to pial surface, (5, n, 3)."""
    white, middle, pial = (
        load_fslr_surface(side, kind, space=TEMPLATE_SPACE).vertices
        for kind in ("white", "midthickness", "pial")
    )
    return np.stack([white, (white + middle) / 2, middle, (middle + pial) / 2, pial])


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


def test_moved_surfaces_lie_in_the_templates_cortex():
    grey, white = (load_template(1.0, kind=kind) for kind in ("gm", "wm"))
    for hemisphere in ("L", "R"):
        cortex = hcpmmp_surface_labels(hemisphere) > 0
        share = {}
        for space in (FSLR_VOLUME_SPACE, TEMPLATE_SPACE):
            surface = load_fslr_surface(hemisphere, space=space)
            values = project_to_surface(grey.data, grey.affine, surface)[cortex]
            share[space] = (values > 0.5).mean()
        assert share[TEMPLATE_SPACE] > 0.81
        assert share[TEMPLATE_SPACE] > share[FSLR_VOLUME_SPACE] + 0.04
        inner, outer = (
            project_to_surface(
                white.data,
                white.affine,
                load_fslr_surface(hemisphere, kind, space=TEMPLATE_SPACE),
            )[cortex]
            for kind in ("white", "pial")
        )
        assert inner.mean() > 2 * outer.mean()


def test_the_symmetric_edition_is_the_left_side_twice():
    shape, affine = template_grid(4.0)
    found = hcpmmp_volume(shape, affine, cache_dir=None, symmetric=True)
    name = {region.index: region.name for region in found.regions}
    partner = {region.name: region.partner or region.name for region in found.regions}
    half = shape[0] // 2
    left, mirrored = found.labels[:half], found.labels[half:][::-1]
    there = left > 0
    np.testing.assert_array_equal(there, mirrored > 0)
    pairs = np.unique(np.stack([left[there], mirrored[there]]), axis=1).T
    assert all(partner[name[one]] == name[other] for one, other in pairs)
    own = hcpmmp_volume(shape, affine, cache_dir=None)
    np.testing.assert_array_equal(own.labels[:half], left)


def test_points_take_the_labels_of_their_voxels(atlas_2mm):
    rng = np.random.default_rng(0)
    voxels = rng.permutation(np.argwhere(atlas_2mm.labels > 0))[:500]
    points = voxels @ atlas_2mm.affine[:3, :3].T + atlas_2mm.affine[:3, 3]
    found = hcpmmp_atlas().label_points(points)
    labels = atlas_2mm.labels[tuple(voxels.T)]
    # Grey matter is smoothed to the voxels' size on a grid, and taken at 1 mm at points.
    assert (found == labels).mean() > 0.9
    assert (found[found > 0] == labels[found > 0]).all()


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
