import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from hemitwin.transforms import ShapeConfig, ShapeSpec, draw_shape, sample_shape

SHAPES = ("circle", "square", "textured")
AREAS = st.floats(0.5, 180)


def half(seed=0):
    """A half's picture with texture, and its brain: an ellipse at the right border."""
    rows, columns = np.indices((60, 30))
    brain = ((rows - 30) / 28) ** 2 + ((columns - 29) / 27) ** 2 < 1
    texture = np.random.default_rng(seed).uniform(60, 200, brain.shape)
    return np.where(brain, texture, 0).astype(np.uint8), brain


def drawn(shape, area_mm2, seed, pixel_mm=1.0):
    picture, brain = half()
    rng = np.random.default_rng(seed)
    spec = sample_shape(rng, ShapeConfig(shapes=(shape,)), brain, pixel_mm, area_mm2=area_mm2)
    return picture, brain, spec, *draw_shape(picture, brain, spec, pixel_mm)


@pytest.mark.parametrize("shape", SHAPES)
@given(area_mm2=AREAS, seed=st.integers(0, 2**20))
def test_a_shape_lies_in_the_brain_and_changes_nothing_else(shape, area_mm2, seed):
    picture, brain, _, after, mask = drawn(shape, area_mm2, seed)
    assert mask.any()
    assert not mask[~brain].any()
    np.testing.assert_array_equal(after[~mask], picture[~mask])
    assert after.dtype == picture.dtype
    assert after[mask].min() > 0


@pytest.mark.parametrize("shape", ["circle", "textured"])
@given(area_mm2=st.floats(0.5, 160), pixel_mm=st.floats(0.8, 1.5), seed=st.integers(0, 2**20))
def test_circles_and_blobs_have_their_area_to_the_pixel(shape, area_mm2, pixel_mm, seed):
    *_, mask = drawn(shape, area_mm2, seed, pixel_mm)
    wanted = area_mm2 / pixel_mm**2
    assert abs(mask.sum() - max(wanted, 1)) <= 0.5 + 1e-9


@given(area_mm2=st.floats(1, 300), seed=st.integers(0, 2**20))
def test_a_square_is_whole_rows_as_near_to_its_area_as_they_come(area_mm2, seed):
    *_, mask = drawn("square", area_mm2, seed)
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    assert mask.sum() == len(rows) * len(columns)
    assert abs(len(rows) - len(columns)) <= 1
    assert abs(mask.sum() - area_mm2) <= len(rows) / 2 + 0.5


def test_a_circle_is_round():
    *_, spec, _, mask = drawn("circle", 200.0, 3)
    rows, columns = np.nonzero(mask)
    distance = np.hypot(rows - spec.centre_px[0], columns - spec.centre_px[1])
    assert distance.max() == pytest.approx(np.sqrt(200 / np.pi), abs=0.5)


@pytest.mark.parametrize("shape", ["circle", "square"])
def test_a_plain_shape_has_one_grey_of_the_range(shape):
    greys = set()
    for seed in range(40):
        _, _, spec, after, mask = drawn(shape, 20.0, seed)
        assert set(after[mask]) == {spec.grey}
        greys.add(spec.grey)
    assert min(greys) >= 140
    assert max(greys) <= 215
    assert len(greys) > 10


def test_a_blob_multiplies_the_texture_and_fades():
    picture, _, spec, after, mask = drawn("textured", 200.0, 1)
    assert spec.contrast is not None
    ratio = after[mask] / picture[mask]
    assert ratio.min() == pytest.approx(1 + spec.contrast, abs=0.01)
    assert np.quantile(ratio, 0.9) > 0.9  # towards the edge
    middle = mask & (np.abs(after / np.maximum(picture, 1) - 1 - spec.contrast) < 0.01)
    assert np.corrcoef(after[middle], picture[middle])[0, 1] > 0.99


@pytest.mark.parametrize(("dtype", "white"), [(np.uint16, 65535.0), (np.float32, 1.0)])
def test_greys_are_shares_of_white(dtype, white):
    picture, brain = half()
    spec = ShapeSpec(shape="circle", centre_px=(30.0, 20.0), area_mm2=9.0, grey=204.0)
    after, mask = draw_shape((picture / 255 * white).astype(dtype), brain, spec, 1.0, white=white)
    np.testing.assert_allclose(after[mask], 0.8 * white, rtol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_same_draw_is_the_same_shape_and_the_picture_is_kept(shape):
    one, other = (drawn(shape, 30.0, 5) for _ in range(2))
    assert one[2] == other[2]
    np.testing.assert_array_equal(one[3], other[3])
    np.testing.assert_array_equal(one[0], half()[0])
    assert drawn(shape, 30.0, 6)[2] != one[2]


def test_a_spec_survives_json():
    spec = drawn("textured", 30.0, 5)[2]
    assert ShapeSpec.model_validate_json(spec.model_dump_json()) == spec


def test_no_room_is_told():
    brain = np.zeros((20, 20), dtype=bool)
    brain[5:9, 5:9] = True
    with pytest.raises(ValueError, match="must have room for a circle of 50 mm2"):
        sample_shape(
            np.random.default_rng(0), ShapeConfig(shapes=("circle",)), brain, 1.0, area_mm2=50.0
        )


def test_a_shape_without_its_brightness_and_a_range_upside_down_are_refused():
    with pytest.raises(ValidationError, match="'circle' must have a grey"):
        ShapeSpec(shape="circle", centre_px=(1, 1), area_mm2=4, contrast=0.2)
    with pytest.raises(ValidationError, match="must be \\(low, high\\)"):
        ShapeConfig(grey=(215, 140))
