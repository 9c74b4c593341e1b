import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hemitwin.transforms import (
    AnatomySpec,
    Genes,
    ScannerConfig,
    ScannerSpec,
    apply_scanner,
    heritable_displacement,
    least_jacobian,
    limit_folding,
    sample_scanner,
)

SHAPE = (20, 16, 14)
AFFINE = np.diag([8.0, 8.0, 8.0, 1.0])
AFFINE[:3, 3] = -8.0 * (np.array(SHAPE) - 1) / 2
HERITABILITY = 0.8
FAMILIES = 16


def _spec(seed, **changes):
    values = {"amplitude_mm": 1.5, "asymmetry_mm": 0.7, "smoothness_mm": 15.0}
    still = {"gamma": 1.0, "bias": 0.0, "noise": 0.0}
    return AnatomySpec(seed=seed, **{**values, **still, **changes})


@pytest.fixture(scope="module")
def families():
    """In each family identical twins (0, 1) and their sibling (2): (family, member, 3, voxel)."""
    share = np.zeros(SHAPE)
    share[:10] = HERITABILITY
    seeds = np.random.default_rng(0)
    made = []
    for _ in range(FAMILIES):
        family, twins, sibling, *own = (int(s) for s in seeds.integers(2**32, size=6))
        genes = [Genes(family_seed=family, person_seed=one) for one in (twins, twins, sibling)]
        made.append(
            [
                heritable_displacement(share, AFFINE, _spec(one), gene)
                for one, gene in zip(own, genes, strict=True)
            ]
        )
    inside = np.zeros(SHAPE, dtype=bool)
    inside[2:9, 3:-3, 3:-3] = True
    outside = inside[::-1]
    fields = np.array(made)
    return fields[..., inside], fields[..., outside]


def _correlation(first, second):
    return float((first * second).mean() / np.sqrt((first**2).mean() * (second**2).mean()))


def test_twins_correlate_by_the_heritability_and_siblings_by_half(families):
    inside, _ = families
    assert _correlation(inside[:, 0], inside[:, 1]) == pytest.approx(HERITABILITY, abs=0.04)
    for twin in (0, 1):
        halved = _correlation(inside[:, twin], inside[:, 2])
        assert halved == pytest.approx(HERITABILITY / 2, abs=0.06)


def test_strangers_and_places_outside_correlate_not_at_all(families):
    inside, outside = families
    for member in range(3):
        fields = inside[:, member]
        others = [np.roll(fields, shift, axis=0) for shift in range(1, FAMILIES)]
        strangers = np.mean([_correlation(fields, other) for other in others])
        assert strangers == pytest.approx(0.0, abs=0.03)
    for one, other in ((0, 1), (0, 2)):
        assert _correlation(outside[:, one], outside[:, other]) == pytest.approx(0.0, abs=0.06)


def test_inheriting_changes_no_size(families):
    inside, outside = families
    assert inside.std() == pytest.approx(outside.std(), rel=0.05)


def test_a_share_outside_0_to_1_is_refused():
    with pytest.raises(ValueError, match="share must lie in 0 to 1"):
        heritable_displacement(
            np.full(SHAPE, 1.5), AFFINE, _spec(0), Genes(family_seed=0, person_seed=0)
        )


@settings(max_examples=10)
@given(seed=st.integers(0, 2**31), amplitude=st.floats(0.5, 12.0), least=st.floats(0.05, 0.5))
def test_nothing_folds_and_a_mild_field_is_kept(seed, amplitude, least):
    genes = Genes(family_seed=seed, person_seed=seed + 1)
    spec = _spec(seed + 2, amplitude_mm=amplitude)
    field = heritable_displacement(np.full(SHAPE, 0.5), AFFINE, spec, genes)
    held = limit_folding(field, AFFINE, least=least)
    if least_jacobian(field, AFFINE) >= least:
        np.testing.assert_array_equal(held, field)
    else:
        assert least <= least_jacobian(held, AFFINE) < least + 0.01
        ratio = held[field != 0] / field[field != 0]
        assert np.ptp(ratio) < 1e-9
        assert 0 < ratio.mean() < 1


def test_the_jacobian_is_the_determinant_of_the_matrix():
    field = np.random.default_rng(1).normal(size=(3, 5, 6, 7))
    affine = np.diag([2.0, 3.0, 4.0, 1.0])
    rows = [np.stack(np.gradient(one, 2.0, 3.0, 4.0), axis=-1) for one in field]
    matrices = np.eye(3) + np.stack(rows, axis=-2)
    assert least_jacobian(field, affine) == pytest.approx(np.linalg.det(matrices).min())


def test_a_scanner_changes_its_own_brains_only_and_repeats(template):
    data, affine = template
    spec = ScannerSpec(seed=1, gamma=1.2, bias=0.05, noise=0.0, smoothing_mm=6.0)
    one, again = (apply_scanner(data, affine, spec, np.random.default_rng(s)) for s in (0, 1))
    np.testing.assert_array_equal(one, again)
    np.testing.assert_array_equal(one > 0, data > 0)
    # Blurred within itself: less detail, and no dark rim from the background.
    assert np.abs(np.diff(one[20, 24])).sum() < np.abs(np.diff(data[20, 24])).sum()
    plain = ScannerSpec(seed=1, gamma=1.0, bias=0.0, noise=0.0, smoothing_mm=0.0)
    seen = apply_scanner(data, affine, plain, np.random.default_rng(0))
    np.testing.assert_allclose(seen, data, atol=1e-3)


def test_scanners_are_drawn_apart():
    first, second = (
        sample_scanner(np.random.default_rng(seed), ScannerConfig()) for seed in (0, 1)
    )
    assert first != second
    assert first == sample_scanner(np.random.default_rng(0), ScannerConfig())
