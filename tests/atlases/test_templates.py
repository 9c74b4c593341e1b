import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hemitwin.atlases import load_template, template_grid, template_on_grid


@pytest.mark.parametrize(
    ("resolution", "shape"), [(1.0, (176, 208, 160)), (2.0, (88, 104, 80)), (4.0, (44, 52, 40))]
)
def test_grids_have_the_stated_shapes(resolution, shape):
    assert template_grid(resolution)[0] == shape


@settings(max_examples=50)
@given(st.floats(0.5, 8))
def test_mid_plane_lies_between_two_voxels(resolution):
    shape, affine = template_grid(resolution)
    x = affine[0, 0] * np.arange(shape[0]) + affine[0, 3]
    np.testing.assert_allclose(x, -x[::-1], atol=1e-9)
    assert shape[0] % 2 == 0
    assert min(abs(x)) == pytest.approx(resolution / 2)
    assert (np.array(shape) * resolution >= [176 - 1e-3, 208 - 1e-3, 160 - 1e-3]).all()


@pytest.mark.parametrize(("resolution", "halvings"), [(1.0, 3), (2.0, 2), (4.0, 1)])
def test_hemispheres_can_be_halved(resolution, halvings):
    (x, y, z), _ = template_grid(resolution)
    assert all(size % 2**halvings == 0 for size in (x // 2, y, z))


@pytest.mark.parametrize("kind", ["T1w", "gm", "wm"])
def test_template_equals_its_mirror_image(kind):
    data = load_template(4.0, kind=kind).data
    np.testing.assert_allclose(data, data[::-1], atol=1e-6)
    assert data.dtype == np.float32
    assert 0 <= data.min() < data.max() <= 1


def test_brain_keeps_a_margin_from_the_field_of_view():
    image = load_template(2.0)
    voxels = np.argwhere(image.data > 0)
    margin_low = voxels.min(axis=0) * 2
    margin_high = (np.array(image.data.shape) - 1 - voxels.max(axis=0)) * 2
    assert (margin_high >= 4).all()
    # Below, the template is cut at the edge of its own field of view.
    assert (margin_low[:2] >= 4).all()


def test_brain_volume_does_not_depend_on_the_resolution():
    fine, coarse = (load_template(r).data for r in (2.0, 4.0))
    assert (fine > 0).sum() * 8 == pytest.approx((coarse > 0).sum() * 64, rel=0.02)
    assert fine[fine > 0].mean() == pytest.approx(coarse[coarse > 0].mean(), rel=0.02)


def test_any_grid_shows_the_same_brain():
    shape, affine = template_grid(4.0)
    flipped = affine @ np.diag([-1.0, 1, 1, 1])
    flipped[0, 3] += affine[0, 0] * (shape[0] - 1)
    np.testing.assert_allclose(
        template_on_grid(shape, flipped)[::-1], template_on_grid(shape, affine), atol=1e-6
    )


def test_unknown_kind_and_resolution_are_refused():
    with pytest.raises(ValueError, match="kind must be one of"):
        load_template(4.0, kind="T2w")
    with pytest.raises(ValueError, match=r"0\.5 to 8"):
        template_grid(0.1)
