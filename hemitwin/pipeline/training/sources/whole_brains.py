"""Brains that belong together, twins or rescans: what training draws, what validation scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils.data import Dataset

from hemitwin.models import EncodedImages, Items, Reference, SiameseNetwork
from hemitwin.pipeline.cohort.brain_pairs import People, brain_pairs, write_brain_pairs
from hemitwin.pipeline.cohort.brains import Brain
from hemitwin.pipeline.cohort.demographics import Demographics
from hemitwin.pipeline.cohort.split import Fold, Split
from hemitwin.pipeline.stage.errors import UserError
from hemitwin.pipeline.statistics.bootstrap import Clusters
from hemitwin.pipeline.training.baselines import brain_baselines, brain_volumes
from hemitwin.pipeline.training.compared import BRAINS
from hemitwin.pipeline.training.config import RunConfig
from hemitwin.pipeline.training.data import Draw, EpochScores, Validation, mean_hinge
from hemitwin.pipeline.training.sources.brain_transforms import (
    IMAGE,
    brains_transforms,
    entries_of,
    seeds_of,
    tensor_of,
    transformed,
)
from hemitwin.pipeline.training.sources.pairs import TrainingBatch, join
from hemitwin.pipeline.training.task import channels_last

__all__ = [
    "DEVIATION_BASELINE",
    "BrainSets",
    "BrainsScores",
    "BrainsValidation",
    "IndexedPairs",
    "embed_brains",
    "pairs_of_fold",
    "score_brain_pairs",
    "score_embedded",
]

_SCANS_A_SET = 2
_PRIVATE_PAIRS = "validation_pairs.private.tsv"

DEVIATION_BASELINE = "deviation_unlikeness"
"""How unlike two brains' deviations from the training brains are: no network."""


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


class BrainsValidation(Validation):
    """Pairs of the validation fold's brains, each of which is embedded once.

    Parameters
    ----------
    brains : sequence of Brain
        The fold.
    pairs : DataFrame
        As `brain_pairs` gives them.
    demographics : Demographics
        Age and sex, where known.
    """

    def __init__(
        self, brains: Sequence[Brain], pairs: pd.DataFrame, demographics: Demographics
    ) -> None:
        self._brains = tuple(brains)
        self._pairs = pairs
        self._demographics = demographics

    @property
    def batches(self) -> Dataset[TrainingBatch]:
        """One brain a batch, numbered as in the fold."""
        return _SingleBrains(self._brains)

    def epoch_scores(self) -> EpochScores:
        """Embed brains as they come, and pair them at the end."""
        return BrainsScores(IndexedPairs.of(self._pairs, self._brains))

    def table(self, network: SiameseNetwork) -> pd.DataFrame:
        """See `score_brain_pairs`."""
        return score_brain_pairs(
            network,
            self._brains,
            embed_brains(network, self._brains),
            pairs=self._pairs,
            demographics=self._demographics,
        )

    def different(self, table: pd.DataFrame) -> Bool[np.ndarray, " n"]:
        """Tell which pairs are not of one set."""
        return (table["label"] == "different").to_numpy()

    def write(self, folder: Path, table: pd.DataFrame) -> None:
        """Write a private file: the table names relatives."""
        write_brain_pairs(folder / _PRIVATE_PAIRS, table)


class BrainsScores:
    """The embeddings of an epoch's brains.

    Parameters
    ----------
    pairs : IndexedPairs
        What they are paired to.
    """

    def __init__(self, pairs: IndexedPairs) -> None:
        self._pairs = pairs
        self._embedded: list[tuple[int, Tensor]] = []

    def add(self, network: SiameseNetwork, batch: TrainingBatch) -> None:
        """Embed one brain."""
        embedding: Tensor = network.embed(channels_last(batch.images)).float()
        self._embedded.append((int(batch.items.item[0]), embedding[0]))

    def finish(
        self, network: SiameseNetwork, margin: float
    ) -> tuple[Float[np.ndarray, " n"], Bool[np.ndarray, " n"], float]:
        """Give scores, labels, and the hinge over every two pairs."""
        embeddings = torch.stack([one for _, one in sorted(self._embedded, key=_number)])
        self._embedded.clear()
        scores = score_embedded(network, embeddings, self._pairs)["score"]
        different = self._pairs.different
        return scores, different, mean_hinge(scores, different, margin)


class BrainSets(Dataset[TrainingBatch]):
    """Two brains of each set that belongs together, changed at random, each in its own way.

    Parameters
    ----------
    config : RunConfig
        The run's settings.
    brains : sequence of Brain
        The training fold.
    pairs : DataFrame
        Those of it that belong together.
    families : mapping of str to str
        Group of each subject.

    Raises
    ------
    UserError
        There are fewer than two sets: nothing to tell apart.
    """

    def __init__(
        self,
        config: RunConfig,
        brains: Sequence[Brain],
        *,
        pairs: pd.DataFrame,
        families: Mapping[str, str],
    ) -> None:
        self._seed = config.seed
        self._brains = tuple(brains)
        self._sets = _sets_of(pairs, self._brains)
        if len(self._sets) < 2:
            msg = (
                f"the training fold must hold at least two sets that belong together, got "
                f"{len(self._sets)}; make it larger"
            )
            raise UserError(msg)
        groups = [families.get(brain.subject, brain.subject) for brain in self._brains]
        names = sorted(set(groups))
        self._kin = [names.index(group) for group in groups]
        self._transforms = brains_transforms(config)

    def __len__(self) -> int:
        """Count the sets."""
        return len(self._sets)

    def __getitem__(self, draws: list[Draw]) -> TrainingBatch:
        """Return two brains of each of these sets."""
        return join([self._set(*draw) for draw in draws])

    def _set(self, epoch: int, index: int) -> TrainingBatch:
        rng = np.random.default_rng([self._seed, epoch, index])
        members = self._sets[index]
        chosen = [members[k] for k in rng.permutation(len(members))[:_SCANS_A_SET]]
        images = []
        for member in chosen:
            brain = self._brains[member]
            (seed,) = seeds_of(self._seed, epoch, index, member, count=1)
            made = transformed(
                self._transforms, entries_of(brain), case=brain.case.name, seed=seed
            )
            images.append(tensor_of(made, IMAGE))
        group = torch.full((len(chosen),), index)
        kin = torch.tensor([self._kin[member] for member in chosen])
        items = Items(group, torch.tensor(chosen), kin, torch.zeros(len(chosen)).bool())
        return TrainingBatch(torch.stack(images), items)


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


class _SingleBrains(Dataset[TrainingBatch]):
    def __init__(self, brains: Sequence[Brain]) -> None:
        self._brains = brains

    def __len__(self) -> int:
        return len(self._brains)

    def __getitem__(self, index: int) -> TrainingBatch:
        number = torch.tensor([index])
        items = Items(number, number, number, torch.tensor([False]))
        return TrainingBatch(BRAINS.images(self._brains[index])[0][None], items)


def _number(embedded: tuple[int, Tensor]) -> int:
    return embedded[0]


def score_embedded(
    network: SiameseNetwork, embeddings: Tensor, pairs: IndexedPairs
) -> dict[str, np.ndarray]:
    """Score pairs of brains that have been embedded once each.

    Returns
    -------
    dict of str to (n,) float64
        ``distance``, and ``score``: the head's logit, or the distance again.
    """
    with torch.no_grad():
        one, other = (
            EncodedImages.of_embeddings(embeddings[rows]) for rows in (pairs.first, pairs.second)
        )
        output = network.head(one, other)
    return {
        "distance": output.distance.double().cpu().numpy(),
        "score": output.score.double().cpu().numpy(),
    }


def embed_brains(network: SiameseNetwork, brains: Sequence[Brain]) -> Tensor:
    """Embed each brain once, in float32.

    Returns
    -------
    (n, D) float32
        In the order of the brains, on the network's device.
    """
    with torch.inference_mode():
        return torch.cat([network.embed(_seen(network, brain)) for brain in brains])


def _seen(network: SiameseNetwork, brain: Brain) -> Tensor:
    return BRAINS.images(brain)[0][None].to(network.device)


def score_brain_pairs(
    network: SiameseNetwork,
    brains: Sequence[Brain],
    embeddings: Tensor,
    *,
    pairs: pd.DataFrame,
    demographics: Demographics,
) -> pd.DataFrame:
    """Add the network's scores and the baselines to a table of pairs.

    Parameters
    ----------
    network : SiameseNetwork
        In evaluation mode.
    brains : sequence of Brain
        All that the pairs name.
    embeddings : (n, D) float32
        What `embed_brains` makes of them.
    pairs : DataFrame
        As `brain_pairs` gives it.
    demographics : Demographics
        Age and sex, where known.

    Returns
    -------
    DataFrame
        The pairs with ``distance``, ``score`` where the head has a logit, with a reference
        ``deviation_unlikeness``, 1 less the correlation of both brains' deviations, and the
        columns of `brain_baselines`. It names relatives.
    """
    indexed = IndexedPairs.of(pairs, brains)
    scores = score_embedded(network, embeddings, indexed)
    kept = ("distance", "score") if network.head.gives_logit else ("distance",)
    columns = {name: scores[name] for name in kept}
    if network.reference is not None:
        columns[DEVIATION_BASELINE] = _unlikeness(network, network.reference, brains, indexed)
    volumes = {brain.case.name: brain_volumes(brain) for brain in brains}
    return pd.concat(
        [
            pairs,
            pd.DataFrame(columns, index=pairs.index),
            brain_baselines(pairs, volumes, demographics),
        ],
        axis=1,
    )


def _unlikeness(
    network: SiameseNetwork,
    reference: Reference,
    brains: Sequence[Brain],
    pairs: IndexedPairs,
) -> Float[np.ndarray, " n"]:
    with torch.inference_mode():
        images = (network.on_norms_grid(_seen(network, brain)) for brain in brains)
        rows = torch.cat([reference.profile(image) for image in images])
        likeness = [
            float(rows[k] @ rows[m]) for k, m in zip(pairs.first, pairs.second, strict=True)
        ]
    return 1.0 - np.array(likeness)
