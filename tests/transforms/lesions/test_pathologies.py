"""Lesions with pathologies, roles and mass effect."""

import json
import subprocess
import sys
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data.meta_tensor import MetaTensor
from pydantic import ValidationError

from hemitwin.transforms import (
    LesionConfig,
    LesionSpec,
    RandLesionsd,
    inject_lesion,
    lesion_alpha,
    lesion_box,
    lesion_support,
    sample_lesion,
)
from hemitwin.transforms.lesions.box import side_mask
from hemitwin.transforms.lesions.contrasts import CONTRASTS
from hemitwin.transforms.lesions.mass_effect import MassEffect, radial_field
from hemitwin.transforms.lesions.smooth_noise import lattice_noise, spline_noise
from hemitwin.transforms.lesions.spec import LesionRole, Modality, Pathology
from hemitwin.transforms.lesions.tissue import (
    deep_white_matter,
    measure_texture,
    white_matter_limits,
)

PATHOLOGIES: tuple[Pathology, ...] = get_args(Pathology)
ROLES: tuple[LesionRole, ...] = get_args(LesionRole)
TUMOUR = {
    "pathology": "tumour", "kind": "field", "side": "L", "seed": 3, "volume_mm3": 30000.0,
    "centre_mm": (-34.0, -2.0, 6.0), "contrast": -0.3, "edge_mm": 3.0, "texture": 0.5,
    "texture_from": "surroundings", "replacement": 0.8, "mass_effect_mm": 4.0,
    "mass_reach_mm": 40.0, "centre": {"share": 0.15, "contrast": -0.6, "replacement": 0.9},
    "shell": {"share": 0.5, "contrast": -0.2, "follows_white_matter": True},
}  # fmt: skip


@pytest.fixture(scope="module")
def brain(template) -> tuple[np.ndarray, np.ndarray]:
    return template


def draw(brain, seed: int, pathology: Pathology, role: LesionRole = "lesion") -> LesionSpec:
    data, affine = brain
    config = LesionConfig(
        pathologies={pathology: 1.0}, roles={role: 1.0}, field_share=0.5,
        volume_mm3=(4000.0, 20000.0),
    )  # fmt: skip
    return sample_lesion(np.random.default_rng(seed), config, data > 0, affine)


@settings(max_examples=18)
@given(st.integers(0, 2**32 - 1), st.sampled_from(PATHOLOGIES), st.sampled_from(ROLES))
def test_an_injection_keeps_to_its_support_its_side_and_its_spec(brain, seed, pathology, role):
    data, affine = brain
    spec = draw(brain, seed, pathology, role)
    changed, mask = inject_lesion(data, affine, spec, data > 0)
    again, same = inject_lesion(data, affine, spec, data > 0)
    assert changed.tobytes() == again.tobytes()
    assert mask.tobytes() == same.tobytes()
    support = lesion_support(affine, spec, mask, data > 0)
    np.testing.assert_array_equal(changed[~support], data[~support])
    assert (changed[data == 0] == 0).all()
    assert not (mask & ~(data > 0)).any()
    left = np.zeros_like(mask)
    left[:20] = True
    if role != "sham":
        assert not (support & (~left if spec.side == "L" else left)).any()
    else:
        assert mask[:20].any()
        assert mask[20:].any()
    assert spec.is_abnormal == (role == "lesion")
    assert LesionSpec.model_validate_json(spec.model_dump_json()) == spec


@settings(max_examples=12)
@given(st.integers(0, 2**32 - 1), st.sampled_from(PATHOLOGIES))
def test_the_volume_of_half_alpha_is_the_specs_to_the_voxel(brain, seed, pathology):
    data, affine = brain
    spec = draw(brain, seed, pathology)
    room = data > 0
    if spec.in_white_matter:
        room = deep_white_matter(data, room, white_matter_limits(data, room, "T1w"))
    found = lesion_box(affine, spec, room)
    wanted = round(spec.template_mm3 / 64)
    assert (found.alpha >= 0.5).sum() == pytest.approx(wanted, abs=1)
    assert (found.core <= found.alpha).all()
    assert (found.centre <= found.core).all()
    whole = lesion_alpha(affine, spec, room)
    np.testing.assert_array_equal(whole[found.box], found.alpha)
    assert whole.sum() == pytest.approx(found.alpha.sum())


@settings(max_examples=6)
@given(st.integers(0, 2**32 - 1), st.sampled_from(PATHOLOGIES))
def test_a_sham_of_a_symmetric_brain_is_symmetric_to_the_bit(brain, seed, pathology):
    data, affine = brain
    symmetric = np.where(data < data[::-1], data, data[::-1])
    spec = draw((symmetric, affine), seed, pathology, "sham")
    sham, mask = inject_lesion(symmetric, affine, spec, symmetric > 0)
    assert sham.tobytes() == np.ascontiguousarray(sham[::-1]).tobytes()
    one_sided = spec.model_copy(update={"role": "lesion"})
    lesioned, one = inject_lesion(symmetric, affine, one_sided, symmetric > 0)
    half = slice(0, 20) if spec.side == "L" else slice(20, 40)
    np.testing.assert_array_equal(sham[half], lesioned[half])
    np.testing.assert_array_equal(mask, one | one[::-1])


def test_a_sham_off_the_mid_plane_is_refused(brain):
    data, affine = brain
    moved = affine.copy()
    moved[0, 3] += 1.0
    spec = LesionSpec.model_validate(TUMOUR | {"role": "sham"})
    with pytest.raises(ValueError, match="symmetric about x = 0"):
        inject_lesion(data, moved, spec, data > 0)


NO_CONTRAST = {
    "contrast": 0.0,
    "shell": {"share": 0.5, "contrast": 0.0, "follows_white_matter": True},
    "centre": {"share": 0.15, "contrast": 0.0, "replacement": 0.9},
}


def test_no_contrast_and_no_push_return_the_volume_bit_for_bit(brain):
    data, affine = brain
    still = LesionSpec.model_validate(TUMOUR | NO_CONTRAST | {"mass_effect_mm": 0.0})
    same, mask = inject_lesion(data, affine, still, data > 0)
    assert same.tobytes() == data.tobytes()
    assert mask.any()
    assert not still.is_abnormal
    assert LesionSpec.model_validate(TUMOUR | NO_CONTRAST).is_abnormal


def test_a_control_has_the_lesions_support_and_blur_but_no_contrast(brain):
    data, affine = brain
    lesion = LesionSpec.model_validate(TUMOUR)
    control = lesion.model_copy(update={"role": "control"})
    lesioned, mask = inject_lesion(data, affine, lesion, data > 0)
    controlled, same = inject_lesion(data, affine, control, data > 0)
    np.testing.assert_array_equal(mask, same)
    assert lesioned[mask].mean() < 0.9 * data[mask].mean()
    assert controlled[mask].mean() == pytest.approx(data[mask].mean(), rel=0.02)
    assert (controlled[mask] != data[mask]).mean() > 0.9


def test_a_controls_blur_is_the_pushs_without_its_shift(brain):
    data, affine = brain
    ramp = (1 + 0.01 * np.indices(data.shape)[1]).astype(np.float32)
    everywhere = np.ones_like(data, dtype=bool)
    noise = np.random.default_rng(0).normal(1, 0.1, data.shape).astype(np.float32)
    push = LesionSpec.model_validate(TUMOUR | NO_CONTRAST)
    still = push.model_copy(update={"role": "control", "texture": 0.0, "replacement": 0.0,
                                    "shell": None, "centre": None})  # fmt: skip
    pushed, mask = inject_lesion(noise, affine, push, everywhere)
    blurred, _ = inject_lesion(noise, affine, still, everywhere)
    moved = lesion_support(affine, push, mask, everywhere)
    spreads = pushed[moved].std(), blurred[moved].std()
    assert spreads[0] < 0.85 * noise[moved].std()
    assert spreads[1] == pytest.approx(spreads[0], rel=0.1)
    shifted, _ = inject_lesion(ramp, affine, push, everywhere)
    kept, _ = inject_lesion(ramp, affine, still, everywhere)
    np.testing.assert_allclose(kept, ramp, rtol=1e-5)
    assert np.abs(shifted - ramp).max() > 0.005


def test_layers_of_a_tumour_darken_inwards(brain):
    data, affine = brain
    flat = np.where(data > 0, 1, 0).astype(np.float32)
    spec = LesionSpec.model_validate(
        TUMOUR | {"texture": 0.0, "shell": {"share": 0.5, "contrast": -0.2}}
    )
    lesioned, _ = inject_lesion(flat, affine, spec, flat > 0)
    found = lesion_box(affine, spec, flat > 0)
    inside = lesioned[found.box]
    parts = [found.centre > 0.99, (found.core - found.centre) > 0.99, found.core == 0]
    parts[2] &= found.alpha > 0.99
    seen = [float(inside[part].mean()) for part in parts]
    assert seen == pytest.approx([0.4, 0.7, 0.8], abs=0.02)


def test_oedema_shows_in_white_matter(brain):
    data, affine = brain
    stripes = np.where(np.indices(data.shape)[2] // 6 % 2 == 0, 1.0, 0.7)
    striped = np.where(data > 0, stripes, 0).astype(np.float32)
    spec = LesionSpec.model_validate(TUMOUR | {"mass_effect_mm": 0.0, "centre": None})
    lesioned, _ = inject_lesion(striped, affine, spec, data > 0)
    found = lesion_box(affine, spec, data > 0)
    oedema = (found.alpha == 1) & (found.core == 0)
    change = (lesioned / np.where(data > 0, striped, 1))[found.box][oedema] - 1
    white = striped[found.box][oedema] == 1
    assert change[white].mean() < 2 * change[~white].mean() < 0


def test_patches_lie_in_white_matter(brain):
    data, affine = brain
    spec = draw(brain, 5, "white_matter")
    _, mask = inject_lesion(data, affine, spec, data > 0)
    low, high = white_matter_limits(data, data > 0, "T1w")
    assert ((data[mask] > low) & (data[mask] <= high)).all()


@settings(max_examples=30)
@given(
    st.floats(-60, -3), st.floats(-40, 40), st.floats(15, 60), st.floats(0.05, 0.8),
    st.integers(0, 2**16),
)  # fmt: skip
def test_a_push_never_folds_and_ends_at_mid_plane_and_reach(x, y, reach, amplitude, seed):
    shift = amplitude * reach * 16 / (25 * 5**0.5)
    effect = MassEffect((x, y, 0.0), reach, shift)
    assert effect.amplitude == pytest.approx(amplitude)
    rng = np.random.default_rng(seed)
    centre = np.array([[x], [y], [0.0]])
    points = centre + reach * rng.uniform(-1.2, 1.2, (3, 400))
    strength = effect.strength(points)
    away = points - centre
    outside = (np.linalg.norm(away, axis=0) >= reach) | (points[0] >= 0)
    assert (strength[outside] == 0).all()

    def source(at: np.ndarray) -> np.ndarray:
        return at - effect.strength(at) * (at - centre)

    step = 1e-4
    columns = [
        (source(points + step * axis) - source(points - step * axis)) / (2 * step)
        for axis in np.eye(3)[:, :, None]
    ]
    determinants = np.linalg.det(np.moveaxis(np.stack(columns, axis=1), -1, 0))
    assert determinants.min() >= (1 - amplitude) ** 3 - 1e-3
    assert np.linalg.norm(source(points) - points, axis=0).max() <= shift * (1 + 1e-9)


def test_the_determinant_on_the_grid_is_that_of_the_steps(brain):
    data, affine = brain
    effect = MassEffect((-30.0, 10.0, 5.0), 44.0, 5.0)
    field = radial_field(effect, affine, side_mask(data > 0, affine, "L"))
    moved = np.stack([np.stack(np.gradient(part)) for part in field.steps])
    full = np.linalg.det(np.eye(3) + np.moveaxis(moved, (0, 1), (-2, -1)))
    # two discretisations of one determinant, on voxels a tenth of the reach wide
    error = np.abs(field.determinant(1.0) - full)
    assert error.max() < 0.08
    assert error.mean() < 0.01
    low, high = field.limits()
    for scale in (low, high):
        assert field.determinant(scale)[field.inside].min() > 5e-4
    outer = field.determinant(1.5 * high)
    assert min(outer[field.inside].min(), 1 - 1.5 * high * field.squeeze.max()) < 0.1


@pytest.mark.parametrize("pathology", [name for name in PATHOLOGIES if name != "generic"])
def test_every_pathology_has_its_look_in_every_modality(brain, pathology):
    data, affine = brain
    for modality in get_args(Modality):
        config = LesionConfig(pathologies={pathology: 1.0}, modality=modality)
        spec = sample_lesion(np.random.default_rng(1), config, data > 0, affine)
        ranges = CONTRASTS[pathology][modality]
        assert ranges.core[0] <= spec.contrast <= ranges.core[1]
        assert (spec.shell is None) == (ranges.shell is None)
        assert (spec.centre is None) == (ranges.centre is None)
        assert spec.modality == modality


def test_shares_decide_what_is_drawn(brain):
    data, affine = brain
    config = LesionConfig(
        pathologies={"infarct": 1.0, "cavity": 3.0, "tumour": 0.0}, roles={"sham": 1, "lesion": 1}
    )
    rng = np.random.default_rng(0)
    drawn = [sample_lesion(rng, config, data > 0, affine) for _ in range(40)]
    names = [spec.pathology for spec in drawn]
    assert names.count("cavity") > names.count("infarct") > 0 == names.count("tumour")
    assert {spec.role for spec in drawn} == {"sham", "lesion"}


def test_given_contrasts_stand_in_for_the_built_in_ones():
    given_ranges = {"cavity": {"T2w": {"core": (1.0, 1.0)}}}
    config = LesionConfig.model_validate({"contrasts": given_ranges, "modality": "T2w"})
    assert config.contrasts_of("cavity").core == (1.0, 1.0)
    assert config.contrasts_of("tumour") == CONTRASTS["tumour"]["T2w"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"mass_effect_mm": 20.0}, r"mass_effect_mm must be at most 9\.16 for a reach of 40 mm"),
        ({"centre_mm": (0.0, 0.0, 0.0)}, "about a centre beside x = 0"),
        ({"shell": {"share": 0.9, "contrast": 0.1}}, "shell and centre must leave a core"),
    ],
)
def test_an_impossible_lesion_is_refused(change, reason):
    with pytest.raises(ValidationError, match=reason):
        LesionSpec.model_validate(TUMOUR | change)


def test_impossible_shares_are_refused():
    with pytest.raises(ValidationError, match="pathologies must hold shares of 0 or more"):
        LesionConfig(pathologies={"tumour": 0.0})
    with pytest.raises(ValidationError, match="must not exceed 1 together"):
        LesionConfig(mask_share=0.6, field_share=0.6)


def test_quick_noise_follows_the_splines():
    points = np.random.default_rng(1).uniform(-70, 70, (3, 500))
    for knots in (8, 24):
        exact = spline_noise(points, 6.0, np.random.default_rng(0), knots=knots)
        quick = lattice_noise(points, 6.0, np.random.default_rng(0), knots=knots)
        assert np.abs(quick - exact).max() < 0.6
        assert np.corrcoef(quick, exact)[0, 1] > 0.99


@pytest.mark.parametrize("grain", [5.0, 9.0])
def test_texture_is_measured_as_it_was_made(grain):
    shape, affine = (32, 32, 32), np.diag([2.0, 2.0, 2.0, 1.0])
    points = 2.0 * np.indices(shape) - 31.0
    noise = spline_noise(points, grain, np.random.default_rng(0), knots=40)
    everywhere = np.ones(shape, dtype=bool)
    texture = measure_texture(1 + 0.05 * noise, np.ones(shape), everywhere, affine)
    assert texture.sd == pytest.approx(0.05, rel=0.15)
    assert texture.grain_mm == pytest.approx(grain, rel=0.15)


@pytest.mark.slow  # it imports everything anew
def test_two_processes_make_the_same_lesion():
    code = (
        "import hashlib, numpy as np\n"
        "from hemitwin.transforms import LesionConfig, inject_lesion, sample_lesion\n"
        "affine = np.diag([4.0, 4.0, 4.0, 1.0]); affine[:3, 3] = -58.0\n"
        "r = np.linalg.norm(4.0 * np.indices((30, 30, 30)) - 58.0, axis=0)\n"
        "data = np.where(r < 56, 1 + 0.1 * np.sin(r), 0).astype(np.float32)\n"
        "config = LesionConfig(pathologies={'tumour': 1.0}, field_share=0.5)\n"
        "spec = sample_lesion(np.random.default_rng(3), config, data > 0, affine)\n"
        "changed, mask = inject_lesion(data, affine, spec, data > 0)\n"
        "digest = hashlib.sha256(changed.tobytes() + mask.tobytes()).hexdigest()\n"
    )
    here: dict[str, object] = {}
    exec(code, here)  # noqa: S102 - the same lines in this process and in another
    there = subprocess.run(  # noqa: S603 - our own interpreter and lines
        [sys.executable, "-c", code + "print(digest)"], capture_output=True, text=True, check=True
    )
    assert there.stdout.strip() == here["digest"]


@pytest.mark.parametrize("role", ["control", "sham"])
def test_the_dictionary_transform_labels_lesions_and_no_controls_and_shams(
    brain, role: LesionRole
):
    data, affine = brain
    image = MetaTensor(torch.from_numpy(data[None]), affine=torch.from_numpy(affine))
    drawn: tuple[LesionRole, LesionRole] = (role, "lesion")
    for one in drawn:
        config = LesionConfig(pathologies={"haemorrhage": 1.0}, roles={one: 1.0})
        transform = RandLesionsd("image", config, most=3)
        transform.set_random_state(seed=3)
        made = transform({"image": image})
        specs = [LesionSpec(**spec) for spec in json.loads(str(made["image_lesion_specs"]))]
        assert {(spec.pathology, spec.role) for spec in specs} == {("haemorrhage", one)}
        labels, changed = made["image_lesions"], made["image"]
        assert isinstance(labels, MetaTensor)
        assert isinstance(changed, MetaTensor)
        assert bool(labels.any()) is (one == "lesion")
        assert not torch.equal(changed.as_tensor(), image.as_tensor())


def test_a_label_is_its_specs_number_whatever_is_between(brain):
    data, affine = brain
    image = MetaTensor(torch.from_numpy(data[None]), affine=torch.from_numpy(affine))
    config = LesionConfig(volume_mm3=(1000.0, 3000.0), roles={"lesion": 1.0, "control": 1.0})
    mixed = RandLesionsd("image", config, most=6)
    seen = set()
    for seed in range(12):
        mixed.set_random_state(seed=seed)
        made = mixed({"image": image})
        specs = [LesionSpec(**spec) for spec in json.loads(str(made["image_lesion_specs"]))]
        labels = made["image_lesions"]
        assert isinstance(labels, MetaTensor)
        lesions = [k + 1 for k, spec in enumerate(specs) if spec.role == "lesion"]
        assert sorted({0, *labels.unique().tolist()}) == [0, *lesions]
        seen |= {tuple(lesions)}
    assert any(lesions and lesions != tuple(range(1, len(lesions) + 1)) for lesions in seen)
