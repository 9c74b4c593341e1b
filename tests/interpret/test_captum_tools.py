"""Captum's own tools take the engine as any of its attributions."""

import pytest
import torch
from captum.attr import NoiseTunnel
from captum.metrics import infidelity, sensitivity_max

from hemitwin.interpret import Lrp, LrpConfig


@pytest.fixture(name="case")
def _case(make_encoder):
    image = torch.randn(2, 1, 24, 24, generator=torch.Generator().manual_seed(0))
    return make_encoder("resnet18", spatial_dims=2), image


def test_noise_tunnel_averages_maps_of_noisy_images(case):
    encoder, image = case
    lrp = Lrp(encoder)
    still = torch.as_tensor(NoiseTunnel(lrp).attribute(image, nt_samples=3, stdevs=0.0, target=1))
    torch.testing.assert_close(still, lrp.attribute(image, 1))
    torch.manual_seed(0)
    noisy = torch.as_tensor(NoiseTunnel(lrp).attribute(image, nt_samples=3, stdevs=0.5, target=1))
    assert noisy.shape == image.shape
    assert not torch.allclose(noisy, still)


def test_infidelity_is_lowest_for_the_map_itself(case):
    encoder, image = case
    # Small steps: relevance under epsilon is the slope, but for the means that norms hold.
    relevance = Lrp(encoder, LrpConfig(rule="epsilon")).attribute(image, 1) / image

    def shake(inputs):
        step = 1e-3 * torch.randn(inputs.shape, generator=torch.Generator().manual_seed(1))
        return step, inputs - step

    def score(attributions):
        return infidelity(encoder, shake, image, attributions, target=1, n_perturb_samples=8)

    with torch.no_grad():
        assert (score(relevance) < score(-relevance)).all()


def test_sensitivity_asks_for_maps_of_neighbours(case):
    encoder, image = case
    torch.manual_seed(0)
    explain = Lrp(encoder).attribute
    # Captum's annotation wants a function that gives maps alone, never with a delta.
    found = sensitivity_max(
        explain,  # pyright: ignore[reportArgumentType]
        image,
        target=1,
        n_perturb_samples=2,
    )
    assert found.shape == (2,)
    assert (found > 0).all()
