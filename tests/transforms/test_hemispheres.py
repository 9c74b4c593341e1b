import pickle
from collections.abc import Hashable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data.meta_tensor import MetaTensor

from hemitwin.transforms import (
    HemispherePair,
    SplitHemispheresd,
    mirror_affine,
    rejoin,
    split_hemispheres,
)


def centred(width: int, step: float = 2.0) -> np.ndarray:
    affine = np.diag([step, 3.0, 4.0, 1.0])
    affine[:3, 3] = -step * (width - 1) / 2, 5.0, -6.0
    return affine


def volume(*shape: int) -> torch.Tensor:
    return torch.arange(float(np.prod(shape))).reshape(shape) + 1


@given(st.integers(2, 9), st.lists(st.integers(1, 4), max_size=2), st.floats(0.5, 4))
def test_rejoining_a_split_is_identity(width, rest, step):
    whole = volume(2, width, *rest)
    joined = rejoin(split_hemispheres(whole, centred(width, step)))
    assert torch.equal(joined, whole)


@given(st.integers(2, 9))
def test_halves_affines_lead_to_the_voxels_true_places(width):
    affine = centred(width)
    places = (affine @ np.stack([*np.indices((width, 2, 3)).reshape(3, -1), np.ones(width * 6)]))[
        0
    ]
    whole = torch.from_numpy(places.reshape(1, width, 2, 3))
    pair = split_hemispheres(whole, affine)
    for half, own in ((pair.left, pair.left_affine), (pair.right, pair.right_affine)):
        for i in range(half.shape[1]):
            assert float(half[0, i, 0, 0]) == pytest.approx(own[0, 0] * i + own[0, 3])
    assert (pair.left < 0).all()
    assert (pair.right > 0).all()
    assert pair.right_affine[0, 0] < 0


def test_splitting_equals_a_loop_over_columns():
    whole = volume(1, 7, 2, 2)
    pair = split_hemispheres(whole, centred(7))
    for i in range(3):
        assert torch.equal(pair.left[:, i], whole[:, i])
        assert torch.equal(pair.right[:, i], whole[:, 6 - i])
    assert pair.midline is not None
    assert torch.equal(pair.midline[:, 0], whole[:, 3])


def test_mirroring_a_volume_swaps_its_halves():
    whole = volume(1, 6, 2, 2)
    one, other = (split_hemispheres(v, centred(6)) for v in (whole, whole.flip(1)))
    assert torch.equal(one.left, other.right)
    assert torch.equal(one.right, other.left)


@given(st.integers(2, 9))
def test_mirroring_an_affine_twice_is_identity(width):
    twice = mirror_affine(mirror_affine(centred(width), width), width)
    np.testing.assert_allclose(twice, centred(width))


def test_halves_share_no_memory_with_the_volume():
    whole = volume(1, 5, 2, 2)
    pair = split_hemispheres(whole, centred(5))
    assert pair.midline is not None
    for part in (pair.left, pair.right, pair.midline):
        part.zero_()
    assert torch.equal(whole, volume(1, 5, 2, 2))


def _off(row: int, column: int, value: float) -> np.ndarray:
    affine = centred(6)
    affine[row, column] = value
    return affine


@pytest.mark.parametrize(
    ("affine", "reason"),
    [
        (_off(0, 3, -4.0), "mid-plane x = 0 must be the grid's centre; it is -1.000 mm beside"),
        (_off(0, 0, -2.0), "run from left to right"),
        (_off(0, 1, 0.1), "run from left to right"),
        (_off(2, 0, 0.1), "run from left to right"),
    ],
)
def test_a_grid_that_is_not_symmetric_is_refused(affine, reason):
    with pytest.raises(ValueError, match=reason):
        split_hemispheres(volume(1, 6, 2, 2), affine)


def test_halves_of_different_shape_are_refused():
    pair = HemispherePair(volume(1, 2, 2), volume(1, 3, 2), None, np.eye(4), np.eye(4))
    with pytest.raises(ValueError, match="halves must have one shape"):
        rejoin(pair)


@pytest.mark.parametrize("width", [6, 7])
def test_the_dictionary_transform_splits_marks_and_inverts(width):
    whole = MetaTensor(volume(1, width, 2, 2), affine=torch.from_numpy(centred(width)))
    item = {"image": whole, "id": "sub-1"}
    transform = pickle.loads(pickle.dumps(SplitHemispheresd("image")))  # noqa: S301  # our own bytes
    halves = transform(item)
    assert set(item) == {"image", "id"}
    assert halves["image_left"].meta["side"] == "L"
    assert not halves["image_left"].meta["mirrored"]
    assert halves["image_right"].meta["mirrored"]
    assert float(halves["image_right"].affine[0, 0]) == -2.0
    assert ("image_midline" in halves) == (width % 2 == 1)
    back = transform.inverse(halves)
    assert set(back) == {"image", "id"}
    assert torch.equal(back["image"].as_tensor(), whole.as_tensor())
    assert torch.equal(back["image"].affine, whole.affine)
    assert "mirrored" not in back["image"].meta


def test_labels_are_split_as_labels():
    labels = torch.arange(12, dtype=torch.uint8).reshape(1, 6, 2, 1)
    whole = MetaTensor(labels, affine=torch.from_numpy(centred(6)))
    halves: dict[Hashable, Any] = SplitHemispheresd("labels")({"labels": whole})
    assert halves["labels_left"].dtype == halves["labels_right"].dtype == torch.uint8
    assert torch.equal(halves["labels_left"].as_tensor(), labels[:, :3])
    assert torch.equal(halves["labels_right"].as_tensor(), labels[:, 3:].flip(1))


def test_a_tensor_without_affine_is_refused():
    with pytest.raises(TypeError, match="'image' must be a MetaTensor with an affine, got Tensor"):
        SplitHemispheresd("image")({"image": volume(1, 4, 2, 2)})
