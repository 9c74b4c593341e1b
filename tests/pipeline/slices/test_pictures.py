"""What pictures show: where they were cut, how large and how bright they are, what was drawn."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pydantic import ValidationError
from scipy import ndimage

from hemitwin.atlases import TEMPLATE_SPACE, save_volume, template_grid
from hemitwin.pipeline.cohort.config import SplitConfig
from hemitwin.pipeline.preparation.prepare import prepare as prepare_scans
from hemitwin.pipeline.slices import source as slice_source
from hemitwin.pipeline.slices.slices import SliceConfig, slice_dataset
from hemitwin.pipeline.stage.bids import sidecar_of
from hemitwin.pipeline.stage.errors import UserError
from hemitwin.pipeline.stage.json_files import digest_file

PEOPLE = ("01", "02", "03")
SPLIT = SplitConfig(validation=1, test=1)

# The scan is turned and shifted, and its millimetres are 0.8 of the template's.
ANGLE = 0.15
FROM_TEMPLATE = np.array(
    [
        [0.8 * np.cos(ANGLE), -0.8 * np.sin(ANGLE), 0, 3.0],
        [0.8 * np.sin(ANGLE), 0.8 * np.cos(ANGLE), 0, -5.0],
        [0, 0, 0.8, 2.0],
        [0, 0, 0, 1],
    ]
)


def brain_at(points, rng_seed):
    """Smooth values of a brain at template mm, brighter on the right; 0 outside."""
    x, y, z = points
    inside = (x / 60) ** 2 + ((y + 16) / 70) ** 2 + ((z - 8) / 55) ** 2 < 1
    values = 1 + 0.3 * np.tanh(x / 20) + 0.1 * np.sin((y + rng_seed) / 9) * np.cos(z / 11)
    return np.where(inside, values, 0).astype(np.float32)


def points_of(shape, affine):
    return np.einsum("ij,jxyz->ixyz", affine[:3, :3], np.indices(shape)) + affine[:3, 3].reshape(
        3, 1, 1, 1
    )


def prepare(root: Path, label: str) -> None:
    """Write a scan, and what stands for its prepared volume."""
    shape, affine = template_grid(4.0)
    volume = brain_at(points_of(shape, affine), int(label))
    path = root / f"sub-{label}/anat/sub-{label}_space-{TEMPLATE_SPACE}_desc-prepared_T1w.nii.gz"
    save_volume(path, volume, affine, space=TEMPLATE_SPACE)
    grid = np.diag([2.5, 2.5, 2.5, 1.0])
    grid[:3, 3] = -78.0, -92.0, -60.0
    native_shape = (64, 72, 52)
    to_template = np.linalg.inv(FROM_TEMPLATE)
    native = np.einsum("ij,jxyz->ixyz", to_template[:3, :3], points_of(native_shape, grid))
    native += to_template[:3, 3].reshape(3, 1, 1, 1)
    scan = root.parent / f"scans/sub-{label}_T1w.nii.gz"
    save_volume(scan, 1000 * brain_at(native, int(label)), grid, space="T1w")
    sidecar = {
        "SourcePath": f"../../../scans/{scan.name}",
        "NativeShape": native_shape,
        "NativeAffine": grid.tolist(),
        "NativeFromTemplate": FROM_TEMPLATE.tolist(),
    }
    sidecar_of(path).write_text(json.dumps(sidecar))


@pytest.fixture(scope="module")
def people(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("people") / "derivatives"
    for label in PEOPLE:
        prepare(root, label)
    return root


def sliced(people, out, *, nprocs=1, labels=("01",), **settings) -> Any:
    """Slice, and read all tables; columns of files hold the pictures' paths."""
    config = SliceConfig(split=SPLIT, **{"step_mm": 20.0, **settings})
    made = slice_dataset(people, out, config=config, labels=labels, nprocs=nprocs)
    assert not made.failures
    tables = []
    for path in sorted(out.glob("*/metadata.csv")):
        table = pd.read_csv(path, keep_default_na=False)
        for name in [name for name in table if str(name).endswith("file_name")]:
            table[name] = [str(path.parent / one) if one else "" for one in table[name]]
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def read(path) -> Any:
    with Image.open(path) as picture:
        return np.asarray(picture)


def halves_of(row):
    return read(row.left_file_name), read(row.right_file_name)


def settings_of(out) -> Any:
    return json.loads((out / "slices.json").read_text())


def test_a_native_scan_shows_the_same_places_as_its_prepared_volume(people, tmp_path):
    options = {"part": "hemisphere", "planes": ("axial", "coronal", "sagittal"), "pixels": 100}
    native = sliced(people, tmp_path / "a", source="native", spacing_mm=1.6, **options)
    prepared = sliced(people, tmp_path / "b", spacing_mm=2.0, **options)
    # 1.6 mm of the scan are 2 mm of the template: pixel for pixel the same place.
    assert native["pair"].tolist() == prepared["pair"].tolist()
    assert len(native) > 10
    for one, other in zip(native.itertuples(), prepared.itertuples(), strict=True):
        for mine, theirs in zip(halves_of(one), halves_of(other), strict=True):
            brain = (mine > 0) & (theirs > 0)
            assert ((mine > 0) == (theirs > 0)).mean() > 0.985
            assert np.abs(mine[brain].astype(int) - theirs[brain].astype(int)).mean() < 9


def test_left_is_left_and_halves_lie_on_each_other(people, tmp_path):
    for source in ("native", "prepared"):
        table = sliced(people, tmp_path / source, source=source, part="hemisphere")
        for row in table.itertuples():
            left, right = halves_of(row)
            assert np.median(left[left > 0]) < np.median(right[right > 0])
            assert ((left > 0) == (right > 0)).mean() > 0.995
            assert left[:, -1].any()  # the mid-plane is at the right border of both
            assert not left[:, 0].any()
        whole = sliced(people, tmp_path / f"{source}_whole", source=source)
        for row in whole.itertuples():
            picture = read(row.file_name)
            assert row.midline_px == picture.shape[1] / 2 - 0.5
            columns = np.arange(picture.shape[1])
            left, right = (
                picture[:, columns < row.midline_px],
                picture[:, columns > row.midline_px],
            )
            assert np.median(left[left > 0]) < np.median(right[right > 0])


@pytest.mark.parametrize(
    ("options", "pixel_mm", "shapes"),
    [
        ({}, 4.0, {"axial": [52, 44], "sagittal": [40, 52]}),
        ({"part": "hemisphere"}, 4.0, {"axial": [52, 22], "sagittal": [40, 52]}),
        ({"pixels": 64}, 4.0, {"axial": [64, 64], "sagittal": [64, 64]}),
        ({"pixels": 64, "part": "hemisphere"}, 4.0, {"axial": [64, 32], "sagittal": [64, 64]}),
        ({"spacing_mm": 3.0}, 3.0, {"axial": [70, 60], "sagittal": [54, 70]}),
        ({"source": "native"}, 1.0, {"axial": [208, 176], "sagittal": [160, 208]}),
        (
            {"source": "native", "spacing_mm": 2.0},
            2.0,
            {"axial": [104, 88], "sagittal": [80, 104]},
        ),
    ],
)
def test_all_pictures_have_the_size_that_the_folder_says(
    people, tmp_path, options, pixel_mm, shapes
):
    table = sliced(people, tmp_path, planes=("axial", "sagittal"), step_mm=40.0, **options)
    settings = settings_of(tmp_path)
    assert settings["pixel_mm"] == pixel_mm
    assert settings["size_px"] == shapes
    name = "left_file_name" if options.get("part") else "file_name"
    for row in table.to_dict("records"):
        assert list(read(row[name]).shape) == shapes[row["plane"]]


def test_a_brain_keeps_its_size_whatever_the_number_of_pixels(people, tmp_path):
    areas = []
    for number, pixels in enumerate((48, 64)):
        row = sliced(people, tmp_path / str(number), pixels=pixels, step_mm=40.0).iloc[0]
        areas.append(int((read(row["file_name"]) > 0).sum()))
    assert areas[0] == areas[1] > 100


@pytest.mark.parametrize("source", ["prepared", "native"])
@pytest.mark.parametrize(("bits", "mode", "white"), [(8, "L", 255), (16, "I;16", 65535)])
def test_the_window_uses_every_grey_and_0_is_outside_alone(
    people, tmp_path, source, bits, mode, white
):
    table = sliced(people, tmp_path, source=source, bits=bits, spacing_mm=4.0)
    greys = []
    for row in table.itertuples():
        with Image.open(row.file_name) as picture:
            assert picture.mode == mode
        values = read(row.file_name)
        greys.append(values[values > 0])
    whole = np.concatenate(greys)
    assert whole.min() <= 0.01 * white
    assert whole.max() == white
    assert 0.3 * white < np.median(whole) < 0.7 * white


def test_percentiles_decide_the_window(people, tmp_path):
    narrow = sliced(people, tmp_path / "a", window=(20.0, 80.0))
    wide = sliced(people, tmp_path / "b", window=(0.0, 100.0))
    saturated = [
        np.mean([(read(one) == 255).sum() / (read(one) > 0).sum() for one in table["file_name"]])
        for table in (narrow, wide)
    ]
    assert saturated[0] == pytest.approx(0.2, abs=0.1)
    assert saturated[1] < 0.01


def test_the_window_of_some_of_the_voxels_is_that_of_all(people, tmp_path, monkeypatch):
    by_all = sliced(people, tmp_path / "a")
    monkeypatch.setattr(slice_source, "_FOR_PERCENTILES", 500)
    by_some = sliced(people, tmp_path / "b")
    for one, other in zip(by_all["file_name"], by_some["file_name"], strict=True):
        change = read(one).astype(int) - read(other)
        assert np.abs(change).max() <= 4
    whole = sliced(people, tmp_path / "c", window=(0.0, 100.0))
    monkeypatch.undo()
    again = sliced(people, tmp_path / "d", window=(0.0, 100.0))
    for one, other in zip(whole["file_name"], again["file_name"], strict=True):
        np.testing.assert_array_equal(read(one), read(other))


def test_central_positions_are_those_of_the_middle(people, tmp_path):
    every = sliced(people, tmp_path / "a", step_mm=8.0)["position_mm"]
    half = sliced(people, tmp_path / "b", step_mm=8.0, positions="central")["position_mm"]
    middle, extent = (every.min() + every.max()) / 2, np.ptp(every)
    kept = [one for one in every if abs(one - middle) <= extent / 4]
    assert set(kept) <= set(half) < set(every)
    assert len(half) <= len(kept) + 2
    share = sliced(people, tmp_path / "c", step_mm=8.0, positions="central", central_share=1.0)
    assert share["position_mm"].tolist() == every.tolist()


@pytest.mark.parametrize("plane", ["axial", "sagittal"])
@pytest.mark.parametrize("source", ["prepared", "native"])
def test_positions_by_area_have_as_much_brain_as_is_asked(people, tmp_path, plane, source):
    options = {"planes": (plane,), "step_mm": 8.0, "source": source, "spacing_mm": 2.0}
    every = sliced(people, tmp_path / "a", **options)
    areas = {row.position_mm: 4.0 * (read(row.file_name) > 0).sum() for row in every.itertuples()}
    large = sliced(people, tmp_path / "b", positions="area", least_area_mm2=5000.0, **options)
    assert 0 < len(large) < len(every)
    assert set(large["position_mm"]) <= {p for p, area in areas.items() if area > 4700}
    assert set(large["position_mm"]) >= {p for p, area in areas.items() if area > 5300}


def lesion_masks(folder: Path, *, native: bool) -> Path:
    """One lesion, on the right and in front, widest at z = 20."""
    if native:
        grid = np.diag([2.5, 2.5, 2.5, 1.0])
        grid[:3, 3] = -78.0, -92.0, -60.0
        to_template = np.linalg.inv(FROM_TEMPLATE)
        points = np.einsum("ij,jxyz->ixyz", to_template[:3, :3], points_of((64, 72, 52), grid))
        points += to_template[:3, 3].reshape(3, 1, 1, 1)
        name = "sub-01_label-lesion_mask.nii.gz"
    else:
        shape, grid = template_grid(2.0)
        points = points_of(shape, grid)
        name = f"sub-01_space-{TEMPLATE_SPACE}_label-lesion_mask.nii.gz"
    centre = np.array([30.0, 10.0, 20.0]).reshape(3, 1, 1, 1)
    mask = ((points - centre) ** 2).sum(axis=0) < 14**2
    save_volume(folder / name, mask.astype(np.uint8), grid, space=TEMPLATE_SPACE)
    return folder


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("part", ["whole", "hemisphere"])
def test_at_the_lesion_there_is_one_slice_a_plane(people, tmp_path, native, part):
    table = sliced(
        people,
        tmp_path / "out",
        labels=("01", "02"),
        planes=("axial", "coronal"),
        positions="lesion",
        lesion_masks=lesion_masks(tmp_path / "masks", native=native),
        spacing_mm=2.0,
        part=part,
    )
    assert set(table["subject"]) == {"sub-01"}
    places = table.set_index("plane")["position_mm"]
    assert places["axial"] == pytest.approx(20, abs=2)
    assert places["coronal"] == pytest.approx(10, abs=2)
    assert (table["label"] == "right").all()
    assert (table["abnormal"] == 1).all()
    for row in table.itertuples():
        assert row.lesion_mm2 == pytest.approx(np.pi * 14**2, rel=0.08)
        mask = read(row.mask_file_name)
        assert row.lesion_mm2 == (mask > 0).sum() * 4
        columns = np.nonzero(mask)[1]
        if part == "whole":
            assert columns.min() > row.midline_px


def test_with_masks_every_slice_says_what_it_shows(people, tmp_path):
    masks = lesion_masks(tmp_path / "masks", native=False)
    table = sliced(
        people,
        tmp_path / "out",
        labels=("01", "02"),
        planes=("axial", "sagittal"),
        lesion_masks=masks,
    )
    shown = table[table["label"] != "none"]
    assert set(shown["subject"]) == {"sub-01"}
    axial = table[(table["subject"] == "sub-01") & (table["plane"] == "axial")]
    assert set(axial.loc[axial["label"] == "right", "position_mm"]) == {20.0}
    sagittal = shown[shown["plane"] == "sagittal"]
    assert (sagittal["position_mm"] > 0).all()
    assert (table["abnormal"] == (table["label"] != "none")).all()


@pytest.mark.parametrize("source", ["prepared", "native"])
def test_a_drawn_shape_is_in_one_half_and_is_its_mask(people, tmp_path, source):
    table = sliced(
        people,
        tmp_path,
        planes=("axial", "coronal", "sagittal"),
        part="hemisphere",
        source=source,
        spacing_mm=2.0,
        asymmetry_mm2=(40.0, 120.0),
        step_mm=25.0,
    )
    healthy = table[table["label"] == "none"].set_index(["plane", "position_mm"])
    drawn = table[table["label"] != "none"]
    assert set(drawn["label"]) == {"left", "right"}
    assert len(drawn) > len(healthy)
    assert (healthy["mask_file_name"] == "").all()
    for row in drawn.itertuples():
        before, after = halves_of(healthy.loc[(row.plane, row.position_mm)]), halves_of(row)
        mask = read(row.mask_file_name) > 0
        side = ("left", "right").index(row.label)
        np.testing.assert_array_equal(before[1 - side], after[1 - side])
        np.testing.assert_array_equal(before[side][~mask], after[side][~mask])
        assert (before[side][mask] > 0).all()  # wholly inside the brain
        assert set(after[side][mask]) == {float(row.asymmetry_grey)}
        assert 140 <= float(row.asymmetry_grey) <= 215
        assert row.asymmetry_mm2 == mask.sum() * 4
        assert min(abs(row.asymmetry_mm2 - one) / one for one in (40.0, 120.0)) < 0.2


def test_whole_slices_with_a_shape_are_the_halves_together(people, tmp_path):
    options = {
        "planes": ("axial", "sagittal"),
        "asymmetry_mm2": (60.0,),
        "asymmetry_shapes": ("textured",),
        "asymmetry_contrast": (-0.5, -0.4),
    }
    halves = sliced(people, tmp_path / "a", part="hemisphere", **options)
    whole = sliced(people, tmp_path / "b", **options)
    of_halves = halves[halves["label"] != "none"].set_index(["plane", "position_mm"])
    drawn = whole[whole["label"] != "none"]
    assert len(drawn) == len(of_halves) > 3
    for row in drawn.itertuples():
        pair = (
            of_halves.loc[(row.plane, -abs(row.position_mm))]
            if row.plane == "sagittal"
            else (of_halves.loc[(row.plane, row.position_mm)])
        )
        assert row.label == pair.label
        left, right = halves_of(pair)
        if row.plane == "axial":
            np.testing.assert_array_equal(read(row.file_name), np.hstack([left, right[:, ::-1]]))
        else:
            assert (row.position_mm < 0) == (row.label == "left")
            np.testing.assert_array_equal(
                read(row.file_name), left if row.label == "left" else right
            )
        assert row.asymmetry_grey == ""


def test_what_is_drawn_depends_on_seed_case_and_place_alone(people, tmp_path):
    options = {"asymmetry_mm2": (60.0,), "part": "hemisphere"}
    every = sliced(people, tmp_path / "a", labels=None, **options)
    alone = sliced(people, tmp_path / "b", labels=("02",), **options)
    both = every[every["subject"] == "sub-02"].merge(alone, on="pair")
    assert len(both) == len(alone)
    for side in ("left", "right"):
        names = (f"{side}_file_name_x", f"{side}_file_name_y")
        for one, other in both[list(names)].itertuples(index=False):
            np.testing.assert_array_equal(read(one), read(other))
    with pytest.raises(UserError, match=r"begun with seed 0 and seed 1 is asked for"):
        sliced(people, tmp_path / "a", seed=1, **options)


def test_a_shape_that_has_no_room_is_left_out(people, tmp_path):
    table = sliced(people, tmp_path, asymmetry_mm2=(60.0, 9000.0))
    assert table["asymmetry_mm2"].max() < 100


def test_labels_come_from_a_column(people, tmp_path):
    participants = tmp_path / "participants.tsv"
    participants.write_text("participant_id\tgroup\nsub-01\tcase\nsub-02\tcontrol\n")
    options = {"label_column": "group", "participants": participants}
    table = sliced(people, tmp_path / "out", labels=("01", "02"), **options)
    assert set(zip(table["subject"], table["label"], strict=True)) == {
        ("sub-01", "case"),
        ("sub-02", "control"),
    }
    assert "| case | control |" in (tmp_path / "out/README.md").read_text()
    with pytest.raises(UserError, match="sub-03 has none or several"):
        sliced(people, tmp_path / "out", labels=("03",), **options)
    options["label_column"] = "diagnosis"
    with pytest.raises(UserError, match="must have the column diagnosis, got subject, group"):
        sliced(people, tmp_path / "other", labels=("01",), **options)


def test_several_processes_write_the_same_bytes(people, tmp_path):
    options = {"labels": None, "asymmetry_mm2": (60.0,), "step_mm": 40.0}
    sliced(people, tmp_path / "a", **options)
    sliced(people, tmp_path / "b", nprocs=2, **options)
    mine, theirs = (
        {path.relative_to(out): path.read_bytes() for path in out.rglob("*.png")}
        for out in (tmp_path / "a", tmp_path / "b")
    )
    assert mine == theirs


def test_a_scan_that_is_gone_or_changed_fails_alone(people, tmp_path):
    root = shutil.copytree(people.parent, tmp_path / "copy")
    (root / "scans/sub-01_T1w.nii.gz").unlink()
    sidecar = next((root / "derivatives/sub-02/anat").glob("*.json"))
    scan = root / "scans/sub-02_T1w.nii.gz"
    state = {
        "sha256": digest_file(scan)[::-1],
        "size": 1,
        "mtime_ns": 1,
        "ctime_ns": 1,
        "inode": 1,
    }
    record = {"stage": "prepare", "computation": 1, "settings": {}, "files": {}}
    content = json.loads(sidecar.read_text()) | {"MadeFrom": {**record, "inputs": {"scan": state}}}
    sidecar.write_text(json.dumps(content))
    config = SliceConfig(source="native", split=SPLIT, step_mm=40.0)
    made = slice_dataset(root / "derivatives", tmp_path / "out", config=config)
    reasons = {one.case: one.reason for one in made.failures}
    assert set(reasons) == {"sub-01", "sub-02"}
    assert "that the prepared volume was made from must be there" in reasons["sub-01"]
    assert "must be the scan that was prepared" in reasons["sub-02"]
    assert len(made.results) == 1


def test_voxels_of_another_size_fail_unless_the_spacing_is_stated(people, tmp_path):
    root = shutil.copytree(people, tmp_path / "copy")
    shape, affine = template_grid(8.0)
    path = next((root / "sub-02/anat").glob("*.nii.gz"))
    save_volume(path, brain_at(points_of(shape, affine), 2), affine, space=TEMPLATE_SPACE)
    made = slice_dataset(root, tmp_path / "a", config=SliceConfig(split=SPLIT, step_mm=40.0))
    (failure,) = made.failures
    assert "voxels of one size, 4 mm, but this has 8" in failure.reason
    config = SliceConfig(split=SPLIT, step_mm=40.0, spacing_mm=4.0)
    assert not slice_dataset(root, tmp_path / "b", config=config).failures


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"window": (99.0, 1.0)}, r"window must be \(low, high\)"),
        ({"asymmetry_grey": (200.0, 100.0)}, r"asymmetry_grey must be \(low, high\)"),
        ({"asymmetry_mm2": (0.0,)}, "asymmetry_mm2 must be above 0"),
        ({"pixels": 33}, "multiple of 2"),
        ({"bits": 12}, "multiple of 8"),
        ({"label_column": "group"}, "must name a column of participants"),
        ({"positions": "lesion"}, "positions at the lesion need its masks"),
        (
            {"lesion_masks": Path("masks"), "asymmetry_mm2": (5.0,)},
            "labels must have one source",
        ),
    ],
)
def test_settings_that_say_nothing_sensible_are_refused(settings, told):
    with pytest.raises(ValidationError, match=told):
        SliceConfig(**settings)


def test_a_folder_of_masks_that_is_not_there_is_refused(people, tmp_path):
    with pytest.raises(UserError, match="lesion masks must be in a folder"):
        sliced(people, tmp_path / "out", lesion_masks=tmp_path / "none")


@pytest.mark.data
def test_real_halves_have_the_scans_resolution_and_lie_on_each_other(tmp_path):
    if "HEMITWIN_DATA" not in os.environ:
        pytest.skip("HEMITWIN_DATA is not set: no real brains")
    bids = Path(os.environ["HEMITWIN_DATA"]) / "bids-ds002748"
    labels = ("04", "05", "40")
    assert not prepare_scans(bids, tmp_path / "prepared", labels=labels).failures
    options = {"labels": None, "part": "hemisphere", "positions": "central"}
    prepared, out = tmp_path / "prepared", tmp_path / "native"
    native = sliced(prepared, out, source="native", spacing_mm=0.868, pixels=224, **options)
    coarse = sliced(prepared, tmp_path / "coarse", **options)
    assert native["pair"].tolist() == coarse["pair"].tolist()
    brightest = 0
    for row, other in zip(native.itertuples(), coarse.itertuples(), strict=True):
        left, right = halves_of(row)
        assert left.shape == (224, 112)
        assert min(left.max(), right.max()) > 200
        brightest = max(brightest, int(left.max()))
        both, either = ((left > 0) & (right > 0)).sum(), ((left > 0) | (right > 0)).sum()
        assert both / either > 0.85
        # Nearer to its own half of the prepared volume than to the other one's.
        mine, theirs = halves_of(other)
        scale = json.loads(next(prepared.glob(f"{row.subject}/anat/*_T1w.json")).read_text())
        mm = scale["Quality"]["native_from_template_determinant"] ** (1 / 3)
        of_left, of_right = (_likeness(left, one, 0.868 / (2 * mm)) for one in (mine, theirs))
        assert of_left > of_right
        assert of_left > 0.9
    assert brightest == 255
    assert "Licence: CC0" in (out / "README.md").read_text()


def _likeness(fine, coarse, step) -> float:
    """Correlate a half with a coarser one, `step` of whose pixels one of its own is."""
    rows, columns = np.nonzero(fine)
    down = (rows - (fine.shape[0] - 1) / 2) * step + (coarse.shape[0] - 1) / 2
    right = coarse.shape[1] - 0.5 - (fine.shape[1] - 0.5 - columns) * step
    there = ndimage.map_coordinates(coarse.astype(float), [down, right], order=1)
    return float(np.corrcoef(fine[rows, columns], there)[0, 1])
