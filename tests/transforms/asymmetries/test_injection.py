import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import ndimage

from hemitwin.transforms import (
    AsymmetryConfig,
    AsymmetrySpec,
    asymmetry_region,
    inject_asymmetry,
    sample_asymmetry,
)
from hemitwin.transforms.asymmetries.injection import asymmetry_push

KINDS = ("atrophy", "expansion", "ventricle", "thinning", "brightening")
SIMPLE = {
    "kind": "expansion", "side": "L", "centre_mm": (-30.0, 0.0, 10.0), "radius_mm": 14.0,
    "reach_mm": 28.0, "volume_mm3": 11000.0, "change_percent": 20.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def brain(template) -> tuple[np.ndarray, np.ndarray]:
    return template


def draw(brain, kind: str, seed: int) -> AsymmetrySpec:
    data, affine = brain
    config = AsymmetryConfig.model_validate(
        {"kinds": {kind: 1.0}, "thickness_mm": 8.0, "radius_mm": (14.0, 18.0)}
    )
    return sample_asymmetry(np.random.default_rng(seed), config, data > 0, affine)


@settings(max_examples=20)
@given(st.sampled_from(KINDS), st.integers(0, 2**32 - 1))
def test_an_asymmetry_keeps_every_promise(brain, kind, seed):
    data, affine = brain
    spec = draw(brain, kind, seed)
    changed, mask = inject_asymmetry(data, affine, spec, data > 0)
    again, _ = inject_asymmetry(data, affine, spec, data > 0)
    assert changed.tobytes() == again.tobytes()
    np.testing.assert_array_equal(changed[~mask], data[~mask])
    assert (changed != data).any()
    assert not (mask & (data == 0)).any()
    assert not mask[20:].any() if spec.side == "L" else not mask[:20].any()
    assert AsymmetrySpec.model_validate_json(spec.model_dump_json()) == spec
    part = asymmetry_region(affine, spec, data > 0)
    assert part.sum() * 64 == pytest.approx(spec.volume_mm3)


@pytest.fixture(scope="module")
def ball() -> tuple[np.ndarray, np.ndarray]:
    """A brain of 60 mm radius at 2 mm: an integral over 4 mm voxels is too coarse."""
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = -63.0
    index = np.indices((64, 64, 64))
    return (np.linalg.norm(2.0 * index - 63.0, axis=0) < 60).astype(np.float32), affine


@settings(max_examples=8)
@given(st.sampled_from(["atrophy", "expansion", "ventricle", "thinning"]), st.integers(0, 999))
def test_the_change_of_volume_is_the_specs_by_indicator_and_by_jacobian(ball, kind, seed):
    data, affine = ball
    spec = draw(ball, kind, seed)
    part = asymmetry_region(affine, spec, data > 0)
    push = asymmetry_push(affine, spec, data > 0, part)
    steps = np.where(push.moved, push.steps, 0)
    gradients = np.stack([np.stack(np.gradient(axis)) for axis in steps])
    jacobian = np.linalg.det(np.eye(3) + np.moveaxis(gradients, (0, 1), (-2, -1)))
    before = part[push.box].astype(float)
    warped = ndimage.map_coordinates(before, np.indices(before.shape) + steps, order=1)
    percent = 100 * (warped.sum() + part.sum() - before.sum()) / part.sum() - 100
    assert percent == pytest.approx(spec.change_percent, abs=0.1)
    assert 8 * part.sum() * percent / 100 == pytest.approx(spec.change_mm3, rel=0.02)
    assert jacobian[push.moved].min() > 0
    # The target's indicator, weighed by what each target voxel was before, is the old volume. A
    # patch of cortex bends within few voxels: the integral over them is less exact.
    exact = 0.05 if kind == "thinning" else 0.02
    assert (warped * jacobian).sum() == pytest.approx(before.sum(), rel=exact)


def test_a_region_that_was_handed_in_changes_as_a_whole(brain):
    data, affine = brain
    region = np.zeros(data.shape, dtype=bool)
    region[8:30, 20:27, 18:26] = True  # on both sides
    config = AsymmetryConfig(kinds={"atrophy": 1.0}, percent={"atrophy": (-15.0, -15.0)})
    rng = np.random.default_rng(0)
    spec = sample_asymmetry(rng, config, data > 0, affine, side="R", region=region)
    assert spec.of_region
    assert spec.volume_mm3 == pytest.approx(64 * (region & (data > 0))[20:].sum())
    assert spec.change_mm3 == pytest.approx(-0.15 * spec.volume_mm3)
    marked = np.where(region, 2, 1).astype(np.float32)
    changed, mask = inject_asymmetry(marked, affine, spec, data > 0, region=region)
    assert (changed - 1)[20:].sum() == pytest.approx(0.85 * region[20:].sum(), rel=0.02)
    assert not mask[:20].any()


def test_brightening_changes_cortex_by_its_percentage(brain):
    data, affine = brain
    spec = draw(brain, "brightening", 3)
    changed, mask = inject_asymmetry(data, affine, spec, data > 0)
    ratio = changed[mask] / data[mask]
    assert (ratio > 1).all()
    assert ratio.max() <= 1 + spec.change_percent / 100 + 1e-5
    depth = ndimage.distance_transform_edt(data > 0, sampling=4.0)
    assert depth[mask].max() <= spec.thickness_mm
    assert spec.change_mm3 == 0


def test_native_size_counts_native_millimetres(brain):
    data, affine = brain
    config = AsymmetryConfig(kinds={"atrophy": 1.0}, native_mm3_per_mm3=0.5)
    spec = sample_asymmetry(np.random.default_rng(0), config, data > 0, affine)
    assert spec.volume_mm3 == pytest.approx(32 * asymmetry_region(affine, spec, data > 0).sum())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"change_percent": -5.0}, "change_percent of kind 'expansion' must be above 0"),
        ({"kind": "atrophy"}, "change_percent of kind 'atrophy' must be below 0"),
        ({"side": "R"}, "centre_mm must lie on side R"),
    ],
)
def test_a_contradictory_asymmetry_is_refused(change, reason):
    with pytest.raises(ValidationError, match=reason):
        AsymmetrySpec.model_validate(SIMPLE | change)


def test_a_change_without_room_is_refused(brain):
    data, affine = brain
    spec = AsymmetrySpec.model_validate(SIMPLE | {"change_percent": 900.0})
    with pytest.raises(ValueError, match=r"at most \d+\.\d % is to be had there"):
        inject_asymmetry(data, affine, spec, data > 0)


def test_a_missing_or_foreign_region_is_refused(brain):
    data, affine = brain
    spec = AsymmetrySpec.model_validate(SIMPLE | {"of_region": True})
    with pytest.raises(ValueError, match="hand in the region it was drawn for"):
        inject_asymmetry(data, affine, spec, data > 0)
    small = np.zeros(data.shape, dtype=bool)
    small[10:12, 20:22, 20:22] = True
    with pytest.raises(ValueError, match="must have the spec's 11000 mm3"):
        inject_asymmetry(data, affine, spec, data > 0, region=small)


def test_kinds_without_ranges_are_refused():
    with pytest.raises(ValidationError, match="percent a range for each"):
        AsymmetryConfig(kinds={"atrophy": 1.0}, percent={})
    with pytest.raises(ValidationError, match=r"radius_mm must be \(low, high\)"):
        AsymmetryConfig(radius_mm=(5.0, 1.0))
