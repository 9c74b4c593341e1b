"""Norms for the very brains that they are made of: each sees those of the others."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hemitwin._shapes import Volume
from hemitwin.models import (
    NormativeAsymmetry,
    Reference,
    SiameseNetwork,
    coarse_inside,
)
from hemitwin.pipeline.cohort.brains import Brain
from hemitwin.pipeline.training.compared import HALVES
from hemitwin.pipeline.training.config import RunConfig
from hemitwin.pipeline.training.sources.pairs import TrainingBatch

__all__ = ["NO_NORMS", "Norms", "TrainingNorms", "norm_images", "training_channels"]

_PARTS = 5
_LEAST = 3
"""Subjects, so that norms are of two at least where one is left out."""


@dataclass(frozen=True, eq=False)
class Norms:
    """What is known of brains without lesions.

    Parameters
    ----------
    reference : Reference or None
        Of images, where the network sees each one's deviation.
    normative : NormativeAsymmetry or None
        Of pairs of halves.
    """

    reference: Reference | None
    normative: NormativeAsymmetry | None

    def to(self, device: torch.device) -> "Norms":
        """Return them on another device."""
        return Norms(
            None if self.reference is None else self.reference.to(device),
            None if self.normative is None else self.normative.to(device),
        )


@dataclass(frozen=True, eq=False)
class TrainingNorms:
    """Norms of the training fold, and those by which its own brains are seen in training.

    A brain looks too normal against a mean and an SD that it is part of, and an injected lesion
    does not: a network trained so would take new brains for lesioned ones.

    Parameters
    ----------
    whole : Norms
        Of the whole fold; they travel with the network.
    parts : sequence of Norms
        Each of the brains of all parts but one; none where they take no part in what is seen.
    part_of : (n,) int, optional
        The part that each training brain is left out with.
    """

    whole: Norms
    parts: Sequence[Norms] = ()
    part_of: Int[Tensor, " n"] | None = None

    @classmethod
    def fit(
        cls, config: RunConfig, images: Iterable[tuple[Volume, ...]], subjects: Sequence[str]
    ) -> "TrainingNorms":
        """Take them; all scans of a subject are left out together, where there are enough.

        Parameters
        ----------
        config : RunConfig
            Says which norms there are to be.
        images : iterable of tuple of (1, *grid) float
            Of `norm_images`: the training fold's, in the order of its numbers. Those of halves
            are kept until the norms are made.
        subjects : sequence of str
            Whose they are.
        """
        if config.compared is not HALVES:
            return cls(_fit(config, images))
        groups = list(images)
        whole = _fit(config, groups)
        names = sorted(set(subjects))
        if len(names) < _LEAST or not (config.volumes.reference or config.input.difference):
            return cls(whole)
        count = min(_PARTS, len(names))
        places = [names.index(subject) % count for subject in subjects]
        parts = [
            _fit(config, [own for own, k in zip(groups, places, strict=True) if k != part])
            for part in range(count)
        ]
        return cls(whole, parts, torch.tensor(places))


NO_NORMS = TrainingNorms(Norms(None, None))
"""Where nothing of other people is known."""


def norm_images(
    config: RunConfig, brains: Sequence[Brain], device: torch.device
) -> Iterator[tuple[Volume, ...]]:
    """Give what norms are made of: each brain's images, unchanged, on the encoder's grid."""
    for brain in brains:
        images = torch.stack(config.compared.images(brain)).to(device)
        yield tuple(coarse_inside(images, config.input.packing))


def _fit(config: RunConfig, images: Iterable[tuple[Volume, ...]]) -> Norms:
    voxel_mm = config.volumes.resolution_mm * config.input.packing
    groups, normative = images, None
    if config.compared is HALVES:
        groups = list(images)
        pairs = ((left, right) for left, right in groups)
        normative = NormativeAsymmetry.fit(pairs, voxel_mm=voxel_mm)
    if not config.volumes.reference:
        return Norms(None, normative)
    smooth_voxels = config.volumes.reference_mm / voxel_mm
    each = (image for group in groups for image in group)
    return Norms(Reference.fit(each, smooth_voxels=smooth_voxels), normative)


def training_channels(
    network: SiameseNetwork, batch: TrainingBatch, norms: TrainingNorms
) -> Float[Tensor, "batch seen *grid"]:
    """Return what the encoder is given of a batch, each brain's by norms that it is no part of.

    Parameters
    ----------
    network : SiameseNetwork
        Says which channels there are.
    batch : TrainingBatch
        Of pairs, where what is seen of an image depends on the other one.
    norms : TrainingNorms
        Where they have no parts the network's own norms are used.
    """
    count = len(batch.images) // 2 if batch.paired else len(batch.images)
    groups = batch.items.group[:count].cpu()
    parts = torch.zeros_like(groups) if norms.part_of is None else norms.part_of[groups]
    sides: list[list[Tensor]] = [[], []]
    for part, rows in _runs(parts):
        seen = network.seen
        if norms.part_of is not None:
            own = norms.parts[part].to(batch.images.device)
            seen = replace(seen, reference=own.reference, normative=own.normative)
        if not batch.paired:
            sides[0].append(seen.of_images(batch.images[rows]))
            continue
        right = slice(rows.start + count, rows.stop + count)
        found = seen.of_pair(batch.images[rows], batch.images[right])
        for side, one in zip(sides, found.chunk(2), strict=True):
            side.append(one)
    return torch.cat([*sides[0], *sides[1]])


def _runs(parts: Int[Tensor, " n"]) -> Iterator[tuple[int, slice]]:
    """Give each run of one value, with its rows."""
    values, counts = parts.unique_consecutive(return_counts=True)
    start = 0
    for value, count in zip(values.tolist(), counts.tolist(), strict=True):
        yield value, slice(start, start + count)
        start += count
