"""Checks of maps: what they must let pass, and what they must find out."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import nn

from hemitwin.interpret import (
    Verdict,
    check_permutation,
    check_randomisation,
    check_swap,
    explain_pair,
    explain_score,
)
from hemitwin.models import (
    HeadConfig,
    InputChannels,
    InputConfig,
    SiameseNetwork,
    build_head,
)


def siamese(make_encoder, shake, head="distance", **settings):
    sizes = {"spatial_dims": 2, "width": 4, "blocks": (1, 1), "stem_stride": 1, **settings}
    encoder = make_encoder("resnet18", **sizes)
    config = HeadConfig.model_validate({"name": head})
    return SiameseNetwork(encoder, shake(build_head(config, encoder))).eval()


def pair(size=16):
    """Two images with background, at whose edge the brain begins."""
    generator = torch.Generator().manual_seed(4)
    images = torch.randn(2, 1, 1, size, size, generator=generator)
    images[..., :3] = 0
    return images


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def by_lrp(model, left, right):
    found = explain_pair(model, left, right)
    return found.relevance_left, found.relevance_right


def by_intensity(_, left, right):
    """No explanation: bright voxels."""
    return left.abs(), right.abs()


def by_edges(_, left, right):
    """No explanation: where the image changes."""
    maps = []
    for image in (left, right):
        rows, columns = image.diff(dim=2).abs(), image.diff(dim=3).abs()
        maps.append(nn.functional.pad(rows, (0, 0, 0, 1)) + nn.functional.pad(columns, (0, 1)))
    return maps[0], maps[1]


def by_constant(_, left, right):
    return torch.full_like(left, 0.1), torch.full_like(right, 0.1)


class OneSidedChannels(InputChannels):
    def of_pair(self, left, right):
        return torch.cat([left, right.relu()])


class OneSided(SiameseNetwork):
    """See only the bright part of the right image: not the same for exchanged images."""

    @property
    def seen(self):
        return OneSidedChannels(InputConfig())


@pytest.mark.parametrize("head", ["distance", "classifier"])
def test_exchanging_the_images_of_a_siamese_network_passes(make_encoder, shake, head):
    network = siamese(make_encoder, shake, head)

    def explain(model, left, right):
        found = explain_score(model, left, right, lambda output: output.score)
        return found.relevance_left, found.relevance_right

    verdict = check_swap(explain, network, *pair())
    assert verdict.check == "swap"
    assert verdict.passed
    assert verdict.value < 1e-4


def test_a_network_that_treats_the_sides_differently_fails(make_encoder):
    encoder = make_encoder("resnet18", spatial_dims=2, width=4, blocks=(1,))
    left, right = pair()
    verdict = check_swap(by_lrp, OneSided(encoder).eval(), left, right)
    assert not verdict.passed
    assert check_swap(by_lrp, SiameseNetwork(encoder).eval(), left, right).passed


def test_the_swaps_value_is_the_largest_change_over_the_largest_relevance(make_encoder, shake):
    def explain(_, left, right):
        return left, 3 * right

    left = torch.tensor([[[[1.0, -4.0]]]])
    verdict = check_swap(explain, siamese(make_encoder, shake), left, torch.ones_like(left))
    # There (1, -4) and (3, 3), back (1, 1) and (3, -12): -4 became -12.
    assert verdict.value == pytest.approx(8 / 4)


def test_maps_of_nothing_pass_no_check(make_encoder, shake):
    def explain(_, left, right):
        return torch.zeros_like(left), torch.zeros_like(right)

    network, images = siamese(make_encoder, shake), pair()
    assert math.isnan(check_swap(explain, network, *images).value)
    assert not check_swap(explain, network, *images).passed
    for constant in (explain, by_constant):
        shuffled = check_permutation(constant, network, *images, generator=generator())
        random, _ = check_randomisation(constant, network, *images, generator=generator())
        assert not shuffled.passed
        assert not random.passed


def test_a_map_of_the_intensity_is_found_out_by_shuffling(make_encoder, shake):
    network, images = siamese(make_encoder, shake), pair()
    verdict = check_permutation(by_intensity, network, *images, generator=generator())
    assert verdict.check == "input permutation"
    assert verdict.value == pytest.approx(1)
    assert not verdict.passed


def test_a_map_of_how_voxels_lie_passes_the_shuffling(make_encoder, shake):
    network, images = siamese(make_encoder, shake), pair()
    for explain in (by_edges, by_lrp):
        verdict = check_permutation(explain, network, *images, generator=generator())
        assert verdict.passed, (explain, verdict)
        assert abs(verdict.value) > 1e-3


def test_shuffling_moves_brain_voxels_of_both_images_alike(make_encoder, shake):
    network, images = siamese(make_encoder, shake), pair()
    kept, seen = images.clone(), []

    def explain(_, left, right):
        seen.append(torch.cat([left, right]))
        return left, right

    for seed in (1, 1, 2):
        check_permutation(explain, network, *images, generator=generator(seed))
    assert torch.equal(images, kept)
    before, shuffled, _, again, _, other = seen
    assert torch.equal(shuffled, again)
    assert not torch.equal(shuffled, other)
    assert not torch.equal(shuffled, before)
    inside = (before != 0).any(0)[0]
    assert torch.equal(inside, (shuffled != 0).any(0)[0])
    # Pairs of values at one place stay pairs.
    assert {tuple(both) for both in before[:, 0, inside].T.tolist()} == {
        tuple(both) for both in shuffled[:, 0, inside].T.tolist()
    }


@pytest.mark.parametrize("explain", [by_edges, by_intensity])
def test_a_map_that_ignores_the_network_is_found_out_by_random_weights(
    make_encoder, shake, explain
):
    network, images = siamese(make_encoder, shake), pair()
    verdict, steps = check_randomisation(explain, network, *images, generator=generator())
    assert verdict.check == "parameter randomisation"
    assert not verdict.passed
    assert verdict.value == pytest.approx(1)
    assert list(steps.values()) == pytest.approx([1] * len(steps))


def snapshot(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def test_lrp_passes_the_randomisation_and_leaves_the_network_as_it_was(make_encoder, shake):
    network, images = siamese(make_encoder, shake, "joint"), pair()
    state = snapshot(network)
    verdict, steps = check_randomisation(by_lrp, network, *images, generator=generator(1))
    assert verdict.passed, steps
    assert verdict.value == list(steps.values())[-1]
    # The first layer is the last to be replaced.
    assert list(steps)[-1] == "encoder.trunk.stem.conv"
    assert len(steps) == 4
    assert all(torch.equal(state[name], value) for name, value in network.state_dict().items())
    assert not any(module.training for module in network.modules())


@pytest.mark.parametrize("depths", [1, 3, 50])
def test_layers_are_replaced_from_the_last_to_the_first_and_stay_so(make_encoder, shake, depths):
    network, images = siamese(make_encoder, shake, "joint"), pair()
    own, changed = dict(network.named_parameters()), []

    def explain(model, left, right):
        changed.append(
            {
                name
                for name, weights in model.named_parameters()
                if not torch.equal(weights, own[name])
            }
        )
        return left, right

    _, steps = check_randomisation(explain, network, *images, generator=generator(), depths=depths)
    assert changed[0] == set()
    assert changed[-1] == set(own)
    assert all(one < other for one, other in pairwise(changed))
    assert len(steps) == len(changed) - 1
    assert len(steps) == min(depths, len({name.rpartition(".")[0] for name in own}))
    if depths > 1:
        assert any(name.startswith("head") for name in changed[1])
        assert "encoder.trunk.stem.conv.weight" not in changed[1]


def test_random_weights_have_the_mean_and_spread_of_the_learnt_ones(make_encoder, shake):
    network, images = siamese(make_encoder, shake, width=32), pair()
    found = []

    def explain(model, left, right):
        weights = dict(model.named_parameters())["encoder.trunk.stage2.0.conv2.weight"]
        found.append(weights.detach().clone())
        return left, right

    with torch.no_grad():
        dict(network.named_parameters())["encoder.trunk.stage2.0.conv2.weight"].add_(1)
    for seed in (0, 0, 1):
        check_randomisation(explain, network, *images, generator=generator(seed), depths=1)
    learnt, random, _, again, _, other = found
    assert torch.equal(random, again)
    assert not torch.equal(random, other)
    assert float(random.mean()) == pytest.approx(float(learnt.mean()), abs=0.01)
    assert float(random.std()) == pytest.approx(float(learnt.std()), rel=0.02)
    assert abs(torch.corrcoef(torch.stack([learnt.flatten(), random.flatten()]))[0, 1]) < 0.05


def test_what_has_no_weights_to_draw_anew_is_refused(make_encoder, shake):
    network, images = siamese(make_encoder, shake), pair()

    class Wrapped:
        encoder, seen, compare = network.encoder, network.seen, network.compare
        exchanged = network.exchanged
        __call__ = network.forward

    with pytest.raises(TypeError, match=r"must be an nn.Module .* got .*Wrapped"):
        check_randomisation(by_edges, Wrapped(), *images, generator=generator())


def test_a_verdict_passes_up_to_its_limit_and_never_without_a_number():
    verdict = Verdict("swap", 0.5, 0.5, "largest change")
    assert verdict.passed
    assert not replace(verdict, value=0.51).passed
    assert not replace(verdict, value=float("nan")).passed
    assert verdict.to_dict() == {
        "check": "swap",
        "value": 0.5,
        "limit": 0.5,
        "meaning": "largest change",
        "passed": True,
    }
