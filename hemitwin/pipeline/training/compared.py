"""What a run compares: the two halves of each brain, or one whole brain with another."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hemitwin._shapes import Volume
from hemitwin.models import Items, Negatives, Relations, relate_brains, relate_halves
from hemitwin.pipeline.cohort.brains import Brain, load_brain
from hemitwin.pipeline.stage.bids import Case, Pairing
from hemitwin.transforms import HemispherePair, rejoin, split_hemispheres, standardise

__all__ = ["BRAINS", "HALVES", "Compared", "split_brain"]


class Compared(ABC):
    """What a network is shown of a brain, and where what is said of it belongs.

    There are two of them, `HALVES` and `BRAINS`; ``config.compared`` is a run's.
    """

    pairing: ClassVar[Pairing]
    word: ClassVar[str]
    """What the images of a pair are called."""
    images_per_brain: ClassVar[int]

    def load(self, case: Case, resolution_mm: float) -> Brain:
        """Load a prepared volume at the network's grid; see `load_brain`."""
        return load_brain(case, resolution_mm, pairing=self.pairing)

    @abstractmethod
    def images(self, brain: Brain) -> tuple[Volume, ...]:
        """Return what the network sees of a brain, in standard units.

        Returns
        -------
        tuple of (1, *spatial) float32
            Both halves, the right one mirrored onto the left, or the brain.
        """

    @abstractmethod
    def join(self, brain: Brain, maps: Sequence[Float[Tensor, " 1 *image"]]) -> Volume:
        """Lay maps of a brain's images where they belong; the mid-line has none.

        Parameters
        ----------
        brain : Brain
            Whose images they are of.
        maps : sequence of (1, *spatial) float
            One for each of `images`.

        Returns
        -------
        (1, X, Y, Z) float
            On the brain's grid.
        """

    @abstractmethod
    def labels(self, labels: Int[Tensor, " x y z"]) -> Int[Tensor, " *image"]:
        """Return what labels of a brain's grid are on the grid of its first image."""

    @abstractmethod
    def relate(self, anchors: Items, others: Items, negatives: Negatives) -> Relations:
        """Tell which images belong together and which apart."""


class _Halves(Compared):
    pairing = "hemispheres"
    word = "halves"
    images_per_brain = 2

    def images(self, brain: Brain) -> tuple[Volume, ...]:
        pair = split_brain(brain, brain.volume)
        return pair.left, pair.right

    def join(self, brain: Brain, maps: Sequence[Float[Tensor, " 1 *image"]]) -> Volume:
        left, right = maps
        places = split_hemispheres(brain.volume, brain.affine)
        midline = None if places.midline is None else torch.zeros_like(places.midline)
        return rejoin(
            HemispherePair(left, right, midline, places.left_affine, places.right_affine)
        )

    def labels(self, labels: Int[Tensor, " x y z"]) -> Int[Tensor, " *image"]:
        return labels[: len(labels) // 2]

    def relate(self, anchors: Items, others: Items, negatives: Negatives) -> Relations:
        return relate_halves(anchors, others, negatives)


class _Brains(Compared):
    pairing = "brains"
    word = "brains"
    images_per_brain = 1

    def images(self, brain: Brain) -> tuple[Volume, ...]:
        return (standardise(brain.volume, brain.mask),)

    def join(self, brain: Brain, maps: Sequence[Float[Tensor, " 1 *image"]]) -> Volume:
        del brain  # its one map lies on its grid
        (whole,) = maps
        return whole

    def labels(self, labels: Int[Tensor, " x y z"]) -> Int[Tensor, " *image"]:
        return labels

    def relate(self, anchors: Items, others: Items, negatives: Negatives) -> Relations:
        return relate_brains(anchors, others, negatives)


HALVES: Compared = _Halves()
"""The two hemispheres of one brain."""

BRAINS: Compared = _Brains()
"""One brain with another: twins, siblings, two sessions."""


def split_brain(brain: Brain, volume: Volume) -> HemispherePair:
    """Bring a volume of this brain to standard units and split it: what the network sees."""
    return split_hemispheres(standardise(volume, brain.mask), brain.affine)
