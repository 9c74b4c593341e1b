"""The course of a training run as a picture."""

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from hemitwin._atomic import atomic_path

__all__ = ["best_epoch", "picture_of_training"]

_PANELS = (
    ("loss", ("loss", "validation_loss")),
    ("distance", ("positive_distance", "negative_distance")),
    ("validation AUC", ("validation_auc",)),
)


def best_epoch(metrics: Path) -> int:
    """Return the epoch of the lowest validation loss, whose weights are kept."""
    table = pd.read_csv(metrics)
    known = table.dropna(subset=["validation_loss"])
    return int(known["epoch"].to_numpy()[known["validation_loss"].to_numpy().argmin()])


def picture_of_training(metrics: Path, picture: Path) -> None:
    """Draw loss, distances and AUC against the epoch.

    Parameters
    ----------
    metrics : Path
        The run's `metrics.csv`.
    picture : Path
        The PNG file.
    """
    table = pd.read_csv(metrics).groupby("epoch", as_index=False).mean()
    figure = Figure(figsize=(9, 2.8), dpi=110, layout="constrained")
    axes = figure.subplots(1, len(_PANELS))
    for panel, (title, columns) in zip(axes, _PANELS, strict=True):
        for column in columns:
            known = table[["epoch", column]].dropna()
            panel.plot(known["epoch"], known[column], label=column.replace("_", " "))
        panel.set_title(title)
        panel.set_xlabel("epoch")
        panel.legend(fontsize=7)
    with atomic_path(picture) as temporary:
        figure.savefig(temporary)
