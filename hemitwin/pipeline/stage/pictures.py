"""Small pictures of volumes and relevance, for a first look, and the style of all figures."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hemitwin._atomic import atomic_path
from hemitwin._shapes import Affine, Grid

__all__ = ["BLUE", "paper_style", "picture_of_prepared", "picture_of_relevance"]

BLUE = "#1f5fa8"
"""What the first of several is drawn in."""

_NAMES = ("sagittal", "coronal", "axial")


@dataclass(frozen=True)
class _Layer:
    """Values and how they are coloured."""

    data: np.ndarray
    colours: str
    limits: tuple[float, float]
    alpha: float = 1.0


def picture_of_prepared(path: Path, data: Grid, affine: Affine, *, title: str) -> None:
    """Draw three slices with the mid-plane and, beside them, the mirror difference.

    Parameters
    ----------
    path : Path
        The PNG file.
    data : (x, y, z) float
        A prepared volume, RAS+ axes, on a grid that is symmetric about x = 0.
    affine : (4, 4)
        Voxel index to template RAS+ millimetres.
    title : str
        Above the picture.
    """
    figure, axes = _canvas(2, 3, title)
    difference = np.abs(data - data[::-1])
    centre = _centre_of(data)
    # A sagittal slice on the mid-plane shows no hemisphere: take one 20 mm to the left.
    centre[0] = round(data.shape[0] / 2 - 20 / abs(float(affine[0, 0])))
    above = _Layer(data, "gray", (0.0, 1.2))
    below = _Layer(difference, "magma", (0.0, 0.6))
    for axis in range(3):
        _slice(axes[0, axis], above, affine, axis, int(centre[axis]))
        _slice(axes[1, axis], below, affine, axis, int(centre[axis]))
        axes[0, axis].set_title(_NAMES[axis], color="white", fontsize=8)
        for row in range(2):
            if axis > 0:
                axes[row, axis].axvline(0.0, color="cyan", linewidth=0.5)
    _save(figure, path)


def picture_of_relevance(
    path: Path,
    anatomy: Grid,
    relevance: Grid,
    affine: Affine,
    *,
    title: str,
    mask: Grid | None = None,
) -> None:
    """Draw relevance over anatomy in three slices through its peak.

    Parameters
    ----------
    path : Path
        The PNG file.
    anatomy, relevance : (x, y, z) float
        On one grid, RAS+ axes. Relevance is signed: red for, blue against a difference.
    affine : (4, 4)
        Voxel index to RAS+ millimetres.
    title : str
        Above the picture.
    mask : (x, y, z), optional
        Outlined in green: where a lesion is known to be.
    """
    figure, axes = _canvas(1, 3, title)
    peak = np.unravel_index(int(np.argmax(relevance)), relevance.shape)
    largest = float(np.quantile(np.abs(relevance), 0.9995)) or 1.0
    shown = np.ma.masked_where(np.abs(relevance) < 0.1 * largest, relevance)
    below = _Layer(anatomy, "gray", (0.0, 1.2))
    above = _Layer(shown, "seismic", (-largest, largest), alpha=0.7)
    for axis in range(3):
        index = int(peak[axis])
        _slice(axes[0, axis], below, affine, axis, index)
        _slice(axes[0, axis], above, affine, axis, index)
        if mask is not None:
            _outline(axes[0, axis], mask, affine, axis, index)
        axes[0, axis].set_title(_NAMES[axis], color="white", fontsize=8)
    _save(figure, path)


def _canvas(rows: int, columns: int, title: str) -> tuple[Figure, np.ndarray]:
    # A Figure of its own, not pyplot: no global state, and no display is needed.
    with mpl.rc_context({"font.family": "DejaVu Sans"}):
        figure = Figure(figsize=(2.6 * columns, 2.6 * rows + 0.4), facecolor="black", dpi=120)
        axes = figure.subplots(rows, columns, squeeze=False)
        figure.suptitle(title, color="white", fontsize=9)
    return figure, axes


def _centre_of(data: Grid) -> np.ndarray:
    return np.array([int(np.median(index)) for index in np.nonzero(data)])


def _extent(
    shape: tuple[int, ...], affine: Affine, axis: int
) -> tuple[float, float, float, float]:
    first, second = (other for other in range(3) if other != axis)
    sides: list[float] = []
    for other in (first, second):
        step, start = float(affine[other, other]), float(affine[other, 3])
        sides.extend((start - step / 2, start + (shape[other] - 0.5) * step))
    return sides[0], sides[1], sides[2], sides[3]


def _slice(panel: Axes, layer: _Layer, affine: Affine, axis: int, index: int) -> None:
    # First world axis to the right, second up: left is on the left (neurological display).
    panel.imshow(
        np.ma.take(layer.data, index, axis=axis).T,
        origin="lower",
        extent=_extent(layer.data.shape, affine, axis),
        cmap=layer.colours,
        vmin=layer.limits[0],
        vmax=layer.limits[1],
        alpha=layer.alpha,
    )
    panel.set_axis_off()


def _outline(panel: Axes, mask: Grid, affine: Affine, axis: int, index: int) -> None:
    shape = np.take(mask, index, axis=axis).T
    if shape.min() < 0.5 <= shape.max():
        panel.contour(
            shape,
            levels=[0.5],
            colors="lime",
            linewidths=0.8,
            extent=_extent(mask.shape, affine, axis),
        )


def _save(figure: Figure, path: Path) -> None:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, facecolor=figure.get_facecolor(), bbox_inches="tight")


def paper_style() -> AbstractContextManager[None]:
    """Set small sans-serif type and bare axes while a picture is made."""
    return mpl.rc_context(
        {
            "font.family": "DejaVu Sans",
            "font.size": 8,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": 8.5,
            "axes.titleweight": "bold",
            "axes.titlelocation": "left",
            "legend.frameon": False,
            "legend.fontsize": 7,
        }
    )
