"""What happens beside training at the end of each epoch."""

from collections.abc import Callable
from pathlib import Path

import lightning as pl
import pandas as pd
from lightning.pytorch.callbacks import Callback

from hemitwin._atomic import atomic_path

__all__ = ["EpochReport", "MetricsTable"]


class EpochReport(Callback):
    """Report each finished epoch to a function.

    Parameters
    ----------
    report : callable
        Called with the epochs done and in all.
    """

    def __init__(self, report: Callable[[int, int], None]) -> None:
        self._report = report

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Tell how far training is."""
        del pl_module
        self._report(trainer.current_epoch + 1, trainer.max_epochs or 0)


class MetricsTable(Callback):
    """Write all logged values, one row an epoch; a resumed run keeps the rows before.

    Lightning's own CSV logger deletes the table of the run that is resumed.

    Parameters
    ----------
    path : Path
        `metrics.csv`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows: list[dict[str, float]] = []
        self._validated = False

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remember that this epoch has validation values of its own."""
        del trainer, pl_module
        self._validated = True

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take over the rows of the epochs that a resumed run has behind it."""
        del pl_module
        if trainer.current_epoch and self._path.is_file():
            earlier = pd.read_csv(self._path)
            kept = earlier[earlier["epoch"] < trainer.current_epoch]
            self._rows = [
                {str(name): float(value) for name, value in row.items() if pd.notna(value)}
                for row in kept.to_dict("records")
            ]

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add this epoch's values."""
        del pl_module
        values = {name: float(value) for name, value in trainer.callback_metrics.items()}
        if not self._validated:  # the values are those of an earlier epoch
            values = {name: v for name, v in values.items() if "validation" not in name}
        self._validated = False
        self._rows.append({"epoch": float(trainer.current_epoch), **values})
        with atomic_path(self._path) as temporary:
            pd.DataFrame(self._rows).astype({"epoch": int}).to_csv(temporary, index=False)
