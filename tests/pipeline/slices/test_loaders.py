"""What others load pictures with reads a folder of slices as it is."""

import gc
import warnings
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from hemitwin.pipeline.cohort.config import SplitConfig
from hemitwin.pipeline.slices.slices import SliceConfig, slice_dataset

pytestmark = pytest.mark.xdist_group("path")


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """Nothing is asked of a network."""
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()


def sliced(prepared, out, **settings):
    split = SplitConfig(validation=2, test=2)
    config = SliceConfig(planes=("axial", "sagittal"), step_mm=40.0, split=split, **settings)
    assert not slice_dataset(prepared.derivatives, out, config=config).failures
    return out


def load(folder, cache) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # the library leaves tables open
        found = datasets.load_dataset("imagefolder", data_dir=str(folder), cache_dir=str(cache))
        gc.collect()
    return found


def test_an_image_folder_has_the_folds_and_every_row(prepared, tmp_path):
    out = sliced(prepared, tmp_path / "out")
    loaded = load(out, tmp_path / "cache")
    assert set(loaded) == {"train", "validation", "test"}
    for fold, rows in loaded.items():
        table = pd.read_csv(out / str(fold) / "metadata.csv")
        assert len(rows) == len(table) > 0
        assert "label" not in rows.column_names  # a subject is no class
        places = ["subject", "plane", "position_mm"]
        by_place = {tuple(row): name for *row, name in table[[*places, "file_name"]].to_numpy()}
        for row in rows:
            with Image.open(out / str(fold) / by_place[tuple(row[one] for one in places)]) as mine:
                np.testing.assert_array_equal(np.asarray(row["image"]), np.asarray(mine))
    subjects = [set(rows["subject"]) for rows in loaded.values()]
    assert sum(map(len, subjects)) == len(set.union(*subjects))


def test_a_row_of_halves_is_two_images(prepared, tmp_path):
    out = sliced(prepared, tmp_path / "out", part="hemisphere")
    for fold, rows in load(out, tmp_path / "cache").items():
        table = pd.read_csv(out / str(fold) / "metadata.csv").set_index("pair")
        assert sorted(rows["pair"]) == sorted(table.index)
        for row in rows:
            for side in ("left", "right"):
                name = table.loc[row["pair"], f"{side}_file_name"]
                with Image.open(out / str(fold) / name) as mine:
                    np.testing.assert_array_equal(np.asarray(row[side]), np.asarray(mine))
            assert row["left"].size == row["right"].size


def test_the_card_counts_what_is_there(prepared, tmp_path):
    out = sliced(prepared, tmp_path / "out")
    card = (out / "README.md").read_text()
    for path in out.glob("*/metadata.csv"):
        table = pd.read_csv(path)
        line = f"| {path.parent.name} | {table['subject'].nunique()} | {len(table)} |"
        assert line in card
    assert "Licence: " in card
