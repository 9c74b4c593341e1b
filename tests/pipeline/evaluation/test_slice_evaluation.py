"""Shapes in halves of slices: found by area, beside a detector that learns nothing."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import ndimage

from hemitwin.pipeline.cohort.split import Fold, Split, write_split
from hemitwin.pipeline.evaluation.compare import compare
from hemitwin.pipeline.evaluation.evaluate import evaluate
from hemitwin.pipeline.evaluation.slice_evaluation import SlicesEvaluation, evaluate_slices
from hemitwin.pipeline.stage.errors import UserError
from hemitwin.pipeline.stage.settings import validated
from hemitwin.pipeline.training.config import RunConfig
from hemitwin.pipeline.training.train import train

SHAPE = (28, 16)


@pytest.fixture(scope="module")
def slices(tmp_path_factory):
    """Noisy halves, in which no two neighbours are equal but in a shape of one grey."""
    root = tmp_path_factory.mktemp("slices")
    rng = np.random.default_rng(1)
    folds = {}
    for fold, count in {"train": 6, "validation": 3, "test": 4}.items():
        rows = []
        for _ in range(count):
            subject = f"sub-{len(folds):02d}"
            folds[subject] = fold
            (root / fold / subject).mkdir(parents=True)
            smooth = 110 + 100 * ndimage.gaussian_filter(rng.normal(size=SHAPE), 1.5)
            names = [f"{subject}/{side}.png" for side in "LR"]
            for name in names:
                grey = np.clip(smooth + rng.normal(0, 6, SHAPE), 20, 230)
                grey[:3] = 0
                Image.fromarray(grey.astype(np.uint8)).save(root / fold / name)
            rows.append((*names, subject, subject, "axial", 0.0))
        columns = ["left_file_name", "right_file_name", "subject", "case", "plane", "position_mm"]
        pd.DataFrame(rows, columns=columns).to_csv(root / fold / "metadata.csv", index=False)
    write_split(root / "splits.json", Split(folds, 0))
    (root / "slices.json").write_text(json.dumps({"pixel_mm": 2.0}))
    return root


def run_of(slices, out, seed=0):
    content = {
        "seed": seed,
        "data": {"slices": slices, "area_mm2": [36.0, 80.0], "tested_mm2": [12.0, 60.0]},
        "split": {"seed": 0},
        "encoder": {"name": "resnet18", "width": 8, "blocks": [1], "stem_stride": 1},
        "loss": {"objective": "bce"},
        "evaluation": {"bootstrap": 100},
        "training": {"epochs": 2, "precision": "32-true"},
    }
    return train(validated(RunConfig, content, "test"), out)


@pytest.fixture(scope="module")
def run(slices, tmp_path_factory):
    return run_of(slices, tmp_path_factory.mktemp("run") / "run")


def test_every_area_is_held_against_all_slices_without_a_shape(run):
    result = evaluate_slices(run)
    assert [row.area_mm2 for row in result.by_area] == [12.0, 60.0]
    assert [row.shapes for row in result.by_area] == [4, 4]
    assert set(result.pairs["subject"]) == set(run.split.subjects("test"))
    written = json.loads((run.folder / "evaluation.json").read_text())
    assert written["slices"] == 4
    assert all(path.stat().st_size for path in result.files(run.folder).values())


def test_a_flat_patch_of_one_grey_is_seen_without_a_network(run):
    result = evaluate_slices(run)
    large = result.by_area[-1].figures["flat_patch"]
    assert large["auc"].value > 0.9
    rows = result.to_rows()
    assert "balanced accuracy, 60 mm2 (4)" in rows
    assert all(f"  flat_patch, {area} mm2" in rows for area in (12, 60))


def test_two_runs_on_slices_are_compared_over_the_same_pairs(run, slices, tmp_path):
    other = run_of(slices, tmp_path / "other", seed=1)
    for one in (run, other):
        evaluate(one)
    found = compare([run.folder, other.folder], tmp_path / "comparison", draws=100)
    assert len(found.rows) == 2


def copied(slices, folder):
    shutil.copytree(slices, folder)
    return folder


def test_the_runs_own_slices_are_found_elsewhere(run, slices, tmp_path):
    moved = evaluate_slices(run, slices=copied(slices, tmp_path / "moved"))
    assert moved.stem == "evaluation"
    assert set(moved.pairs["subject"]) == set(run.split.subjects("test"))


def test_folds_that_were_changed_since_training_are_refused(slices, tmp_path):
    own = copied(slices, tmp_path / "own")
    run = run_of(own, tmp_path / "run")
    folds: dict[str, Fold] = {**run.split.folds, "sub-00": "test"}
    write_split(own / "splits.json", Split(folds, 0))
    with pytest.raises(UserError, match="must have the folds that"):
        evaluate(run)


def test_slices_of_others_are_scored_at_the_runs_thresholds_but_what_it_learnt_from(
    run, slices, tmp_path, caplog
):
    own = evaluate_slices(run)
    folder = copied(slices, tmp_path / "others")
    folds: dict[str, Fold] = {**run.split.folds, "sub-00": "test"}
    write_split(folder / "splits.json", Split(folds, 0))
    image = folder / "train" / "sub-01" / "L.png"
    changed = np.asarray(Image.open(image)).copy()
    changed[10, 10] ^= 1  # other pixels: the name alone is known
    Image.fromarray(changed).save(image)
    result = evaluate(run, images=folder)
    assert isinstance(result, SlicesEvaluation)
    assert set(result.pairs["subject"]) == {*run.split.subjects("test"), "sub-01"}
    assert result.thresholds == own.thresholds
    assert "8 slice(s) are left out, because the run learnt from them" in caplog.text
    assert "1 subject(s) are called as subjects that the run learnt from" in caplog.text
    assert (run.folder / "evaluation-images_pairs.tsv").is_file()
    assert json.loads((run.folder / "evaluation.json").read_text())["slices"] == 4


def test_slices_of_others_that_were_all_learnt_from_are_refused(run, slices, tmp_path):
    folder = copied(slices, tmp_path / "others")
    for fold in ("validation", "test"):
        shutil.rmtree(folder / fold)
    folds: dict[str, Fold] = dict.fromkeys(run.split.subjects("train"), "test")
    write_split(folder / "splits.json", Split(folds, 0))
    with pytest.raises(UserError, match="did not learn from, but has none"):
        evaluate(run, images=folder)
