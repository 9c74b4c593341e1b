"""Whether a map depends on what was learnt, on the image, and not on the side."""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass

import torch
from jaxtyping import Bool
from scipy.stats import spearmanr
from torch import Tensor, nn

from hemitwin._shapes import Batch
from hemitwin.interpret.attributions import ComparesPairs, PairMaps
from hemitwin.interpret.engine.ledger import known
from hemitwin.interpret.pair import inside_either

Explain = Callable[[ComparesPairs, Batch, Batch], PairMaps]
"""Gives the maps of a pair by a network."""

_ALIKE = 0.5
_SAME = 1e-3


@dataclass(frozen=True)
class Verdict:
    """
    Outcome of one check of a map.

    Attributes
    ----------
    check : str
        Its name.
    value : float
        What was found.
    limit : float
        What it must not exceed.
    meaning : str
        Of the value, in words.
    """

    check: str
    value: float
    limit: float
    meaning: str

    @property
    def passed(self) -> bool:
        """Whether the value is a number that does not exceed the limit."""
        return self.value <= self.limit

    def to_dict(self) -> dict[str, float | str | bool | None]:
        """Give all, for a sidecar; JSON has no word for what is not a number."""
        return {**asdict(self), "value": known(self.value), "passed": self.passed}


def check_swap(explain: Explain, model: ComparesPairs, left: Batch, right: Batch) -> Verdict:
    """
    Exchange the images: the maps must be exchanged, and nothing else.

    What a network knows of left and right, the norms of their difference, is exchanged with them.

    Parameters
    ----------
    explain : callable
        Model, left and right image to the maps of both.
    model : SiameseNetwork or alike
        In evaluation mode; it is not changed.
    left, right : (1, C, *spatial) float
        The pair.

    Returns
    -------
    Verdict
        Largest difference over the largest relevance.
    """
    there, back = explain(model, left, right), explain(model.exchanged(), right, left)
    return same_maps("swap", there, back[::-1], "of a map when the images are exchanged")


def same_maps(check: str, maps: Sequence[Tensor], others: Sequence[Tensor], when: str) -> Verdict:
    """
    Judge whether maps are the same.

    Parameters
    ----------
    check : str
        The verdict's name.
    maps, others : sequence of Tensor
        Held against one another, one by one.
    when : str
        What changes, and why it should not, in words.

    Returns
    -------
    Verdict
        Largest difference over the largest relevance.
    """
    largest = max(float(one.abs().max()) for one in maps)
    apart = max(float((one - two).abs().max()) for one, two in zip(maps, others, strict=True))
    value = apart / largest if largest else float("nan")
    return Verdict(check, value, _SAME, f"largest change {when}, over the largest relevance")


def check_permutation(
    explain: Explain,
    model: ComparesPairs,
    left: Batch,
    right: Batch,
    *,
    generator: torch.Generator,
) -> Verdict:
    """
    Shuffle the brain's voxels, explain, and put the relevance back in place.

    A map that is still as before shows which values the voxels have, and nothing that the network
    found in how they lie. Parameters as in `check_swap`; `generator` shuffles, both images alike.

    Returns
    -------
    Verdict
        Spearman's correlation with the map itself, over the brain.
    """
    inside = inside_either(left, right)
    original = _values(explain(model, left, right), inside)
    voxels = torch.where(inside.flatten())[0]
    order = voxels[torch.randperm(len(voxels), generator=generator)]
    shuffled = []
    for image in (left, right):
        flat = image.flatten(2).clone()
        flat[:, :, voxels] = image.flatten(2)[:, :, order]
        shuffled.append(flat.view_as(image))
    back = []
    for side in explain(model, *shuffled):
        flat = torch.zeros_like(side.flatten(2))
        flat[:, :, order] = side.flatten(2)[:, :, voxels]
        back.append(flat.view_as(side))
    value = _correlation(original, _values((back[0], back[1]), inside))
    meaning = "rank correlation of the map with that of the shuffled images, put back in place"
    return Verdict("input permutation", value, _ALIKE, meaning)


def check_randomisation(
    explain: Explain,
    model: ComparesPairs,
    left: Batch,
    right: Batch,
    *,
    generator: torch.Generator,
    depths: int = 4,
) -> tuple[Verdict, dict[str, float]]:
    """
    Replace what was learnt by chance, from the last layer downwards, and compare the maps.

    Adebayo et al. 2018, arXiv:1810.03292. Each tensor of weights is drawn anew with its own mean
    and SD. Parameters as in `check_swap`.

    Parameters
    ----------
    explain, model, left, right
        As in `check_swap`.
    generator : torch.Generator
        Draws the weights.
    depths : int
        In how many steps all layers are replaced.

    Returns
    -------
    Verdict
        Spearman's correlation of the map itself with that of the wholly random network.
    dict of str to float
        The correlation after each step, by the name of the last layer that was replaced.
    """
    inside = inside_either(left, right)
    original = _values(explain(model, left, right), inside)
    steps = {
        name: _correlation(original, _values(explain(changed, left, right), inside))
        for name, changed in _randomise(model, generator, depths)
    }
    meaning = "rank correlation of the map with that of the same network with random weights"
    return Verdict("parameter randomisation", list(steps.values())[-1], _ALIKE, meaning), steps


def _randomise(
    model: ComparesPairs, generator: torch.Generator, depths: int
) -> Iterator[tuple[str, ComparesPairs]]:
    if not isinstance(model, nn.Module):
        msg = f"the model must be an nn.Module for its weights to be drawn anew; got {type(model)}"
        raise TypeError(msg)
    changed = copy.deepcopy(model)
    layers = [
        (name, layer)
        for name, layer in changed.named_modules()
        if any(True for _ in layer.parameters(recurse=False))
    ]
    # The head is registered after the encoder, and layers in the order in which they run.
    layers.reverse()
    # At least one layer a step, also where there are more steps than layers.
    ends = sorted({max(1, round((step + 1) * len(layers) / depths)) for step in range(depths)})
    begin = 0
    for end in ends:
        for _, layer in layers[begin:end]:
            for weights in layer.parameters(recurse=False):
                _draw(weights, generator)
        yield layers[end - 1][0], changed
        begin = end


@torch.no_grad()
def _draw(weights: nn.Parameter, generator: torch.Generator) -> None:
    noise = torch.randn(weights.shape, generator=generator).to(weights)
    spread = weights.std(correction=0) if weights.numel() > 1 else weights.abs()
    weights.copy_(weights.mean() + spread * noise)


def _values(maps: PairMaps, inside: Bool[Tensor, " *spatial"]) -> Tensor:
    return torch.cat([side[0].sum(dim=0)[inside] for side in maps]).double().cpu()


def _correlation(original: Tensor, other: Tensor) -> float:
    """Correlate ranks: not a number where the map itself is constant, which no check may pass."""
    if len(original.unique()) < 2:
        return float("nan")
    if len(other.unique()) < 2:
        return 0.0
    return float(spearmanr(original.numpy(), other.numpy()).statistic)
