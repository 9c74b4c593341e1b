"""What the papers set for each encoder, and which settings it has."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

EncoderName = Literal[
    "unet",
    "unet_encoder",
    "resnet10",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnext50",
    "densenet121",
    "densenet169",
    "efficientnet_b0",
    "efficientnet_b1",
    "efficientnet_b2",
    "efficientnet_b3",
    "mobilenet_v3",
    "vgg11",
    "vgg16",
    "covidnet",
]


@dataclass(frozen=True)
class Architecture:
    """
    Defaults of one encoder; an empty one means that it has no such setting.

    Attributes
    ----------
    width : int
        Channels of the first layer.
    blocks : tuple of int
        Blocks of each stage.
    strides : tuple of int
        Downsampling of each stage; empty: 1 for the first, 2 for any further one.
    stems : tuple of int
        Downsamplings that may precede the first stage, the default first.
    top_stride : int
        Downsampling after the last stage.
    levels : int
        Resolution levels.
    attention : bool
        Whether attention gates can be asked for.
    """

    width: int
    blocks: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    stems: tuple[int, ...] = ()
    top_stride: int = 1
    levels: int = 0
    attention: bool = False

    @property
    def settings(self) -> frozenset[str]:
        """Names of the settings that the encoder has besides those of all encoders."""
        there = {
            "blocks": self.blocks,
            "stem_stride": self.stems,
            "levels": self.levels,
            "attention": self.attention,
        }
        return frozenset(name for name, value in there.items() if value)


def _residual(*blocks: int) -> Architecture:
    return Architecture(width=64, blocks=blocks, stems=(4, 2, 1))


def _efficient(width: int, *blocks: int) -> Architecture:
    return Architecture(width=width, blocks=blocks, strides=(1, 2, 2, 2, 1, 2, 1), stems=(2, 1))


def _vgg(*blocks: int) -> Architecture:
    return Architecture(width=64, blocks=blocks, top_stride=2)


ARCHITECTURES: Mapping[EncoderName, Architecture] = MappingProxyType(
    {
        "unet": Architecture(width=32, levels=5),
        "unet_encoder": Architecture(width=32, levels=5, attention=True),
        "resnet10": _residual(1, 1, 1, 1),
        "resnet18": _residual(2, 2, 2, 2),
        "resnet34": _residual(3, 4, 6, 3),
        "resnet50": _residual(3, 4, 6, 3),
        "resnext50": _residual(3, 4, 6, 3),
        "densenet121": _residual(6, 12, 24, 16),
        "densenet169": _residual(6, 12, 32, 32),
        "efficientnet_b0": _efficient(32, 1, 2, 2, 3, 3, 4, 1),
        "efficientnet_b1": _efficient(32, 2, 3, 3, 4, 4, 5, 2),
        "efficientnet_b2": _efficient(32, 2, 3, 3, 4, 4, 5, 2),
        "efficientnet_b3": _efficient(40, 2, 3, 3, 5, 5, 6, 2),
        "mobilenet_v3": Architecture(
            width=16, blocks=(1, 2, 3, 4, 2, 3), strides=(1, 2, 2, 2, 1, 2), stems=(2, 1)
        ),
        "vgg11": _vgg(1, 1, 2, 2, 2),
        "vgg16": _vgg(2, 2, 3, 3, 3),
        "covidnet": Architecture(width=56, blocks=(3, 4, 6, 3), stems=(4, 2, 1)),
    }
)
"""Encoder name to its defaults."""
