"""Whether the regions that a map names are those that the score depends on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from captum.attr import FeatureAblation
from jaxtyping import Float, Int
from scipy.stats import spearmanr
from torch import Tensor

from hemitwin._shapes import Batch
from hemitwin.interpret.attributions import ComparesPairs
from hemitwin.interpret.pair import PairScore, check_grid, check_pair

RegionValues = Float[np.ndarray, " regions"]


@dataclass(frozen=True, eq=False)
class RegionEffects:
    """
    How a pair's score changes when regions stop to differ.

    A region is taken out by giving both images the mean of the two in it: a virtual lesion of the
    difference, which leaves two plausible images.

    Parameters
    ----------
    model : SiameseNetwork or alike
        In evaluation mode; it is not changed.
    left, right : (1, C, *spatial) float
        The pair.
    labels : (*spatial) int
        Regions of both, which lie on each other.
    regions : (P,) int
        Values of the labels.
    score : callable
        Picks a (B,) tensor out of the `PairOutput` of B pairs.
    batch_pairs : int
        Changed pairs that go through the network together.
    """

    model: ComparesPairs
    left: Batch
    right: Tensor
    labels: Int[Tensor, " ..."]
    regions: Int[np.ndarray, " regions"]
    score: PairScore
    batch_pairs: int = 8

    def __post_init__(self) -> None:
        """Refuse what is not one pair with its regions."""
        check_pair(self.left, self.right)
        check_grid("labels", tuple(self.labels.shape), self.left)

    @torch.no_grad()
    def ablate(self) -> RegionValues:
        """
        Return by how much the score falls when each region alone is taken out.

        Returns
        -------
        (P,) float64
            Captum's feature ablation, of the difference of the images.
        """
        inside = [self.labels == int(value) for value in self.regions]
        mask = torch.zeros_like(self.labels, dtype=torch.int64)
        for number, region in enumerate(inside, start=1):
            mask[region] = number
        falls = FeatureAblation(self._of_difference).attribute(
            self._difference,
            feature_mask=mask[None, None],
            perturbations_per_eval=self.batch_pairs,
        )
        values = falls[0, 0].double()
        return np.array([float(values[region][0]) if region.any() else 0.0 for region in inside])

    def delete(self, order: Sequence[int]) -> RegionValues:
        """
        Take regions out one after the other.

        Parameters
        ----------
        order : sequence of int
            Rows of `regions`, the first to go first.

        Returns
        -------
        (len(order) + 1,) float64
            Score before, and after each.
        """
        return self._walk(order, keep=False)

    def insert(self, order: Sequence[int]) -> RegionValues:
        """
        Put regions back one after the other, into a pair that is equal everywhere else.

        Parameters and return value as in `delete`.
        """
        return self._walk(order, keep=True)

    @torch.no_grad()
    def span(self) -> tuple[float, float]:
        """Return the scores of the pair and of two images that are equal everywhere."""
        whole = self._of_difference(self._difference)
        equal = self._of_difference(torch.zeros_like(self._difference))
        return float(whole), float(equal)

    @property
    def _difference(self) -> Tensor:
        return (self.left - self.right) / 2

    def _of_difference(self, difference: Tensor) -> Tensor:
        mean = (self.left + self.right) / 2
        return self.score(self.model(mean + difference, mean - difference))

    @torch.no_grad()
    def _walk(self, order: Sequence[int], *, keep: bool) -> RegionValues:
        inside = torch.zeros_like(self.labels, dtype=torch.bool)
        scores, states = [], [inside]
        for row in order:
            inside = inside | (self.labels == int(self.regions[row]))
            states.append(inside)
            if len(states) == self.batch_pairs:
                scores.append(self._of_states(states, keep=keep))
                states = []
        if states:
            scores.append(self._of_states(states, keep=keep))
        return np.concatenate(scores)

    def _of_states(self, states: Sequence[Tensor], *, keep: bool) -> RegionValues:
        """Score the pair with the difference in these voxels alone, or without it."""
        chosen = torch.stack(tuple(states))[:, None]
        weights = (chosen if keep else ~chosen).to(self.left)
        scores = self._of_difference(weights * self._difference)
        return np.asarray(scores.double().cpu().numpy())


def mean_height(curve: RegionValues, whole: float, equal: float) -> float:
    """
    Return the mean height of a curve of scores between two others.

    Parameters
    ----------
    curve : (n,) float
        Of `RegionEffects.delete` (the lower, the earlier the right regions went) or
        `RegionEffects.insert` (the higher, the better).
    whole, equal : float
        Scores of the pair and of two equal images: heights 1 and 0. A curve may leave them, where
        regions speak against one another.

    Returns
    -------
    float
        Not a number where both scores are the same.

    Examples
    --------
    >>> mean_height(np.array([4.0, 2.0, 0.0]), whole=4.0, equal=0.0)
    0.5
    """
    if whole == equal:
        return float("nan")
    return float(((curve - equal) / (whole - equal)).mean())


def rank_agreement(relevance: RegionValues, effects: RegionValues) -> float:
    """
    Return Spearman's correlation of the regions' relevance and their effect on the score.

    Parameters
    ----------
    relevance, effects : (P,) float
        Sums by region, and `RegionEffects.ablate`.

    Returns
    -------
    float
        -1 to 1; not a number where one of them is constant.

    Examples
    --------
    >>> rank_agreement(np.array([1.0, 2.0, 3.0]), np.array([0.0, 5.0, 6.0]))
    1.0
    """
    if np.ptp(relevance) == 0 or np.ptp(effects) == 0:
        return float("nan")
    return float(spearmanr(relevance, effects).statistic)
