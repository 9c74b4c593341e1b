"""Look-up tables: what a column says holds, in whatever words; names fill what has no column."""

import re

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from hemitwin.atlases import dseg_table_of, read_dseg_table, regions_of_table
from hemitwin.transforms import load_labels


def read(tmp_path, text):
    path = tmp_path / "a_dseg.tsv"
    path.write_text(text)
    return read_dseg_table(path)


def test_a_column_of_partners_is_not_overruled_by_names(tmp_path):
    found = read(
        tmp_path, "index\tname\tpartner\n1\tL_a\tn/a\n2\tR_a\t\n3\tL_b\tR_b\n4\tR_b\tL_b\n"
    )
    assert [one.partner for one in found] == [None, None, "R_b", "L_b"]
    named = read(tmp_path, "index\tname\n1\tL_a\n2\tR_a\n")
    assert [one.partner for one in named] == ["R_a", "L_a"]


@pytest.mark.parametrize(
    ("word", "side"),
    [
        ("L", "L"),
        ("l", "L"),
        ("lh", "L"),
        ("LH", "L"),
        ("Left", "L"),
        ("R", "R"),
        ("rh", "R"),
        ("RIGHT", "R"),
        ("midline", "midline"),
        ("both", "midline"),
        ("Bilateral", "midline"),
        ("n/a", "midline"),
        ("", "midline"),
    ],
)
def test_sides_are_known_in_many_words(tmp_path, word, side):
    (found,) = read(tmp_path, f"index\tname\themisphere\n1\tx\t{word}\n")
    assert found.hemisphere == side


def test_another_word_for_a_side_is_refused_with_its_row(tmp_path):
    with pytest.raises(ValueError, match=r"a_dseg\.tsv: a hemisphere .* got 'up' .* 7 \(x\)"):
        read(tmp_path, "index\tname\themisphere\n7\tx\tup\n")


def test_names_make_no_partners_of_regions_on_one_side(tmp_path):
    found = read(tmp_path, "index\tname\themisphere\n1\tL_a\tn/a\n2\tR_a\tR\n")
    assert [one.partner for one in found] == [None, None]


@pytest.mark.parametrize(
    ("written", "color"),
    [
        ("#0A0b0C", "#0a0b0c"),
        ("10 11 12", "#0a0b0c"),
        ("10,11,12", "#0a0b0c"),
        ("255, 0, 7", "#ff0007"),
    ],
)
def test_colours_come_as_hex_or_as_three_numbers(tmp_path, written, color):
    (found,) = read(tmp_path, f"index\tname\tcolor\n1\tx\t{written}\n")
    assert found.color == color
    assert 0 <= min(found.rgba) <= max(found.rgba) <= 1


@pytest.mark.parametrize("written", ["red", "#fff", "#12345g", "1 2", "256 0 0", "0.1 0.2 0.3"])
def test_other_colours_are_refused_with_their_row(tmp_path, written):
    told = rf"#rrggbb .* got {re.escape(repr(written))} for region 7 \(x\)"
    with pytest.raises(ValueError, match=told):
        read(tmp_path, f"index\tname\tcolor\n7\tx\t{written}\n")


def test_indices_are_whole_numbers(tmp_path):
    for text in ("1.5", ""):
        with pytest.raises(ValueError, match="whole numbers as indices"):
            read(tmp_path, f"index\tname\n{text}\tx\n2\ty\n")
    assert read(tmp_path, "index\tname\n1.0\tx\n")[0].index == 1


def test_a_table_in_memory_may_have_cells_of_nothing():
    table = pd.DataFrame({"index": [1], "name": ["x"], "color": [None], "cortex": [np.nan]})
    (found,) = regions_of_table(table)
    assert found.cortex is None
    assert re.fullmatch("#[0-9a-f]{6}", found.color)


def test_one_table_serves_all_resolutions(tmp_path):
    volume = tmp_path / "tpl-X_res-01_atlas-Y_dseg.nii.gz"
    own = tmp_path / "tpl-X_res-01_atlas-Y_dseg.tsv"
    assert dseg_table_of(volume) == own
    common = tmp_path / "tpl-X_atlas-Y_dseg.tsv"
    common.touch()
    assert dseg_table_of(volume) == common
    own.touch()
    assert dseg_table_of(volume) == own


def save(path, values):
    nib.Nifti1Image(values, np.eye(4)).to_filename(path)
    return path


def test_labels_stored_with_a_slope_are_rounded_and_nan_is_none(tmp_path):
    wanted = np.arange(8.0).reshape(2, 2, 2)
    path = save(tmp_path / "a.nii", (wanted + 4e-4).astype(np.float32))
    np.testing.assert_array_equal(load_labels(path)[0], wanted)
    holes = np.where(wanted == 5, np.nan, wanted)
    found, _ = load_labels(save(tmp_path / "b.nii", holes))
    np.testing.assert_array_equal(found, np.where(wanted == 5, 0, wanted))


@pytest.mark.parametrize("value", [0.5, 0.99, np.inf])
def test_probabilities_are_no_labels(tmp_path, value):
    path = save(tmp_path / "a.nii", np.full((2, 2, 2), value))
    with pytest.raises(ValueError, match="whole numbers"):
        load_labels(path)
