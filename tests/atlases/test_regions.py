from collections import Counter

import pytest

from hemitwin.atlases import hcpmmp_regions


def test_there_are_360_areas_and_19_structures():
    regions = hcpmmp_regions()
    assert [region.index for region in regions] == list(range(1, 380))
    assert sum(region.cortex is not None for region in regions) == 360
    assert Counter(region.hemisphere for region in regions) == {"L": 189, "R": 189, "midline": 1}


def test_partners_point_at_each_other_across_the_midline():
    by_name = {region.name: region for region in hcpmmp_regions()}
    for region in by_name.values():
        if region.partner is None:
            assert region.name == "brainStem"
            continue
        partner = by_name[region.partner]
        assert partner.partner == region.name
        assert {partner.hemisphere, region.hemisphere} == {"L", "R"}
        assert partner.cortex == region.cortex


def test_every_area_is_in_one_of_22_cortices():
    cortices = {region.cortex for region in hcpmmp_regions()} - {None}
    assert len(cortices) == 22
    by_name = {region.name: region.cortex for region in hcpmmp_regions()}
    assert by_name["R_V1"] == "Primary Visual Cortex (V1)"
    assert by_name["L_A1"] == "Early Auditory Cortex"
    assert by_name["L_4"] == "Somatosensory and Motor Cortex"


def test_colours_are_numbers_between_zero_and_one():
    first = hcpmmp_regions()[0]
    assert first.color == "#430aff"
    assert first.rgba == pytest.approx((0.262745, 0.0392157, 1, 1), abs=1e-3)
