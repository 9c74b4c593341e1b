"""Every method on models whose truth is known, and what all methods have in common."""

from typing import get_args

import pytest
import torch
from captum.attr import Occlusion
from pydantic import ValidationError
from torch import nn
from torch.nn import functional as F

from hemitwin.interpret import (
    AttributionConfig,
    Method,
    attribute_embedding,
    attribute_pair,
    explain_score,
)
from hemitwin.models import HeadConfig, SiameseNetwork, build_head

METHODS = get_args(Method)
SHAPE = (5, 6)
REGIONS = torch.tensor([[0, 1, 1, 3, 3, 3]]).repeat(5, 1)
REGIONS[3:] = 7


def weights_of(shape):
    generator = torch.Generator().manual_seed(3)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


class Weighing(nn.Module):
    """Embed an image as its voxels, each times its weight: nothing to guess about."""

    def __init__(self, shape):
        super().__init__()
        self.spatial_dims: int = len(shape)
        self.feature_layers: tuple[str, ...] = ()
        self.weights = nn.Parameter(weights_of(shape))

    def forward(self, x):
        return (x * self.weights).flatten(1)


class Coarse(nn.Module):
    """Two channels of patches, of which the embedding is the mean."""

    def __init__(self, dims):
        super().__init__()
        self.spatial_dims: int = dims
        self.feature_layers: tuple[str, ...] = ("patches",)
        kind = nn.Conv3d if dims == 3 else nn.Conv2d
        self.patches = kind(1, 2, 2, stride=2, bias=False)
        generator = torch.Generator().manual_seed(5)
        with torch.no_grad():
            self.patches.weight.normal_(generator=generator)

    def forward(self, x):
        return self.patches(x).relu().flatten(2).mean(2)


def weighing(shape=SHAPE):
    return SiameseNetwork(Weighing(shape)).eval()


def pair(shape=SHAPE, dtype=torch.float64):
    return torch.randn(2, 1, 1, *shape, generator=torch.Generator().manual_seed(1), dtype=dtype)


def difference(output):
    """Sum of weights x (left - right)."""
    return (output.embedding_left - output.embedding_right).sum(1)


def squared(output):
    """Sum of (weights x (left - right)) squared: the same for exchanged images."""
    return (output.embedding_left - output.embedding_right).square().sum(1)


def attribute(network, images, score, method, *, regions=None, **settings):
    config = AttributionConfig.model_validate({"method": method, **settings})
    return attribute_pair(network, images[0], images[1], score, config, regions=regions)


def assert_maps(found, left, right, tolerance=1e-9):
    for one, other in zip(found, (left, right), strict=True):
        torch.testing.assert_close(one.double(), other, rtol=tolerance, atol=tolerance)


# Captum weighs windows and the steps of a path in single precision.
ROUNDED = 2e-6


@pytest.mark.parametrize("method", ["lrp", "input_x_gradient"])
@pytest.mark.parametrize("shape", [SHAPE, (3, 4, 2)])
def test_of_a_linear_score_each_voxel_gets_its_term(method, shape):
    network = weighing(shape)
    left, right = pair(shape)
    weights = weights_of(left.shape[2:])
    assert_maps(
        attribute(network, (left, right), difference, method), weights * left, -weights * right
    )


@pytest.mark.parametrize("baseline", ["pair", "zero"])
def test_integrated_gradients_of_a_linear_score_are_the_terms_of_what_was_changed(baseline):
    network, (left, right) = weighing(), pair()
    weights = weights_of(left.shape[2:])
    start = (left + right) / 2 if baseline == "pair" else torch.zeros_like(left)
    found = attribute(
        network, (left, right), difference, "integrated_gradients", baseline=baseline, steps=3
    )
    assert_maps(found, weights * (left - start), -weights * (right - start), ROUNDED)


@pytest.mark.parametrize("baseline", ["pair", "zero"])
@pytest.mark.parametrize("batch_pairs", [1, 5])
def test_integrated_gradients_sum_to_what_the_score_rises_from_the_baseline(baseline, batch_pairs):
    network, (left, right) = weighing(), pair()
    settings = {"baseline": baseline, "batch_pairs": batch_pairs, "steps": 4}
    found = attribute(network, (left, right), squared, "integrated_gradients", **settings)
    start = (left + right) / 2 if baseline == "pair" else torch.zeros_like(left)
    with torch.no_grad():
        rise = float(squared(network(left, right)) - squared(network(start, start)))
    # The gradient is of degree one along the path, for which few points are exact.
    assert sum(float(one.sum()) for one in found) == pytest.approx(rise, rel=ROUNDED)


def test_more_steps_complete_the_integral_of_a_real_network(make_encoder):
    network = SiameseNetwork(make_encoder("resnet18", spatial_dims=2, width=4, blocks=(1,)))
    network, (left, right) = network.double().eval(), pair((9, 8))
    mean = (left + right) / 2
    with torch.no_grad():
        rise = float(network(left, right).distance - network(mean, mean).distance)
    missing = [
        abs(rise - sum(float(one.sum()) for one in found))
        for found in (
            attribute(
                network,
                (left, right),
                lambda output: output.distance,
                "integrated_gradients",
                steps=steps,
            )
            for steps in (2, 64)
        )
    ]
    assert missing[1] < 0.02 * rise
    assert missing[1] < missing[0]


@pytest.mark.parametrize("score", [difference, squared])
@pytest.mark.parametrize("batch_pairs", [1, 7])
def test_occluding_a_voxel_by_the_other_image_gives_the_fall_of_the_score(score, batch_pairs):
    network, (left, right) = weighing(), pair()
    settings = {"window_voxels": 1, "stride_voxels": 1, "batch_pairs": batch_pairs}
    found = attribute(network, (left, right), score, "occlusion", **settings)
    terms = weights_of(left.shape[2:]) * (left - right)
    fall = terms if score is difference else terms.square()
    assert_maps(found, fall, fall, ROUNDED)


def test_occluding_by_nothing_gives_the_fall_to_zero():
    network, (left, right) = weighing(), pair()
    settings = {"window_voxels": 1, "stride_voxels": 1, "baseline": "zero"}
    weights = weights_of(left.shape[2:])
    found = attribute(network, (left, right), difference, "occlusion", **settings)
    assert_maps(found, weights * left, -weights * right, ROUNDED)


@pytest.mark.parametrize("shape", [(4, 4), (3, 3, 3)])
def test_windows_that_overlap_are_averaged_in_every_voxel(shape):
    network, (left, right) = weighing(shape), pair(shape)
    found = attribute(
        network, (left, right), difference, "occlusion", window_voxels=2, stride_voxels=1
    )
    terms = (weights_of(left.shape[2:]) * (left - right))[0, 0]
    total, count = torch.zeros_like(terms), torch.zeros_like(terms)
    for corner in torch.cartesian_prod(*(torch.arange(size - 1) for size in shape)):
        window = tuple(slice(int(start), int(start) + 2) for start in corner)
        total[window] += terms[window].sum()
        count[window] += 1
    mean = (total / count)[None, None]
    assert_maps(found, mean, mean, ROUNDED)


@pytest.mark.parametrize("score", [difference, squared])
@pytest.mark.parametrize("batch_pairs", [1, 3, 16])
def test_ablating_a_region_by_the_other_image_gives_the_fall_of_the_score(score, batch_pairs):
    network, (left, right) = weighing(), pair()
    found = attribute(
        network,
        (left, right),
        score,
        "ablation",
        regions=(REGIONS, REGIONS),
        batch_pairs=batch_pairs,
    )
    terms = weights_of(left.shape[2:]) * (left - right)
    terms = terms if score is difference else terms.square()
    fall = torch.zeros_like(terms)
    for region in REGIONS.unique():
        fall[..., region == REGIONS] = terms[..., region == REGIONS].mean()
    assert_maps(found, fall, fall)


def test_the_images_may_have_regions_of_their_own():
    network, (left, right) = weighing(), pair()
    rows = torch.arange(5)[:, None].repeat(1, 6)
    found = attribute(
        network,
        (left, right),
        difference,
        "ablation",
        regions=(REGIONS, rows),
        baseline="zero",
    )
    weights = weights_of(left.shape[2:])
    one, other = weights * left, -weights * right
    of_rows = other.mean(3, keepdim=True).expand(other.shape)
    of_regions = torch.zeros_like(one)
    for region in REGIONS.unique():
        of_regions[..., region == REGIONS] = one[..., region == REGIONS].mean()
    assert_maps(found, of_regions, of_rows)


@pytest.mark.parametrize("dims", [2, 3])
def test_grad_cam_is_the_weighted_sum_of_the_deepest_maps(dims):
    encoder = Coarse(dims)
    network = SiameseNetwork(encoder).eval()
    left, right = pair((5, 6, 4)[:dims], torch.float32)
    found = attribute(network, (left, right), difference, "grad_cam")
    maps = [encoder.patches(image).detach() for image in (left, right)]
    voxels = maps[0][0, 0].numel()
    mode = "trilinear" if dims == 3 else "bilinear"
    for one, channels, sign in zip(found, maps, (1, -1), strict=True):
        slope = sign * (channels > 0).float().flatten(2).mean(2) / voxels
        coarse = (slope.reshape(1, 2, *(1,) * dims) * channels).sum(1, keepdim=True).relu()
        torch.testing.assert_close(one, F.interpolate(coarse, left.shape[2:], mode=mode))
        assert one.min() >= 0
    # The left image's positive activations speak for the score, the right one's against it.
    assert found[0].max() > 0


@pytest.mark.parametrize("name", ["resnet18", "densenet121", "unet"])
@pytest.mark.parametrize("dims", [2, 3])
def test_grad_cam_lies_on_the_images_grid_and_is_not_negative(make_encoder, name, dims):
    network = SiameseNetwork(make_encoder(name, spatial_dims=dims)).eval()
    images = pair((17, 16, 18)[:dims], torch.float32)
    found = attribute(network, images, lambda output: output.distance, "grad_cam")
    assert [tuple(one.shape) for one in found] == [tuple(images[0].shape)] * 2
    assert all(one.min() >= 0 for one in found)
    assert max(float(one.max()) for one in found) > 0


def test_grad_cam_of_a_score_beside_the_deepest_map_is_refused(make_encoder):
    encoder = make_encoder("unet", spatial_dims=2)
    network = SiameseNetwork(encoder, build_head(HeadConfig(name="decoder"), encoder)).eval()
    with pytest.raises(ValueError, match="must have a score that depends on trunk"):
        attribute(network, pair((16, 16), torch.float32), lambda out: out.logit, "grad_cam")


def test_grad_cam_without_layers_is_refused():
    class Plain:
        def __init__(self):
            self.spatial_dims: int = 2
            self.feature_layers: tuple[str, ...] = ()

        def forward(self, x):
            return x.flatten(1)

        __call__ = forward

    network = weighing()
    del network.encoder
    network.encoder = Plain()
    with pytest.raises(TypeError, match="must be given an encoder with layers; got Plain"):
        attribute(network, pair(), difference, "grad_cam")


def test_lrp_is_explain_score(make_encoder, shake):
    encoder = make_encoder("resnet18", spatial_dims=2, width=4, blocks=(1,))
    network = SiameseNetwork(encoder, shake(build_head(HeadConfig(name="classifier"), encoder)))
    network, (left, right) = network.double().eval(), pair((9, 8))

    def score(output):
        return output.logit

    expected = explain_score(network, left, right, score)
    found = attribute_pair(network, left, right, score)
    assert torch.equal(found[0], expected.relevance_left)
    assert torch.equal(found[1], expected.relevance_right)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("head", ["distance", "decoder"])
def test_model_and_images_are_untouched_and_sides_swap(make_encoder, shake, head, method):
    encoder = make_encoder("resnet18", spatial_dims=2, width=4, blocks=(1,), norm="batch")
    config = HeadConfig(name=head, decoder_width=4)
    network = SiameseNetwork(encoder, shake(build_head(config, encoder))).double().eval()
    images = pair((9, 8)).unbind()
    kept = [image.clone() for image in images]
    state = {name: value.clone() for name, value in network.state_dict().items()}
    regions = (torch.arange(72).reshape(9, 8) // 20,) * 2
    settings = {"steps": 4, "regions": regions}

    def score(output):
        return output.score

    left, right = attribute(network, images, score, method, **settings)
    back = attribute(network, images[::-1], score, method, **settings)
    assert_maps(back, right.double(), left.double(), ROUNDED)
    assert not left.requires_grad
    assert max(float(left.abs().max()), float(right.abs().max())) > 0
    for image, before in zip(images, kept, strict=True):
        assert torch.equal(image, before)
        assert not image.requires_grad
        assert image.grad is None
    assert all(torch.equal(state[name], value) for name, value in network.state_dict().items())
    for module in network.modules():
        hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks)
        assert not any(hooks)
        assert not module.training
    assert all(p.grad is None and p.requires_grad for p in network.parameters())


@pytest.mark.parametrize("method", METHODS)
def test_training_mode_and_more_than_one_pair_are_refused(make_encoder, method):
    encoder = make_encoder("resnet18", spatial_dims=2, width=4, blocks=(1,), norm="batch")
    network, images = SiameseNetwork(encoder).train(), pair((9, 8), torch.float32)
    regions = (torch.zeros(9, 8, dtype=torch.int64),) * 2
    with pytest.raises(ValueError, match=r"in training mode; call model\.eval\(\)"):
        attribute(network, images, lambda output: output.distance, method, regions=regions)
    two = images.repeat(1, 2, 1, 1, 1)
    with pytest.raises(ValueError, match="both sides must be one image"):
        attribute(network.eval(), two, lambda output: output.distance, method, regions=regions)


def test_a_region_sums_to_its_fall_and_has_none_outside_the_images():
    network, (left, right) = weighing(), pair()
    left[..., :2], right[..., :2] = 0.0, 0.0
    everywhere = torch.zeros_like(REGIONS)
    one, _ = attribute(
        network, (left, right), difference, "ablation", regions=(everywhere, everywhere)
    )
    assert (one[..., :2] == 0).all()
    fall = (weights_of(left.shape[2:]) * (left - right)).sum()
    assert float(one.sum()) == pytest.approx(float(fall), rel=1e-4)


def test_ablation_must_know_the_regions_of_both_images_on_their_grid():
    with pytest.raises(ValueError, match="must know the regions of both images; got none"):
        attribute(weighing(), pair(), difference, "ablation")
    for wrong in (REGIONS[:1], REGIONS.T.contiguous(), REGIONS[None].repeat(2, 1, 1)):
        with pytest.raises(ValueError, match=r"regions must lie on the images' grid \(5, 6\)"):
            attribute(weighing(), pair(), difference, "ablation", regions=(REGIONS, wrong))


def test_unknown_methods_and_windows_with_gaps_are_refused():
    with pytest.raises(ValidationError, match="method"):
        AttributionConfig.model_validate({"method": "guessing"})
    with pytest.raises(ValidationError, match="stride_voxels must not exceed window_voxels"):
        AttributionConfig(method="occlusion", window_voxels=2, stride_voxels=3)


def test_an_image_smaller_than_the_window_is_occluded_at_once():
    network, (left, right) = weighing((3, 6)), pair((3, 6))
    found = attribute(network, (left, right), difference, "occlusion", window_voxels=6)
    total = (weights_of(left.shape[2:]) * (left - right)).sum().expand(left.shape)
    assert_maps(found, total, total, ROUNDED)


@pytest.mark.parametrize("baseline", ["pair", "zero"])
def test_windows_side_by_side_are_captums_though_empty_ones_are_not_tried(baseline):
    left, right = pair((7, 9))
    left[..., :4, :] = 0
    right[..., :4, :] = 0
    network = weighing((7, 9))
    tried = []

    def counted(output):
        tried.append(len(output.distance))
        return output.distance

    settings = AttributionConfig(
        method="occlusion", window_voxels=3, stride_voxels=3, baseline=baseline
    )
    one, _ = attribute_pair(network, left, right, counted, settings)
    expected = Occlusion(lambda image, other: network(image, other).distance).attribute(
        left,
        sliding_window_shapes=(1, 3, 3),
        strides=(1, 3, 3),
        baselines=right if baseline == "pair" else None,
        additional_forward_args=right,
    )
    torch.testing.assert_close(one, expected, check_dtype=False)
    # Of each image: unchanged, the three empty windows together, and six more.
    assert sum(tried) <= 2 * (1 + 1 + 6) + 1


@pytest.mark.parametrize("shape", [(6, 8), (4, 6, 8)])
def test_an_embedding_is_explained_as_the_pair_that_adds_only_it(shape):
    network, (image, _) = SiameseNetwork(Coarse(len(shape)).double()).eval(), pair(shape)
    direction = torch.tensor([0.7, -0.2], dtype=torch.float64)

    def own(output):
        return output.embedding_left @ direction

    for method in ("lrp", "grad_cam"):
        config = AttributionConfig(method=method)
        found, ledger = attribute_embedding(network, image, direction, config)
        expected, _ = attribute_pair(network, image, image.clone(), own, config)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
        assert (ledger is not None) == (method == "lrp")
        assert ledger is None or ledger.closes()


def test_an_embedding_has_no_map_by_a_method_that_needs_a_pair():
    image, _ = pair()
    with pytest.raises(ValueError, match="lrp or grad_cam; got occlusion"):
        attribute_embedding(
            weighing(), image, torch.ones(30).double(), AttributionConfig(method="occlusion")
        )
