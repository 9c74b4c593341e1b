"""One interface to every way of saying why a pair's score is what it is."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal, Protocol, cast, runtime_checkable

import torch
from captum.attr import (
    FeatureAblation,
    InputXGradient,
    IntegratedGradients,
    LayerAttribution,
    LayerGradCam,
    Occlusion,
)
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn

from hemitwin._frozen import Frozen
from hemitwin._names import Method
from hemitwin._shapes import Batch
from hemitwin.interpret.engine.config import LrpConfig
from hemitwin.interpret.engine.forward_pass import check_evaluation
from hemitwin.interpret.engine.ledger import Ledger
from hemitwin.interpret.pair import (
    HasEncoder,
    PairScore,
    check_grid,
    check_pair,
    explain_embedding,
    explain_score,
    inside_either,
    on_images,
)
from hemitwin.models import PairOutput

PairMaps = tuple[Tensor, Tensor]
"""Attribution of the left and of the right image, (1, C, *spatial) each."""

Score = Callable[[Tensor, Tensor], Tensor]
"""From B left and right images to the score of each pair, (B,)."""


@runtime_checkable
class ComparesPairs(HasEncoder, Protocol):
    """A Siamese network that can be called."""

    def __call__(self, left: Batch, right: Batch, /) -> PairOutput:
        """Compare two batches, pair by pair."""
        ...

    def exchanged(self) -> "ComparesPairs":
        """Return what treats a right image as this does a left one."""
        ...


class AttributionConfig(Frozen):
    """
    Which attribution, and how fine.

    Examples
    --------
    >>> AttributionConfig(method="occlusion").window_voxels
    4
    """

    method: Method = Field(default="lrp", description="How the score is shared out.")
    lrp: LrpConfig = Field(default=LrpConfig(), description="lrp: its rules.")
    baseline: Literal["pair", "zero"] = Field(
        default="pair",
        description="What counts as nothing to see. pair: for occlusion and ablation the other "
        "image's values in the same place, for integrated gradients the mean of both; zero: 0.",
    )
    steps: int = Field(default=32, ge=2, description="integrated_gradients: points of the path.")
    window_voxels: int = Field(default=4, ge=1, description="occlusion: edge of the window.")
    stride_voxels: int = Field(default=2, ge=1, description="occlusion: from window to window.")
    batch_pairs: int = Field(
        default=8, ge=1, description="Changed pairs that go through the network together."
    )

    @model_validator(mode="after")
    def _windows_leave_no_gap(self) -> "AttributionConfig":
        if self.method == "occlusion" and self.stride_voxels > self.window_voxels:
            msg = (
                f"stride_voxels must not exceed window_voxels, got {self.stride_voxels} and "
                f"{self.window_voxels}; lower the stride, or voxels in between are never occluded"
            )
            raise ValueError(msg)
        return self


def attribute_pair(
    model: ComparesPairs,
    left: Batch,
    right: Float[Tensor, " ..."],
    score: PairScore,
    config: AttributionConfig | None = None,
    *,
    regions: tuple[Int[Tensor, " ..."], Int[Tensor, " ..."]] | None = None,
) -> PairMaps:
    """
    Share a pair's score out to the voxels of both images.

    All but `lrp` are Captum's: input x gradient; integrated gradients (Sundararajan et al. 2017,
    arXiv:1703.01365); Grad-CAM at the deepest map of the encoder, brought back by linear
    interpolation (Selvaraju et al. 2017, arXiv:1610.02391); occlusion (Zeiler & Fergus 2014,
    arXiv:1311.2901); ablation of whole regions.

    Parameters
    ----------
    model : SiameseNetwork or alike
        In evaluation mode; it is not changed.
    left, right : (1, C, *spatial) float
        Two hemispheres, right mirrored onto left, or two brains.
    score : callable
        Picks a (B,) tensor out of the `PairOutput` of B pairs.
    config : AttributionConfig, optional
        Which method, and how fine.
    regions : two of (*spatial) int, optional
        For `ablation`: regions of both images; each of one image is replaced at once, the other
        image left as it is, and a region's voxels inside the images share the fall of the score.

    Returns
    -------
    tuple of (1, C, *spatial) float
        Left and right map.

    Raises
    ------
    ValueError
        When the images are not one pair, the model is in training mode where that matters,
        `ablation` is asked for without regions or with such that lie on another grid, or
        `grad_cam` for a score that does not depend on the encoder's deepest map.
    """
    config = config or AttributionConfig()
    check_pair(left, right)
    if isinstance(model, nn.Module):
        check_evaluation(model)
    if config.method == "lrp":
        found = explain_score(model, left, right, score, config.lrp)
        return found.relevance_left, found.relevance_right

    def forward(one: Tensor, other: Tensor) -> Tensor:
        return score(model(one, other))

    if config.method == "ablation":
        if regions is None:
            msg = "ablation must know the regions of both images; got none; hand them in"
            raise ValueError(msg)
        return _ablate(forward, (left, right), config, regions)
    if config.method == "grad_cam":
        return _grad_cam_of_pair(forward, model, (left, right))
    return _CAPTUM[config.method](forward, (left, right), config)


def attribute_embedding(
    model: HasEncoder,
    image: Batch,
    direction: Float[Tensor, " dim"],
    config: AttributionConfig | None = None,
) -> tuple[Batch, Ledger | None]:
    """
    Share one component of an image's embedding out to its pixels or voxels.

    Parameters
    ----------
    model : SiameseNetwork or alike
        In evaluation mode; it is not changed.
    image : (1, C, *spatial) float
        One image.
    direction : (D,) float
        Weights of the embedding's entries, constants; explained is direction . embedding.
    config : AttributionConfig, optional
        `lrp` or `grad_cam`, and its settings.

    Returns
    -------
    (1, C, *spatial) float
        The map; Grad-CAM's has one channel and no negative part.
    Ledger or None
        Its balance, of `lrp` alone.

    Raises
    ------
    ValueError
        When there is more than one image, another method is asked for, or the encoder has no
        feature maps for Grad-CAM.

    Examples
    --------
    >>> from hemitwin.models import EncoderConfig, SiameseNetwork, build_encoder
    >>> settings = EncoderConfig(width=4, blocks=(1,), spatial_dims=2, embedding_dim=3)
    >>> network = SiameseNetwork(build_encoder(settings)).eval()
    >>> found, ledger = attribute_embedding(network, torch.rand(1, 1, 16, 16), torch.ones(3))
    >>> found.shape, ledger.closes()
    (torch.Size([1, 1, 16, 16]), True)
    """
    config = config or AttributionConfig()
    if isinstance(model, nn.Module):
        check_evaluation(model)
    if config.method == "lrp":
        seen = model.seen.of_images(image)
        relevance, ledger = explain_embedding(model.encoder, seen, direction, config.lrp)
        return on_images(model, relevance, image, pairs=False)[0], ledger
    if config.method != "grad_cam":
        msg = f"an embedding's map must be made by lrp or grad_cam; got {config.method}"
        raise ValueError(msg)

    def forward(seen: Tensor) -> Tensor:
        return model.encoder(seen) @ direction

    size = tuple(image.shape[2:])
    return _grad_cam(forward, model, model.seen.of_images(image), size), None


def _input_x_gradient(forward: Score, pair: PairMaps, config: AttributionConfig) -> PairMaps:
    del config
    return _detached(InputXGradient(forward).attribute(_tracked(pair)))


def _integrate(forward: Score, pair: PairMaps, config: AttributionConfig) -> PairMaps:
    mean = (pair[0] + pair[1]) / 2
    maps = IntegratedGradients(forward).attribute(
        _tracked(pair),
        baselines=(mean, mean) if config.baseline == "pair" else None,
        n_steps=config.steps,
        internal_batch_size=config.batch_pairs,
    )
    return _detached(maps)


@torch.no_grad()
def _occlude(forward: Score, pair: PairMaps, config: AttributionConfig) -> PairMaps:
    channels, *size = pair[0].shape[1:]

    def occlude(forward: Score, image: Tensor, other: Tensor) -> Tensor:
        nothing = other if config.baseline == "pair" else torch.zeros_like(image)
        if config.stride_voxels == config.window_voxels:
            # Windows side by side are features, of which those that change nothing (half of them
            # hold no brain) can be taken together as one.
            method: FeatureAblation = FeatureAblation(forward)
            shape: dict[str, Any] = {
                "feature_mask": _tiles_that_change(image != nothing, config.window_voxels)
            }
        else:
            method = Occlusion(forward)
            window = (min(config.window_voxels, axis) for axis in size)
            shape = {
                "sliding_window_shapes": (channels, *window),
                "strides": (channels, *(config.stride_voxels for _ in size)),
            }
        maps: Tensor = method.attribute(
            image,
            baselines=nothing,
            additional_forward_args=other,
            perturbations_per_eval=config.batch_pairs,
            **shape,
        )
        return maps

    left, right = pair
    return occlude(forward, left, right), occlude(_exchanged(forward), right, left)


def _tiles_that_change(changed: Tensor, edge: int) -> Tensor:
    """Count windows side by side from 1; voxels of those without a change are 0."""
    tiles = torch.zeros(changed.shape[2:], dtype=torch.long, device=changed.device)
    for axis, size in enumerate(tiles.shape):
        number = torch.arange(size, device=changed.device) // edge
        others = [1] * axis + [size] + [1] * (tiles.ndim - axis - 1)
        tiles = tiles * (int(number[-1]) + 1) + number.view(others)
    count = int(tiles.max()) + 1
    differing = changed[0].any(dim=0).flatten().long()
    held = torch.zeros(count, dtype=torch.long, device=changed.device)
    held = held.index_add(0, tiles.flatten(), differing) > 0
    order = torch.cumsum(held, dim=0) * held
    return order[tiles][None, None]


@torch.no_grad()
def _ablate(
    forward: Score, pair: PairMaps, config: AttributionConfig, regions: tuple[Tensor, Tensor]
) -> PairMaps:
    for labels in regions:
        check_grid("regions", tuple(labels.shape), pair[0])

    # One image at a time: given both, Captum exchanges regions of one number instead.
    def ablate(forward: Score, image: Tensor, other: Tensor, labels: Tensor) -> Tensor:
        maps: Tensor = FeatureAblation(forward).attribute(
            image,
            feature_mask=labels.long()[None, None],
            baselines=other if config.baseline == "pair" else None,
            additional_forward_args=other,
            perturbations_per_eval=config.batch_pairs,
        )
        return maps * _shares(labels.long(), inside).to(maps)

    left, right = pair
    one, other = regions
    inside = inside_either(left, right)
    return ablate(forward, left, right, one), ablate(_exchanged(forward), right, left, other)


def _shares(labels: Tensor, inside: Tensor) -> Tensor:
    """Share a region's fall out among its voxels inside the images, so that they sum to it."""
    values, place = labels.unique(return_inverse=True)
    count = torch.bincount(place[inside], minlength=len(values)).clamp(min=1)
    return inside.double() / count[place]


def _exchanged(forward: Score) -> Score:
    return lambda right, left: forward(left, right)


def _grad_cam_of_pair(forward: Score, model: HasEncoder, pair: PairMaps) -> PairMaps:
    one, other = _grad_cam(forward, model, pair, tuple(pair[0].shape[2:])).chunk(2)
    return one, other


def _grad_cam(
    forward: Callable[..., Tensor],
    model: HasEncoder,
    inputs: Tensor | PairMaps,
    size: tuple[int, ...],
) -> Tensor:
    """Give the maps of all images that go through the encoder, on their grid of this size."""
    if not isinstance(model.encoder, nn.Module):
        msg = f"grad_cam must be given an encoder with layers; got {type(model.encoder).__name__}"
        raise TypeError(msg)
    if not model.encoder.feature_layers:
        msg = (
            f"grad_cam must be given an encoder with feature maps; {type(model.encoder).__name__} "
            "has none; choose another method"
        )
        raise ValueError(msg)
    name = model.encoder.feature_layers[-1]
    layers = LayerGradCam(forward, model.encoder.get_submodule(name))
    tracked = _tracked(inputs if isinstance(inputs, tuple) else (inputs,))
    try:
        found = layers.attribute(tracked, relu_attributions=True)
    except RuntimeError as error:
        if "not have been used in the graph" not in str(error):
            raise
        # The full U-Net's decoder of differences reads its contracting path only.
        msg = (
            f"grad_cam must have a score that depends on {name}, the encoder's deepest map; got "
            f"one that does not; explain the distance or the embedding, or choose another method"
        )
        raise ValueError(msg) from error
    coarse = cast("Tensor", found)  # a tuple only of a layer that gives several maps
    mode = "trilinear" if len(size) == 3 else "bilinear"
    maps: Tensor = LayerAttribution.interpolate(coarse.detach(), size, mode)
    return maps


def _tracked(images: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Copy, so that Captum sets no flag on the user's tensors."""
    return tuple(image.detach().clone().requires_grad_() for image in images)


def _detached(maps: tuple[Tensor, ...]) -> PairMaps:
    one, other = (each.detach() for each in maps)
    return one, other


_CAPTUM: Mapping[str, Callable[[Score, PairMaps, AttributionConfig], PairMaps]] = MappingProxyType(
    {
        "input_x_gradient": _input_x_gradient,
        "integrated_gradients": _integrate,
        "occlusion": _occlude,
    }
)
