import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hemitwin.transforms import (
    AnatomyConfig,
    LesionSpec,
    Scan,
    deform_anatomy,
    inject_lesion,
    midplane_motion,
    mirror_asymmetry,
    refine_midplane,
    resample,
    sample_anatomy,
)


def plane_error(tilt: np.ndarray, found: np.ndarray) -> tuple[float, float]:
    """Return angle (degrees) and distance (mm) of the found plane from the true one."""
    joint = tilt @ found
    normal = joint[:3, 0]
    return float(np.rad2deg(np.arccos(min(1.0, abs(normal[0]))))), abs(float(joint[0, 3]))


def tilted(template, template_scan, tilt):
    return resample(template_scan, template[0].shape, template[1], tilt)


@settings(max_examples=4)
@given(st.floats(-8, 8), st.floats(-8, 8), st.floats(-6, 6))
def test_a_known_tilt_is_recovered(template, template_scan, roll, yaw, shift):
    tilt = midplane_motion(roll, yaw, shift)
    data = tilted(template, template_scan, tilt)
    degrees, millimetres = plane_error(tilt, refine_midplane(data, template[1]))
    assert degrees < 0.3
    assert millimetres < 0.3


def test_a_large_lesion_does_not_tilt_the_plane(template, template_scan):
    tilt = midplane_motion(3.0, -4.0, 2.0)
    data = tilted(template, template_scan, tilt)
    spec = LesionSpec(
        kind="ellipsoid",
        side="L",
        seed=1,
        centre_mm=(-35, 30, 20),
        volume_mm3=60000,
        contrast=-0.7,
    )
    lesioned, _ = inject_lesion(data, template[1], spec, data > 0.1)
    degrees, millimetres = plane_error(tilt, refine_midplane(lesioned, template[1]))
    assert degrees < 0.5
    assert millimetres < 0.5


@pytest.mark.parametrize("contrast", [-0.9, 0.8])
def test_a_large_lesion_hardly_moves_the_plane_of_its_own_brain(template, template_scan, contrast):
    data = tilted(template, template_scan, midplane_motion(3.0, -4.0, 2.0))
    spec = LesionSpec(
        kind="ellipsoid",
        side="L",
        seed=1,
        centre_mm=(-20, 50, -5),
        volume_mm3=60000,
        contrast=contrast,
    )
    lesioned, _ = inject_lesion(data, template[1], spec, data > 0.1)
    healthy = refine_midplane(data, template[1])
    moved = np.linalg.inv(healthy) @ refine_midplane(lesioned, template[1])
    # differences that count linearly, however large, let it turn by 0.09 degrees
    degrees, millimetres = plane_error(np.eye(4), moved)
    assert degrees < 0.05
    assert millimetres < 0.05


def test_refining_a_symmetric_brain_moves_nothing(template):
    data, affine = template
    symmetric = (data + data[::-1]) / 2
    np.testing.assert_allclose(refine_midplane(symmetric, affine), np.eye(4), atol=1e-3)


def test_refining_mirrored_brains_gives_mirrored_motions(template, template_scan):
    data = tilted(template, template_scan, midplane_motion(3.0, 2.0, -1.0))
    flip = np.diag([-1.0, 1, 1, 1])
    one, other = (refine_midplane(d, template[1]) for d in (data, data[::-1]))
    np.testing.assert_allclose(flip @ one @ flip, other, atol=0.02)


def test_an_asymmetric_brain_has_one_plane_however_it_is_sampled(template):
    spec = sample_anatomy(np.random.default_rng(4), AnatomyConfig(asymmetry_mm=(1.5, 1.5)))
    affine, fine = template[1], template[1] @ np.diag([0.7, 0.7, 0.7, 1.0])
    shape = (57, 68, 57)
    fine[0, 3] = -0.7 * 4 * 28
    person = deform_anatomy(template[0], affine, spec)
    tilt = midplane_motion(2.0, -3.0, 1.0)
    scan = Scan(person, affine)
    straight = refine_midplane(person, affine)
    for data, own in (
        (resample(scan, shape, fine, tilt), fine),
        (resample(scan, person.shape, affine, tilt), affine),
    ):
        joint = np.linalg.inv(straight) @ tilt @ refine_midplane(data, own)
        degrees, millimetres = plane_error(np.eye(4), joint)
        assert degrees < 0.4
        assert millimetres < 0.4


def test_refinement_lowers_the_asymmetry(template, template_scan):
    data = tilted(template, template_scan, midplane_motion(4.0, 3.0, 2.0))
    motion = refine_midplane(data, template[1])
    refined = resample(Scan(data, template[1]), data.shape, template[1], motion)
    assert mirror_asymmetry(refined) < 0.5 * mirror_asymmetry(data)


@given(st.floats(-40, 40), st.floats(-40, 40), st.floats(-20, 20))
def test_a_motion_is_rigid(roll, yaw, shift):
    linear = midplane_motion(roll, yaw, shift)[:3, :3]
    np.testing.assert_allclose(linear @ linear.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(linear) == pytest.approx(1)


def test_a_constant_volume_is_refused():
    with pytest.raises(ValueError, match="must vary to have a mid-plane"):
        refine_midplane(np.ones((8, 8, 8), dtype=np.float32), np.eye(4))


def test_a_brain_far_beside_the_plane_is_refused(template, template_scan):
    data = tilted(template, template_scan, midplane_motion(0.0, 0.0, 22.0))
    with pytest.raises(ValueError, match="within 15 degrees and 15 mm of x = 0; found"):
        refine_midplane(data, template[1])
