import numpy as np
import pytest
from scipy.spatial import KDTree

from hemitwin.atlases import (
    hcpmmp_surface_labels,
    load_fslr_surface,
    subcortex_centres,
    template_from_fslr,
    volume_offset,
)


@pytest.fixture
def counted(monkeypatch):
    """The number of times that points were moved."""
    calls = []
    forward = volume_offset.template_from_fslr_volume

    def counting(points):
        calls.append(len(points))
        return forward(points)

    monkeypatch.setattr(volume_offset, "template_from_fslr_volume", counting)
    return calls


def test_the_inverse_ends_when_it_is_exact(counted):
    rng = np.random.default_rng(0)
    points = rng.uniform(-60, 60, (5000, 3))
    there = volume_offset.fslr_volume_from_template(points)
    assert len(counted) < 12
    assert np.abs(volume_offset.template_from_fslr_volume(there) - points).max() < 1e-3


def test_deep_structures_stay_where_they_lie():
    centres = subcortex_centres()
    np.testing.assert_array_equal(volume_offset.template_from_fslr_volume(centres), centres)
    cortex = load_fslr_surface("L").vertices[hcpmmp_surface_labels("L") > 0].astype(float)
    moved = volume_offset.template_from_fslr_volume(cortex)
    whole = template_from_fslr(cortex)
    far = np.asarray(KDTree(centres).query(cortex)[0]) > 14  # 2 mm, 8 mm, and the grid between
    assert far.mean() > 0.4
    np.testing.assert_allclose(moved[far], whole[far], atol=1e-4)


def test_no_points_are_moved_to_no_points(counted):
    assert volume_offset.fslr_volume_from_template(np.zeros((0, 3))).shape == (0, 3)
    assert len(counted) == 1
