"""Halves of slices with shapes drawn into one: what training draws, and what validation scores."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, UInt8
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch.utils.data import Dataset

from hemitwin._shapes import Batch
from hemitwin.atlases import save_table
from hemitwin.models import Items, SiameseNetwork
from hemitwin.pipeline.cohort.split import Fold, Split
from hemitwin.pipeline.images.image_guards import LEARNT, write_image_guards
from hemitwin.pipeline.images.slice_pairs import PairSet, SlicePairsConfig, read_pairs
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
from hemitwin.transforms import (
    ShapeConfig,
    augment_images,
    draw_shape,
    sample_shape,
    standardise_images,
)

__all__ = [
    "VALIDATION_SLICES",
    "DrawnSlicePairs",
    "ScoredSlice",
    "SlicePairsPlan",
    "SlicePairsValidation",
    "plan_slice_pairs",
    "score_slice_pairs",
    "scored_slices",
]

VALIDATION_SLICES = "validation_slices.tsv"
"""Scored pairs of validation in the run folder."""

_AT_ONCE = 32


@dataclass(frozen=True, eq=False)
class ScoredSlice:
    """Two halves of a slice, with or without a shape in one of them.

    Parameters
    ----------
    row : int
        The slice's row in its set.
    pixels : (2, rows, columns) uint8
        Left and right.
    side : str
        ``L`` or ``R`` where a shape is, else empty.
    shape : str
        Which; empty without one.
    area_mm2 : float
        What was asked for; 0 without one.
    """

    row: int
    pixels: UInt8[np.ndarray, "2 rows columns"]
    side: str = ""
    shape: str = ""
    area_mm2: float = 0.0

    @property
    def lesioned(self) -> bool:
        """The label: whether one half was changed."""
        return bool(self.side)


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
        self._source = _source_of(config)
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
                drawn = _drawn(seen[side], self._source, self._pairs.pixel_mm, area, rng)
                if drawn is not None:
                    images.append(halves[side].copy())
                    images[-1][window] = drawn[0]
                    masks.append(drawn[1])
                    sides.append(side)
        count = len(images)
        numbers = torch.full((count,), index)
        items = Items(numbers, torch.tensor(sides), numbers, torch.arange(count) >= 2)
        # In the units of the whole halves, which is what the test shows.
        shown = standardised(np.stack(images))[..., *window].contiguous()
        return TrainingBatch(shown, items, torch.from_numpy(np.stack(masks)))


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


def scored_slices(
    config: RunConfig, pairs: PairSet, *, seed: int, areas: int | None = None
) -> Iterator[ScoredSlice]:
    """Give each slice as it is, and with a shape of each tested area, on sides in turn.

    Parameters
    ----------
    config : RunConfig
        Says which shapes and areas.
    pairs : PairSet
        Slices.
    seed : int
        With the slice's name it decides the shapes: another slice changes no other's.
    areas : int, optional
        How many of the tested areas each slice gets, in turn from slice to slice; all by default.
        A slice without room for a shape of an area has none of it.

    Yields
    ------
    ScoredSlice
        The slice as it is first, then those with a shape, which lie behind one another.
    """
    source = _source_of(config)
    count = len(source.tested_mm2) if areas is None else areas
    for row, name in enumerate(pairs.table["name"]):
        rng = np.random.default_rng([seed, *str(name).encode()])
        halves = pairs.pixels[row]
        found = []
        for k in range(count):
            area = source.tested_mm2[(row * count + k) % len(source.tested_mm2)]
            side = int(rng.integers(2))
            drawn = _drawn(halves[side], source, pairs.pixel_mm, area, rng)
            if drawn is None:
                continue
            changed = halves.copy()
            changed[side] = drawn[0]
            found.append(ScoredSlice(row, changed, "LR"[side], drawn[2], area))
        if found:
            yield ScoredSlice(row, halves)
            yield from found


def score_slice_pairs(
    network: SiameseNetwork, tested: Sequence[ScoredSlice], pairs: PairSet
) -> pd.DataFrame:
    """Score pairs in float32.

    Parameters
    ----------
    network : SiameseNetwork
        In evaluation mode.
    tested : sequence of ScoredSlice
        What is scored.
    pairs : PairSet
        Whose slices they are.

    Returns
    -------
    DataFrame
        One row a pair: subject, slice, lesioned, side, shape, area_mm2, distance, score where the
        head has a logit, and without a network: mirror_peak, the largest difference of grey
        between the halves, smoothed over 3 x 3 pixels; and flat_patch, the pixels of the largest
        patch of one grey in either half, which gives a shape of one grey away.
    """
    rows = []
    for start in range(0, len(tested), _AT_ONCE):
        some = tested[start : start + _AT_ONCE]
        batch = batch_of(some).to(network.device)
        with torch.inference_mode():
            output = network(batch.left, batch.right)
        for k, pair in enumerate(some):
            known = pairs.table.iloc[pair.row]
            rows.append(
                {
                    "subject": known["subject"],
                    "slice": known["name"],
                    "lesioned": pair.lesioned,
                    "side": pair.side,
                    "shape": pair.shape,
                    "area_mm2": pair.area_mm2,
                    "distance": float(output.distance[k]),
                    **({} if output.logit is None else {"score": float(output.logit[k])}),
                    **_without_network(pair.pixels),
                }
            )
    return pd.DataFrame(rows)


def standardised(pixels: UInt8[np.ndarray, "n rows columns"]) -> Batch:
    """Bring halves to standard units, (n, 1, rows, columns): what the network sees."""
    return standardise_images(torch.from_numpy(pixels)[:, None].float() / 255)


def batch_of(pairs: Sequence[ScoredSlice]) -> PairBatch:
    """Stack pairs into one batch."""
    left, right = (standardised(np.stack([pair.pixels[k] for pair in pairs])) for k in (0, 1))
    return PairBatch(
        left,
        right,
        torch.tensor([pair.lesioned for pair in pairs]),
        tuple(str(pair.row) for pair in pairs),
    )


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


def _drawn(
    half: UInt8[np.ndarray, "rows columns"],
    source: SlicePairsConfig,
    pixel_mm: float,
    area_mm2: float,
    rng: np.random.Generator,
) -> tuple[UInt8[np.ndarray, "rows columns"], Bool[np.ndarray, "rows columns"], str] | None:
    """Draw one shape; give its mask and its kind, too. `None` where the half has no room."""
    ranges = ShapeConfig(shapes=source.shapes, grey=source.grey, contrast=source.contrast)
    brain = half > 0
    try:
        spec = sample_shape(rng, ranges, brain, pixel_mm, area_mm2=area_mm2)
    except ValueError:
        return None
    drawn, mask = draw_shape(half, brain, spec, pixel_mm)
    return drawn, mask, spec.shape


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


def _without_network(pixels: UInt8[np.ndarray, "2 rows columns"]) -> dict[str, float]:
    left, right = pixels.astype(np.float32)
    peak = np.abs(ndimage.uniform_filter(left - right, 3)).max()
    return {
        "mirror_peak": float(peak),
        "flat_patch": float(max(_largest_patch(one) for one in pixels)),
    }


def _largest_patch(half: UInt8[np.ndarray, "rows columns"]) -> int:
    """Count the pixels of the largest patch of one grey; what is cut off as white is none."""
    number = np.arange(half.size).reshape(half.shape)
    inside = (half > 0) & (half < np.iinfo(half.dtype).max)
    ends = []
    for one, other in ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:])):
        same = (half[one] == half[other]) & inside[one]
        ends.append((number[one][same], number[other][same]))
    first, second = (np.concatenate(side) for side in zip(*ends, strict=True))
    graph = coo_array((np.ones(first.size), (first, second)), shape=(half.size, half.size))
    _, labels = connected_components(graph, directed=False)
    return int(np.bincount(labels[inside.ravel()], minlength=1).max())


def _source_of(config: RunConfig) -> SlicePairsConfig:
    if config.slice_pairs is None:
        msg = "the configuration must be one of halves of slices; got another"
        raise TypeError(msg)
    return config.slice_pairs


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
        folds = self.pairs.table["subject"].map(dict(self.split.folds))
        return self.pairs.take((folds == name).to_numpy())

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
        learnt: dict[Fold, list[str]] = {
            name: [hashlib.sha256(one.tobytes()).hexdigest() for one in self.fold(name).pixels]
            for name in LEARNT
        }
        write_image_guards(folder, self.split, learnt)

    def set_up(self, device: torch.device | None = None) -> TrainingSetup:
        """Make what the training needs.

        Raises
        ------
        UserError
            The window of training is larger than the halves.
        """
        del device  # nothing is computed of the slices before training
        edge_px, shape = _source_of(self.config).window_px, self.pairs.pixels.shape[-2:]
        if edge_px is not None and edge_px > min(shape):
            msg = (
                f"data.window_px must lie on the halves, which have {shape[0]} x {shape[1]} "
                f"pixels, got {edge_px}; lower it, or leave it out"
            )
            raise UserError(msg)
        validation = SlicePairsValidation(self.config, self.fold("validation"))
        drawn = DrawnSlicePairs(self.config, self.fold("train"))
        data = TrainingData(self.config, drawn, validation.batches)
        return TrainingSetup(self.config, data, validation, None, None)


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
