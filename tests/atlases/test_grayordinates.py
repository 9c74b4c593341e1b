import numpy as np
import pytest

from hemitwin.atlases import (
    grayordinates_from_volume,
    hcpmmp_regions,
    load_template,
    parcellate_dense,
)
from hemitwin.atlases.grayordinates import grayordinate_labels, load_grayordinates


def test_subcortical_order_is_that_of_the_parcellation():
    places = load_grayordinates()
    labels = grayordinate_labels()
    assert len(places) == len(labels) == 91282
    # Not only the counts: voxel for voxel.
    np.testing.assert_array_equal(labels[places.subcortex], places.subcortex_labels())


def test_cortex_rows_carry_areas_of_their_side():
    places, labels = load_grayordinates(), grayordinate_labels()
    side = {region.index: region.hemisphere for region in hcpmmp_regions()}
    for hemisphere in ("L", "R"):
        rows = labels[places.cortex(hemisphere)]
        assert len(rows) == len(places.vertices(hemisphere))
        assert {side[int(index)] for index in np.unique(rows)} == {hemisphere}


def test_subcortical_structures_lie_on_their_side():
    places = load_grayordinates()
    x = places.voxels @ places.affine[0, :3] + places.affine[0, 3]
    for name, rows in places.structures:
        sign = -1 if name.endswith("_left") else 1 if name.endswith("_right") else 0
        assert (np.sign(np.median(x[rows])) == sign) or sign == 0


def test_painting_regions_and_averaging_them_is_identity():
    values = np.random.default_rng(0).normal(size=379)
    painted = values[grayordinate_labels() - 1]
    np.testing.assert_allclose(parcellate_dense(painted), values, atol=1e-12)


def test_parcellation_equals_a_plain_loop():
    dense = np.random.default_rng(1).normal(size=91282).astype(np.float32)
    labels = grayordinate_labels()
    expected = [dense[labels == index].astype(float).mean() for index in range(1, 380)]
    np.testing.assert_allclose(parcellate_dense(dense), expected, rtol=1e-9)


def test_values_are_read_where_the_places_are():
    template = load_template(4.0)
    shape = template.data.shape
    x = template.affine[0, 0] * np.arange(shape[0]) + template.affine[0, 3]
    volume = np.broadcast_to(x[:, None, None], shape)
    read = grayordinates_from_volume(volume, template.affine)
    places = load_grayordinates()
    expected = places.voxels @ places.affine[0, :3] + places.affine[0, 3]
    np.testing.assert_allclose(read[places.subcortex], expected, atol=1e-4)
    assert (read[places.cortex("L")] < 2).all()
    assert (read[places.cortex("R")] > -2).all()


def test_wrong_lengths_and_sides_are_refused():
    with pytest.raises(ValueError, match="91282 finite numbers"):
        parcellate_dense(np.zeros(10))
    with pytest.raises(ValueError, match="'L' or 'R'"):
        load_grayordinates().vertices("left")


def test_shared_arrays_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        load_grayordinates().left[0] = 1
