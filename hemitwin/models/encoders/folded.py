"""A first convolution of stride 2 that trains fast on a processor."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["FoldedConv3d"]


class FoldedConv3d(nn.Conv3d):
    """
    A convolution of few channels with stride 2, which is trained as one of 8 times the channels.

    A processor's matrix units are filled by channels; an image has one. The 2 x 2 x 2 places of
    each block of the image become channels (space to depth), and the kernel's taps move with them:
    7^3 taps on one channel with stride 2 are 4^3 on eight with stride 1, a zero where 7 does not
    fill 8. Weights, their names and the result are those of `torch.nn.Conv3d`, to rounding. Only
    training on a processor in bfloat16 takes this way (in float32 it is no faster): what is
    evaluated and explained is torch's own.

    Parameters
    ----------
    in_channels, out_channels : int
        As for `torch.nn.Conv3d`.
    kernel : int
        Odd.

    References
    ----------
    Space to depth: Shi et al. 2016, arXiv:1609.05158.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int) -> None:
        super().__init__(
            in_channels, out_channels, kernel, stride=2, padding=kernel // 2, bias=False
        )

    def forward(
        self,
        input: Float[Tensor, "batch channels x y z"],  # noqa: A002 - torch's own name
    ) -> Float[Tensor, "batch features _x _y _z"]:
        """Convolve; (B, O, ceil(X / 2), ...)."""
        if not (self.training and _is_in_bf16(input)):
            return super().forward(input)
        before = self.kernel_size[0] // 2
        blocks = [(size + 1) // 2 + before for size in input.shape[2:]]
        edges = [
            edge
            for size, count in zip(input.shape[:1:-1], blocks[::-1], strict=True)
            for edge in (before, 2 * count - size - before)
        ]
        image, weight = input.bfloat16(), self.weight.bfloat16()
        return F.conv3d(_fold(F.pad(image, edges)), _fold(F.pad(weight, [0, 1] * 3)))


def _is_in_bf16(images: Tensor) -> bool:
    """Tell whether a processor would convolve these in bfloat16."""
    if images.device.type != "cpu":
        return False
    inside = torch.is_autocast_enabled("cpu")
    return (torch.get_autocast_dtype("cpu") if inside else images.dtype) == torch.bfloat16


def _fold(volumes: Float[Tensor, "n channels x y z"]) -> Float[Tensor, "n _ _x _y _z"]:
    """Make channels of the places in each block of 2 x 2 x 2; channels lie innermost."""
    n, channels, *sizes = volumes.shape
    x, y, z = (size // 2 for size in sizes)
    parts = volumes.reshape(n, channels, x, 2, y, 2, z, 2).permute(0, 2, 4, 6, 1, 3, 5, 7)
    return parts.reshape(n, x, y, z, 8 * channels).permute(0, 4, 1, 2, 3)
