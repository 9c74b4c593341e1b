"""Folders of classes and arrays are read whole; what cannot be read is told, the rest done."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hemitwin.pipeline.cohort.config import SplitConfig
from hemitwin.pipeline.cohort.split import read_split
from hemitwin.pipeline.images.config import ImagesConfig
from hemitwin.pipeline.images.image_set import read_images, read_unlabelled
from hemitwin.pipeline.images.image_split import split_images
from hemitwin.pipeline.slices.config import SliceConfig
from hemitwin.pipeline.slices.slices import slice_dataset
from hemitwin.pipeline.stage.errors import UserError

CLASSES = ("glioma", "no tumour", "überall")


def drawn(seed, shape=(24, 20)):
    return np.random.default_rng(seed).integers(0, 255, shape).astype(np.uint8)


def save(path, seed=0, **settings):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(drawn(seed)).save(path, **settings)
    return path


@pytest.fixture
def folder(tmp_path):
    for number, name in enumerate(CLASSES):
        for place in range(3):
            save(tmp_path / "set" / name / f"Bild {place}é.PNG", 10 * number + place)
    return tmp_path / "set"


def read(path, **settings):
    return read_images(ImagesConfig(images=path, pixels=16, **settings))


def test_a_folder_is_a_class(folder):
    images = read(folder)
    assert images.classes == CLASSES
    assert not images.problems
    assert list(images.class_numbers) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert images.pixels.shape == (9, 1, 16, 16)
    assert images.table["name"].is_unique
    row = images.table.iloc[0]
    assert (row["name"], row["fold"]) == ("glioma/Bild 0é.PNG", "")
    assert (row["width"], row["height"], row["mode"], row["format"]) == (20, 24, "L", "PNG")


def test_an_image_does_not_depend_on_the_others(folder):
    whole = read(folder).pixels
    shutil.rmtree(folder / "glioma")
    np.testing.assert_array_equal(read(folder).pixels, whole[3:])


def test_classes_are_those_asked_for_in_their_order(folder):
    images = read(folder, classes=("überall", "glioma"))
    assert images.classes == ("überall", "glioma")
    assert list(images.class_numbers) == [1, 1, 1, 0, 0, 0]
    assert "no tumour: 3 image(s) left out" in images.problems[0]
    with pytest.raises(UserError, match=r"none of menin.*it has glioma, no tumour, überall"):
        read(folder, classes=("glioma", "menin"))


@pytest.mark.parametrize(
    ("train", "validation", "test"),
    [("Training", None, "Testing"), ("train", "val", "test"), ("TRAIN", "valid", "Test")],
)
def test_folders_of_folds_give_the_fold(tmp_path, train, validation, test):
    seed = 0
    for fold in filter(None, (train, validation, test)):
        for name in CLASSES:
            save(tmp_path / fold / name / "deep" / f"{seed}.jpg", seed)
            seed += 1
    (tmp_path / "extra").mkdir()
    images = read(tmp_path)
    assert images.classes == CLASSES
    expected = {"train", "test"} | ({"validation"} if validation else set())
    assert set(images.table["fold"]) == expected
    assert images.problems[0].startswith("extra: left out")
    assert set(images.table["origin"]) == {"deep/#"}
    assert set(read(tmp_path, keep_folds=False).table["fold"]) == {""}


def test_a_folder_called_test_is_a_class_where_there_is_no_training(tmp_path):
    save(tmp_path / "test" / "a.png", 1)
    save(tmp_path / "control" / "a.png", 2)
    assert read(tmp_path).classes == ("control", "test")


def test_what_is_broken_is_left_out_and_named(folder):
    broken = folder / "glioma"
    (broken / "half.jpg").write_bytes(save(broken / "half.jpg", 50).read_bytes()[:300])
    (broken / "text.png").write_text("not an image")
    (broken / "notes.txt").write_text("notes")
    Image.new("L", (20, 20), 7).save(broken / "blank.png")
    images = read(folder)
    assert len(images) == 9
    for name in ("half.jpg", "text.png", "notes.txt", "blank.png"):
        assert sum(name in problem for problem in images.problems) == 1
    told = "\n".join(images.problems)
    assert "notes.txt: left out, no image by the suffix" in told
    assert "one value everywhere" in told


def test_what_systems_leave_behind_is_no_image(folder):
    for name in (".DS_Store", "._x.png", "Thumbs.db", ".hidden/y.png", "__MACOSX/z.png"):
        path = folder / "glioma" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("litter")
    (folder / ".DS_Store").write_text("litter")
    shutil.copytree(folder / "glioma", folder / ".cache")
    images = read(folder)
    assert (len(images), images.problems) == (9, ())


def test_an_empty_class_is_told(folder):
    (folder / "empty").mkdir()
    images = read(folder)
    assert images.classes == CLASSES
    assert images.problems == ("empty: a class without an image",)


def test_a_class_of_broken_images_is_told_and_refused_where_it_is_asked_for(folder):
    save(folder / "rare" / "a.png").write_bytes(b"")
    images = read(folder)
    assert images.classes == CLASSES
    assert images.problems[-1] == "rare: no image of this class is left"
    with pytest.raises(UserError, match=r"one of each class asked for.*rare/a\.png"):
        read(folder, classes=("glioma", "rare"))


def test_an_image_in_two_classes_is_taken_out_of_both(folder):
    Image.open(folder / "glioma" / "Bild 0é.PNG").save(folder / "no tumour" / "other.bmp")
    images = read(folder)
    assert len(images) == 8
    assert "glioma/Bild 0é.PNG" not in set(images.table["name"])
    (told,) = images.problems
    assert told.startswith("glioma/Bild 0é.PNG (glioma), no tumour/other.bmp (no tumour): left")
    assert told.endswith("one image in several classes")


def test_changes_are_told_once_with_the_files(folder):
    exif = Image.Exif()
    exif[0x0112] = 3
    for place in range(2):
        save(folder / "glioma" / f"turned{place}.png", 60 + place, exif=exif)
    (told,) = read(folder).problems
    assert told.startswith("2 image(s) turned as the EXIF orientation says: glioma/turned0.png")


def test_subjects_in_names_are_groups(folder):
    save(folder / "glioma" / "sub-01" / "sub-01_slice-3.png", 71)
    save(folder / "no tumour" / "sub-01_slice-9.png", 72)
    groups = read(folder).table.set_index("name")["group"]
    assert (groups == "sub-01").sum() == 2
    assert groups["glioma/Bild 0é.PNG"] == "glioma/Bild 0é.PNG"
    by_pattern = read(folder, group_pattern="Bild ([0-9])").table["group"]
    assert sorted(set(by_pattern))[:3] == ["0", "1", "2"]
    with pytest.raises(ValueError, match="group_pattern must be a regular expression"):
        read(folder, group_pattern="(")


def test_images_without_folders_are_refused(tmp_path):
    save(tmp_path / "a.png")
    with pytest.raises(
        UserError, match=r"a folder with images for each class.*the files a\.png dir"
    ):
        read(tmp_path)


def test_a_table_beside_class_folders_is_told(folder):
    (folder / "metadata_2.csv").write_text("image_id,dx\n")
    save(folder / "loose.png")
    assert read(folder).problems == (
        "loose.png: left out, since in no class folder",
        "metadata_2.csv: not read; where it has the labels, give it as images",
    )


def test_classes_that_yaml_reads_as_numbers_are_names():
    assert ImagesConfig.model_validate({"images": "x", "classes": [0, 1]}).classes == ("0", "1")
    with pytest.raises(ValueError, match=r"at least two, each named once, got a, a"):
        ImagesConfig(images=Path("x"), classes=("a", "a"))
    with pytest.raises(ValueError, match=r"got \[True, False\]; write 'yes' and 'no' in quotes"):
        ImagesConfig.model_validate({"images": "x", "classes": [True, False]})


def test_one_class_is_refused(tmp_path):
    save(tmp_path / "dataset" / "yes" / "a.png")
    save(tmp_path / "dataset" / "no" / "a.png")
    with pytest.raises(
        UserError, match=r"at least two classes, got dataset alone.*give it as images"
    ):
        read(tmp_path)


def test_a_source_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UserError, match="is not there"):
        read(tmp_path / "none")


def test_relatives_keep_their_folds(folder):
    (folder.parent / "set.families.private.json").write_text("{}")
    with pytest.raises(UserError, match="slices of relatives must keep their folds"):
        read(folder, keep_folds=False)


def write_arrays(path, shape=(28, 28), kind=np.uint8, label_shape=(1,)):
    rng = np.random.default_rng(0)
    arrays = {}
    for fold, count in (("train", 6), ("val", 3), ("test", 4)):
        arrays[f"{fold}_images"] = rng.integers(0, 255, (count, *shape)).astype(kind)
        arrays[f"{fold}_labels"] = rng.integers(0, 2, (count, *label_shape)).astype(np.uint8)
        arrays[f"{fold}_labels"][:2] = np.array([0, 1]).reshape(2, *[1] * len(label_shape))
    np.savez(path, **arrays)
    return arrays


@pytest.mark.parametrize(("shape", "mode"), [((28, 28), "L"), ((28, 28, 3), "RGB")])
@pytest.mark.parametrize("channels", [1, 3])
def test_arrays_are_read_as_medmnist_keeps_them(tmp_path, shape, mode, channels):
    arrays = write_arrays(tmp_path / "a.npz", shape)
    images = read_images(ImagesConfig(images=tmp_path / "a.npz", pixels=28, channels=channels))
    assert images.classes == ("0", "1")
    assert set(images.table["mode"]) == {mode}
    assert list(images.table["fold"].value_counts()[["train", "validation", "test"]]) == [6, 3, 4]
    labels = np.concatenate([arrays[f"{fold}_labels"] for fold in ("train", "val", "test")])
    np.testing.assert_array_equal(images.class_numbers, labels[:, 0])
    if (mode, channels) in {("L", 1), ("RGB", 3)}:
        expected = arrays["train_images"].reshape(6, 28, 28, channels).transpose(0, 3, 1, 2)
        np.testing.assert_array_equal(images.pixels[:6], expected)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"shape": (28, 28, 28)}, r"train_images \(6, 28, 28, 28\)"),
        ({"kind": np.float32}, "of float32"),
        ({"label_shape": (14,)}, r"train_labels \(6, 14\)"),
    ],
)
def test_other_arrays_are_refused(tmp_path, settings, named):
    write_arrays(tmp_path / "a.npz", **settings)
    with pytest.raises(UserError, match=f"a.npz must hold train_images.*{named}"):
        read(tmp_path / "a.npz")


def test_arrays_with_other_keys_and_no_arrays_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros(3), y=np.zeros(3))
    with pytest.raises(UserError, match=r"must hold train_images.*got x, y"):
        read(tmp_path / "a.npz")
    (tmp_path / "b.npz").write_text("nothing")
    with pytest.raises(UserError, match=r"b\.npz must be as it was written"):
        read(tmp_path / "b.npz")


def test_images_to_be_classified_need_no_class(folder):
    save(folder / "new.png", 90)
    save(folder / "GLIOMA" / "x.png", 91)
    (folder / "broken.png").write_text("no")
    config = ImagesConfig(images=Path("elsewhere"), pixels=16)
    images = read_unlabelled(folder, config, classes=("no tumour", "glioma"))
    labels = images.table.set_index("name")["label"]
    assert (labels["new.png"], labels["GLIOMA/x.png"]) == ("", "glioma")
    assert (labels == "").sum() == 4  # and a class that the run does not know
    assert set(images.class_numbers) == {-1, 0, 1}
    assert any("broken.png" in problem for problem in images.problems)
    files = [folder / "new.png", folder / "glioma" / "Bild 0é.PNG"]
    listed = read_unlabelled(files, config, classes=("glioma", "no tumour"))
    assert list(listed.table["label"]) == ["", "glioma"]
    assert len(read_unlabelled(files[0], config)) == 1


def test_nothing_to_be_classified_is_refused(tmp_path):
    config = ImagesConfig(images=Path("elsewhere"), pixels=16)
    with pytest.raises(UserError, match="there must be images"):
        read_unlabelled(tmp_path, config)
    with pytest.raises(UserError, match=r"one image at least must be readable.*gone\.png"):
        read_unlabelled([tmp_path / "gone.png"], config)


@pytest.mark.xdist_group("path")
def test_a_folder_that_slice_wrote_keeps_subjects_and_folds(prepared, tmp_path):
    split = SplitConfig(validation=2, test=2)
    config = SliceConfig(planes=("axial", "sagittal"), step_mm=40.0, split=split)
    assert not slice_dataset(prepared.derivatives, tmp_path / "out", config=config).failures
    images = read(tmp_path / "out", label_column="plane")
    assert images.classes == ("axial", "sagittal")
    folds = dict(read_split(tmp_path / "out" / "splits.json").folds)
    assert dict(zip(images.table["group"], images.table["fold"], strict=True)) == folds
    kept, _ = split_images(images, split, 5)
    assert kept.folds == folds
