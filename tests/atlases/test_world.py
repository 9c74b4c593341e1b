import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hemitwin.atlases.world import (
    check_affine,
    check_volume,
    regrid_labels,
    regrid_values,
    sample_at,
)


def random_affine(seed, scale=2.0):
    rng = np.random.default_rng(seed)
    affine = np.eye(4)
    affine[:3, :3] = np.diag(rng.uniform(0.7, 1.4, 3) * scale) + rng.uniform(-0.3, 0.3, (3, 3))
    affine[:3, 3] = rng.uniform(-5, 5, 3)
    return affine


def test_regridding_onto_itself_is_identity():
    rng = np.random.default_rng(0)
    values, labels = rng.normal(size=(5, 6, 7)).astype("f4"), rng.integers(0, 9, (5, 6, 7))
    affine = random_affine(1)
    np.testing.assert_allclose(
        regrid_values(values, affine, values.shape, affine), values, atol=1e-5
    )
    np.testing.assert_array_equal(regrid_labels(labels, affine, labels.shape, affine), labels)


@settings(max_examples=20)
@given(st.integers(0, 10_000))
def test_label_of_a_place_is_that_of_the_voxel_around_it(seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(1, 9, (4, 5, 3)).astype(np.int32)
    source, target = random_affine(seed), random_affine(seed + 1)
    found = regrid_labels(labels, source, (6, 5, 4), target)
    for voxel in np.ndindex(6, 5, 4):
        place = np.linalg.inv(source) @ target @ [*voxel, 1]
        nearest = np.floor(place[:3] + 0.5).astype(int)
        inside = (nearest >= 0).all() and (nearest < labels.shape).all()
        assert found[voxel] == (labels[tuple(nearest)] if inside else 0)


def test_trilinear_sampling_reproduces_a_linear_function():
    affine = random_affine(3)
    index = np.stack(np.meshgrid(*map(np.arange, (6, 7, 8)), indexing="ij"), -1)
    world = index @ affine[:3, :3].T + affine[:3, 3]
    volume = world @ [1.0, -2.0, 0.5]
    voxels = np.random.default_rng(4).uniform(0, 5, (50, 3))
    points = voxels @ affine[:3, :3].T + affine[:3, 3]
    np.testing.assert_allclose(
        sample_at(volume, affine, points), points @ [1.0, -2.0, 0.5], atol=1e-4
    )


def test_outside_the_field_of_view_is_zero():
    ones = np.ones((3, 3, 3))
    far = np.array([[-0.6, 0.0, 0.0], [0.0, 2.6, 0.0]])
    np.testing.assert_array_equal(sample_at(ones, np.eye(4), far), 0)
    shifted = np.eye(4)
    shifted[0, 3] = 1.6
    assert regrid_values(ones, np.eye(4), (2, 3, 3), shifted)[:, 0, 0].tolist() == [1, 0]


def test_singular_affine_is_refused():
    with pytest.raises(ValueError, match="finite and invertible"):
        check_affine(np.diag([1.0, 0.0, 1.0, 1.0]))
    with pytest.raises(ValueError, match="last row"):
        check_affine(np.ones((4, 4)))


def test_volume_with_wrong_axes_or_nan_is_refused():
    with pytest.raises(ValueError, match="three axes"):
        check_volume(np.zeros((1, 2, 3, 4)))
    with pytest.raises(ValueError, match="finite"):
        check_volume(np.full((2, 2, 2), np.nan))
