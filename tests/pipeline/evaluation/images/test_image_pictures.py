"""Embeddings are drawn by PCA, and by UMAP where it is installed."""

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from hemitwin.pipeline.evaluation.images.pictures import ImagesFigure, picture_of_images

THREE_PANELS, FOUR_PANELS = 1680, 2240  # pixels across


def figure_of(count):
    rng = np.random.default_rng(0)
    numbers = np.arange(count) % 2
    embeddings = rng.normal(size=(count, 6)) + 5 * np.eye(6)[numbers]
    confusion = np.diag(np.bincount(numbers))
    distances = rng.random(count)
    return ImagesFigure(("a", "b"), confusion, distances, distances + 1, 1.0, embeddings, numbers)


def drawn(tmp_path, count):
    picture_of_images(tmp_path / "evaluation.png", figure_of(count))
    with Image.open(tmp_path / "evaluation.png") as image:
        return image.convert("L")


@pytest.fixture(name="asked")
def _asked(monkeypatch):
    """Put a stand-in for umap-learn there, which notes what it is asked for."""
    asked = []

    class Umap:
        def __init__(self, **settings):
            self.settings = settings

        def fit_transform(self, embeddings):
            asked.append({"images": len(embeddings), **self.settings})
            return embeddings[:, 2:4].astype(np.float32)

    module = ModuleType("umap")
    module.__spec__ = ModuleSpec("umap", None)
    vars(module)["UMAP"] = Umap
    monkeypatch.setitem(sys.modules, "umap", module)
    return asked


@pytest.mark.parametrize(("count", "neighbours"), [(10, 9), (16, 15), (40, 15)])
def test_umap_is_drawn_beside_pca_with_neighbours_that_there_are(
    count, neighbours, asked, tmp_path
):
    picture = drawn(tmp_path, count)
    settings = {"n_neighbors": neighbours, "random_state": 0, "n_jobs": 1}
    assert asked == [{"images": count, **settings}]
    assert picture.width == FOUR_PANELS
    last = np.asarray(picture.crop((THREE_PANELS + 40, 60, FOUR_PANELS - 20, 420)))
    assert (last < 250).sum() > count  # points are there


def test_fewer_than_ten_images_are_drawn_without_umap(asked, tmp_path):
    assert drawn(tmp_path, 9).width == THREE_PANELS
    assert asked == []


def test_without_the_package_the_picture_is_as_it_was(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "umap", None)  # not to be found
    assert drawn(tmp_path, 40).width == THREE_PANELS


def test_the_real_umap_draws_the_same_picture_each_time(tmp_path):
    pytest.importorskip("umap")
    first, again = drawn(tmp_path, 12), drawn(tmp_path, 12)
    assert first.width == FOUR_PANELS
    assert first.tobytes() == again.tobytes()
