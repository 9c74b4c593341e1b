import numpy as np
import pytest

from hemitwin.atlases import surface_offset


@pytest.fixture
def counted(monkeypatch):
    """The number of times that points were moved."""
    calls = []
    forward = surface_offset.template_from_fslr

    def counting(points):
        calls.append(len(points))
        return forward(points)

    monkeypatch.setattr(surface_offset, "template_from_fslr", counting)
    return calls


def test_the_inverse_ends_when_it_is_exact(counted):
    rng = np.random.default_rng(0)
    points = rng.uniform(-60, 60, (5000, 3))
    there = surface_offset.fslr_from_template(points)
    assert len(counted) < 12
    assert np.abs(surface_offset.template_from_fslr(there) - points).max() < 1e-3


def test_no_points_are_moved_to_no_points(counted):
    assert surface_offset.fslr_from_template(np.zeros((0, 3))).shape == (0, 3)
    assert len(counted) == 1
