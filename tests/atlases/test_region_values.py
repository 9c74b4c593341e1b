import numpy as np
import pytest
from nibabel.nifti1 import Nifti1Image
from nilearn.maskers import NiftiLabelsMasker

from hemitwin.atlases import region_values, relevance_by_region


@pytest.fixture
def maps(small_parcellation):
    return np.random.default_rng(0).normal(size=(3, *small_parcellation.labels.shape))


def test_sums_are_those_of_the_tables(small_parcellation, maps):
    found = region_values(maps, small_parcellation.affine, small_parcellation)
    for row, volume in zip(found, maps, strict=True):
        table = relevance_by_region(volume, small_parcellation.affine, small_parcellation)
        np.testing.assert_allclose(row, table["sum"][: len(row)], rtol=1e-12)


def test_means_are_nilearns(small_parcellation, maps):
    found = region_values(maps, small_parcellation.affine, small_parcellation, statistic="mean")
    labels = Nifti1Image(small_parcellation.labels, small_parcellation.affine)
    images = Nifti1Image(np.moveaxis(maps, 0, -1), small_parcellation.affine)
    theirs = NiftiLabelsMasker(labels, standardize=None, resampling_target=None)
    np.testing.assert_allclose(found, theirs.fit_transform(images), rtol=1e-6)


def test_another_grid_is_looked_up_in_its_world(small_parcellation):
    finer = np.kron(small_parcellation.labels == 3, np.ones((2, 2, 2)))[None]
    affine = small_parcellation.affine.copy()
    affine[:3, :3] /= 2
    affine[:3, 3] -= 0.5
    found = region_values(finer, affine, small_parcellation)
    expected = [8.0 * (small_parcellation.labels == 3).sum(), 0.0, 0.0]
    np.testing.assert_array_equal(found[0], expected)


def test_a_region_outside_has_no_mean(small_parcellation, maps):
    away = small_parcellation.affine.copy()
    away[0, 3] += 100
    found = region_values(maps, away, small_parcellation, statistic="mean")
    assert np.isnan(found).all()


def test_what_is_not_finite_is_refused(small_parcellation, maps):
    maps[1, 0, 0, 0] = np.nan  # in no region
    region_values(maps, small_parcellation.affine, small_parcellation)
    maps[1][small_parcellation.labels == 3] = np.nan
    with pytest.raises(ValueError, match="maps must be finite"):
        region_values(maps, small_parcellation.affine, small_parcellation)
