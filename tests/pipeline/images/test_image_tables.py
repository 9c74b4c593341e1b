"""Tables of other people are read as they are; each line that cannot be used is told."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from hemitwin.pipeline.images.config import ImagesConfig
from hemitwin.pipeline.images.image_set import read_images
from hemitwin.pipeline.stage.errors import UserError

NAMES = ("a.png", "b c.png", "ü.png", "deep/d.png")


def save(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 255, (20, 20)).astype(np.uint8)
    Image.fromarray(values).save(path)


@pytest.fixture
def folder(tmp_path):
    for seed, name in enumerate(NAMES):
        save(tmp_path / name, seed)
    return tmp_path


def read(path, text=None, **settings):
    if text is not None:
        path.write_text(text, encoding="utf-8")
    return read_images(ImagesConfig(images=path, pixels=16, **settings))


def lines(labels, separator=",", names=NAMES, header="file_name,label"):
    rows = [separator.join(row) for row in zip(names, labels, strict=True)]
    return "\n".join([header.replace(",", separator), *rows]) + "\n"


@pytest.mark.parametrize("separator", [",", "\t", ";"])
@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.txt"])
def test_the_separator_is_found_out(folder, separator, name):
    images = read(folder / name, "\ufeff" + lines("xyxy", separator))
    assert list(images.table["name"]) == list(NAMES)
    assert list(images.table["label"]) == ["x", "y", "x", "y"]
    assert images.classes == ("x", "y")
    assert not images.problems


HEADER = "patient_id filename class source\n"
COVIDX = "3 a.png pneumonia cohen\n3 ü.png pneumonia cohen\n007 d.png normal rsna\n"


@pytest.mark.parametrize("text", [HEADER + COVIDX, COVIDX, COVIDX.replace(" ", "  ")])
def test_a_list_of_covidx_is_read_with_and_without_its_header(folder, text):
    images = read(folder / "t.txt", text, image_column="filename", label_column="class")
    assert list(images.table["name"]) == ["a.png", "ü.png", "deep/d.png"]
    assert list(images.table["group"]) == ["3", "3", "007"]
    assert list(images.table["origin"]) == ["cohen", "cohen", "rsna"]


def test_ids_without_suffix_are_found_below_the_table(folder):
    text = "lesion_id,image_id,dx\nH1,a,nv\nH1,B C,nv\nH2,d,mel\nH3,gone,mel\n"
    images = read(folder / "t.csv", text, image_column="image_id", label_column="dx")
    assert list(images.table["name"]) == ["a.png", "b c.png", "deep/d.png"]
    assert list(images.table["group"]) == ["H1", "H1", "H2"]
    assert list(images.table["lesion_id"]) == ["H1", "H1", "H2"]  # further columns stay
    assert images.problems == (f"gone: left out, no such file below {folder}",)


def test_files_may_lie_elsewhere(folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("table") / "t.csv"
    assert len(read(path, lines("xyxy"), folder=folder)) == 4
    with pytest.raises(UserError, match=r"none of its 4 is there \(a\.png\); set folder"):
        read(path)
    with pytest.raises(UserError, match="folder must be where the files"):
        read(path, folder=folder / "none")


def test_a_name_of_two_files_is_told(folder):
    save(folder / "other" / "d.png", 9)
    images = read(folder / "t.csv", lines("xyy", names=("a.png", "b c.png", "d.png")))
    assert images.problems == (f"d.png: left out, 2 files below {folder} are called so",)


def test_columns_that_are_not_there_are_named(folder):
    with pytest.raises(UserError, match=r"column label \(label_column\), got file_name, klasse"):
        read(folder / "t.csv", lines("xyxy", header="file_name,klasse"))
    with pytest.raises(UserError, match=r"column pid \(group_column\), got file_name, label"):
        read(folder / "t.csv", lines("xyxy"), group_column="pid")


@pytest.mark.parametrize("nothing", ["", " ", "nan", "N/A"])
def test_a_line_without_a_class_is_told(folder, nothing):
    images = read(folder / "t.csv", lines(["x", nothing, "y", "None"]))
    assert images.classes == ("None", "x", "y")
    assert images.problems == ("b c.png: left out, t.csv gives it no label",)


def test_a_line_without_a_file_is_told(folder):
    images = read(folder / "t.csv", lines("xyx", names=("a.png", "b c.png", "")))
    assert images.problems == ("1 line(s) of t.csv: left out, no file_name",)
    with pytest.raises(UserError, match="no line has both"):
        read(folder / "t.csv", lines(["", ""], names=("a.png", "b c.png")))


def test_numbers_are_classes_in_their_order(folder):
    images = read(folder / "t.csv", lines(["10.0", "9.0", "10.0", "9.0"]))
    assert images.classes == ("9", "10")
    assert list(images.class_numbers) == [1, 0, 1, 0]


def test_values_that_are_no_classes_are_refused(folder):
    names = [f"{number}.png" for number in range(30)]
    for number, name in enumerate(names):
        save(folder / name, 100 + number)
    labels = [f"{number / 7:.3f}" for number in range(30)]
    with pytest.raises(UserError, match="few classes with several images each, got 30 for 30"):
        read(folder / "t.csv", lines(labels, names=names))


def test_a_file_listed_twice_is_taken_once_and_of_two_classes_never(folder):
    names = ("a.png", "a.png", "b c.png", "ü.png", "deep/d.png", "d")
    images = read(folder / "t.csv", lines("xxyxyx", names=names))
    assert list(images.table["name"]) == ["a.png", "b c.png", "ü.png"]
    assert images.problems == (
        "a.png: listed 2 times, taken once",
        "d.png: left out, listed as x and y",
    )


def test_folds_come_from_their_column(folder):
    header = "file_name,label,split"
    rows = [f"{name},{label}" for name, label in zip(NAMES, "xyxy", strict=True)]
    folds = ("train", "Test", "val", "training")
    text = "\n".join([header, *(f"{row},{fold}" for row, fold in zip(rows, folds, strict=True))])
    images = read(folder / "t.csv", text)
    assert list(images.table["fold"]) == ["train", "test", "validation", "train"]
    odd = text.replace(",val", ",7")
    assert set(read(folder / "t.csv", odd).table["fold"]) == {""}  # a column of something else
    images = read(folder / "t.csv", odd, fold_column="split")
    assert images.problems == ("ü.png: left out, split 7 is no fold",)
    with pytest.raises(UserError, match=r"must have train, validation or test in label, got x, y"):
        read(folder / "t.csv", fold_column="label")


def test_a_group_that_is_missing_is_the_image_itself(folder):
    text = "file_name,label,Patient ID\na.png,x,1\nü.png,y,\nb c.png,x,1\n"
    assert list(read(folder / "t.csv", text).table["group"]) == ["1", "ü.png", "1"]


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"file_name,label\n", "a line of column names and one for each image"),
        (b"file_name,label\na.png,\xe4\n", "text in UTF-8"),
        (b'file_name,label\na.png,"x\nb.png,y\n', "the same columns in every line"),
        (b"a.png,x\nb.png,y\n", "name its columns in the first line"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path, content, named):
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(UserError, match=rf"t\.csv must (have|be|name).*{named}|{named}"):
        read(tmp_path / "t.csv")


def test_columns_without_a_name_and_ends_of_lines_do_no_harm(folder):
    text = ",file_name,label,\n0,a.png,x,\n1,ü.png,y,\n"
    assert list(read(folder / "t.csv", text).table["name"]) == ["a.png", "ü.png"]
    assert len(read(folder / "t.csv", "file_name,label\na.png,x,\nü.png,y,\n")) == 2


def slices(folder, *, halves=False):
    """Write what stands for a folder of slices: a table in each fold's folder."""
    for place, fold in enumerate(("train", "validation", "test")):
        rows = []
        for number in range(2):
            subject = f"sub-{place}{number}"
            row = {"subject": subject, "label": "xy"[number], "position_mm": 8.0, "split": fold}
            columns = ("left_file_name", "right_file_name") if halves else ("file_name",)
            for side, column in enumerate(columns):
                row[column] = f"{subject}/slice{side}.png"
                save(folder / fold / row[column], 100 * place + 10 * number + side)
            rows.append(row)
        pd.DataFrame(rows).to_csv(folder / fold / "metadata.csv", index=False)
    return folder


def test_a_folder_of_slices_has_its_subjects_and_folds(tmp_path):
    images = read(slices(tmp_path))
    assert images.table["name"][0] == "train/sub-00/slice0.png"
    assert list(images.table["group"])[:2] == ["sub-00", "sub-01"]
    assert list(images.table["fold"])[::2] == ["train", "validation", "test"]
    assert list(images.table["position_mm"]) == ["8.0"] * 6


def test_a_line_of_two_halves_is_two_images(tmp_path):
    images = read(slices(tmp_path, halves=True))
    assert list(images.table["side"]) == ["left", "right"] * 6
    assert list(images.table["name"])[:2] == ["train/sub-00/slice0.png", "train/sub-00/slice1.png"]
    assert list(images.table["label"]) == ["x", "x", "y", "y"] * 3
