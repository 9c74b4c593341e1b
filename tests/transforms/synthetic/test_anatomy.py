import numpy as np
import pytest
from pydantic import ValidationError

from hemitwin.transforms import (
    AnatomyConfig,
    AnatomySpec,
    deform_anatomy,
    mirror_asymmetry,
    sample_anatomy,
)

PLAIN = AnatomySpec(
    seed=0, amplitude_mm=0, asymmetry_mm=0, smoothness_mm=25, gamma=1, bias=0, noise=0
)


def test_a_spec_of_zeros_returns_the_template(template):
    data, affine = template
    np.testing.assert_allclose(deform_anatomy(data, affine, PLAIN), data, atol=1e-3)


def test_a_person_repeats_and_another_seed_is_another_person(template):
    data, affine = template
    one, again, other = (
        deform_anatomy(data, affine, sample_anatomy(np.random.default_rng(seed), AnatomyConfig()))
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - other).mean() > 0.02
    assert one.dtype == np.float32


def test_symmetric_shapes_stay_symmetric_and_asymmetry_grows(template):
    data, affine = template
    symmetric = (data + data[::-1]) / 2
    seen = [
        mirror_asymmetry(
            deform_anatomy(
                symmetric,
                affine,
                PLAIN.model_copy(update={"amplitude_mm": 3.0, "asymmetry_mm": a}),
            )
        )
        for a in (0.0, 1.0, 3.0)
    ]
    assert seen[0] < 1e-4
    assert seen[0] < seen[1] < seen[2]


def test_displacement_has_the_stated_size(template):
    """A ramp image shows its own displacement along x."""
    affine = template[1]
    shape = template[0].shape
    ramp = (affine[0, 0] * np.indices(shape)[0] + affine[0, 3] + 500).astype(np.float32)
    moved = deform_anatomy(ramp, affine, PLAIN.model_copy(update={"asymmetry_mm": 4.0}))
    inner = (slice(6, -6),) * 3
    assert (moved - ramp)[inner].std() == pytest.approx(4.0, rel=0.25)


def test_the_template_and_the_background_are_kept(template):
    data, affine = template
    kept = data.copy()
    spec = sample_anatomy(np.random.default_rng(3), AnatomyConfig())
    person = deform_anatomy(data, affine, spec)
    np.testing.assert_array_equal(data, kept)
    assert (person[0] == 0).all()
    assert 0.6 < (person > 0).sum() / (data > 0).sum() < 1.6
    assert (person >= 0).all()


def test_a_person_looks_the_same_on_a_finer_grid(template):
    data, affine = template
    fine = affine @ np.diag([0.5, 0.5, 0.5, 1.0])
    fine[:3, 3] -= 1.0
    smooth = np.clip(data, 0.2, 1)
    spec = PLAIN.model_copy(update={"amplitude_mm": 3.0, "asymmetry_mm": 1.0, "bias": 0.1})
    coarse = deform_anatomy(smooth, affine, spec)
    finer = deform_anatomy(smooth.repeat(2, 0).repeat(2, 1).repeat(2, 2), fine, spec)
    blocks = finer.reshape(40, 2, 48, 2, 40, 2).mean(axis=(1, 3, 5))
    assert np.corrcoef(blocks[2:-2].ravel(), coarse[2:-2].ravel())[0, 1] > 0.97


def test_a_rotated_grid_and_an_unknown_key_are_refused(template):
    rotated = template[1].copy()
    rotated[0, 1] = 0.5
    with pytest.raises(ValueError, match="affine must be diagonal"):
        deform_anatomy(template[0], rotated, PLAIN)
    with pytest.raises(ValidationError, match="Extra inputs"):
        AnatomyConfig.model_validate({"colour": 1})
