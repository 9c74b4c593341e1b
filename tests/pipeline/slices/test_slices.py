import numpy as np
import pandas as pd
import pytest
from PIL import Image

from hemitwin.pipeline.cohort.config import SplitConfig
from hemitwin.pipeline.cohort.families import read_families
from hemitwin.pipeline.cohort.split import read_split
from hemitwin.pipeline.slices.slices import SliceConfig, slice_dataset
from hemitwin.pipeline.stage.errors import UserError

pytestmark = pytest.mark.xdist_group("path")

SPLIT = SplitConfig(validation=2, test=2)


@pytest.fixture(scope="module")
def sliced(prepared, tmp_path_factory):
    out = tmp_path_factory.mktemp("slices")
    config = SliceConfig(planes=("axial", "sagittal"), step_mm=20.0, split=SPLIT)
    outcome = slice_dataset(prepared.derivatives, out, config=config)
    assert not outcome.failures
    return out


def table_of(out):
    """Read the tables of all folds; files are named from the folder above."""
    tables = {path.parent.name: pd.read_csv(path) for path in sorted(out.glob("*/metadata.csv"))}
    for fold, table in tables.items():
        table["file"] = (
            fold
            + "/"
            + table[next(name for name in map(str, table) if name.endswith("file_name"))]
        )
    return pd.concat(tables.values(), ignore_index=True)


def test_slices_of_a_subject_never_cross_folds(sliced):
    table = table_of(sliced)
    assert table.groupby("subject")["split"].nunique().eq(1).all()
    assert table.groupby("group")["split"].nunique().eq(1).all()
    assert set(table["split"]) == {"train", "validation", "test"}
    folds = read_split(sliced / "splits.json").folds
    assert all(folds[str(row.subject)] == row.split for row in table.itertuples())


def test_every_row_is_a_picture_in_its_folds_folder(sliced):
    table = table_of(sliced)
    assert len(table) == len(list(sliced.rglob("*.png")))
    for row in table.itertuples():
        assert str(row.file).startswith(f"{row.split}/{row.subject}/")
        with Image.open(sliced / str(row.file)) as picture:
            assert picture.mode == "L"
            assert np.asarray(picture).max() > 0


def test_halves_lie_on_each_other(prepared, tmp_path):
    whole = SliceConfig(step_mm=40.0, split=SPLIT)
    halves = SliceConfig(step_mm=40.0, split=SPLIT, part="hemisphere")
    slice_dataset(prepared.derivatives, tmp_path / "whole", config=whole)
    slice_dataset(prepared.derivatives, tmp_path / "halves", config=halves)
    table = table_of(tmp_path / "halves")
    first = table_of(tmp_path / "whole").iloc[0]
    pixels = np.asarray(Image.open(tmp_path / "whole" / str(first["file"])))
    mine = table[(table["case"] == first["case"]) & (table["position_mm"] == first["position_mm"])]
    left, right = (
        np.asarray(Image.open(tmp_path / "halves" / first["split"] / mine[name].item()))
        for name in ("left_file_name", "right_file_name")
    )
    np.testing.assert_array_equal(np.hstack([left, right[:, ::-1]]), pixels)


def test_a_runs_split_is_taken_over_and_must_know_every_subject(prepared, run, tmp_path):
    splits = run.folder / "splits.json"
    with pytest.raises(UserError, match="sub-p01"):
        slice_dataset(prepared.derivatives, tmp_path, splits=splits)
    known = tuple(run.split.folds)
    outcome = slice_dataset(prepared.derivatives, tmp_path, splits=splits, labels=known)
    assert not outcome.failures
    assert read_split(tmp_path / "splits.json") == run.split


def _families(folder, text):
    path = folder / "participants.tsv"
    path.write_text("participant_id\tmother_id\n" + text)
    return path


def test_relatives_share_a_fold_and_are_named_in_a_private_file_only(prepared, tmp_path):
    names = [f"sub-{k:02d}" for k in range(1, 9)] + ["sub-p01"]
    rows = "".join(f"{name}\tsmith{k // 2}\n" for k, name in enumerate(names))
    config = SliceConfig(
        step_mm=40.0,
        split=SplitConfig(validation=1, test=1),
        participants=_families(tmp_path, rows),
    )
    out = tmp_path / "out"
    slice_dataset(prepared.derivatives, out, config=config)
    table = table_of(out)
    folds = table.groupby("subject")["split"].first()
    assert folds["sub-01"] == folds["sub-02"]
    # Nothing that may be shared tells sub-01 and sub-02, or any other two, to be relatives.
    assert table.groupby("group")["subject"].nunique().eq(1).all()
    assert not any("smith" in path.read_text() for path in out.glob("*.*") if path.is_file())
    groups = read_families(tmp_path / "out.families.private.json")
    assert groups["sub-01"] == groups["sub-02"] != groups["sub-03"]


def test_a_table_that_misses_a_subject_is_refused(prepared, tmp_path):
    participants = _families(tmp_path, "sub-01\ta\n")
    with pytest.raises(UserError, match=r"sub-02.* has none; add it"):
        slice_dataset(
            prepared.derivatives, tmp_path / "out", config=SliceConfig(participants=participants)
        )


def test_a_runs_split_that_relatives_cross_is_refused(prepared, run, tmp_path):
    tested, learnt = run.split.subjects("test")[0], run.split.subjects("train")[0]
    rows = "".join(
        f"{name}\t{'same' if name in {tested, learnt} else 'n/a'}\n" for name in run.split.folds
    )
    with pytest.raises(UserError, match=rf"{tested} \(relative in train\)"):
        slice_dataset(
            prepared.derivatives,
            tmp_path / "out",
            splits=run.folder / "splits.json",
            labels=tuple(run.split.folds),
            config=SliceConfig(participants=_families(tmp_path, rows)),
        )
    assert not (tmp_path / "out").exists()
