"""A folder of slices belongs to one split and one set of settings, whoever is asked for."""

import logging
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hemitwin.atlases import TEMPLATE_SPACE, save_volume
from hemitwin.pipeline.cohort.config import SplitConfig
from hemitwin.pipeline.cohort.split import read_split, write_split
from hemitwin.pipeline.slices.slices import SliceConfig, slice_dataset
from hemitwin.pipeline.stage.errors import UserError
from hemitwin.pipeline.stage.json_files import read_json

PEOPLE = tuple(f"{number:02d}" for number in range(1, 9))
SPLIT = SplitConfig(validation=0.25, test=0.25)
CONFIG = SliceConfig(planes=("axial", "sagittal"), step_mm=40.0, split=SPLIT)


def prepare(derivatives: Path, label: str, *, seed: int = 0, symmetric: bool = False) -> Path:
    """Write what stands for a prepared brain: a box of its own size on an even 20 mm grid."""
    rng = np.random.default_rng([seed, *label.encode()])
    data = np.zeros((8, 9, 8), dtype=np.float32)
    low, high = rng.integers(1, 3, 3), rng.integers(6, 8, 3)
    data[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = rng.uniform(0.5, 1)
    data *= rng.uniform(0.5, 1, data.shape).astype(np.float32)
    if symmetric:
        data = np.maximum(data, data[::-1])
    affine = np.diag([20.0, 20.0, 20.0, 1.0])
    affine[:3, 3] = -70.0, -100.0, -60.0
    name = f"sub-{label}_space-{TEMPLATE_SPACE}_desc-prepared_T1w.nii.gz"
    path = derivatives / f"sub-{label}" / "anat" / name
    save_volume(path, data, affine, space=TEMPLATE_SPACE)
    return path


def prepare_all(derivatives: Path, labels: Iterable[str] = PEOPLE) -> Path:
    for label in labels:
        prepare(derivatives, label)
    return derivatives


def pictures(out: Path) -> set[str]:
    return {path.relative_to(out).as_posix() for path in out.rglob("*.png")}


def table_of(out: Path) -> pd.DataFrame:
    """Read the tables of all folds; columns without ``_name`` name files from the folder above."""
    tables = []
    for path in sorted(out.glob("*/metadata.csv")):
        table = pd.read_csv(path, keep_default_na=False)
        assert (table["split"] == path.parent.name).all()
        for name in [name for name in table.columns if name.endswith("file_name")]:
            table[name.removesuffix("_name")] = path.parent.name + "/" + table[name]
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def snapshot(out: Path) -> dict[str, object]:
    files = (path for path in sorted(out.rglob("*")) if path.is_file())
    return {path.relative_to(out).as_posix(): _lasting(path) for path in files}


def _lasting(path):
    """Read a file; of a record without what this machine alone knows of the files."""
    if not (path.suffix == ".json" and path.name.startswith("sub-")):
        return path.read_bytes()
    content = read_json(path)
    made_from = content["MadeFrom"]
    for kind in ("inputs", "files"):
        made_from[kind] = {name: state["sha256"] for name, state in made_from[kind].items()}
    return content


@pytest.fixture(scope="module")
def derivatives(tmp_path_factory) -> Path:
    return prepare_all(tmp_path_factory.mktemp("prepared"))


@pytest.fixture(scope="module")
def whole(derivatives, tmp_path_factory) -> Path:
    """Everybody's slices by one call."""
    out = tmp_path_factory.mktemp("whole") / "out"
    assert not slice_dataset(derivatives, out, config=CONFIG).failures
    return out


def test_calls_one_after_another_give_the_bytes_of_one_call(derivatives, whole, tmp_path):
    for labels in (("03",), ("08", "01"), ("03", "02", "04", "05"), ("06", "07")):
        slice_dataset(derivatives, tmp_path / "out", config=CONFIG, labels=labels)
        assert pictures(tmp_path / "out") == set(table_of(tmp_path / "out")["file"])
    assert snapshot(tmp_path / "out") == snapshot(whole)
    assert set(table_of(whole)["split"]) == {"train", "validation", "test"}


def test_the_folds_are_drawn_over_everybody_whoever_is_asked_for(derivatives, whole, tmp_path):
    slice_dataset(derivatives, tmp_path, config=CONFIG, labels=("02",))
    assert read_split(tmp_path / "splits.json") == read_split(whole / "splits.json")
    assert set(table_of(tmp_path)["subject"]) == {"sub-02"}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"step_mm": 20.0}, r"begun with step_mm 40\.0 and step_mm 20\.0 is asked for"),
        ({"planes": ("axial",)}, "planes"),
        ({"part": "hemisphere"}, "part whole"),
    ],
)
def test_a_folder_takes_no_other_settings(derivatives, whole, change, named):
    before = snapshot(whole)
    with pytest.raises(UserError, match=f"{named}.*choose another folder"):
        slice_dataset(derivatives, whole, config=CONFIG.model_copy(update=change))
    assert snapshot(whole) == before


@pytest.mark.parametrize("change", [{"seed": 1}, {"split": SplitConfig(validation=1, test=3)}])
def test_a_folder_takes_no_other_split(derivatives, whole, change):
    before = snapshot(whole)
    with pytest.raises(UserError, match=r"must have one split.*--seed.*another folder"):
        slice_dataset(derivatives, whole, config=CONFIG.model_copy(update=change), labels=("01",))
    assert snapshot(whole) == before


def test_a_folder_takes_no_other_runs_split(derivatives, whole, tmp_path):
    write_split(tmp_path / "splits.json", read_split(whole / "splits.json"))
    slice_dataset(derivatives, whole, config=CONFIG, splits=tmp_path / "splits.json")
    drawn = slice_dataset(
        derivatives, tmp_path / "other", config=CONFIG.model_copy(update={"seed": 1})
    )
    assert not drawn.failures
    with pytest.raises(UserError, match="must have one split"):
        slice_dataset(derivatives, whole, config=CONFIG, splits=tmp_path / "other" / "splits.json")


def test_who_is_prepared_later_moves_nobody_and_has_no_fold(tmp_path):
    derivatives = prepare_all(tmp_path / "derivatives")
    out = tmp_path / "out"
    slice_dataset(derivatives, out, config=CONFIG, labels=PEOPLE[:4])
    folds = read_split(out / "splits.json")
    prepare(derivatives, "09")
    for labels in (None, ("09",), ("01", "09")):
        with pytest.raises(UserError, match=r"sub-09 has none; leave it out.*another folder"):
            slice_dataset(derivatives, out, config=CONFIG, labels=labels)
    slice_dataset(derivatives, out, config=CONFIG, labels=PEOPLE[4:])
    assert read_split(out / "splits.json") == folds
    assert set(table_of(out)["subject"]) == {f"sub-{label}" for label in PEOPLE}


def test_relatives_who_are_told_of_later_are_not_passed_over(derivatives, tmp_path):
    out = tmp_path / "out"
    slice_dataset(derivatives, out, config=CONFIG, labels=("01",))
    split = read_split(out / "splits.json")
    one, other = split.subjects("train")[0], split.subjects("test")[0]
    table = tmp_path / "participants.tsv"
    rows = "".join(f"sub-{k}\t{'m' if f'sub-{k}' in {one, other} else k}\n" for k in PEOPLE)
    table.write_text("participant_id\tmother_id\n" + rows)
    related = CONFIG.model_copy(update={"participants": table})
    with pytest.raises(UserError, match="must have one split"):
        slice_dataset(derivatives, out, config=related, labels=("02",))
    fresh = tmp_path / "fresh"
    slice_dataset(derivatives, fresh, config=related, labels=("01",))
    folds = read_split(fresh / "splits.json").folds
    assert folds[one] == folds[other]
    private = tmp_path / "fresh.families.private.json"
    told = private.read_bytes()
    slice_dataset(derivatives, fresh, config=related, labels=("02",))
    assert private.read_bytes() == told


def test_relatives_across_a_runs_split_are_refused_though_asked_for_apart(derivatives, tmp_path):
    slice_dataset(derivatives, tmp_path / "drawn", config=CONFIG, labels=("01",))
    splits = tmp_path / "drawn" / "splits.json"
    split = read_split(splits)
    one, other = split.subjects("train")[0], split.subjects("test")[0]
    table = tmp_path / "participants.tsv"
    rows = "".join(f"sub-{k}\t{'m' if f'sub-{k}' in {one, other} else k}\n" for k in PEOPLE)
    table.write_text("participant_id\tmother_id\n" + rows)
    with pytest.raises(UserError, match=rf"{other} \(relative in train\)"):
        slice_dataset(
            derivatives,
            tmp_path / "out",
            config=CONFIG.model_copy(update={"participants": table}),
            splits=splits,
            labels=(other,),
        )


def test_a_copy_across_folds_is_refused_though_asked_for_apart(tmp_path):
    derivatives = prepare_all(tmp_path / "derivatives")
    slice_dataset(derivatives, tmp_path / "drawn", config=CONFIG, labels=("01",))
    split = read_split(tmp_path / "drawn" / "splits.json")
    one, other = split.subjects("train")[0], split.subjects("test")[0]
    volumes = [next((derivatives / name / "anat").iterdir()) for name in (one, other)]
    shutil.copyfile(*volumes)
    out = tmp_path / "out"
    slice_dataset(derivatives, out, config=CONFIG, labels=(one,))
    with pytest.raises(UserError, match="hold the same voxels"):
        slice_dataset(derivatives, out, config=CONFIG, labels=(other,))


def test_slices_of_a_volume_that_was_prepared_anew_are_taken_out_and_told(tmp_path, caplog):
    derivatives = prepare_all(tmp_path / "derivatives")
    out = tmp_path / "out"
    slice_dataset(derivatives, out, config=CONFIG)
    prepare(derivatives, "02", seed=1)
    with caplog.at_level(logging.WARNING):
        slice_dataset(derivatives, out, config=CONFIG, labels=("05",))
    assert "the slices of sub-02 are taken out" in caplog.text
    assert pictures(out) == set(table_of(out)["file"])
    assert "sub-02" not in set(table_of(out)["subject"])
    caplog.clear()
    slice_dataset(derivatives, out, config=CONFIG, labels=("02",))
    assert not caplog.text
    slice_dataset(derivatives, tmp_path / "fresh", config=CONFIG)
    assert snapshot(out) == snapshot(tmp_path / "fresh")


def test_rows_of_a_picture_that_is_gone_are_taken_out_and_told(tmp_path, caplog):
    derivatives = prepare_all(tmp_path / "derivatives")
    out = tmp_path / "out"
    slice_dataset(derivatives, out, config=CONFIG)
    first = table_of(out).iloc[0]
    (out / first["file"]).unlink()
    with caplog.at_level(logging.WARNING):
        slice_dataset(derivatives, out, config=CONFIG, labels=("05",))
    assert f"{first['subject']} are taken out" in caplog.text
    assert pictures(out) == set(table_of(out)["file"])


def test_pictures_without_a_split_are_refused(derivatives, tmp_path):
    picture = tmp_path / "test" / "sub-01" / "sub-01_axial-010.0mm.png"
    picture.parent.mkdir(parents=True)
    picture.write_bytes(b"of an earlier version that was cut off")
    with pytest.raises(UserError, match=r"has pictures and none; choose another folder"):
        slice_dataset(derivatives, tmp_path, config=CONFIG)


def test_a_folder_of_the_first_version_is_refused(derivatives, whole, tmp_path):
    write_split(tmp_path / "splits.json", read_split(whole / "splits.json"))
    (tmp_path / "slices.json").write_text(CONFIG.model_dump_json())
    with pytest.raises(UserError, match=r"fixed_positions None and.*choose another folder"):
        slice_dataset(derivatives, tmp_path, config=CONFIG)


class Killed(BaseException):
    """What no code may catch."""


def test_killed_anywhere_and_run_again_gives_the_bytes_of_one_call(
    derivatives, whole, tmp_path, monkeypatch
):
    rename = Path.replace
    left = 0

    def dying(path: Path, target: Path) -> Path:
        nonlocal left
        left -= 1
        if left < 0:
            raise Killed
        return rename(path, target)

    files = len(snapshot(whole))
    monkeypatch.setattr(Path, "replace", dying)
    for allowed in [*range(5), *range(5, files, 7), files - 1]:
        out = tmp_path / str(allowed)
        left = allowed
        with pytest.raises(Killed):
            slice_dataset(derivatives, out, config=CONFIG)
        left = 1000
        if list(out.glob("*/metadata.csv")):
            assert set(table_of(out)["file"]) <= pictures(out)
        slice_dataset(derivatives, out, config=CONFIG)
        assert snapshot(out) == snapshot(whole)


def test_who_is_left_over_from_a_killed_call_is_told(derivatives, tmp_path, caplog):
    slice_dataset(derivatives, tmp_path, config=CONFIG)
    (record,) = tmp_path.glob("*/sub-03/sub-03.json")
    record.unlink()
    with caplog.at_level(logging.WARNING):
        slice_dataset(derivatives, tmp_path, config=CONFIG, labels=("05",))
    assert "pictures of sub-03 are not in metadata.csv" in caplog.text


Step = tuple[str, Sequence[str], int, float]
STEPS = st.one_of(
    st.tuples(
        st.just("slice"),
        st.lists(st.sampled_from([*PEOPLE, "09", "10"]), max_size=4, unique=True),
        st.integers(0, 1),
        st.sampled_from([40.0, 60.0]),
    ),
    st.tuples(
        st.just("prepare"),
        st.lists(st.sampled_from(["02", "05", "09", "10"]), min_size=1, max_size=1),
        st.integers(0, 2),
        st.just(0.0),
    ),
)


@settings(max_examples=15, deadline=None)
@given(st.lists(STEPS, max_size=7))
def test_no_subject_ever_lies_in_two_folds_whatever_is_called(derivatives, steps):
    with TemporaryDirectory() as name:
        out, prepared = Path(name) / "out", Path(name) / "prepared"
        shutil.copytree(derivatives, prepared)
        folds: dict[str, str] = {}
        for verb, labels, seed, step_mm in steps:
            take(verb, labels, seed, step_mm, prepared, out)
            found: dict[str, set[str]] = {}
            for file in pictures(out):
                fold, subject, _ = file.split("/")
                found.setdefault(subject, set()).add(fold)
            assert all(len(where) == 1 for where in found.values())
            now = {subject: where.pop() for subject, where in found.items()}
            assert all(folds.setdefault(subject, fold) == fold for subject, fold in now.items())
            if found:
                assert now.items() <= read_split(out / "splits.json").folds.items()
                assert set(table_of(out)["file"]) == pictures(out)


def take(
    verb: str, labels: Sequence[str], seed: int, step_mm: float, prepared: Path, out: Path
) -> None:
    """Take one step; what is refused, or has no fold, changes nothing."""
    if verb == "prepare":
        for label in labels:
            prepare(prepared, label, seed=seed)
        return
    config = CONFIG.model_copy(update={"seed": seed, "step_mm": step_mm})
    try:
        slice_dataset(prepared, out, config=config, labels=tuple(labels) or None)
    except UserError:
        return


def test_positions_and_names_are_shared_by_all_subjects(whole):
    table = table_of(whole)
    places = {
        name: {(row.plane, row.position_mm) for row in rows.itertuples()}
        for name, rows in table.groupby("subject")
    }
    shared = set.intersection(*places.values())
    assert len(shared) >= 4
    names = {
        name: {Path(file).name.removeprefix(f"{name}_") for file in rows["file"]}
        for name, rows in table.groupby("subject")
    }
    assert len(set.intersection(*names.values())) == len(shared)
    axial = table.loc[table["plane"] == "axial", "position_mm"]
    assert (axial % 40 == 0).all()


@pytest.mark.parametrize("part", ["whole", "hemisphere"])
def test_a_sagittal_slice_has_its_mirror_pixel_for_pixel(tmp_path, part):
    for label in PEOPLE:
        prepare(tmp_path / "derivatives", label, symmetric=True)
    config = CONFIG.model_copy(update={"part": part, "planes": ("sagittal",)})
    slice_dataset(tmp_path / "derivatives", tmp_path / "out", config=config)
    table = table_of(tmp_path / "out")
    if part == "hemisphere":
        assert (table["position_mm"] < 0).all()
        pairs = list(zip(table["left_file"], table["right_file"], strict=True))
    else:
        by_pair = table.sort_values("position_mm").groupby("pair")
        assert all(low == -high < 0 for _, (low, high) in by_pair["position_mm"])
        pairs = [tuple(files) for _, files in by_pair["file"]]
    assert pairs
    for left, right in pairs:
        one, other = (np.asarray(Image.open(tmp_path / "out" / file)) for file in (left, right))
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_halves_come_in_pairs_of_which_the_right_one_is_mirrored(derivatives, tmp_path, plane):
    config = CONFIG.model_copy(update={"part": "hemisphere", "planes": (plane,)})
    slice_dataset(derivatives, tmp_path, config=config)
    table = table_of(tmp_path)
    assert table["pair"].is_unique
    assert {*table["left_file"], *table["right_file"]} == pictures(tmp_path)
    for row in table.itertuples():
        for side, file in (("L", row.left_file), ("R", row.right_file)):
            assert f"/{row.subject}/" in str(file)
            assert f"_hemi-{side}." in str(file)


def test_whole_axial_slices_have_no_partner(whole):
    table = table_of(whole)
    assert (table.loc[table["plane"] == "axial", "pair"] == "").all()
    assert (table.loc[table["plane"] == "sagittal", "pair"] != "").all()


def test_planes_are_a_set():
    assert SliceConfig(planes=("sagittal", "axial", "sagittal")).planes == ("axial", "sagittal")


def test_new_times_of_equal_volumes_take_nothing_out(derivatives, whole):
    before = snapshot(whole)
    for path in derivatives.rglob("*.nii.gz"):
        os.utime(path)
    slice_dataset(derivatives, whole, config=CONFIG, labels=("07",))
    assert snapshot(whole) == before
