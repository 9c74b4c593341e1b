"""Halves of slices as they are and with a shape in one of them, scored: validation and test."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, UInt8

from hemitwin.models import SiameseNetwork
from hemitwin.pipeline.images.slice_detectors import flat_patch, mirror_peak
from hemitwin.pipeline.images.slice_pairs import PairSet, SlicePairsConfig
from hemitwin.pipeline.training.config import RunConfig
from hemitwin.pipeline.training.sources.halves import PairBatch
from hemitwin.transforms import ShapeConfig, draw_shape, sample_shape, standardise_pixels

__all__ = [
    "ScoredSlice",
    "batch_of",
    "draw_into_half",
    "score_slice_pairs",
    "scored_slices",
    "slices_config",
]

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
    source = slices_config(config)
    count = len(source.tested_mm2) if areas is None else areas
    for row, name in enumerate(pairs.table["name"]):
        rng = np.random.default_rng([seed, *str(name).encode()])
        halves = pairs.pixels[row]
        found = []
        for k in range(count):
            area = source.tested_mm2[(row * count + k) % len(source.tested_mm2)]
            side = int(rng.integers(2))
            drawn = draw_into_half(halves[side], source, pairs.pixel_mm, area, rng)
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
        head has a logit, and of what learns nothing `mirror_peak` and `flat_patch`.
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
                    "mirror_peak": mirror_peak(pair.pixels),
                    "flat_patch": flat_patch(pair.pixels),
                }
            )
    return pd.DataFrame(rows)


def batch_of(pairs: Sequence[ScoredSlice]) -> PairBatch:
    """Stack pairs into one batch."""
    left, right = (
        standardise_pixels(np.stack([pair.pixels[k] for pair in pairs])[:, None]) for k in (0, 1)
    )
    return PairBatch(
        left,
        right,
        torch.tensor([pair.lesioned for pair in pairs]),
        tuple(str(pair.row) for pair in pairs),
    )


def draw_into_half(
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


def slices_config(config: RunConfig) -> SlicePairsConfig:
    """Return what a run on halves of slices says of them."""
    if config.slice_pairs is None:
        msg = "the configuration must be one of halves of slices; got another"
        raise TypeError(msg)
    return config.slice_pairs
