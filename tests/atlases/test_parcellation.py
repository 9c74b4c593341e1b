import dataclasses

import numpy as np
import pytest

from hemitwin.atlases import Parcellation, Region


def test_regions_are_found_by_name(small_parcellation):
    assert small_parcellation.region("R_a").index == 5
    with pytest.raises(KeyError, match="'L_b'"):
        small_parcellation.region("L_b")


def test_moving_there_and_back_is_identity(small_parcellation):
    matrix = np.array([[0.9, 0.1, 0, 5], [-0.1, 0.9, 0, 2], [0, 0, 1.1, -3], [0, 0, 0, 1]])
    there = small_parcellation.moved(matrix, space="T1w")
    back = there.moved(np.linalg.inv(matrix), space=small_parcellation.space)
    assert there.space == "T1w"
    np.testing.assert_allclose(back.affine, small_parcellation.affine, atol=1e-12)
    assert back.labels is small_parcellation.labels


def test_a_label_without_a_region_is_refused(small_parcellation):
    with pytest.raises(ValueError, match=r"\[6\] without"):
        dataclasses.replace(small_parcellation, regions=small_parcellation.regions[:2])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "L_a"}, "unique"),
        ({"index": 3}, "unique"),
        ({"index": 0}, "0 is no region"),
        ({"partner": None}, "point at each other"),
    ],
)
def test_contradictory_tables_are_refused(small_regions, change, message):
    left, right, stem = small_regions
    regions = (left, dataclasses.replace(right, **change), stem)
    with pytest.raises(ValueError, match=message):
        Parcellation(np.zeros((2, 2, 2), np.int32), np.eye(4), regions, "T1w")


def test_a_region_needs_no_voxel(small_regions):
    extra = (*small_regions, Region(9, "none", "midline", None, None, "#000000"))
    assert Parcellation(np.zeros((2, 2, 2), np.int32), np.eye(4), extra, "T1w").regions == extra
