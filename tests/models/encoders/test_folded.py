"""A strided convolution of few channels gives what torch's own does, forward and backward."""

import pytest
import torch
from torch.nn import functional as F

from hemitwin.models import EncoderConfig, build_encoder
from hemitwin.models.encoders.folded import FoldedConv3d


@pytest.mark.parametrize("kernel", [3, 7])
@pytest.mark.parametrize("shape", [(2, 1, 9, 10, 7), (1, 2, 8, 8, 8), (1, 3, 11, 4, 6)])
def test_the_result_and_both_gradients_are_those_of_the_plain_convolution(kernel, shape):
    generator = torch.Generator().manual_seed(0)
    layer = FoldedConv3d(shape[1], 5, kernel).bfloat16()
    # Whole numbers of a few bits: every sum is exact in bfloat16's products and float32's sums.
    with torch.no_grad():
        layer.weight.copy_(torch.randint(-1, 2, layer.weight.shape, generator=generator))
    image = torch.randint(-1, 2, shape, generator=generator).bfloat16().requires_grad_()
    found = []
    for training in (True, False):
        result = layer.train(training)(image)
        wanted = torch.autograd.grad(result.float().sum(), [image, layer.weight])
        found.append((result, *wanted))
    for one, other in zip(*found, strict=True):
        assert one.shape == other.shape
        torch.testing.assert_close(one, other, rtol=1e-2, atol=0)


def test_it_is_folded_in_training_in_bf16_alone(monkeypatch):
    seen = []
    native = F.conv3d
    monkeypatch.setattr(F, "conv3d", lambda x, *more: seen.append(x.shape[1]) or native(x, *more))
    layer, image = FoldedConv3d(1, 4, 7), torch.randn(1, 1, 8, 8, 8)
    layer.train()(image)
    with torch.autocast("cpu", torch.bfloat16):
        layer.train()(image)
        layer.eval()(image)
    assert seen == [1, 8, 1]


@pytest.mark.parametrize("name", ["resnet18", "densenet121", "mobilenet_v3", "covidnet"])
def test_first_layers_of_stride_2_are_folded_and_keep_their_names(name):
    config = EncoderConfig(name=name, width=8, stem_stride=2)
    layers = [one for one in build_encoder(config).modules() if isinstance(one, FoldedConv3d)]
    assert len(layers) == 1
    assert [key for key, _ in layers[0].named_parameters()] == ["weight"]
    flat = build_encoder(EncoderConfig(name=name, width=8, stem_stride=2, spatial_dims=2))
    assert not any(isinstance(one, FoldedConv3d) for one in flat.modules())
