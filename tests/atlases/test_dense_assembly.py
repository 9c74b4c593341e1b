"""Both cortices and a volume become grayordinates, and a cortex again."""

import numpy as np
import pytest

from hemitwin.atlases import (
    TEMPLATE_SPACE,
    assemble_dense,
    grayordinates_from_volume,
    load_fslr_surface,
    project_to_surface,
    spread_cortex,
    template_grid,
)
from hemitwin.atlases.grayordinates import load_grayordinates


def make_volume():
    shape, affine = template_grid(4.0)
    return np.random.default_rng(0).normal(size=shape).astype(np.float32), affine


def test_read_at_the_groups_surfaces_it_is_the_groups_reading():
    volume, affine = make_volume()
    cortex = {
        side: project_to_surface(volume, affine, load_fslr_surface(side, space=TEMPLATE_SPACE))
        for side in ("L", "R")
    }
    dense = assemble_dense(cortex, volume, affine)
    np.testing.assert_array_equal(dense, grayordinates_from_volume(volume, affine))


@pytest.mark.parametrize("side", ["L", "R"])
def test_a_cortex_comes_back_without_its_medial_wall(side):
    volume, affine = make_volume()
    values = {one: np.arange(1, 32493) + 0.5 for one in ("L", "R")}
    back = spread_cortex(assemble_dense(values, volume, affine), side)
    inside = np.zeros(32492, dtype=bool)
    inside[load_grayordinates().vertices(side)] = True
    np.testing.assert_array_equal(back[inside], values[side][inside])
    assert not back[~inside].any()


def test_other_meshes_are_refused():
    volume, affine = make_volume()
    cortex = {"L": np.zeros(32492), "R": np.zeros(10242)}
    with pytest.raises(ValueError, match=r"cortex R must have 32492 values, got shape \(10242,\)"):
        assemble_dense(cortex, volume, affine)
    with pytest.raises(ValueError, match="hemisphere must be 'L' or 'R'"):
        spread_cortex(np.zeros(91282), "left")
