"""What is kept beside the weights: progress, states between epochs, the table of metrics."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import lightning as pl
import pandas as pd
import torch
from lightning.pytorch.callbacks import Callback
from matplotlib.figure import Figure

from hemitwin._atomic import atomic_path
from hemitwin.pipeline.stage.errors import reading

__all__ = ["EpochReport", "MetricsTable", "StateCheckpoint", "kept_epoch", "picture_of_training"]

_PANELS = (
    ("loss", ("loss", "validation_loss")),
    ("distance", ("positive_distance", "negative_distance")),
    ("validation AUC", ("validation_auc",)),
)


class EpochReport(Callback):
    """Report each finished epoch to a function.

    Parameters
    ----------
    report : callable
        Called with the epochs done, the epochs in all, and the values of the last one.
    """

    def __init__(self, report: Callable[[int, int, Mapping[str, float]], None]) -> None:
        self._report = report

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Tell how far training is."""
        del pl_module
        values = {name: float(value) for name, value in trainer.callback_metrics.items()}
        self._report(trainer.current_epoch + 1, trainer.max_epochs or 0, values)


class StateCheckpoint(Callback):
    """Save the state when so many steps have gone by, over and over to one file.

    Not at an epoch's last step but after the next: the epoch's validation would be lost to a run
    that is resumed there.

    Parameters
    ----------
    path : Path
        The file.
    steps : int
        From one state to the next.
    """

    def __init__(self, path: Path, steps: int) -> None:
        self._path = path
        self._steps = steps
        self._saved_at = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Count from where a resumed run begins."""
        del pl_module
        self._saved_at = trainer.global_step

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,  # noqa: ANN401 (Lightning's own union type)
        batch: object,
        batch_idx: int,
    ) -> None:
        """Save where it is due, beside the file first: a cut leaves the earlier state."""
        del pl_module, outputs, batch, batch_idx
        if trainer.is_last_batch or trainer.global_step - self._saved_at < self._steps:
            return
        self._saved_at = trainer.global_step
        if not trainer.is_global_zero:  # the first process writes, and all take part
            trainer.save_checkpoint(self._path, weights_only=False)
            return
        with atomic_path(self._path) as temporary:
            trainer.save_checkpoint(temporary, weights_only=False)


class MetricsTable(Callback):
    """Write the means of an epoch's steps and the validation's values, one row an epoch.

    Sums of an unfinished epoch are in the checkpoint: a run that is resumed in the middle of one
    writes the same table as a run that never stopped. (Lightning's own CSV logger deletes the
    table of the run that is resumed, and its means forget the steps before.)

    Parameters
    ----------
    path : Path
        `metrics.csv`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows: list[dict[str, float]] = []
        self._validated = False
        self._sums: dict[str, float] = {}
        self._steps = 0

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remember that this epoch has validation values of its own."""
        del trainer, pl_module
        self._validated = True

    def state_dict(self) -> dict[str, Any]:
        """Keep the sums of the epoch so far."""
        return {"sums": dict(self._sums), "steps": self._steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the sums of the interrupted epoch."""
        self._sums, self._steps = dict(state_dict["sums"]), int(state_dict["steps"])

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,  # noqa: ANN401 (Lightning's own union type)
        batch: object,
        batch_idx: int,
    ) -> None:
        """Add a step's values."""
        del trainer, pl_module, batch, batch_idx
        self._steps += 1
        for name, value in outputs.items():
            if isinstance(value, torch.Tensor):
                self._sums[name] = self._sums.get(name, 0.0) + float(value)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take over the rows of the epochs that a resumed run has behind it."""
        del pl_module
        if trainer.current_epoch and self._path.is_file():
            with reading(self._path, "delete it: the epochs before are then not in the curves"):
                earlier = pd.read_csv(self._path)
                kept = earlier[earlier["epoch"] < trainer.current_epoch]
                self._rows = [
                    {str(name): float(value) for name, value in row.items() if pd.notna(value)}
                    for row in kept.to_dict("records")
                ]

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add this epoch's values."""
        del pl_module
        values = {name: total / self._steps for name, total in self._sums.items()}
        self._sums, self._steps = {}, 0
        if self._validated:  # else the values are those of an earlier epoch
            logged = trainer.callback_metrics.items()
            values |= {name: float(value) for name, value in logged if "validation" in name}
        self._validated = False
        self._rows.append({"epoch": float(trainer.current_epoch), **values})
        with atomic_path(self._path) as temporary:
            pd.DataFrame(self._rows).astype({"epoch": int}).to_csv(temporary, index=False)


def kept_epoch(metrics: Path, keep: Literal["best", "last"]) -> int:
    """Return the epoch whose weights are kept: that of the lowest validation loss, or the last."""
    table = pd.read_csv(metrics)
    if keep == "last":
        return int(table["epoch"].iloc[-1])
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
