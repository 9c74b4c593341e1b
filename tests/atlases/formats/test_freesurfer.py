"""Annotations as FreeSurfer writes them: every vertex has the name that its value has."""

import struct
from typing import Any, cast

import numpy as np
import pytest
from nibabel.freesurfer.io import write_annot, write_geometry
from nibabel.freesurfer.mghformat import MGHImage

from hemitwin.atlases import FREESURFER_SIDES, FreeSurferSubject, load_annotation
from hemitwin.transforms import load_geometry

POINTS = np.array([[0, 0, 0], [10, 0, 0], [0, 10, 0], [10, 10, 0.0]])
FACES = np.array([[0, 1, 2], [1, 3, 2]])


def annotate(path, labels, names):
    """Name four vertices; colours are dark and grow with the number."""
    colours = np.zeros((len(names), 5), dtype=int)
    colours[:, 0] = 10 * np.arange(1, len(names) + 1)
    write_annot(path, np.array(labels), colours, list(names), True)


def set_value(path, vertex, value):
    """Give a vertex a value in place of that of its name."""
    content = bytearray(path.read_bytes())
    struct.pack_into(">i", content, 4 + 8 * vertex + 4, value)
    path.write_bytes(bytes(content))


@pytest.fixture
def subject(tmp_path):
    """A subject with one square of cortex a side."""
    for name in ("surf", "label", "mri"):
        (tmp_path / name).mkdir()
    volume = MGHImage(cast("Any", np.zeros((4, 4, 4), np.uint8)), np.eye(4))
    volume.to_filename(tmp_path / "mri" / "orig.mgz")
    for fs in FREESURFER_SIDES.values():
        for height, kind in enumerate(("white", "pial")):
            write_geometry(
                tmp_path / "surf" / f"{fs}.{kind}", POINTS + np.array([0, 0, height]), FACES
            )
    return FreeSurferSubject(tmp_path, load_geometry)


def write_sides(subject, left, right, labels=(0, 1, 1, 0)):
    for fs, names in (("lh", left), ("rh", right)):
        annotate(subject.folder / "label" / f"{fs}.x.annot", labels, names)


def test_names_that_tell_their_side_are_kept_with_their_partners(subject):
    write_sides(
        subject,
        ["Background+FreeSurfer_Defined_Medial_Wall", "7Networks_LH_Vis_1"],
        ["Background+FreeSurfer_Defined_Medial_Wall", "7Networks_RH_Vis_1"],
    )
    ribbons, regions = subject.annotated("x")
    assert [(one.name, one.hemisphere, one.partner) for one in regions] == [
        ("7Networks_LH_Vis_1", "L", "7Networks_RH_Vis_1"),
        ("7Networks_RH_Vis_1", "R", "7Networks_LH_Vis_1"),
    ]
    assert [ribbon.labels.tolist() for ribbon in ribbons] == [[0, 1, 1, 0], [0, 2, 2, 0]]


def test_areas_of_the_hcp_lose_their_suffix_and_others_get_a_side(subject):
    write_sides(subject, ["L_V1_ROI", "cuneus"], ["R_V1_ROI", "cuneus"])
    _, regions = subject.annotated("x")
    assert [one.name for one in regions] == ["L_V1", "L_cuneus", "R_V1", "R_cuneus"]
    assert [one.partner for one in regions] == ["R_V1", "R_cuneus", "L_V1", "L_cuneus"]


def test_areas_of_the_other_side_are_refused_where_a_vertex_has_them(subject):
    write_sides(subject, ["a", "R_b"], ["a", "R_b"])
    with pytest.raises(ValueError, match=r"lh\.x\.annot must be of side L, got 'R_b'"):
        subject.annotated("x")
    both = ["L_a", "L_b", "R_a", "R_b"]
    write_sides(subject, both, both)
    annotate(subject.folder / "label" / "rh.x.annot", (2, 3, 3, 2), both)
    _, regions = subject.annotated("x")
    assert [one.name for one in regions] == both


def test_a_value_that_the_table_lacks_is_no_area(tmp_path):
    path = tmp_path / "lh.x.annot"
    annotate(path, (0, 1, 2, 0), ["a", "b", "c"])
    set_value(path, 0, 15)  # between the colours of a and b
    set_value(path, 3, 2**24 - 1)  # beyond all of them
    labels, names, colors = load_annotation(path)
    assert labels.tolist() == [-1, 1, 2, -1]
    assert names == ("a", "b", "c")
    assert colors[0] == "#0a0000"


def test_rows_are_found_whatever_their_order(tmp_path):
    path = tmp_path / "lh.x.annot"
    rng = np.random.default_rng(0)
    colours = np.zeros((50, 5), dtype=int)
    colours[:, 0] = rng.permutation(np.arange(1, 251))[:50]
    wanted = rng.integers(0, 50, 1000)
    write_annot(path, wanted, colours, [f"a{number}" for number in range(50)], True)
    np.testing.assert_array_equal(load_annotation(path)[0], wanted)


def test_a_file_without_a_usable_colour_table_is_named(tmp_path):
    path = tmp_path / "lh.x.annot"
    annotate(path, (0, 1, 1, 0), ["a", "b"])
    whole = path.read_bytes()
    path.write_bytes(whole[: 4 + 8 * 4] + struct.pack(">i", 0))
    with pytest.raises(ValueError, match=r"lh\.x\.annot must be .* with a colour table"):
        load_annotation(path)
    path.write_bytes(whole[:-16])
    with pytest.raises(ValueError, match=r"lh\.x\.annot must be .* with a colour table"):
        load_annotation(path)
    with pytest.raises(ValueError, match=r"none\.annot must be"):
        load_annotation(tmp_path / "none.annot")


def test_a_colour_table_with_gaps_is_refused(tmp_path):
    path = tmp_path / "lh.x.annot"
    entry = struct.pack(">ii2s4i", 2, 2, b"a\0", 10, 0, 0, 0)
    table = struct.pack(">iiii2si", 1, -2, 3, 2, b"x\0", 1) + entry
    path.write_bytes(struct.pack(">iii", 1, 0, 10) + table)
    with pytest.raises(ValueError, match="name each of its 3 colours, it names 1"):
        load_annotation(path)
