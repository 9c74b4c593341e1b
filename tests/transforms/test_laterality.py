import pickle
from functools import partial
from typing import Any

import monai.transforms
import numpy as np
import pytest
import torch
from monai.data.meta_tensor import MetaTensor

from hemitwin.transforms import (
    GuardedCompose,
    RequireLateralityd,
    SplitHemispheresd,
    require_laterality,
)

monai_: Any = monai.transforms  # loosely typed: its dictionaries take any key and value
guarded: Any = GuardedCompose
AFFINE = np.diag([2.0, 3.0, 4.0, 1.0])
AFFINE[:3, 3] = -5.0, 5.0, -6.0


def halves() -> Any:
    whole = torch.arange(1.0, 97.0).reshape(1, 6, 4, 4)
    item: Any = {"image": MetaTensor(whole, affine=torch.from_numpy(AFFINE))}
    return {**SplitHemispheresd("image")(item), "grid": torch.from_numpy(AFFINE)}


RIGHT = "image_right"
UNDOING = {
    "Orientation": monai_.Orientationd(RIGHT, "RAS", labels=None),
    "Spacing": monai_.Spacingd(RIGHT, (2.0, 3.0, 4.0), diagonal=True),
    "ResampleToMatch": monai_.ResampleToMatchd(RIGHT, "image_left"),
    "SpatialResample": monai_.SpatialResampled(RIGHT, dst_keys="grid"),
    "Flip": monai_.Flipd(RIGHT, 0),
}


@pytest.mark.parametrize("name", UNDOING)
def test_what_monai_undoes_in_silence_is_refused_by_the_guard_and_named(name):
    before = halves()
    after = monai_.Compose([UNDOING[name]])(before)[RIGHT]
    assert float(torch.linalg.det(after.affine[:3, :3])) > 0  # plain MONAI: no mirror, no word
    pipeline = guarded([monai_.ScaleIntensityd(RIGHT), UNDOING[name]])
    with pytest.raises(ValueError, match=rf"transform 1, {type(UNDOING[name]).__name__},"):
        pipeline(before)


def test_flip_then_orientation_gives_back_the_volume_as_if_nothing_had_been_mirrored():
    whole = MetaTensor(torch.arange(96.0).reshape(1, 6, 4, 4), affine=torch.from_numpy(AFFINE))
    mirrored = monai_.Flip(0)(whole)
    assert not torch.equal(mirrored, whole)
    restored = monai_.Orientation("RAS", labels=None)(mirrored)
    assert torch.equal(restored, whole)
    mirrored.meta["mirrored"] = True
    require_laterality(mirrored)
    restored.meta["mirrored"] = True
    with pytest.raises(ValueError, match="its mirror was undone"):
        require_laterality(restored)


def test_what_keeps_the_mirror_is_let_through():
    keeping = [
        monai_.Spacingd(RIGHT, (1.0, 1.5, 2.0)),
        monai_.RandAffined(RIGHT, prob=1.0, rotate_range=0.1),
        monai_.EnsureTyped((RIGHT, "image_left")),
        RequireLateralityd((RIGHT, "image_left")),
    ]
    watched = guarded(keeping).set_random_state(3)(halves())
    plain = monai_.Compose(keeping).set_random_state(3)(halves())
    assert torch.equal(watched[RIGHT], plain[RIGHT])
    assert watched[RIGHT].meta["mirrored"]


def test_the_guard_lets_a_left_handed_scan_be_reoriented_before_it_is_split():
    stored = MetaTensor(torch.rand(1, 6, 4, 4), affine=torch.from_numpy(AFFINE))
    item: Any = {"image": monai_.Flip(0)(stored)}
    steps = [monai_.Orientationd("image", "RAS", labels=None), SplitHemispheresd("image")]
    pipeline = pickle.loads(pickle.dumps(guarded(steps)))  # noqa: S301  # our own bytes
    assert torch.equal(pipeline(item)["image_left"], stored[:, :3])


def test_dropping_the_flag_is_refused():
    with pytest.raises(ValueError, match=r"EnsureTyped, must leave 'image_right' mirrored"):
        guarded([monai_.EnsureTyped(RIGHT, track_meta=False)])(halves())
    plain = monai_.EnsureTyped(RIGHT, track_meta=False)(halves())
    with pytest.raises(TypeError, match="'image_right' must be a MetaTensor"):
        RequireLateralityd(RIGHT)(plain)


def test_an_input_that_is_wrong_already_is_refused_before_the_first_transform():
    undone = UNDOING["Orientation"](halves())
    with pytest.raises(ValueError, match="the input left 'image_right' in contradiction"):
        guarded([monai_.ScaleIntensityd(RIGHT)])(undone)
    with pytest.raises(ValueError, match=r"'image_right': .* mirror was undone"):
        RequireLateralityd(RIGHT)(undone)
    with pytest.raises(ValueError, match="mirror was undone"):
        SplitHemispheresd("image").inverse(undone)


def _changed(**meta: object) -> MetaTensor:
    right = halves()[RIGHT].clone()
    right.meta.update(meta)
    return right


@pytest.mark.parametrize(
    ("volume", "reason"),
    [
        (partial(_changed, mirrored=False), "left-handed affine must be marked as mirrored"),
        (
            partial(_changed, side="L"),
            r"half of side L must lie there, got its centre at x = 3\.0",
        ),
    ],
    ids=["flag", "side"],
)
def test_flag_affine_and_side_must_tell_one_story(volume, reason):
    with pytest.raises(ValueError, match=reason):
        require_laterality(volume())
