"""Pictures of labelled images' evaluation: classes, distances, embeddings, and why."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.decomposition import PCA

from hemitwin._atomic import atomic_path
from hemitwin.pipeline.stage.pictures import BLUE, paper_style

__all__ = ["ExplainedImage", "ImagesFigure", "picture_of_images", "picture_of_maps"]

_COLOURS = (BLUE, "#d1691b", "#3f8f4f", "#8a4fa0", "#a03f55", "#55a0a0", "#7a7a7a")
_ACROSS = 4
_BINS = 40
_FEWEST_FOR_UMAP = 10
_NEIGHBOURS = 15


@dataclass(frozen=True, eq=False)
class ExplainedImage:
    """An image with its maps.

    Parameters
    ----------
    title : str
        Its class, and what it was taken for.
    pixels : (C, rows, columns) uint8
        As the network saw them.
    relevance, grad_cam : (rows, columns) float
        Signed relevance; Grad-CAM without a negative part.
    region : (rows, columns) bool or None
        Where relevance is counted.
    """

    title: str
    pixels: UInt8[np.ndarray, "channels rows columns"]
    relevance: Float[np.ndarray, "rows columns"]
    grad_cam: Float[np.ndarray, "rows columns"]
    region: Bool[np.ndarray, "rows columns"] | None = None


@dataclass(frozen=True, eq=False)
class ImagesFigure:
    """What the picture of an evaluation shows.

    Parameters
    ----------
    classes : tuple of str
        Their names.
    confusion : (classes, classes) int
        Test images, by their class (rows) and the class they were taken for.
    own, others : (n,) float
        Distances of test images to the template of their own class, and to those of the others.
    threshold : float or None
        Of the distance, from validation, where the head ranks pairs by it.
    embeddings : (n, D) float
        Of test images, normalised.
    numbers : (n,) int
        Their classes.
    """

    classes: tuple[str, ...]
    confusion: Int[np.ndarray, "classes classes"]
    own: Float[np.ndarray, " own"]
    others: Float[np.ndarray, " others"]
    threshold: float | None
    embeddings: Float[np.ndarray, "n dim"]
    numbers: Int[np.ndarray, " n"]


def picture_of_images(path: Path, shown: ImagesFigure) -> None:
    """Draw the confusion of classes, the distances to templates, and the embeddings in two axes.

    These are the first two principal components, and beside them UMAP's two where umap-learn is
    installed (an extra brings it) and there are ten images or more.

    Parameters
    ----------
    path : Path
        The PNG file.
    shown : ImagesFigure
        What is drawn.
    """
    umap = _by_umap(shown.embeddings)
    count = 3 if umap is None else 4
    with paper_style():
        figure = Figure(figsize=(3.5 * count, 3.4), dpi=160, layout="constrained")
        one, two, three, *four = figure.subplots(1, count)
        _confusion(one, shown)
        _distances(two, shown)
        _embeddings(three, shown, _by_pca(shown.embeddings))
        three.set_xlabel("first component")
        three.set_ylabel("second component")
        three.set_title("embeddings of test images")
        if umap is not None:
            _embeddings(four[0], shown, umap)
            four[0].set_xticks([])  # directions and lengths mean nothing there
            four[0].set_yticks([])
            four[0].set_title("the same by UMAP")
        with atomic_path(path) as temporary:
            figure.savefig(temporary)


def _confusion(panel: Axes, shown: ImagesFigure) -> None:
    confusion, classes = shown.confusion, shown.classes
    share = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    panel.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(confusion):
        colour = "white" if share[row, column] > 0.5 else "black"
        panel.text(column, row, f"{count}", ha="center", va="center", color=colour, fontsize=7)
    places = range(len(classes))
    panel.set_xticks(places, classes, rotation=30, ha="right")
    panel.set_yticks(places, classes)
    panel.set_xlabel("taken for")
    panel.set_ylabel("class")
    panel.set_title("test images")


def _distances(panel: Axes, shown: ImagesFigure) -> None:
    largest = max(float(shown.own.max()), float(shown.others.max()), 1e-6)
    edges = np.linspace(0, largest, _BINS + 1).tolist()
    panel.hist(shown.own, edges, density=True, histtype="step", color=BLUE, label="own")
    panel.hist(
        shown.others,
        edges,
        density=True,
        histtype="step",
        color=_COLOURS[1],
        label="others",
    )
    if shown.threshold is not None:
        panel.axvline(shown.threshold, color="black", linewidth=0.7, label="threshold")
    panel.set_xlabel("distance to the class template")
    panel.set_ylabel("density")
    panel.set_title("distances")
    panel.legend(fontsize=7)


def _by_pca(embeddings: Float[np.ndarray, "n dim"]) -> Float[np.ndarray, "n 2"]:
    return np.asarray(PCA(2, random_state=0).fit_transform(embeddings))


def _by_umap(embeddings: Float[np.ndarray, "n dim"]) -> Float[np.ndarray, "n 2"] | None:
    """Place images by UMAP; None without the package, or where the images are too few."""
    count = len(embeddings)
    if count < _FEWEST_FOR_UMAP or find_spec("umap") is None:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what else could be installed, and of small sets
        # An extra brings it, and it takes seconds.
        from umap import UMAP  # noqa: PLC0415  # pyright: ignore[reportMissingImports]

        neighbours = min(_NEIGHBOURS, count - 1)
        # One thread and a seed: the same picture each time.
        model = UMAP(n_neighbors=neighbours, n_jobs=1, random_state=0)
        return np.asarray(model.fit_transform(embeddings), dtype=float)


def _embeddings(panel: Axes, shown: ImagesFigure, places: Float[np.ndarray, "n 2"]) -> None:
    for number, name in enumerate(shown.classes):
        across, down = places[shown.numbers == number].T
        colour = _COLOURS[number % len(_COLOURS)]
        panel.scatter(across, down, s=4, color=colour, label=name, alpha=0.6, linewidths=0)
    panel.legend(fontsize=7, markerscale=2)


def picture_of_maps(path: Path, images: Sequence[ExplainedImage]) -> None:
    """Draw images with their relevance (red for, blue against) and Grad-CAM.

    Parameters
    ----------
    path : Path
        The PNG file.
    images : sequence of ExplainedImage
        One row or more; at least one image.
    """
    rows = -(-len(images) // _ACROSS)
    with paper_style():
        figure = Figure(figsize=(3.2 * _ACROSS, 1.45 * rows), dpi=160, layout="constrained")
        panels = figure.subplots(rows, 3 * _ACROSS, squeeze=False)
        for panel in panels.flat:
            panel.set_axis_off()
        for k, one in enumerate(images):
            row, first = k // _ACROSS, 3 * (k % _ACROSS)
            _explained(list(panels[row, first : first + 3]), one)
        with atomic_path(path) as temporary:
            figure.savefig(temporary)


def _explained(panels: list[Axes], one: ExplainedImage) -> None:
    picture = np.moveaxis(one.pixels, 0, -1)
    grey = picture[..., 0] if picture.shape[-1] == 1 else picture
    largest = max(float(np.abs(one.relevance).max()), 1e-12)
    for panel in panels:
        panel.imshow(grey, cmap="gray", vmin=0, vmax=255)
    panels[1].imshow(one.relevance, cmap="RdBu_r", vmin=-largest, vmax=largest, alpha=0.6)
    # From 0: one deepest pixel gives one value, whose rounding would be stretched to a pattern.
    highest = max(float(one.grad_cam.max()), 1e-12)
    panels[2].imshow(one.grad_cam, cmap="magma", vmin=0, vmax=highest, alpha=0.5)
    # Below, where it may run on under the maps: the layout is not to make room for it.
    where = panels[0].transAxes
    words = panels[0].text(0, -0.05, one.title, fontsize=6, va="top", transform=where)
    words.set_in_layout(False)
    panels[1].set_title("relevance", fontsize=6)
    panels[2].set_title("Grad-CAM", fontsize=6)
    # The whole image, or nothing of it, has no outline.
    if one.region is not None and 0 < one.region.mean() < 1:
        for panel in panels[1:]:
            panel.contour(one.region, [0.5], colors="lime", linewidths=0.6)
