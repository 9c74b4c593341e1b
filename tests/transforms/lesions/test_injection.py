import json
import os
import pickle
import shutil
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import jaxtyping
import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data.meta_tensor import MetaTensor
from monai.transforms.compose import Compose
from pydantic import ValidationError

from hemitwin.transforms import (
    LesionConfig,
    LesionMaskLibrary,
    LesionSpec,
    RandLesionsd,
    inject_lesion,
    lesion_alpha,
    sample_lesion,
)

SIMPLE = {
    "kind": "ellipsoid", "side": "L", "seed": 3, "centre_mm": (-30.0, 5.0, 10.0),
    "volume_mm3": 12000.0, "contrast": -0.4,
}  # fmt: skip
ROUGH = SIMPLE | {
    "radii_ratio": (0.7, 1.0, 1.5), "rotation_deg": (20.0, 40.0, -30.0), "roughness": 0.3,
    "edge_mm": 4.0, "texture": 0.1,
}  # fmt: skip


@pytest.fixture(scope="module")
def masks(tmp_path_factory) -> LesionMaskLibrary:
    folder: Path = tmp_path_factory.mktemp("masks")
    x, y, z = np.indices((40, 40, 40))
    bent = ((x - 20) ** 2 + (y - 20) ** 2 < 200) & (abs(z - 15) < 4) & ~((x > 18) & (y > 18))
    for name, mask in (("bent", bent), ("two", bent & (abs(x - 12) > 3))):
        nib.save(nib.Nifti1Image(mask.astype(np.uint8), np.eye(4)), folder / f"{name}.nii.gz")
    return LesionMaskLibrary(folder)


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["L", "R"]), st.sampled_from([0.0, 1.0]))
def test_a_random_lesion_keeps_every_promise(template, masks, seed, side, mask_share):
    data, affine = template
    inside = data > 0
    config = LesionConfig(mask_share=mask_share)
    rng = np.random.default_rng(seed)
    spec = sample_lesion(rng, config, inside, affine, side=side, mask_library=masks)
    lesioned, mask = inject_lesion(data, affine, spec, inside, mask_library=masks)
    alpha = lesion_alpha(affine, spec, inside, mask_library=masks)
    np.testing.assert_array_equal(mask, alpha > 0)
    np.testing.assert_array_equal(lesioned[~mask], data[~mask])
    assert not (mask & ~inside).any()
    x_mm = affine[0, 0] * np.argwhere(mask)[:, 0] + affine[0, 3]
    assert (x_mm < 0).all() if side == "L" else (x_mm > 0).all()
    assert (alpha >= 0.5).sum() * 64 == pytest.approx(spec.volume_mm3, rel=0.1)
    assert lesioned[mask].mean() < data[mask].mean()
    assert LesionSpec.model_validate_json(spec.model_dump_json()) == spec


def test_a_smooth_ellipsoid_equals_the_formula(template):
    data, affine = template
    spec = LesionSpec.model_validate(SIMPLE | {"radii_ratio": (1.0, 1.0, 1.0)})
    alpha = lesion_alpha(affine, spec, np.ones_like(data, dtype=bool))
    index = np.argwhere(np.ones_like(data, dtype=bool))
    world = index @ affine[:3, :3].T + affine[:3, 3]
    order = np.argsort(np.linalg.norm(world - spec.centre_mm, axis=1), kind="stable")
    radius = np.linalg.norm(world - spec.centre_mm, axis=1).reshape(data.shape)
    limit = radius.ravel()[order[round(spec.volume_mm3 / 64) - 1]]
    np.testing.assert_array_equal(alpha > 0, radius <= limit + 1e-9)
    assert limit == pytest.approx(spec.mean_radius_mm, abs=2)


def test_the_same_spec_is_the_same_lesion_on_a_finer_grid(template):
    data, affine = template
    fine = affine @ np.diag([0.5, 0.5, 0.5, 1.0])
    fine[:3, 3] -= 1.0
    inside = data > 0
    finer = inside.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    spec = LesionSpec.model_validate(ROUGH)
    coarse_alpha = lesion_alpha(affine, spec, inside)
    fine_alpha = lesion_alpha(fine, spec, finer)
    blocks = fine_alpha.reshape(40, 2, 48, 2, 40, 2).mean(axis=(1, 3, 5))
    assert (fine_alpha >= 0.5).sum() * 8 == pytest.approx(spec.volume_mm3, rel=0.01)
    assert np.corrcoef(blocks.ravel(), coarse_alpha.ravel())[0, 1] > 0.98


def test_native_volumes_grow_in_template_space(template):
    data, affine = template
    spec = LesionSpec.model_validate(ROUGH | {"native_mm3_per_mm3": 0.7})
    alpha = lesion_alpha(affine, spec, data > 0)
    assert (alpha >= 0.5).sum() * 64 * 0.7 == pytest.approx(spec.volume_mm3, rel=0.02)


def test_without_contrast_and_texture_nothing_changes(template):
    data, affine = template
    spec = LesionSpec.model_validate(ROUGH | {"contrast": 0.0, "texture": 0.0})
    same, mask = inject_lesion(data, affine, spec, data > 0)
    assert same.tobytes() == data.tobytes()
    assert mask.any()


def test_injection_repeats_and_leaves_its_input_alone(template):
    data, affine = template
    kept = data.copy()
    spec = LesionSpec.model_validate(ROUGH)
    one, _ = inject_lesion(data, affine, spec, data > 0)
    two, _ = inject_lesion(data, affine, spec, data > 0)
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(data, kept)
    other, _ = inject_lesion(data, affine, spec.model_copy(update={"seed": 4}), data > 0)
    assert (one != other).any()


def test_every_channel_gets_the_lesion(template):
    data, affine = template
    both = np.stack([data, 2 * data])
    lesioned, mask = inject_lesion(both, affine, LesionSpec.model_validate(ROUGH), data > 0)
    alone, _ = inject_lesion(data, affine, LesionSpec.model_validate(ROUGH), data > 0)
    np.testing.assert_array_equal(lesioned[0], alone)
    np.testing.assert_allclose(lesioned[1], 2 * alone, rtol=1e-6)
    assert mask.shape == data.shape


def test_contrast_scales_the_middle_of_a_lesion(template):
    data, affine = template
    spec = LesionSpec.model_validate(SIMPLE)
    lesioned, mask = inject_lesion(data, affine, spec, data > 0)
    np.testing.assert_allclose(lesioned[mask], 0.6 * data[mask], rtol=1e-5)


def test_rotating_a_lesion_about_a_round_turn_changes_nothing(template):
    data, affine = template
    turned = ROUGH | {"rotation_deg": (380.0, 400.0, 330.0)}
    one = lesion_alpha(affine, LesionSpec.model_validate(ROUGH), data > 0)
    np.testing.assert_allclose(
        one, lesion_alpha(affine, LesionSpec.model_validate(turned), data > 0), atol=1e-5
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"volume_mm3": 2e6}, "must fit into the brain on side L"),
        ({"centre_mm": (300.0, 0.0, 0.0), "volume_mm3": 500.0}, "must fit into the brain"),
        ({"kind": "mask", "mask_name": "bent.nii.gz"}, "must have a mask library"),
    ],
)
def test_a_lesion_that_cannot_be_made_is_refused(template, change, reason):
    data, affine = template
    with pytest.raises(ValueError, match=reason):
        inject_lesion(data, affine, LesionSpec.model_validate(SIMPLE | change), data > 0)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"colour": 1}, "Extra inputs"),
        ({"kind": "mask"}, "mask_name must be set for kind 'mask' and only then"),
        ({"mask_name": "a"}, "mask_name must be set for kind 'mask' and only then"),
        ({"volume_mm3": 0.0}, "greater than 0"),
    ],
)
def test_an_incomplete_spec_is_refused(change, reason):
    with pytest.raises(ValidationError, match=reason):
        LesionSpec.model_validate(SIMPLE | change)


def test_ranges_that_fall_are_refused():
    with pytest.raises(ValidationError, match=r"edge_mm must be \(low, high\)"):
        LesionConfig(edge_mm=(3.0, 1.0))
    with pytest.raises(ValidationError, match="must be positive"):
        LesionConfig(volume_mm3=(0.0, 1.0))


def test_sampling_repeats_for_a_seed_and_differs_for_another(template):
    data, affine = template
    specs = [
        sample_lesion(np.random.default_rng(seed), LesionConfig(), data > 0, affine)
        for seed in (0, 0, 1)
    ]
    assert specs[0] == specs[1] != specs[2]


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (LesionConfig(volume_mm3=(1e5, 1e5)), "have 80% of its shape in the brain"),
        (LesionConfig(mask_share=1.0), "must come with a mask library"),
    ],
)
def test_sampling_says_why_it_cannot(template, config, reason):
    data, affine = template
    slab = (data > 0) & (np.arange(40) // 4 == 6)[:, None, None]
    with pytest.raises(ValueError, match=reason):
        sample_lesion(np.random.default_rng(0), config, slab, affine, side="R")


def test_a_side_without_brain_is_refused(template):
    data, affine = template
    left = (data > 0) & (np.arange(40) < 20)[:, None, None]
    with pytest.raises(ValueError, match="hold voxels on side R"):
        sample_lesion(np.random.default_rng(0), LesionConfig(), left, affine, side="R")


def test_a_mask_keeps_its_shape_when_placed(masks):
    shape = masks.load("bent.nii.gz")
    spec = LesionSpec.model_validate(
        SIMPLE | {"kind": "mask", "mask_name": "bent.nii.gz", "volume_mm3": shape.volume_mm3}
    )
    fine = np.diag([1.0, 1.0, 1.0, 1.0])
    fine[:3, 3] = -70.5, -60.5, -60.5
    alpha = lesion_alpha(fine, spec, np.ones((71, 121, 121), dtype=bool), mask_library=masks)
    centre = np.argwhere(alpha > 0).mean(axis=0) + fine[:3, 3]
    np.testing.assert_allclose(centre, spec.centre_mm, atol=1.0)
    extents = [np.ptp(np.argwhere(alpha > 0)[:, axis]) for axis in range(3)]
    inside = np.argwhere(shape.distance_mm < 0) * shape.spacing_mm
    true = np.ptp(inside, axis=0)
    np.testing.assert_allclose(extents, true, atol=2.5)


def test_a_mask_folder_names_what_is_wrong(tmp_path, masks):
    with pytest.raises(FileNotFoundError, match="must hold NIfTI files"):
        LesionMaskLibrary(tmp_path)
    with pytest.raises(ValueError, match="a mask must be one of 2"):
        masks.load("three.nii.gz")
    dim = np.full((3, 3, 3), 0.1)
    dim[0] = 0.2
    nib.save(nib.Nifti1Image(dim, np.eye(4)), tmp_path / "dim.nii.gz")
    with pytest.raises(ValueError, match=r"voxels above 0\.5"):
        LesionMaskLibrary(tmp_path).load("dim.nii.gz")


def save_ball(path: Path, radius: int) -> None:
    x, y, z = np.indices((24, 24, 24)) - 12
    ball = (x**2 + y**2 + z**2 < radius**2).astype(np.uint8)
    nib.save(nib.Nifti1Image(ball, np.eye(4)), path)


def test_the_digest_of_masks_is_of_their_names_and_bytes(tmp_path):
    folder, copy = tmp_path / "masks", tmp_path / "elsewhere"
    folder.mkdir()
    save_ball(folder / "a.nii", 4)
    save_ball(folder / "b.nii", 6)
    shutil.copytree(folder, copy)
    library = LesionMaskLibrary(folder)
    before, one = library.digest, library.digest_of("b.nii")
    assert LesionMaskLibrary(copy).digest == before
    (copy / "b.nii").rename(copy / "c.nii")
    assert LesionMaskLibrary(copy).digest != before
    assert LesionMaskLibrary(copy).digest_of("c.nii") == one
    save_ball(folder / "b.nii", 7)
    changed = LesionMaskLibrary(folder)
    assert changed.digest != before
    assert changed.digest_of("b.nii") != one
    (folder / "b.nii").unlink()
    assert LesionMaskLibrary(folder).digest not in {before, changed.digest}
    with pytest.raises(ValueError, match="a mask must be one of 1"):
        LesionMaskLibrary(folder).digest_of("b.nii")


def test_a_mask_that_was_replaced_is_read_again(tmp_path):
    save_ball(tmp_path / "ball.nii", 4)
    library = LesionMaskLibrary(tmp_path)
    small, state = library.load("ball.nii"), (tmp_path / "ball.nii").stat()
    assert library.load("ball.nii") is small
    save_ball(tmp_path / "other.nii", 8)
    os.utime(tmp_path / "other.nii", ns=(state.st_atime_ns, state.st_mtime_ns))
    (tmp_path / "other.nii").replace(tmp_path / "ball.nii")  # of the same size and time
    assert library.load("ball.nii").volume_mm3 > 4 * small.volume_mm3


def test_hidden_files_are_no_masks(tmp_path):
    (tmp_path / "._ball.nii").write_bytes(b"resource fork")
    with pytest.raises(FileNotFoundError, match="must hold NIfTI files"):
        LesionMaskLibrary(tmp_path)
    save_ball(tmp_path / "ball.nii", 4)
    assert LesionMaskLibrary(tmp_path).names == ("ball.nii",)


def item(template, **more) -> dict[Hashable, object]:
    data, affine = template
    image = MetaTensor(torch.from_numpy(data[None]), affine=torch.from_numpy(affine))
    return {"image": image, **more}


def drawn(transform: RandLesionsd, entries: dict[Hashable, object], seed: int) -> Any:
    transform.set_random_state(seed=seed)
    return transform(entries)


def applied(transform, entries, seed=0) -> tuple[np.ndarray, np.ndarray, list[LesionSpec]]:
    """The changed volume, the labels and the specs."""
    made = drawn(transform, entries, seed)
    specs = [LesionSpec(**spec) for spec in json.loads(made["image_lesion_specs"])]
    return made["image"][0].numpy(), made["image_lesions"][0].numpy(), specs


SMALL = LesionConfig(volume_mm3=(1000.0, 4000.0))


def test_the_dictionary_transform_returns_volume_labels_and_specs(template):
    data, affine = template
    source = item(template)
    made = drawn(RandLesionsd("image", LesionConfig()), source, 7)
    (content,) = json.loads(str(made["image_lesion_specs"]))
    lesioned, mask = inject_lesion(data, affine, LesionSpec(**content), data != 0)
    for name, expected in (("image", lesioned), ("image_lesions", mask)):
        tensor = made[name]
        assert isinstance(tensor, MetaTensor)
        np.testing.assert_array_equal(tensor[0].numpy(), expected)
        np.testing.assert_allclose(tensor.affine.numpy(), affine)
    labels, before = made["image_lesions"], source["image"]
    assert isinstance(labels, MetaTensor)
    assert labels.dtype == torch.uint8
    assert isinstance(before, MetaTensor)
    np.testing.assert_array_equal(before[0].numpy(), data)


def test_the_dictionary_transform_draws_from_its_own_state_only(template):
    specs = []
    for seed in (1, 1, 2):
        chain: Any = Compose([RandLesionsd("image", LesionConfig())])
        chain.set_random_state(seed=seed)
        specs.append([chain(item(template))["image_lesion_specs"] for _ in range(2)])
    assert specs[0] == specs[1] != specs[2]
    assert specs[0][0] != specs[0][1]


def test_each_volume_has_lesions_of_its_own(template):
    both = item(template) | {"other": item(template)["image"]}
    made = drawn(RandLesionsd(("image", "other"), SMALL), both, 0)
    assert made["image_lesion_specs"] != made["other_lesion_specs"]
    assert made["other_lesions"].any()


def test_half_of_the_draws_have_one_lesion_and_the_other_half_up_to_the_most(template):
    data, _ = template
    several = RandLesionsd("image", SMALL, most=4)
    counts = []
    for seed in range(40):
        lesioned, labels, specs = applied(several, item(template), seed)
        counts.append(len(specs))
        assert np.unique(labels).tolist() == [*range(len(specs) + 1)]
        for number, spec in enumerate(specs):
            there = np.argwhere(labels == number + 1)[:, 0] < 20
            assert there.all() if spec.side == "L" else not there.any()
            assert spec.side != specs[number - 1].side or number == 0
        assert not ((labels > 0) & (labels[::-1] > 0)).any()  # no two in mirrored places
        np.testing.assert_array_equal(lesioned[labels == 0], data[labels == 0])
    assert set(counts) == {1, 2, 3, 4}
    assert 12 <= counts.count(1) <= 28
    alone = RandLesionsd("image", SMALL)
    assert all(len(applied(alone, item(template), seed)[2]) == 1 for seed in range(20))


@pytest.mark.parametrize("side", ["L", "R"])
def test_the_first_lesion_lies_on_the_side_that_was_asked_for(template, side):
    asked = RandLesionsd("image", SMALL, most=2, side=side)
    assert {applied(asked, item(template), seed)[2][0].side for seed in range(8)} == {side}
    drawn = RandLesionsd("image", SMALL, most=2)
    assert {applied(drawn, item(template), seed)[2][0].side for seed in range(8)} == {"L", "R"}


def test_lesions_keep_to_the_mask_that_is_named(template):
    data, _ = template
    upper = (data > 0) & (np.arange(data.shape[2]) > 20)
    named = RandLesionsd("image", SMALL, most=3, mask_key="brain")
    entries = item(template, brain=torch.from_numpy(upper)[None])
    assert not any((applied(named, entries, seed)[1][~upper] > 0).any() for seed in range(6))
    anywhere = RandLesionsd("image", SMALL, most=3)
    assert any((applied(anywhere, entries, seed)[1][~upper] > 0).any() for seed in range(6))
    with pytest.raises(KeyError, match="the brain's mask must be an entry 'brain'"):
        named(item(template))


def test_where_there_is_no_room_for_more_there_are_fewer_and_none_is_an_error(template):
    data, _ = template
    large = LesionConfig(volume_mm3=(60_000.0, 60_000.0))
    crowded = RandLesionsd("image", large, most=16)
    counts = [len(applied(crowded, item(template), seed)[2]) for seed in range(8)]
    assert 1 < max(counts) < 16
    slab = (data > 0) & (np.arange(40) // 4 == 6)[:, None, None]
    entries = item(template, brain=torch.from_numpy(slab)[None])
    with pytest.raises(ValueError, match="have 80% of its shape in the brain"):
        RandLesionsd("image", large, side="R", mask_key="brain")(entries)


@pytest.mark.parametrize("scale", [0.5, np.float32(0.5), torch.tensor(0.5)])
def test_the_native_scale_of_the_subject_at_hand_is_taken(template, scale):
    transform = RandLesionsd("image", SMALL)
    _, plain, (template_scaled,) = applied(transform, item(template))
    _, larger, (native,) = applied(transform, item(template, native_mm3_per_mm3=scale))
    assert template_scaled.native_mm3_per_mm3 == 1.0
    assert native.native_mm3_per_mm3 == 0.5
    assert native.volume_mm3 == template_scaled.volume_mm3
    assert (larger > 0).sum() > 1.5 * (plain > 0).sum()
    with pytest.raises(ValueError, match=r"native_mm3_per_mm3 must be positive, got 0\.0"):
        transform(item(template, native_mm3_per_mm3=0.0))


@pytest.mark.parametrize(
    ("config", "more", "reason"),
    [
        (SMALL, {"most": 0}, "most must be from 1 to 255, got 0"),
        (SMALL, {"most": 256}, "most must be from 1 to 255, got 256"),
        (LesionConfig(mask_share=0.1), {}, "must come with a mask library"),
    ],
)
def test_a_transform_that_cannot_work_is_refused_when_it_is_made(config, more, reason):
    with pytest.raises(ValueError, match=reason):
        RandLesionsd("image", config, **more)


def test_a_side_that_is_none_is_refused(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    side: Any = "left"
    with pytest.raises(ValueError, match="must be 'L' or 'R', or None to draw it, got 'left'"):
        RandLesionsd("image", SMALL, side=side)


def test_a_pickled_transform_draws_as_it_would_have(template):
    transform = RandLesionsd("image", SMALL, most=3)
    transform.set_random_state(seed=5)
    copy = pickle.loads(pickle.dumps(transform))  # noqa: S301  # our own bytes
    one, other = (each(item(template))["image_lesion_specs"] for each in (transform, copy))
    assert one == other


def test_several_lesions_off_the_mid_plane_are_refused(template):
    data, affine = template
    moved = affine.copy()
    moved[0, 3] += 8.0
    RandLesionsd("image", SMALL)(item((data, moved)))
    with pytest.raises(ValueError, match="the mid-plane x = 0 must be the grid's centre"):
        RandLesionsd("image", SMALL, most=2)(item((data, moved)))


def test_a_plain_tensor_is_refused():
    with pytest.raises(TypeError, match="MetaTensor with an affine, got Tensor"):
        RandLesionsd("image", LesionConfig())({"image": torch.ones(1, 4, 4, 4)})


@pytest.mark.data
def test_real_masks_become_lesions(template, data_folder):
    data, affine = template
    library = LesionMaskLibrary(data_folder / "lesion-masks-soop")
    rng = np.random.default_rng(0)
    for _ in range(5):
        spec = sample_lesion(
            rng, LesionConfig(mask_share=1.0), data > 0, affine, mask_library=library
        )
        alpha = lesion_alpha(affine, spec, data > 0, mask_library=library)
        assert (alpha >= 0.5).sum() * 64 == pytest.approx(spec.volume_mm3, rel=0.1)
