"""What training learns from and is checked on, as a Lightning data module."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import lightning as pl
import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch.utils.data import DataLoader, Dataset, Sampler

from hemitwin.models import SiameseNetwork
from hemitwin.pipeline.training.config import RunConfig
from hemitwin.pipeline.training.distributed import rank_and_world
from hemitwin.pipeline.training.sources.pairs import TrainingBatch

__all__ = [
    "BatchSampler",
    "Draw",
    "EpochScores",
    "ResumableLoader",
    "TrainingData",
    "Validation",
    "mean_hinge",
]

Draw = tuple[int, int]
"""Epoch, and number of a subject or a set."""


@runtime_checkable
class EpochScores(Protocol):
    """Gathers the scores of the validation pairs through an epoch."""

    def add(self, network: SiameseNetwork, batch: Any) -> None:  # noqa: ANN401 (its validation's)
        """Keep what the network says of one batch."""
        ...

    def finish(
        self, network: SiameseNetwork, margin: float
    ) -> tuple[Float[np.ndarray, " n"], Bool[np.ndarray, " n"], float]:
        """Forget them, and give all.

        Returns
        -------
        scores : (n,) float
            What the head ranks pairs by.
        different : (n,) bool
            The label: a lesion, or two that are not one set.
        hinge : float
            What the scores of different pairs lack of `margin` to those of alike ones, as a mean:
            what the best weights are chosen by, where the head has no logit.
        """
        ...


class Validation(ABC):
    """The pairs that a training is checked on: after epochs, and once more at its end."""

    @property
    @abstractmethod
    def batches(self) -> Dataset[Any]:
        """What is scored after an epoch, by `epoch_scores`."""

    @abstractmethod
    def epoch_scores(self) -> EpochScores:
        """Return what gathers an epoch's scores."""

    @abstractmethod
    def table(self, network: SiameseNetwork) -> pd.DataFrame:
        """Score every pair with a trained network, and beside it without one."""

    @abstractmethod
    def different(self, table: pd.DataFrame) -> Bool[np.ndarray, " n"]:
        """Return the label of each row of `table`."""

    @abstractmethod
    def write(self, folder: Path, table: pd.DataFrame) -> Path | None:
        """Write `table` into a run folder; give the file whose digest the run's summary keeps."""


class TrainingData(pl.LightningDataModule):
    """Batches of freshly drawn images for training, fixed ones for validation.

    Parameters
    ----------
    config : RunConfig
        The run's settings.
    drawn : Dataset of TrainingBatch
        From a list of `Draw` to a batch; its length is how many subjects or sets there are.
    validation : Dataset
        What is scored after an epoch, batch by batch.
    """

    def __init__(
        self, config: RunConfig, drawn: Dataset[TrainingBatch], validation: Dataset[Any]
    ) -> None:
        super().__init__()
        self._training = config.training
        self._seed = config.seed
        self._drawn = drawn
        self._validation = validation

    def train_dataloader(self) -> "ResumableLoader":
        """Batches of `batch_subjects` subjects; a pure function of seed, epoch and number."""
        size = len(self._drawn)  # type: ignore[arg-type]  # torch's datasets need no length
        sampler = BatchSampler(size, self._training.batch_subjects, self._seed)
        return ResumableLoader(self._drawn, sampler, workers=self._training.workers)

    def val_dataloader(self) -> DataLoader[Any]:
        """Return the validation batches in their order."""
        return DataLoader(self._validation, batch_size=None, shuffle=False)

    def transfer_batch_to_device(
        self,
        batch: Any,  # noqa: ANN401 (training's or validation's)
        device: torch.device,
        dataloader_idx: int,
    ) -> Any:  # noqa: ANN401
        """Move a batch; Lightning's own mover refuses frozen dataclasses."""
        del dataloader_idx
        return batch.to(device)


class ResumableLoader(DataLoader[TrainingBatch]):
    """A loader that a checkpoint in the middle of an epoch brings back to its place.

    Parameters
    ----------
    dataset : Dataset of TrainingBatch
        Makes a whole batch of what the sampler names.
    sampler : BatchSampler
        Names the batches.
    workers : int
        Processes that make batches ahead.
    """

    def __init__(
        self, dataset: Dataset[TrainingBatch], sampler: "BatchSampler", *, workers: int = 0
    ) -> None:
        super().__init__(
            dataset,
            batch_size=None,
            sampler=sampler,
            num_workers=workers,
            persistent_workers=workers > 0,
        )
        self._place = sampler
        self._done = 0

    def __iter__(self) -> Iterator[TrainingBatch]:  # type: ignore[override]
        """Yield the epoch's batches that are not done."""
        self._done %= len(self._place)
        self._place.skip_once(self._done)
        for batch in super().__iter__():
            self._done += 1
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Return how many batches of the epoch have been given out."""
        return {"done": self._done}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Begin the next epoch after the batches that are done."""
        self._done = int(state_dict["done"])


class BatchSampler(Sampler[list[Draw]]):
    """Yield batches of (epoch, subject), so that a worker needs no state to draw lesions.

    Several processes share each batch; an incomplete one at the end of an epoch is left out then,
    because they must have equal shares.

    Parameters
    ----------
    size : int
        Subjects.
    batch : int
        Subjects in a batch, of all processes together.
    seed : int
        With the epoch it decides the order.
    """

    def __init__(self, size: int, batch: int, seed: int) -> None:
        self._size = size
        self._batch = batch
        self._seed = seed
        self._epoch = 0
        self._skip = 0

    def skip_once(self, batches: int) -> None:
        """Leave out the first batches of the next epoch: they are behind a resumed run."""
        self._skip = batches

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this before each epoch, also after a resumption."""
        self._epoch = epoch

    def __len__(self) -> int:
        """Count the batches of an epoch."""
        _, world = rank_and_world()
        whole = self._size // self._batch
        return whole if world > 1 else -(-self._size // self._batch)

    def __iter__(self) -> Iterator[list[Draw]]:
        """Yield this process's share of each batch of an epoch, in random order."""
        rank, world = rank_and_world()
        order = np.random.default_rng([self._seed, self._epoch]).permutation(self._size)
        draws = [(self._epoch, int(index)) for index in order]
        batches = [draws[k * self._batch : (k + 1) * self._batch] for k in range(len(self))]
        first, self._skip = self._skip, 0
        share = self._batch // world
        for one in batches[first:]:
            yield one if world == 1 else one[rank * share : (rank + 1) * share]


def mean_hinge(
    scores: Float[np.ndarray, " n"], labels: Bool[np.ndarray, " n"], margin: float
) -> float:
    """Return the mean over every two pairs of what a different one lacks of `margin` to a same.

    Parameters
    ----------
    scores : (n,) float
        High for different pairs.
    labels : (n,) bool
        True where they are different.
    margin : float
        By how much each different pair should be above each that is the same.

    Examples
    --------
    >>> mean_hinge(np.array([1.0, 0.0, 0.5]), np.array([True, False, False]), 0.75)
    0.125
    """
    same = np.sort(scores[~labels].astype(float))
    different = scores[labels].astype(float)
    # Sums from each place up: a matrix of all pairs of pairs would not fit the memory.
    sums = np.append(np.cumsum(same[::-1])[::-1], 0.0)
    first = np.searchsorted(same, different - margin, side="right")
    lacking = sums[first] + (margin - different) * (same.size - first)
    return float(lacking.sum() / (same.size * different.size))
