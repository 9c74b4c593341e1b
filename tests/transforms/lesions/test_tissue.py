"""Lesions whose contrast is measured by the tissue around them."""

import numpy as np
import pytest
from pydantic import ValidationError

from hemitwin.transforms import LesionConfig, LesionSpec, inject_lesion, sample_lesion
from hemitwin.transforms.lesions.tissue import local_mean, measure_texture

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])
AFFINE[:3, 3] = -39.0
BRAIN = np.ones((40, 40, 40), dtype=bool)
SUBTLE = LesionSpec(
    kind="ellipsoid", side="R", seed=3, centre_mm=(19.0, 1.0, 1.0), volume_mm3=8000.0,
    contrast=-1.2, contrast_from="surroundings",
)  # fmt: skip


def volume(sd):
    noise = np.random.default_rng(1).normal(0, sd, BRAIN.shape)
    return (100 * (1 + noise)).astype(np.float32)


@pytest.mark.parametrize("sd", [0.02, 0.1])
def test_the_change_is_so_many_sds_of_the_tissue(sd):
    data = volume(sd)
    lesioned, mask = inject_lesion(data, AFFINE, SUBTLE, BRAIN)
    measured = measure_texture(data, local_mean(data, BRAIN, AFFINE, 25.0), BRAIN, AFFINE).sd
    change = (lesioned / data - 1)[mask]
    assert float(change.mean()) == pytest.approx(-1.2 * measured, rel=0.1)


def test_the_config_draws_both_signs_within_the_range():
    config = LesionConfig(contrast_sd=(0.5, 1.5), volume_mm3=(1000.0, 5000.0))
    rng = np.random.default_rng(0)
    drawn = [sample_lesion(rng, config, BRAIN, AFFINE) for _ in range(24)]
    sizes = np.array([spec.contrast for spec in drawn])
    assert ((np.abs(sizes) >= 0.5) & (np.abs(sizes) <= 1.5)).all()
    assert (sizes > 0).any()
    assert (sizes < 0).any()
    assert {spec.contrast_from for spec in drawn} == {"surroundings"}
    assert all(spec.texture_from == "surroundings" for spec in drawn)


def test_a_share_of_generic_lesions_changes_by_contrast():
    config = LesionConfig(
        contrast_sd=(0.5, 1.5), contrast=(-0.4, -0.3), contrast_share=0.5, volume_mm3=(1e3, 5e3)
    )
    rng = np.random.default_rng(0)
    drawn = [sample_lesion(rng, config, BRAIN, AFFINE) for _ in range(40)]
    plain = [spec.contrast for spec in drawn if spec.contrast_from == "spec"]
    assert 10 <= len(plain) <= 30
    assert all(-0.4 <= contrast <= -0.3 for contrast in plain)
    assert all(abs(spec.contrast) >= 0.5 for spec in drawn if spec.contrast_from != "spec")
    with pytest.raises(ValidationError, match="contrast_share must come with contrast_sd"):
        LesionConfig(contrast_share=0.5)


def test_black_is_the_darkest_of_plain_contrasts():
    content = SUBTLE.model_dump() | {"contrast_from": "spec"}
    with pytest.raises(ValidationError, match="at least -1, which is black"):
        LesionSpec.model_validate(content)
    with pytest.raises(ValidationError, match="signs are drawn"):
        LesionConfig(contrast_sd=(-1.0, 1.0))
