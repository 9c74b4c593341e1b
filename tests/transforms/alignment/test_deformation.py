import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813  # the name its own documentation uses
import torch

from hemitwin.atlases import load_template
from hemitwin.atlases.world import sample_at
from hemitwin.transforms import Deformation, register_deformation


@pytest.fixture(scope="module")
def template():
    return load_template(4.0)


def centres(image):
    voxels = np.indices(image.data.shape).reshape(3, -1).T
    return voxels @ image.affine[:3, :3].T + image.affine[:3, 3]


def bend(points):
    """Shift by up to 5 mm, smoothly."""
    x, y, z = (points / 40).T
    return points + 5 * np.stack([np.sin(y), np.cos(z + 1), np.sin(x + y)], axis=1)


@pytest.fixture(scope="module")
def bent(template):
    """A brain that is the template where `bend` says."""
    found = sample_at(template.data, template.affine, bend(centres(template)))
    return found.reshape(template.data.shape)


@pytest.fixture(scope="module")
def found(template, bent):
    return register_deformation(2 * bent, template.data, template.affine)


@pytest.mark.slow
def test_a_known_deformation_is_recovered(template, bent, found):
    inside = bent.ravel() > 0
    points = centres(template)[inside]
    truth = bend(points)
    before = np.linalg.norm(points - truth, axis=1)
    after = np.linalg.norm(found.to_template(points) - truth, axis=1)
    assert np.median(before) > 5
    assert np.median(after) < 1
    assert np.percentile(after, 95) < 3


@pytest.mark.slow
def test_it_does_not_fold_and_its_inverse_leads_back(template, bent, found):
    assert found.jacobian().min() > 0
    points = centres(template)[bent.ravel() > 0][::37]
    back = found.from_template(found.to_template(points))
    np.testing.assert_allclose(back, points, atol=0.02)


@pytest.mark.slow
def test_the_same_brain_gives_the_same_field_on_any_number_of_threads(template, bent, found):
    before = torch.get_num_threads()
    torch.set_num_threads(3 - min(before, 2))
    again = register_deformation(2 * bent, template.data, template.affine)
    torch.set_num_threads(before)
    np.testing.assert_array_equal(again.shift_mm, found.shift_mm)


def test_the_jacobian_is_the_change_of_volume():
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    points = np.indices((6, 7, 8)).transpose(1, 2, 3, 0) * 2.0
    found = Deformation((points * (0.1, -0.2, 0.3)).astype(np.float32), affine)
    np.testing.assert_allclose(found.jacobian(), 1.1 * 0.8 * 1.3, rtol=1e-5)


@pytest.mark.slow
def test_a_masked_lesion_does_not_pull(template, bent):
    points = centres(template)
    lesion = (np.linalg.norm(points - (30, -20, 20), axis=1) < 22).reshape(bent.shape)
    lesion &= bent > 0
    sick = np.where(lesion, np.float32(0.05), bent)  # as dark as fluid
    rim = lesion.ravel()

    def error(mask):
        found = register_deformation(sick, template.data, template.affine, lesion=mask)
        off = found.to_template(points[rim]) - bend(points[rim])
        return float(np.median(np.linalg.norm(off, axis=1)))

    assert error(lesion) < 0.8 * error(None)


def test_brains_that_do_not_lie_on_each_other_are_refused(template):
    away = np.roll(template.data, 15, axis=1)
    with pytest.raises(ValueError, match=r"must lie on each other .* prepare the scan first"):
        register_deformation(away, template.data, template.affine)


def test_grids_must_be_one_and_cubic(template):
    with pytest.raises(ValueError, match="must lie on one grid"):
        register_deformation(template.data[1:], template.data, template.affine)
    with pytest.raises(ValueError, match="must be cubes along the axes"):
        register_deformation(template.data, template.data, np.diag([4.0, 4.0, 3.0, 1.0]))
    with pytest.raises(ValueError, match="1 to 4 mm"):
        register_deformation(template.data, template.data, np.diag([5.0, 5.0, 5.0, 1.0]))


def test_a_start_that_itk_refuses_is_named(template, monkeypatch):
    class RefusingMethod(sitk.ImageRegistrationMethod):
        def Execute(self, fixed, moving):  # noqa: N802, ARG002  # ITK's name
            msg = "in itkSomething.hxx:1\nITK ERROR: All samples map outside"
            raise RuntimeError(msg)

    monkeypatch.setattr(
        "hemitwin.transforms.alignment.deformation.mutual_information", RefusingMethod
    )
    monkeypatch.setattr("hemitwin.transforms.alignment.deformation._even", lambda image, _: image)
    dark = template.data / 2  # the template's own shading is kept for the next brain
    with pytest.raises(ValueError, match=r"lie on each other \(ITK ERROR: All samples .* prepare"):
        register_deformation(template.data, dark, template.affine)
