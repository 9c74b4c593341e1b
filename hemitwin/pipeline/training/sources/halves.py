"""Halves of brains with injected lesions: what training draws, and what validation scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch.utils.data import Dataset

from hemitwin._shapes import Batch
from hemitwin.atlases import save_table
from hemitwin.models import Items, SiameseNetwork
from hemitwin.pipeline.cohort.brains import Brain
from hemitwin.pipeline.cohort.split import Fold, Split
from hemitwin.pipeline.training.baselines import hemisphere_baselines
from hemitwin.pipeline.training.config import RunConfig
from hemitwin.pipeline.training.data import Draw, EpochScores, Validation
from hemitwin.pipeline.training.sources.brain_transforms import (
    IMAGE,
    LESIONS,
    Entries,
    entries_of,
    halves_transforms,
    seeds_of,
    tensor_of,
    transformed,
)
from hemitwin.pipeline.training.sources.pairs import (
    LesionSource,
    ScoredPair,
    TrainingBatch,
    draw_lesions,
    join,
    mirror_difference,
    pairs_of,
)
from hemitwin.pipeline.training.task import channels_last
from hemitwin.transforms import SIDES, LesionSpec

__all__ = [
    "VALIDATION_PAIRS",
    "HalvesScores",
    "HalvesValidation",
    "LesionedHalves",
    "PairBatch",
    "ValidationPairs",
    "score_pairs",
    "validation_pairs",
]

VALIDATION_PAIRS = "validation_pairs.tsv"
"""Scored pairs of validation in the run folder."""

_KEPT_SUBJECTS = 64
_NAMES = ("left", "right")


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


class LesionedHalves(Dataset[TrainingBatch]):
    """Subjects with lesions, and other random changes, that are drawn anew in each epoch.

    What is done with a brain is `halves_transforms`; a draw is decided by the run's seed, the
    epoch and the subject's number. Of each subject there is a pair of halves without a lesion,
    and as many pairs with lesions as `training.lesions_per_side` says whose first is on the left,
    and as many on the right first. Networks that see pairs, and those that learn from several
    lesions or from controls and shams, are shown the whole pairs; others each lesioned half.

    Parameters
    ----------
    config : RunConfig
        The run's settings.
    brains : sequence of Brain
        The training fold.
    source : LesionSource
        Where lesions come from.
    """

    def __init__(self, config: RunConfig, brains: Sequence[Brain], source: LesionSource) -> None:
        training = config.training
        self._seed = config.seed
        self._brains = brains
        self._transforms = halves_transforms(config, source)
        self._sides = SIDES * training.lesions_per_side
        needed = config.input.needs_pairs or set(source.config.roles) != {"lesion"}
        self._paired = training.lesions_per_pair > 1 or needed

    def __len__(self) -> int:
        """Count the subjects."""
        return len(self._brains)

    def __getitem__(self, draws: list[Draw]) -> TrainingBatch:
        """Return the halves of these subjects, healthy and lesioned."""
        return join([self._subject(*draw) for draw in draws])

    def _subject(self, epoch: int, index: int) -> TrainingBatch:
        brain, steps = self._brains[index], self._transforms
        first, *others = seeds_of(self._seed, epoch, index, count=1 + len(self._sides))
        case = brain.case.name
        changed = transformed(steps.augmentation, entries_of(brain), case=case, seed=first)
        pairs = [transformed(steps.healthy, changed, case=case)]
        for side, seed in zip(self._sides, others, strict=True):
            pairs.append(transformed(steps.lesioned[side], changed, case=case, seed=seed))
        return _whole_pairs(pairs, index) if self._paired else _halves(pairs, index)


def _halves(pairs: Sequence[Entries], number: int) -> TrainingBatch:
    """Show each half with lesions alone: left, right, then the lesioned left and right in turn."""
    shown = [(pairs[0], "left"), (pairs[0], "right")]
    shown += [(pair, _NAMES[k % 2]) for k, pair in enumerate(pairs[1:])]
    return _batch(shown, number, paired=False)


def _whole_pairs(pairs: Sequence[Entries], number: int) -> TrainingBatch:
    """Show pairs, to networks that see what differs: all left halves, then all right ones.

    A control or a sham (`lesions.roles`) is no lesion: neither map nor pair is to show it.
    """
    return _batch([(pair, name) for name in _NAMES for pair in pairs], number, paired=True)


def _batch(shown: Sequence[tuple[Entries, str]], number: int, *, paired: bool) -> TrainingBatch:
    images = torch.stack([tensor_of(pair, f"{IMAGE}_{name}") for pair, name in shown])
    lesions = torch.zeros(len(images), *images.shape[2:], dtype=torch.uint8)
    for labels, (pair, name) in zip(lesions, shown, strict=True):
        if f"{LESIONS}_{name}" in pair:
            labels[:] = tensor_of(pair, f"{LESIONS}_{name}")[0]
    sides = torch.tensor([_NAMES.index(name) for _, name in shown])
    subjects = torch.full((len(shown),), number)
    items = Items(subjects, sides, subjects, (lesions > 0).flatten(1).any(dim=1))
    return TrainingBatch(images, items, lesions, paired)


class HalvesValidation(Validation):
    """Each validation subject's healthy pair and its lesioned ones.

    Parameters
    ----------
    pairs : sequence of sequences of ScoredPair
        One inner sequence a subject; it is one batch.
    split : Split
        The folds, which are held against the pairs.
    """

    def __init__(self, pairs: Sequence[Sequence[ScoredPair]], split: Split) -> None:
        self._pairs = pairs
        self._split = split

    @property
    def batches(self) -> Dataset[PairBatch]:
        """All pairs of a subject at once."""
        return _PairsBySubject(self._pairs)

    def epoch_scores(self) -> EpochScores:
        """Score pairs as they come."""
        return HalvesScores()

    def table(self, network: SiameseNetwork) -> pd.DataFrame:
        """See `score_pairs`."""
        return score_pairs(network, self._pairs, split=self._split, fold="validation")

    def different(self, table: pd.DataFrame) -> Bool[np.ndarray, " n"]:
        """Tell which pairs have a lesion."""
        return table["lesioned"].to_numpy(bool)

    def write(self, folder: Path, table: pd.DataFrame) -> Path:
        """Write `VALIDATION_PAIRS`."""
        save_table(folder / VALIDATION_PAIRS, table)
        return folder / VALIDATION_PAIRS


class HalvesScores:
    """The scores of an epoch's pairs, each with its label and subject."""

    def __init__(self) -> None:
        self._scores: list[tuple[torch.Tensor, PairBatch]] = []

    def add(self, network: SiameseNetwork, batch: PairBatch) -> None:
        """Score a subject's pairs."""
        output = network(channels_last(batch.left), channels_last(batch.right))
        self._scores.append((output.score.float().cpu(), batch))

    def finish(
        self, network: SiameseNetwork, margin: float
    ) -> tuple[Float[np.ndarray, " n"], Bool[np.ndarray, " n"], float]:
        """Give scores, labels, and the hinge within each subject."""
        del network  # it has said all
        scores = torch.cat([score for score, _ in self._scores]).numpy()
        lesioned = torch.cat([batch.lesioned.cpu() for _, batch in self._scores]).numpy()
        subjects = [name for _, batch in self._scores for name in batch.subjects]
        self._scores.clear()
        return scores, lesioned, _paired_hinge(scores, lesioned, subjects, margin)


def validation_pairs(
    config: RunConfig, brains: Sequence[Brain], source: LesionSource
) -> "ValidationPairs":
    """Draw the validation subjects' lesions, and make their pairs when they are asked for.

    Parameters
    ----------
    config : RunConfig
        Says how many lesions a subject gets; its seed decides which.
    brains : sequence of Brain
        Of the validation fold.
    source : LesionSource
        Where lesions come from.
    """
    specs = draw_lesions(
        brains,
        source,
        per_subject=config.evaluation.lesions_per_subject,
        seed=config.evaluation_seed + 1,
    )
    return ValidationPairs(brains, specs, source)


class ValidationPairs(Sequence[tuple[ScoredPair, ...]]):
    """Each subject's pairs, with lesions that were drawn once.

    The pairs of the first subjects are kept, those of the others are made again at each use: they
    take several times the memory of the brains, which are mapped from disk.

    Parameters
    ----------
    brains : sequence of Brain
        Of the validation fold.
    specs : mapping of str to sequence of LesionSpec
        By case.
    source : LesionSource
        Where lesions come from.
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
        """Count the subjects."""
        return len(self._brains)

    @overload
    def __getitem__(self, index: int) -> tuple[ScoredPair, ...]: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[tuple[ScoredPair, ...], ...]: ...
    def __getitem__(
        self, index: int | slice
    ) -> tuple[ScoredPair, ...] | tuple[tuple[ScoredPair, ...], ...]:
        """Return one subject's pairs: its healthy one first, then one for each lesion."""
        if isinstance(index, slice):
            return tuple(self[one] for one in range(len(self))[index])
        if index in self._kept:
            return self._kept[index]
        brain = self._brains[index]
        pairs = pairs_of(brain, self._specs[brain.case.name], self._source)
        if len(self._kept) < _KEPT_SUBJECTS:
            self._kept[index] = pairs
        return pairs


class _PairsBySubject(Dataset[PairBatch]):
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


def score_pairs(
    network: SiameseNetwork,
    pairs: Sequence[Sequence[ScoredPair]],
    *,
    split: Split,
    fold: Fold,
) -> pd.DataFrame:
    """Score pairs in float32, of one fold only.

    Parameters
    ----------
    network : SiameseNetwork
        In evaluation mode.
    pairs : sequence of sequences of ScoredPair
        One inner sequence a subject; it is one batch.
    split : Split
        The folds that the network was trained with.
    fold : Fold
        Where every pair must come from.

    Returns
    -------
    DataFrame
        One row a pair: subject, lesioned, role, side, volume_mm3, contrast and its unit
        (contrast_from), distance, `score` where the head has a logit, where it has maps the side
        and place where they are highest (map_side, map_inside), and what needs no network:
        the voxel-wise mirror difference (mirror_mean, mirror_peak; with a reference
        mirror_deviation, see `Reference.asymmetry`), normative_asymmetry (see
        `NormativeAsymmetry.score`) and the halves' volumes (half_volume, half_tissue_volumes).

    Raises
    ------
    UserError
        A subject lies in another fold, or in none.
    """
    split.require([pair.subject for group in pairs for pair in group], fold)
    rows = []
    for group in pairs:
        batch = batch_of(group).to(network.device)
        with torch.inference_mode():
            output = network(batch.left, batch.right)
        known = _against_norms(network, batch)
        places = [None] * len(group) if output.anomaly is None else output.anomaly.cpu()
        for k, (pair, distance, score) in enumerate(
            zip(group, output.distance, output.score, strict=True)
        ):
            plain = mirror_difference(pair.left, pair.right)
            rows.append(
                {
                    "subject": pair.subject,
                    "lesioned": pair.lesioned,
                    "role": pair.role,
                    "side": pair.spec.side if pair.spec else None,
                    "volume_mm3": pair.spec.volume_mm3 if pair.spec else 0.0,
                    "contrast": getattr(pair.spec, "contrast", 0.0),
                    "contrast_from": getattr(pair.spec, "contrast_from", None),
                    "distance": float(distance),
                    **({} if output.logit is None else {"score": float(score)}),
                    "mirror_mean": plain["mean"],
                    "mirror_peak": plain["peak"],
                    **{name: float(values[k]) for name, values in known.items()},
                    **_place(pair, places[k]),
                    **hemisphere_baselines(pair),
                }
            )
    return pd.DataFrame(rows)


def _place(
    pair: ScoredPair, anomaly: Float[torch.Tensor, "2 h y z"] | None
) -> dict[str, float | str | None]:
    """Tell where a decoder's maps are highest: on which side, and whether in the lesion."""
    if anomaly is None:
        return {}
    side, *place = np.unravel_index(int(anomaly.argmax()), tuple(anomaly.shape))
    asked = pair.changed is not None and pair.lesioned and bool(pair.changed.any())
    inside = float(pair.changed[tuple(place)]) if asked and pair.changed is not None else None
    return {"map_inside": inside, "map_side": "LR"[side] if asked else None}


def _against_norms(network: SiameseNetwork, batch: PairBatch) -> dict[str, torch.Tensor]:
    """Score pairs by the norms that travel with the network, as far as it has some."""
    left, right = (network.on_norms_grid(half) for half in (batch.left, batch.right))
    scores = {}
    if network.reference is not None:
        scores["mirror_deviation"] = network.reference.asymmetry(left, right)
    if network.normative is not None:  # a run of before there were norms has none
        scores["normative_asymmetry"] = network.normative.score(left, right)
    return scores


def _paired_hinge(
    scores: np.ndarray, labels: np.ndarray, subjects: list[str], margin: float
) -> float:
    """Hold each lesioned pair against its own subject's healthy one."""
    own = {name: scores[k] for k, name in enumerate(subjects) if not labels[k]}
    gaps = np.array([scores[k] - own[name] for k, name in enumerate(subjects) if labels[k]])
    return float(np.maximum(0.0, margin - gaps).mean())
