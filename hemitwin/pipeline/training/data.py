"""The training and validation data as a Lightning data module."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, overload

import lightning as pl
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from hemitwin._shapes import Batch
from hemitwin.pipeline.cohort.brains import Brain
from hemitwin.pipeline.training.config import RunConfig
from hemitwin.pipeline.training.distributed import rank_and_world
from hemitwin.pipeline.training.pairs import (
    LesionSource,
    ScoredPair,
    TrainingBatch,
    draw_lesions,
    halves_of,
    join,
    pairs_of,
)
from hemitwin.transforms import BrainAugmentation, LesionSpec

__all__ = ["HemisphereData", "PairBatch"]

_Draw = tuple[int, int]
"""Epoch and subject."""
_KEPT_SUBJECTS = 64


@dataclass(frozen=True, eq=False)
class PairBatch:
    """Pairs of one subject to be scored, with their labels."""

    left: Batch
    right: Batch
    lesioned: torch.Tensor
    subjects: tuple[str, ...]

    def to(self, device: torch.device) -> "PairBatch":
        """Return the batch with its images on another device."""
        return PairBatch(self.left.to(device), self.right.to(device), self.lesioned, self.subjects)


class HemisphereData(pl.LightningDataModule):
    """Healthy halves with freshly injected lesions for training, fixed pairs for validation.

    Parameters
    ----------
    config : RunConfig
        The run's settings.
    train, validation : sequence of Brain
        Folds that share no group.
    source : LesionSource
        Where lesions come from.
    """

    def __init__(
        self,
        config: RunConfig,
        train: Sequence[Brain],
        validation: Sequence[Brain],
        source: LesionSource,
    ) -> None:
        super().__init__()
        self._config = config
        self._train = tuple(train)
        self._source = source
        specs = draw_lesions(
            validation,
            source,
            per_subject=config.evaluation.lesions_per_subject,
            seed=config.evaluation_seed + 1,
        )
        self.validation_pairs = _ValidationPairs(validation, specs, source)

    def train_dataloader(self) -> DataLoader[TrainingBatch]:
        """Batches of `batch_subjects` subjects; a pure function of seed, epoch and number."""
        training = self._config.training
        sampler = BatchSampler(len(self._train), training.batch_subjects, self._config.seed)
        dataset = _LesionedHalves(self._config, self._train, self._source)
        return ResumableLoader(dataset, sampler, workers=training.workers)

    def val_dataloader(self) -> DataLoader[PairBatch]:
        """One batch a validation subject: its healthy pair and its lesioned ones."""
        dataset = _FixedPairs(self.validation_pairs)
        return DataLoader(dataset, batch_size=None, shuffle=False)

    def transfer_batch_to_device(
        self, batch: TrainingBatch | PairBatch, device: torch.device, dataloader_idx: int
    ) -> TrainingBatch | PairBatch:
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


class BatchSampler(Sampler[list[_Draw]]):
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
        _, world = rank_and_world()
        whole = self._size // self._batch
        return whole if world > 1 else -(-self._size // self._batch)

    def __iter__(self) -> Iterator[list[_Draw]]:
        rank, world = rank_and_world()
        order = np.random.default_rng([self._seed, self._epoch]).permutation(self._size)
        draws = [(self._epoch, int(index)) for index in order]
        batches = [draws[k * self._batch : (k + 1) * self._batch] for k in range(len(self))]
        first, self._skip = self._skip, 0
        share = self._batch // world
        for one in batches[first:]:
            yield one if world == 1 else one[rank * share : (rank + 1) * share]


class _LesionedHalves(Dataset[TrainingBatch]):
    """Subjects with lesions, and other random changes, that are drawn anew in each epoch."""

    def __init__(self, config: RunConfig, brains: Sequence[Brain], source: LesionSource) -> None:
        self._config = config
        self._brains = brains
        self._source = source
        self._augmentation = BrainAugmentation(
            config.training.augmentation,
            voxel_mm=config.data.resolution_mm,
            comparison="hemispheres",
        )

    def __getitem__(self, draws: list[_Draw]) -> TrainingBatch:
        return join([self._subject(*draw) for draw in draws])

    def _subject(self, epoch: int, index: int) -> TrainingBatch:
        rng = np.random.default_rng([self._config.seed, epoch, index])
        training = self._config.training
        # One gamma for all halves of a subject: it teaches invariance to contrast, and leaves no
        # difference between the halves that could stand for a lesion.
        gamma = float(np.exp(rng.normal(0.0, training.intensity_jitter)))
        brain = self._brains[index]
        # Before the lesions: they belong to the changed brain, and lie where its mask says.
        volume, mask = self._augmentation(
            brain.volume**gamma, brain.mask, seed=(self._config.seed, epoch, index)
        )
        changed = replace(brain, volume=volume, mask=mask)
        return halves_of(changed, index, self._source, rng, copies=training.lesions_per_side)


class _ValidationPairs(Sequence[tuple[ScoredPair, ...]]):
    """Each subject's pairs, with lesions that were drawn once.

    The pairs of the first subjects are kept, those of the others are made again at each use: they
    take several times the memory of the brains, which are mapped from disk.
    """

    def __init__(
        self,
        brains: Sequence[Brain],
        specs: Mapping[str, Sequence[LesionSpec]],
        source: LesionSource,
    ) -> None:
        self._brains = tuple(brains)
        self._specs = specs
        self._source = source
        self._kept: dict[int, tuple[ScoredPair, ...]] = {}

    def __len__(self) -> int:
        return len(self._brains)

    @overload
    def __getitem__(self, index: int) -> tuple[ScoredPair, ...]: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[tuple[ScoredPair, ...], ...]: ...
    def __getitem__(
        self, index: int | slice
    ) -> tuple[ScoredPair, ...] | tuple[tuple[ScoredPair, ...], ...]:
        if isinstance(index, slice):
            return tuple(self[one] for one in range(len(self))[index])
        if index in self._kept:
            return self._kept[index]
        brain = self._brains[index]
        pairs = pairs_of(brain, self._specs[brain.case.name], self._source)
        if len(self._kept) < _KEPT_SUBJECTS:
            self._kept[index] = pairs
        return pairs


class _FixedPairs(Dataset[PairBatch]):
    """Each item holds all pairs of one subject."""

    def __init__(self, pairs: Sequence[Sequence[ScoredPair]]) -> None:
        self._pairs = pairs

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> PairBatch:
        return batch_of(self._pairs[index])


def batch_of(pairs: Sequence[ScoredPair]) -> PairBatch:
    """Stack pairs into one batch."""
    return PairBatch(
        torch.stack([pair.left for pair in pairs]),
        torch.stack([pair.right for pair in pairs]),
        torch.tensor([pair.lesioned for pair in pairs]),
        tuple(pair.subject for pair in pairs),
    )
