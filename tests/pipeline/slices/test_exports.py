"""What is exported is loaded with the libraries that it is for."""

import gc
import json
import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pydantic import ValidationError

from hemitwin.atlases import TEMPLATE_SPACE, save_volume
from hemitwin.pipeline.cohort.config import SplitConfig
from hemitwin.pipeline.slices.exports import exports_of
from hemitwin.pipeline.slices.slices import SliceConfig, slice_dataset
from hemitwin.pipeline.stage.errors import UserError
from hemitwin.pipeline.stage.settings import validated

pytestmark = pytest.mark.xdist_group("exports")

PEOPLE = tuple(f"{number:02d}" for number in range(1, 7))
MEDMNIST = {
    f"{fold}_{what}": (np.uint8, 3 if what == "images" else 2)
    for fold in ("train", "val", "test")
    for what in ("images", "labels")
}
"""Keys of MedMNIST's files of grey pictures, with type and axes: (n, 28, 28) and (n, 1)."""


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """Nothing is asked of a network."""
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()


def load(kind, folder, cache) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # the library leaves tables open
        found = datasets.load_dataset(kind, data_dir=str(folder), cache_dir=str(cache))
        gc.collect()
    return found


@pytest.fixture(scope="module")
def people(tmp_path_factory) -> Path:
    """Six brains: boxes of texture on an even grid of 8 mm, and a table with their groups."""
    root = tmp_path_factory.mktemp("people")
    for label in PEOPLE:
        rng = np.random.default_rng(int(label))
        data = np.zeros((20, 22, 18), dtype=np.float32)
        data[3:-3, 3:-3, 3:-3] = rng.uniform(0.2, 1, (14, 16, 12))
        affine = np.diag([8.0, 8.0, 8.0, 1.0])
        affine[:3, 3] = -76.0, -100.0, -60.0
        name = f"sub-{label}_space-{TEMPLATE_SPACE}_desc-prepared_T1w.nii.gz"
        path = root / "derivatives" / f"sub-{label}" / "anat" / name
        save_volume(path, data, affine, space=TEMPLATE_SPACE)
    lines = [f"sub-{label}\t{'a b/c' if int(label) % 2 else 'd'}\n" for label in PEOPLE]
    (root / "participants.tsv").write_text("participant_id\tkind\n" + "".join(lines))
    return root


def config_of(**settings):
    split = SplitConfig(validation=2, test=2)
    return SliceConfig(split=split, **{"step_mm": 40.0, "pixels": 24, **settings})


def sliced(people, out, *, labels=None, **settings):
    config = config_of(**settings)
    made = slice_dataset(people / "derivatives", out, config=config, labels=labels)
    assert not made.failures
    return exports_of(out)


def tables(out) -> Any:
    read = (pd.read_csv(path) for path in sorted(out.glob("*/metadata.csv")))
    return pd.concat(read, ignore_index=True)


@pytest.fixture(scope="module")
def asymmetric(people, tmp_path_factory):
    """Halves with shapes, in every form."""
    out = tmp_path_factory.mktemp("asymmetric") / "out"
    kinds = ("npz", "parquet", "classes", "symbrain")
    sliced(people, out, part="hemisphere", asymmetry_mm2=(900.0,), export=kinds)
    return out


def whole_of(out, row):
    left, right = (
        np.asarray(Image.open(out / row.split / name))
        for name in (row.left_file_name, row.right_file_name)
    )
    return np.hstack([left, right[:, ::-1]])


def test_an_npz_is_medmnists(asymmetric):
    table = tables(asymmetric)
    with np.load(exports_of(asymmetric) / "npz/slices.npz", allow_pickle=False) as arrays:
        assert set(MEDMNIST) <= set(arrays)
        classes = arrays["classes"].tolist()
        assert classes == ["none", "left", "right"]
        subjects = []
        for fold, called in (("train", "train"), ("validation", "val"), ("test", "test")):
            rows = table[table["split"] == fold]
            images, labels = arrays[f"{called}_images"], arrays[f"{called}_labels"]
            for name, values in (("images", images), ("labels", labels)):
                dtype, axes = MEDMNIST[f"{called}_{name}"]
                assert values.dtype == dtype
                assert values.ndim == axes
            assert images.shape == (len(rows), 24, 24)
            assert labels.shape == (len(rows), 1)
            assert [classes[int(number)] for number in labels[:, 0]] == rows["label"].tolist()
            for image, row in zip(images, rows.itertuples(), strict=True):
                np.testing.assert_array_equal(image, whole_of(asymmetric, row))
            subjects.append(set(arrays[f"{called}_subjects"]))
        assert sum(map(len, subjects)) == len(set.union(*subjects)) == len(PEOPLE)


@pytest.mark.data
def test_the_keys_are_those_of_a_file_of_medmnist(asymmetric):
    if "HEMITWIN_DATA" not in os.environ:
        pytest.skip("HEMITWIN_DATA is not set: no file of MedMNIST")
    real = Path(os.environ["HEMITWIN_DATA"]) / "chest-xray-28px/pneumoniamnist.npz"
    with np.load(real) as theirs, np.load(exports_of(asymmetric) / "npz/slices.npz") as ours:
        assert set(theirs) == set(MEDMNIST)
        for name in theirs:
            assert ours[name].dtype == theirs[name].dtype
            assert ours[name].ndim == theirs[name].ndim
            assert len(ours[name]) == len(ours[name.replace("images", "labels")])
            if name.endswith("labels"):
                assert ours[name].shape[1:] == theirs[name].shape[1:] == (1,)


def test_parquet_holds_the_pictures_themselves(asymmetric, tmp_path):
    folder = shutil.move(exports_of(asymmetric) / "parquet", tmp_path / "elsewhere")
    loaded = load("parquet", folder, tmp_path / "cache")
    shutil.move(folder, exports_of(asymmetric) / "parquet")
    table = tables(asymmetric)
    assert set(loaded) == {"train", "validation", "test"}
    for fold, rows in loaded.items():
        mine = table[table["split"] == fold]
        assert len(rows) == len(mine) > 0
        for row, own in zip(rows, mine.itertuples(), strict=True):
            picture = np.hstack([np.asarray(row["left"]), np.asarray(row["right"])[:, ::-1]])
            np.testing.assert_array_equal(picture, whole_of(asymmetric, own))
            for name in ("subject", "slice", "position_mm", "label", "abnormal"):
                assert row[name] == getattr(own, name)
            assert (row["mask"] is None) == (row["label"] == "none")


def test_class_folders_are_classes(asymmetric, tmp_path):
    folder = exports_of(asymmetric) / "classes"
    loaded = load("imagefolder", folder, tmp_path / "cache")
    table = tables(asymmetric)
    for fold, rows in loaded.items():
        names = rows.features["label"].names
        counts = pd.Series([names[row["label"]] for row in rows]).value_counts().to_dict()
        mine = table[table["split"] == fold]
        assert counts == mine["label"].value_counts().to_dict()
    for row in table.itertuples():
        stem = Path(max(row.left_file_name, row.right_file_name, key=len)).stem
        name = stem.replace("_hemi-L", "").replace("_hemi-R", "")
        picture = np.asarray(Image.open(folder / row.split / row.label / f"{name}.png"))
        np.testing.assert_array_equal(picture, whole_of(asymmetric, row))


def test_symbrains_columns_are_an_image_and_a_line_along_its_midline(asymmetric, tmp_path):
    loaded = load("imagefolder", exports_of(asymmetric) / "symbrain", tmp_path / "cache")
    table = tables(asymmetric)
    for fold, rows in loaded.items():
        mine = table[table["split"] == fold]
        assert len(rows) == len(mine)
        for row, own in zip(rows, mine.itertuples(), strict=True):
            assert (row["subject"], row["position_mm"]) == (own.subject, own.position_mm)
            image = np.asarray(row["image"])
            first, last = json.loads(row["line"])
            assert (first["x"], last["x"]) == (0, image.shape[1] - 1)
            assert first["y"] == last["y"]  # level: a slope there is
            left, right = (
                np.asarray(Image.open(asymmetric / own.split / name))
                for name in (own.left_file_name, own.right_file_name)
            )
            rows_of_image = np.arange(image.shape[0])
            above, below = image[rows_of_image < first["y"]], image[rows_of_image > first["y"]]
            # Folded along the line, the halves are those of the folder.
            np.testing.assert_array_equal(np.rot90(below, -1), left)
            np.testing.assert_array_equal(np.rot90(above[::-1], -1), right)


def test_the_folder_itself_loads_as_before(asymmetric, tmp_path):
    loaded = load("imagefolder", asymmetric, tmp_path / "cache")
    table = tables(asymmetric)
    assert {fold: len(rows) for fold, rows in loaded.items()} == (
        table["split"].value_counts().to_dict()
    )
    for fold, rows in loaded.items():
        for row in rows:
            assert row["left"].size == row["right"].size == (12, 24)
            own = table[(table["pair"] == row["pair"]) & (table["split"] == fold)].iloc[0]
            assert (row["mask"] is None) == (own["label"] == "none")
            if row["mask"] is not None:
                assert (np.asarray(row["mask"]) > 0).sum() * 64 == pytest.approx(
                    own["asymmetry_mm2"]
                )


def test_labels_of_subjects_are_classes_too(people, tmp_path):
    root = sliced(
        people,
        tmp_path / "out",
        participants=people / "participants.tsv",
        label_column="kind",
        export=("npz", "classes"),
    )
    with np.load(root / "npz/slices.npz") as arrays:
        assert arrays["classes"].tolist() == ["a b/c", "d"]
        of_subject = dict(zip(arrays["train_subjects"], arrays["train_labels"][:, 0], strict=True))
    assert all(bool(int(name[-2:]) % 2) == (label == 0) for name, label in of_subject.items())
    folders = {path.name for path in (root / "classes").glob("*/*")}
    assert folders == {"a_b_c", "d"}


def test_exports_follow_the_folder_and_nobody_crosses(people, tmp_path):
    out = tmp_path / "out"
    options = {"asymmetry_mm2": (900.0,)}
    root = sliced(people, out, labels=("01", "02"), export=("classes", "npz"), **options)
    few = {path.name for path in (root / "classes").rglob("*.png")}
    sliced(people, out, export=("parquet",), **options)  # those that are there are kept true
    every = {path.name for path in (root / "classes").rglob("*.png")}
    assert few < every
    assert len(every) == len(tables(out))
    folds: dict[str, set[str]] = {}
    for path in (root / "classes").rglob("*.png"):
        folds.setdefault(path.name.split("_")[0], set()).add(path.parent.parent.name)
    for fold in ("train", "validation", "test"):
        parquet = pd.read_parquet(root / f"parquet/{fold}.parquet", columns=["subject"])
        for name in parquet["subject"]:
            folds[name].add(fold)
    assert len(folds) == len(PEOPLE)
    assert all(len(where) == 1 for where in folds.values())
    assert not [path for path in root.iterdir() if path.name.startswith(".")]


def test_sixteen_bits_become_eight_in_arrays(people, tmp_path):
    options = {"asymmetry_mm2": (900.0,), "export": ("npz",)}
    fine = sliced(people, tmp_path / "a", bits=16, **options)
    plain = sliced(people, tmp_path / "b", **options)
    with np.load(fine / "npz/slices.npz") as one, np.load(plain / "npz/slices.npz") as other:
        for name in ("train_images", "test_images"):
            assert one[name].dtype == np.uint8
            difference = one[name].astype(int) - other[name]
            assert np.abs(difference).max() <= 1
            np.testing.assert_array_equal(one[name] > 0, other[name] > 0)


def test_what_cannot_be_exported_is_refused_before_anything_is_cut(people, tmp_path, monkeypatch):
    with pytest.raises(ValidationError, match="npz and classes need labels"):
        config_of(export=("classes",))
    with pytest.raises(ValidationError, match="symbrain needs slices with a midline"):
        config_of(export=("symbrain",), planes=("sagittal",))
    options = {"asymmetry_mm2": (900.0,), "pixels": None}
    with pytest.raises(UserError, match=r"npz needs pictures of one size, got 18 x 20, 22 x 20"):
        sliced(people, tmp_path / "out", planes=("axial", "coronal"), export=("npz",), **options)
    monkeypatch.setattr("hemitwin.pipeline.slices.exports.find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"the package datasets.*hemitwin\[datasets\]"):
        sliced(people, tmp_path / "out", export=("parquet",), **options)
    assert not (tmp_path / "out").exists()


def test_a_refusal_of_several_settings_together_does_not_list_them_all():
    with pytest.raises(UserError) as refused:
        validated(SliceConfig, {"export": ("npz",)}, "slice")
    last = str(refused.value).splitlines()[-1]
    assert last.startswith("  exports as npz and classes need labels; give ")
    assert "step_mm" not in last
