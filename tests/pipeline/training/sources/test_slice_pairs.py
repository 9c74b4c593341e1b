"""Training on halves of slices: shapes are drawn into one of them, and found."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy import ndimage

from hemitwin.pipeline.cohort.split import Fold, Split, write_split
from hemitwin.pipeline.images.slice_pairs import read_pairs
from hemitwin.pipeline.stage.errors import UserError
from hemitwin.pipeline.stage.settings import validated
from hemitwin.pipeline.training.config import RunConfig
from hemitwin.pipeline.training.runs import load_run
from hemitwin.pipeline.training.sources.scored_slices import scored_slices
from hemitwin.pipeline.training.sources.slice_pairs import (
    VALIDATION_SLICES,
    DrawnSlicePairs,
    plan_slice_pairs,
)
from hemitwin.pipeline.training.train import train

FOLDS: dict[Fold, int] = {"train": 8, "validation": 3, "test": 3}
SHAPE = (28, 16)


def half_of(rng):
    """Draw a smooth textured half of a brain."""
    grey = ndimage.gaussian_filter(rng.normal(size=SHAPE), 1.5)
    inside = np.zeros(SHAPE, dtype=bool)
    inside[3:25, 2:16] = True
    return np.where(inside, np.clip(110 + 200 * grey, 20, 230), 0).astype(np.uint8)


@pytest.fixture(scope="module")
def slices(tmp_path_factory):
    """A folder as `hemitwin slice --part hemisphere` writes it."""
    root = tmp_path_factory.mktemp("slices")
    rng = np.random.default_rng(1)
    folds = {}
    for fold, count in FOLDS.items():
        rows = []
        for _ in range(count):
            subject = f"sub-{len(folds):02d}"
            folds[subject] = fold
            (root / fold / subject).mkdir(parents=True)
            for position in (-8.0, 0.0, 8.0):
                left = half_of(rng)
                noise = rng.normal(0, 3, SHAPE)
                right = np.where(left > 0, np.clip(left + noise, 1, 255), 0).astype(np.uint8)
                names = [f"{subject}/{position:+.0f}_{side}.png" for side in "LR"]
                for name, picture in zip(names, (left, right), strict=True):
                    Image.fromarray(picture).save(root / fold / name)
                rows.append((*names, subject, subject, "axial", position))
        columns = ["left_file_name", "right_file_name", "subject", "case", "plane", "position_mm"]
        pd.DataFrame(rows, columns=columns).to_csv(root / fold / "metadata.csv", index=False)
    write_split(root / "splits.json", Split(folds, 0))
    (root / "slices.json").write_text(json.dumps({"pixel_mm": 2.0}))
    return root


def config_of(slices, data=None, **parts):
    content = {
        "data": {
            "slices": slices,
            "area_mm2": [20.0, 60.0],
            "tested_mm2": [20.0, 60.0],
            "grey": [240.0, 250.0],
            **(data or {}),
        },
        "encoder": {
            "name": "resnet18",
            "width": 8,
            "blocks": [1],
            "stem_stride": 1,
            "pooling": "max",
            "embedding_dim": 16,
        },
        "loss": {"objective": "bce"},
        "evaluation": {"bootstrap": 100},
        **parts,
    }
    content["training"] = {
        "epochs": 8,
        "learning_rate": 0.01,
        "precision": "32-true",
        **parts.get("training", {}),
    }
    return validated(RunConfig, content, "test")


def masks_of(batch) -> torch.Tensor:
    assert batch.lesions is not None
    return batch.lesions > 0


def test_a_batch_has_halves_as_they_are_and_with_a_shape_in_each(slices):
    config = config_of(slices)
    pairs = plan_slice_pairs(config).fold("train")
    batch = DrawnSlicePairs(config, pairs)[[(0, 0), (0, 5)]]
    assert batch.items.lesioned.tolist() == [False, False, True, True] * 2
    assert batch.items.item.tolist() == [0, 1, 0, 1] * 2
    areas = masks_of(batch).sum(dim=(1, 2)) * pairs.pixel_mm**2
    assert (areas[batch.items.lesioned] >= 16).all()
    assert (areas[batch.items.lesioned] <= 64).all()
    assert (areas[~batch.items.lesioned] == 0).all()
    for number in batch.items.group.unique():
        left, _, lesioned, _ = batch.images[batch.items.group == number]
        mask = masks_of(batch)[batch.items.group == number][2]
        assert (left[0][mask] != lesioned[0][mask]).any()


def test_shapes_are_drawn_anew_in_each_epoch_and_again_by_the_seed(slices):
    config = config_of(slices)
    drawn = DrawnSlicePairs(config, plan_slice_pairs(config).fold("train"))
    torch.testing.assert_close(drawn[[(0, 2)]].images, drawn[[(0, 2)]].images)
    assert not torch.equal(masks_of(drawn[[(0, 2)]]), masks_of(drawn[[(1, 2)]]))


def test_training_sees_windows_in_the_units_of_whole_halves(slices):
    whole = config_of(slices)
    windowed = config_of(slices, {"window_px": 16})
    pairs = plan_slice_pairs(whole).fold("train")
    seen = DrawnSlicePairs(windowed, pairs)[[(0, 1), (0, 4)]]
    assert seen.images.shape[-2:] == masks_of(seen).shape[-2:] == (16, 16)
    assert (masks_of(seen).sum(dim=(1, 2)) > 0).tolist() == [False, False, True, True] * 2
    all_of_it = DrawnSlicePairs(whole, pairs)[[(0, 1)]].images[0, 0]
    windows = all_of_it.unfold(0, 16, 1).unfold(1, 16, 1).reshape(-1, 16, 16)
    assert torch.isclose(windows, seen.images[0, 0], atol=1e-6).all(dim=2).all(dim=1).any()
    other = DrawnSlicePairs(windowed, pairs)[[(1, 1)]].images[0]
    assert not torch.equal(other, seen.images[0])


def test_a_window_larger_than_the_halves_is_refused(slices):
    plan = plan_slice_pairs(config_of(slices, {"window_px": 400}))
    with pytest.raises(UserError, match="window_px must lie on the halves"):
        plan.set_up()


def test_a_slice_is_tested_as_it_is_and_with_every_area(slices):
    config = config_of(slices)
    pairs = plan_slice_pairs(config).fold("test")
    tested = list(scored_slices(config, pairs, seed=3))
    assert [one.area_mm2 for one in tested] == [0.0, 20.0, 60.0] * len(pairs)
    assert {one.side for one in tested} == {"", "L", "R"}
    for one in tested:
        changed = one.pixels != pairs.pixels[one.row]
        other = {"": slice(None), "L": 1, "R": 0}[one.side]
        assert not changed[other].any()
        assert one.lesioned == bool(one.side)
    again = list(scored_slices(config, pairs, seed=3))
    assert all((a.pixels == b.pixels).all() for a, b in zip(tested, again, strict=True))


def test_a_slice_without_room_has_no_shape_and_is_not_scored(slices):
    config = config_of(slices, {"tested_mm2": [5000.0]})
    assert not list(scored_slices(config, plan_slice_pairs(config).fold("test"), seed=0))


@pytest.mark.parametrize(
    "objective", ["bce", "map", pytest.param("triplet", marks=pytest.mark.slow)]
)
def test_shapes_are_found_on_unseen_people(slices, tmp_path, objective):
    encoder = {"name": "unet", "width": 8, "levels": 2, "embedding_dim": 16}
    parts = {"encoder": encoder, "head": {"decoder_width": 4}} if objective == "map" else {}
    config = config_of(slices, loss={"objective": objective}, **parts)
    run = load_run(train(config, tmp_path / "run").folder)
    table = pd.read_csv(run.folder / VALIDATION_SLICES, sep="\t")
    values = table["score" if run.network.head.gives_logit else "distance"]
    assert values[table["lesioned"]].mean() > values[~table["lesioned"]].mean()
    assert table["subject"].nunique() == FOLDS["validation"]


def test_the_folds_are_those_that_were_sliced(slices):
    pairs, split = read_pairs(slices)
    assert {fold: len(split.subjects(fold)) for fold in FOLDS} == FOLDS
    assert len(pairs) == 3 * sum(FOLDS.values())
    assert pairs.pixel_mm == 2.0


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"loss": {"objective": "softmax"}}, "needs the classes of images"),
        ({"loss": {"negatives": "subject"}}, "it is lesion"),
        ({"data": {"area_mm2": [9.0, 3.0]}}, "swap them"),
        ({"data": {"tested_mm2": [0.0]}}, "above 0 mm2"),
    ],
)
def test_what_halves_of_slices_do_not_have_is_refused(slices, parts, message):
    with pytest.raises(UserError, match=message):
        config_of(slices, **parts)


def test_a_folder_that_is_none_of_halves_is_refused(slices, tmp_path):
    with pytest.raises(UserError, match=r"must be a folder of slices, but it has no slices\.json"):
        read_pairs(tmp_path)
    for name in ("slices.json", "splits.json"):
        (tmp_path / name).write_bytes((slices / name).read_bytes())
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "metadata.csv").write_text("file_name,subject\na.png,sub-01\n")
    with pytest.raises(UserError, match="columns of halves, but has no left_file_name"):
        read_pairs(tmp_path)


def test_pictures_of_sixteen_bits_or_with_shapes_are_refused(slices, tmp_path):
    folder = tmp_path / "copy"
    (folder / "train" / "sub-00").mkdir(parents=True)
    for name in ("slices.json", "splits.json"):
        (folder / name).write_bytes((slices / name).read_bytes())
    table = pd.read_csv(slices / "train" / "metadata.csv").head(1)
    table.to_csv(folder / "train" / "metadata.csv", index=False)
    for name in table[["left_file_name", "right_file_name"]].to_numpy()[0]:
        Image.fromarray(np.ones(SHAPE, dtype=np.uint16)).save(folder / "train" / name)
    with pytest.raises(UserError, match="8 bits of grey, got I;16"):
        read_pairs(folder)
    table.assign(asymmetry_mm2=7.0).to_csv(folder / "train" / "metadata.csv", index=False)
    with pytest.raises(UserError, match="has some already; slice without"):
        read_pairs(folder)
