import numpy as np
import pytest

from hemitwin.atlases import Palette, relevance_palette


def test_scale_is_symmetric_about_zero():
    element = Palette(4.0, 0.5).to_element()
    assert element.findtext("UserScaleValues") == "-4 -0.5 0.5 4"
    assert element.findtext("ThresholdNormalValues") == "-0.5 0.5"
    assert element.findtext("DisplayNegativeData") == "true"


def test_without_threshold_everything_is_shown():
    assert Palette(1.0).to_element().findtext("ThresholdType") == "THRESHOLD_TYPE_OFF"


def test_scale_does_not_depend_on_sign_or_background():
    values = np.random.default_rng(0).normal(size=1000)
    padded = np.concatenate([-values, np.zeros(5000)])
    assert relevance_palette(padded) == relevance_palette(values)


def test_scaling_the_map_scales_the_palette():
    values = np.random.default_rng(0).normal(size=1000)
    assert relevance_palette(1e-6 * values).maximum == pytest.approx(
        1e-6 * relevance_palette(values).maximum
    )


def test_an_empty_map_still_has_a_scale():
    assert relevance_palette(np.zeros(5)).maximum == 1


@pytest.mark.parametrize(("maximum", "threshold"), [(0.0, 0.0), (1.0, 1.0), (np.inf, 0.0)])
def test_impossible_ranges_are_refused(maximum, threshold):
    with pytest.raises(ValueError, match="0 <= threshold < maximum"):
        Palette(maximum, threshold)
