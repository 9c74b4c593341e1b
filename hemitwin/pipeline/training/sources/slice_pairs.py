"""Training on halves of slices: shapes are drawn into one of them, anew in each epoch."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, UInt8
from torch.utils.data import Dataset

from hemitwin.atlases import save_table
from hemitwin.models import Items, SiameseNetwork
from hemitwin.pipeline.cohort.split import Fold, Split
from hemitwin.pipeline.images.image_guards import LEARNT, write_image_guards
from hemitwin.pipeline.images.slice_pairs import PairSet, read_pairs
from hemitwin.pipeline.stage.errors import UserError
from hemitwin.pipeline.stage.records import Record
from hemitwin.pipeline.training.config import RunConfig
from hemitwin.pipeline.training.data import Draw, EpochScores, TrainingData, Validation
from hemitwin.pipeline.training.plan import (
    SHOWN,
    TrainingPlan,
    TrainingSetup,
    described,
    transferred,
)
from hemitwin.pipeline.training.sources.halves import HalvesScores, PairBatch
from hemitwin.pipeline.training.sources.pairs import TrainingBatch, join
from hemitwin.pipeline.training.sources.scored_slices import (
    ScoredSlice,
    batch_of,
    draw_into_half,
    score_slice_pairs,
    scored_slices,
    slices_config,
)
from hemitwin.transforms import augment_images, standardise_pixels

__all__ = [
    "VALIDATION_SLICES",
    "DrawnSlicePairs",
    "SlicePairsPlan",
    "SlicePairsValidation",
    "plan_slice_pairs",
]

VALIDATION_SLICES = "validation_slices.tsv"
"""Scored pairs of validation in the run folder."""


class DrawnSlicePairs(Dataset[TrainingBatch]):
    """Slices of the training fold, with shapes that are drawn anew in each epoch.

    A slice is changed at random first, both halves alike but for noise; then a shape is drawn
    into a copy of each half, so that no interpolation softens it. With a `window_px` all are seen
    through one window, at a place in the brain that is drawn anew.

    Parameters
    ----------
    config : RunConfig
        The run's settings.
    pairs : PairSet
        The training fold.
    """

    def __init__(self, config: RunConfig, pairs: PairSet) -> None:
        self._config = config
        self._source = slices_config(config)
        self._pairs = pairs

    def __len__(self) -> int:
        """Count the slices."""
        return len(self._pairs)

    def __getitem__(self, draws: list[Draw]) -> TrainingBatch:
        """Return the halves of these slices, healthy and with a shape."""
        return join([self._slice(*draw) for draw in draws])

    def _slice(self, epoch: int, index: int) -> TrainingBatch:
        rng = np.random.default_rng([self._config.seed, epoch, index])
        training = self._config.training
        both = torch.from_numpy(self._pairs.pixels[index])[None].float() / 255
        # As two channels of one image they are moved alike.
        changed = augment_images(both, training.image_augmentation, rng)[0]
        halves = (changed * 255).round().to(torch.uint8).numpy()
        window = _window(halves, self._source.window_px, rng)
        seen = halves[:, *window]
        images, masks = list(halves), [np.zeros(seen.shape[1:], dtype=bool)] * 2
        sides = [0, 1]
        low, high = np.log(self._source.area_mm2)
        for _ in range(training.lesions_per_side):
            for side in (0, 1):
                area = float(np.exp(rng.uniform(low, high)))
                drawn = draw_into_half(seen[side], self._source, self._pairs.pixel_mm, area, rng)
                if drawn is not None:
                    images.append(halves[side].copy())
                    images[-1][window] = drawn[0]
                    masks.append(drawn[1])
                    sides.append(side)
        count = len(images)
        numbers = torch.full((count,), index)
        items = Items(numbers, torch.tensor(sides), numbers, torch.arange(count) >= 2)
        # In the units of the whole halves, which is what the test shows.
        shown = standardise_pixels(np.stack(images)[:, None])[..., *window].contiguous()
        return TrainingBatch(shown, items, torch.from_numpy(np.stack(masks)).byte())


class SlicePairsValidation(Validation):
    """Each validation slice's halves as they are, and with a shape of one of the tested areas.

    Parameters
    ----------
    config : RunConfig
        Its seed decides the shapes.
    pairs : PairSet
        The validation fold.
    """

    def __init__(self, config: RunConfig, pairs: PairSet) -> None:
        self._pairs = pairs
        self._tested = tuple(
            scored_slices(config, pairs, seed=config.evaluation_seed + 1, areas=1)
        )

    @property
    def batches(self) -> Dataset[PairBatch]:
        """Both pairs of a slice at once."""
        return _PairsBySlice(self._tested)

    def epoch_scores(self) -> EpochScores:
        """Score pairs as they come."""
        return HalvesScores()

    def table(self, network: SiameseNetwork) -> pd.DataFrame:
        """See `score_slice_pairs`."""
        return score_slice_pairs(network, self._tested, self._pairs)

    def different(self, table: pd.DataFrame) -> Bool[np.ndarray, " n"]:
        """Tell which pairs have a shape."""
        return table["lesioned"].to_numpy(bool)

    def write(self, folder: Path, table: pd.DataFrame) -> Path:
        """Write `VALIDATION_SLICES`."""
        save_table(folder / VALIDATION_SLICES, table)
        return folder / VALIDATION_SLICES


class _PairsBySlice(Dataset[PairBatch]):
    """Each item holds all pairs of one slice."""

    def __init__(self, tested: Sequence[ScoredSlice]) -> None:
        first = [k for k, pair in enumerate(tested) if not pair.lesioned]
        ends = [*first[1:], len(tested)]
        self._groups = [tested[start:end] for start, end in zip(first, ends, strict=True)]

    def __len__(self) -> int:
        return len(self._groups)

    def __getitem__(self, index: int) -> PairBatch:
        return batch_of(self._groups[index])


def _window(
    halves: UInt8[np.ndarray, "2 rows columns"], edge_px: int | None, rng: np.random.Generator
) -> tuple[slice, slice]:
    """Draw a window around a pixel of the brain, wholly on the picture."""
    shape = halves.shape[1:]
    if edge_px is None:
        return slice(None), slice(None)
    inside = np.argwhere(halves.any(axis=0))
    middle = inside[int(rng.integers(len(inside)))] if len(inside) else np.array(shape) // 2
    first = np.clip(middle - edge_px // 2, 0, np.array(shape) - edge_px)
    rows, columns = (slice(int(start), int(start) + edge_px) for start in first)
    return rows, columns


@dataclass(frozen=True, eq=False)
class SlicePairsPlan(TrainingPlan):
    """Halves of slices, into one of which a shape is drawn.

    Parameters
    ----------
    config : RunConfig
        The settings.
    split : Split
        Subjects by fold, as they were sliced.
    pairs : PairSet
        All slices.
    """

    config: RunConfig
    split: Split
    pairs: PairSet

    def fold(self, name: Fold) -> PairSet:
        """Return the slices of one fold."""
        return self.pairs.of_fold(self.split, name)

    @property
    def record(self) -> Record:
        """What the run is trained on; its settings are in its configuration."""
        digest = hashlib.sha256(self.pairs.pixels.tobytes()).hexdigest()
        settings = {"folds": self.split.hash, "slices": digest}
        inputs = transferred(self.config)
        return Record("train", computation=1, inputs=inputs, settings=settings)

    def describe(self, network: SiameseNetwork) -> str:
        """Say in one line what will happen."""
        counts = [f"{len(self.fold(name))} {name}" for name in SHOWN]
        rows, columns = self.pairs.pixels.shape[-2:]
        return (
            f"{described(self.config, network)}, halves of {rows} x {columns} pixels of "
            f"{self.pairs.pixel_mm:g} mm; slices: {', '.join(counts)}; "
            f"{self.config.training.epochs} epochs"
        )

    def write_guards(self, folder: Path) -> None:
        """Write the fingerprints of the slices that the run learns from."""
        learnt: dict[Fold, list[str]] = {name: self.fold(name).fingerprints for name in LEARNT}
        write_image_guards(folder, self.split, learnt)

    def set_up(self, device: torch.device | None = None) -> TrainingSetup:
        """Make what the training needs.

        Raises
        ------
        UserError
            The window of training is larger than the halves.
        """
        del device  # nothing is computed of the slices before training
        edge_px, shape = slices_config(self.config).window_px, self.pairs.pixels.shape[-2:]
        if edge_px is not None and edge_px > min(shape):
            msg = (
                f"data.window_px must lie on the halves, which have {shape[0]} x {shape[1]} "
                f"pixels, got {edge_px}; lower it, or leave it out"
            )
            raise UserError(msg)
        validation = SlicePairsValidation(self.config, self.fold("validation"))
        drawn = DrawnSlicePairs(self.config, self.fold("train"))
        data = TrainingData(self.config, drawn, validation.batches)
        return TrainingSetup(self.config, data, validation)


def plan_slice_pairs(config: RunConfig) -> SlicePairsPlan:
    """Read halves of slices, in the folds that they were sliced in.

    Raises
    ------
    UserError
        The run is about something else, or as `read_pairs` says.
    """
    if config.slice_pairs is None:
        msg = "halves of slices need a configuration whose data has the key slices; add it"
        raise UserError(msg)
    pairs, split = read_pairs(config.slice_pairs.slices)
    return SlicePairsPlan(config, split, pairs)
