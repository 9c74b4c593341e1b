"""Sets of brains that belong together, twins or rescans, as a Lightning data module."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import lightning as pl
import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from hemitwin._shapes import Volume
from hemitwin.models import Items
from hemitwin.pipeline.cohort.brain_pairs import People, brain_pairs
from hemitwin.pipeline.cohort.brains import Brain
from hemitwin.pipeline.cohort.split import Fold, Split
from hemitwin.pipeline.stage.errors import UserError
from hemitwin.pipeline.statistics.bootstrap import Clusters
from hemitwin.pipeline.training.config import RunConfig
from hemitwin.pipeline.training.data import BatchSampler, ResumableLoader
from hemitwin.pipeline.training.pairs import TrainingBatch, join
from hemitwin.transforms import BrainAugmentation, standardise

__all__ = ["BrainSetData", "IndexedPairs", "pairs_of_fold", "standard_brain"]

_SCANS_A_SET = 2


@dataclass(frozen=True, eq=False)
class IndexedPairs:
    """Pairs of brains by their numbers.

    Parameters
    ----------
    first, second : (n,) int
        Rows of the fold's brains.
    different : (n,) bool
        The label.
    clusters : Clusters
        Their families, for the bootstrap.
    """

    first: Int[Tensor, " n"]
    second: Int[Tensor, " n"]
    different: Bool[np.ndarray, " n"]
    clusters: Clusters

    @classmethod
    def of(cls, table: pd.DataFrame, brains: Sequence[Brain]) -> "IndexedPairs":
        """Look up a table of pairs among the brains of a fold."""
        number = {brain.case.name: k for k, brain in enumerate(brains)}
        first, second = (
            torch.tensor([number[str(name)] for name in table[column]])
            for column in ("case", "partner_case")
        )
        clusters = Clusters.of(
            list(table["group"].astype(str)), list(table["partner_group"].astype(str))
        )
        return cls(first, second, (table["label"] == "different").to_numpy(), clusters)


def pairs_of_fold(
    config: RunConfig, brains: Sequence[Brain], people: People, split: Split, fold: Fold
) -> pd.DataFrame:
    """Pair the brains of one fold as the configuration asks; see `brain_pairs`.

    Raises
    ------
    UserError
        The run's task is not pairs of brains, or as `brain_pairs` says.
    """
    if config.pairs is None:
        msg = "pairs of brains need a configuration with the section pairs; add it"
        raise UserError(msg)
    cases = [brain.case for brain in brains]
    return brain_pairs(cases, people, config.pairs, split=split, fold=fold)


def standard_brain(brain: Brain) -> Volume:
    """Bring a whole brain to standard units: what the network sees."""
    return standardise(brain.volume, brain.mask)


class BrainSetData(pl.LightningDataModule):
    """Batches of sets, two brains of each; validation brains one by one.

    Parameters
    ----------
    config : RunConfig
        The run's settings.
    train, validation : sequence of Brain
        Folds that share no group.
    pairs : DataFrame
        The training pairs that belong together.
    families : mapping of str to str
        Group of each training subject.

    Raises
    ------
    UserError
        There are fewer than two sets: nothing to tell apart.
    """

    def __init__(
        self,
        config: RunConfig,
        train: Sequence[Brain],
        validation: Sequence[Brain],
        *,
        pairs: pd.DataFrame,
        families: Mapping[str, str],
    ) -> None:
        super().__init__()
        self._config = config
        self._train = tuple(train)
        self._validation = tuple(validation)
        self._sets = _sets_of(pairs, self._train)
        if len(self._sets) < 2:
            msg = (
                f"the training fold must hold at least two sets that belong together, got "
                f"{len(self._sets)}; make it larger"
            )
            raise UserError(msg)
        names = sorted({families.get(brain.subject, brain.subject) for brain in train})
        self._kin = [names.index(families.get(brain.subject, brain.subject)) for brain in train]

    def train_dataloader(self) -> ResumableLoader:
        """Batches of `batch_subjects` sets; a pure function of seed, epoch and number."""
        training = self._config.training
        sampler = BatchSampler(len(self._sets), training.batch_subjects, self._config.seed)
        dataset = _BrainSets(self._config, self._train, self._sets, self._kin)
        return ResumableLoader(dataset, sampler, workers=training.workers)

    def val_dataloader(self) -> DataLoader[TrainingBatch]:
        """One brain a batch, numbered as in the fold."""
        return DataLoader(_SingleBrains(self._validation), batch_size=None, shuffle=False)

    def transfer_batch_to_device(
        self, batch: TrainingBatch, device: torch.device, dataloader_idx: int
    ) -> TrainingBatch:
        """Move a batch; Lightning's own mover refuses frozen dataclasses."""
        del dataloader_idx
        return batch.to(device)


def _sets_of(pairs: pd.DataFrame, brains: Sequence[Brain]) -> list[tuple[int, ...]]:
    """Join the pairs that belong together: two twins, or all scans of one person."""
    number = {brain.case.name: k for k, brain in enumerate(brains)}
    owner: dict[int, set[int]] = {}
    same = pairs[pairs["label"] == "same"]
    for one, other in zip(same["case"], same["partner_case"], strict=True):
        joined = {number[str(one)], number[str(other)]}
        joined |= owner.get(number[str(one)], set()) | owner.get(number[str(other)], set())
        for member in joined:
            owner[member] = joined
    return sorted({tuple(sorted(members)) for members in owner.values()})


class _BrainSets(Dataset[TrainingBatch]):
    """Two brains of each set, changed at random, each in its own way."""

    def __init__(
        self,
        config: RunConfig,
        brains: Sequence[Brain],
        sets: Sequence[tuple[int, ...]],
        kin: Sequence[int],
    ) -> None:
        self._config = config
        self._brains = brains
        self._sets = sets
        self._kin = kin
        self._augmentation = BrainAugmentation(
            config.training.augmentation, voxel_mm=config.data.resolution_mm, comparison="brains"
        )

    def __getitem__(self, draws: list[tuple[int, int]]) -> TrainingBatch:
        return join([self._set(*draw) for draw in draws])

    def _set(self, epoch: int, index: int) -> TrainingBatch:
        rng = np.random.default_rng([self._config.seed, epoch, index])
        members = self._sets[index]
        chosen = [members[k] for k in rng.permutation(len(members))[:_SCANS_A_SET]]
        images = []
        for member in chosen:
            brain = self._brains[member]
            gamma = float(np.exp(rng.normal(0.0, self._config.training.intensity_jitter)))
            seed = (self._config.seed, epoch, index, member)
            volume, mask = self._augmentation(brain.volume**gamma, brain.mask, seed=seed)
            images.append(standardise(volume, mask))
        group = torch.full((len(chosen),), index)
        kin = torch.tensor([self._kin[member] for member in chosen])
        items = Items(group, torch.tensor(chosen), kin, torch.zeros(len(chosen)).bool())
        return TrainingBatch(torch.stack(images), items)


class _SingleBrains(Dataset[TrainingBatch]):
    def __init__(self, brains: Sequence[Brain]) -> None:
        self._brains = brains

    def __len__(self) -> int:
        return len(self._brains)

    def __getitem__(self, index: int) -> TrainingBatch:
        number = torch.tensor([index])
        items = Items(number, number, number, torch.tensor([False]))
        return TrainingBatch(standard_brain(self._brains[index])[None], items)
