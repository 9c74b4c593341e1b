"""What names tell of a region: sides, and whether it is one."""

from pathlib import Path

import pytest

from hemitwin.atlases import is_no_area, sided_name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "???",
        "Unknown",
        "corpuscallosum",
        "Corpus_Callosum",
        "Medial_wall",
        "L_Medial wall",
        "MEDIAL_WALL",
        "Background+FreeSurfer_Defined_Medial_Wall",
        "lh_unknown",
    ],
)
def test_what_is_no_area_is_known_by_its_name(name):
    assert is_no_area(name)


@pytest.mark.parametrize("name", ["V1", "L_V1_ROI", "7Networks_LH_Vis_1", "G_and_S_frontomargin"])
def test_areas_are_areas(name):
    assert not is_no_area(name)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("cuneus", "R_cuneus"),
        ("R_V1", "R_V1"),
        ("7Networks_RH_Vis_1", "7Networks_RH_Vis_1"),
        ("ctx-rh-cuneus", "ctx-rh-cuneus"),
    ],
)
def test_only_names_without_a_side_get_one(name, wanted):
    assert sided_name(name, "R", Path("rh.annot")) == wanted


def test_a_name_of_the_other_side_is_refused_with_its_file():
    with pytest.raises(ValueError, match=r"areas of rh\.annot must be of side R, got 'L_V1'"):
        sided_name("L_V1", "R", Path("rh.annot"))
