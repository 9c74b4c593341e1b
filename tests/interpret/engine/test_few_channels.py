"""The quick way back through a convolution of few channels is torch's own."""

import pytest
import torch
from torch.nn import functional as F

from hemitwin.interpret.engine.few_channels import convolve, is_slow

CASES = [
    # channels, kernel, stride, padding, size
    (1, (7, 7, 7), (2, 2, 2), (3, 3, 3), (9, 8, 7)),
    (2, (3, 3, 3), (1, 1, 1), (1, 1, 1), (5, 6, 7)),
    (1, (5, 3, 4), (3, 1, 2), (0, 2, 1), (11, 6, 9)),
    (3, (2, 2), (2, 2), (0, 0), (7, 6)),
    (4, (3, 1), (1, 4), (0, 0), (6, 10)),
    (1, (1, 5), (2, 5), (0, 4), (5, 12)),
]


@pytest.mark.parametrize(("channels", "kernel", "stride", "padding", "size"), CASES)
def test_gradient_is_torchs_for_any_geometry(channels, kernel, stride, padding, size):
    generator = torch.Generator().manual_seed(0)
    native = F.conv3d if len(size) == 3 else F.conv2d
    x = torch.randn(2, channels, *size, dtype=torch.float64, generator=generator)
    weight = torch.randn(6, channels, *kernel, dtype=torch.float64, generator=generator)
    x.requires_grad_()
    expected = native(x, weight, None, stride, padding)
    found = convolve(native, x, weight, stride=stride, padding=padding)
    torch.testing.assert_close(found, expected)
    upper = torch.randn(expected.shape, dtype=torch.float64, generator=generator)
    (theirs,) = torch.autograd.grad(expected, x, upper)
    (ours,) = torch.autograd.grad(found, x, upper)
    torch.testing.assert_close(ours, theirs)


def test_only_images_of_few_channels_take_it():
    weight = torch.zeros(8, 1, 3, 3)
    assert is_slow(torch.zeros(1, 1, 8, 8), weight)
    assert not is_slow(torch.zeros(1, 8, 8, 8), torch.zeros(8, 8, 3, 3))
    assert not is_slow(torch.zeros(1, 2, 8, 8), weight)  # two groups of one channel
    assert not is_slow(torch.zeros(1, 1, 8, 8), torch.zeros(8, 1, 1, 1))
