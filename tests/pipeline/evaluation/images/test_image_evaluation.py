"""Labelled images are classified, also those that a run has never seen."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from hemitwin.pipeline.evaluation.compare import compare
from hemitwin.pipeline.evaluation.evaluate import evaluate
from hemitwin.pipeline.evaluation.images.classes import OWN
from hemitwin.pipeline.evaluation.images.evaluation import evaluate_images
from hemitwin.pipeline.evaluation.images.maps import central_box
from hemitwin.pipeline.evaluation.images.regions import regions_of
from hemitwin.pipeline.evaluation.images.unseen import classify_images
from hemitwin.pipeline.explanation.explain import explain
from hemitwin.pipeline.stage.errors import UserError
from hemitwin.pipeline.stage.settings import validated
from hemitwin.pipeline.training.config import RunConfig
from hemitwin.pipeline.training.runs import load_run
from hemitwin.pipeline.training.sources.labelled_images import plan_images
from hemitwin.pipeline.training.train import train

CLASSES = ("bars", "plain")
BRIEF = {"epochs": 1, "batch_subjects": 20, "precision": "32-true"}
"""Where it does not matter what was learnt."""


def few(folder):
    """Too few training images for curves of few images, which take longest."""
    return {"images": folder, "pixels": 24, "images_per_class": 4}


def draw(kind, rng):
    image = rng.normal(90, 12, (24, 24))
    if kind == "bars":
        image[:: int(rng.integers(3, 5))] += 90
    return np.clip(image, 1, 255).astype(np.uint8)


def write_classes(root, count, seed):
    rng = np.random.default_rng(seed)
    for kind in CLASSES:
        (root / kind).mkdir(parents=True)
        for number in range(count):
            Image.fromarray(draw(kind, rng)).save(root / kind / f"{number:03d}.png")
    return root


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_classes(tmp_path_factory.mktemp("classes") / "images", 40, 0)


def trained(folder, out, **parts):
    content = {
        "data": {"images": folder, "pixels": 24},
        "split": {"validation": 0.25, "test": 0.25},
        "encoder": {
            "name": "resnet18",
            "width": 8,
            "blocks": (1, 1),
            "embedding_dim": 16,
            "stem_stride": 1,
        },
        "evaluation": {"bootstrap": 100, "explained": 4},
        "training": {
            "epochs": 5,
            "batch_subjects": 20,
            "learning_rate": 0.01,
            "precision": "32-true",
        },
        **parts,
    }
    return train(validated(RunConfig, content, "test"), out)


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory):
    return trained(folder, tmp_path_factory.mktemp("run") / "run")


@pytest.fixture(scope="module")
def result(run):
    return evaluate(run)


def test_the_test_fold_is_classified_by_the_head_and_from_embeddings(run, result):
    assert set(result.table["name"].map(dict(run.split.folds))) == {"test"}
    assert {OWN, "template", "knn", "prototype", "logistic"} <= set(result.figures)
    for found in result.figures.values():
        assert found.confusion.sum() == len(result.table)
        assert found.overall["accuracy"].value > 0.8
    own = result.table["class"] == result.table["label"]
    assert own.mean() == result.figures[OWN].overall["accuracy"].value
    assert all(path.stat().st_size for path in result.files(run.folder).values())


def test_the_nearest_template_is_what_a_distance_head_says(result):
    table = result.table
    distances = table[[f"distance_{name}" for name in CLASSES]].to_numpy()
    assert [CLASSES[k] for k in distances.argmin(axis=1)] == table["class"].tolist()
    probabilities = table[[f"probability_{name}" for name in CLASSES]].to_numpy()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)


def test_an_explained_image_has_its_ledger_and_shares_in_the_box(result):
    shown = result.table.dropna(subset=["relevance_inside"])
    assert len(shown) == 4
    np.testing.assert_allclose(shown["relevance_ledger"], 1, atol=1e-4)
    assert shown["relevance_inside"].between(0, 1).all()
    assert shown["grad_cam_inside"].between(0, 1).all()


def test_the_figures_are_written_as_they_are_returned(run, result):
    written = json.loads((run.folder / "evaluation.json").read_text())
    accuracy = written["methods"][OWN]["overall"]["accuracy"]["value"]
    assert accuracy == result.figures[OWN].overall["accuracy"].value
    assert written["few_shot"]["prototype"]["5"]["accuracy"]["value"] > 0.5
    assert written["splits_hash"] == run.split.hash


def test_unseen_images_are_classified_without_the_training_images(run, tmp_path):
    moved = tmp_path / "run"
    shutil.copytree(run.folder, moved)
    new = write_classes(tmp_path / "new", 6, seed=5)
    result = evaluate_images(load_run(moved), images=new)
    assert result.figures[OWN].overall["accuracy"].value > 0.8
    assert (moved / "evaluation-images_images.tsv").is_file()
    assert (moved / "evaluation-images.json").is_file()


def test_files_are_classified_with_their_maps_and_nothing_is_written(run, folder, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")}
    rng = np.random.default_rng(21)
    files = [tmp_path / "one.png", tmp_path / "two.png"]
    for path, kind in zip(files, CLASSES, strict=True):
        Image.fromarray(draw(kind, rng)).save(path)
    learnt = next(name for name, fold in run.split.folds.items() if fold == "train")
    found = classify_images(run, [*files, folder / learnt])
    assert found.table["class"].tolist() == list(CLASSES)
    assert found.table["name"].tolist() == [str(path) for path in files]
    nearest = found.table[[f"distance_{name}" for name in CLASSES]].to_numpy().argmin(axis=1)
    assert [CLASSES[k] for k in nearest] == found.table["class"].tolist()
    for one in found.maps:
        assert one.relevance.shape == one.grad_cam.shape == (24, 24)
        assert one.ledger_ratio == pytest.approx(1, abs=1e-4)
        assert 0 < one.inside["relevance"] < 1
    assert {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")} == before
    assert classify_images(run, files[0]).table["class"].tolist() == ["bars"]


def test_images_without_classes_get_one_and_no_figures(run, tmp_path):
    rng = np.random.default_rng(8)
    for name in ("a.png", "b c.PNG"):
        Image.fromarray(draw("bars", rng)).save(tmp_path / name)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    result = evaluate_images(run, images=tmp_path)
    assert not result.figures
    assert result.table["class"].tolist() == ["bars", "bars"]
    assert "taken for bars" in result.to_rows()


def test_images_that_the_run_learnt_from_are_left_out(run, folder, tmp_path, caplog):
    table = pd.DataFrame({"name": list(run.split.folds), "fold": list(run.split.folds.values())})
    known = table[table["fold"] == "train"]["name"].iloc[0]
    Image.open(folder / known).save(tmp_path / "renamed.bmp")
    with pytest.raises(UserError, match="did not learn from, but has none"):
        evaluate_images(run, images=tmp_path)
    Image.fromarray(draw("plain", np.random.default_rng(77))).save(tmp_path / "other.png")
    result = evaluate_images(run, images=tmp_path)
    assert result.table["name"].tolist() == ["other.png"]
    assert "because the run learnt from them: renamed.bmp" in caplog.text


def test_a_plain_classifier_is_classified_by_its_classes(folder, tmp_path):
    plain = trained(folder, tmp_path / "run", loss={"objective": "softmax"})
    result = evaluate_images(plain)
    probabilities = result.table[[f"probability_{name}" for name in CLASSES]].to_numpy()
    assert [CLASSES[k] for k in probabilities.argmax(axis=1)] == result.table["class"].tolist()
    assert result.figures[OWN].overall["accuracy"].value > 0.8
    shown = result.table.dropna(subset=["relevance_ledger"])
    np.testing.assert_allclose(shown["relevance_ledger"], 1, atol=1e-4)
    assert not result.has_pairs
    assert not (plain.folder / "evaluation_pair_maps.tsv").exists()


def test_what_is_of_volumes_is_refused(run, tmp_path):
    for option in ("prepared", "simulated"):
        with pytest.raises(UserError, match=f"--{option} must stand with a run on"):
            evaluate(run, **{option: tmp_path})


def test_runs_on_classes_are_not_compared_pair_by_pair(run, tmp_path):
    with pytest.raises(UserError, match="only runs that score pairs can be compared"):
        compare([run.folder, run.folder], tmp_path)


def test_a_run_on_images_is_not_explained_as_volumes(run, tmp_path):
    with pytest.raises(UserError, match="must be asked of a run on prepared volumes"):
        explain(run, tmp_path)


def test_the_central_box_lies_in_the_middle():
    assert central_box((10, 10), (1.0, 1.0)).all()
    inside = np.argwhere(central_box((11, 10), (0.5, 0.2)))
    assert (inside.min(axis=0).tolist(), inside.max(axis=0).tolist()) == ([2, 4], [7, 5])


def test_pairs_are_explained_whose_maps_share_out_the_score(run, result):
    pairs = pd.read_csv(run.folder / "evaluation_pair_maps.tsv", sep="\t")
    assert result.files(run.folder)["pair maps"].stat().st_size
    assert set(pairs["name_1"]) | set(pairs["name_2"]) <= set(result.table["name"])
    assert (pairs["different"] == (pairs["label_1"] != pairs["label_2"])).all()
    assert (pairs["taken_for_different"] == (pairs["score"] > run.threshold)).all()
    assert set(pairs["different"]) == {False, True}
    np.testing.assert_allclose(pairs["relevance_ledger"], 1, atol=1e-4)


@pytest.mark.parametrize("head", ["weighted_l1", "classifier", "joint"])
def test_pairs_are_explained_by_the_logit_where_there_is_one(folder, tmp_path, head):
    parts = {"loss": {"objective": "bce"}, "head": {"name": head}, "training": BRIEF}
    run = trained(folder, tmp_path / "run", data=few(folder), **parts)
    evaluate(run)
    pairs = pd.read_csv(run.folder / "evaluation_pair_maps.tsv", sep="\t")
    np.testing.assert_allclose(pairs["relevance_ledger"], 1, atol=1e-3)


def test_relevance_is_counted_inside_masks(folder, tmp_path, caplog):
    masks = tmp_path / "masks"
    for path in sorted(folder.rglob("*.png")):
        mask = np.zeros((24, 24), dtype=np.uint8)
        mask[:, :12] = 1
        there = masks / path.relative_to(folder)
        there.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(there.with_name(f"{path.stem}_mask.png"))
    settings = {"bootstrap": 100, "explained": 4, "region": masks}
    run = trained(folder, tmp_path / "run", data=few(folder), evaluation=settings, training=BRIEF)
    shown = evaluate_images(run).table.dropna(subset=["relevance_inside"])
    assert len(shown) == 4
    assert shown["relevance_inside"].between(0.2, 0.8).all()
    test = plan_images(run.config).fold("test")
    lost = str(test.table["name"].iloc[0])
    (masks / lost).with_name(f"{Path(lost).stem}_mask.png").unlink()
    assert regions_of(run, test, [0, 1]).any(axis=(1, 2)).tolist() == [False, True]
    assert "relevance is not counted, an image must have its mask" in caplog.text
