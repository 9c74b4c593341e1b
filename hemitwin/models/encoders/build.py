"""The encoder's contract and the table of those that exist."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from hemitwin.models.architectures import EncoderName
from hemitwin.models.config import EncoderConfig
from hemitwin.models.encoders.covidnet import build_covidnet
from hemitwin.models.encoders.densenet import build_densenet
from hemitwin.models.encoders.efficientnet import build_efficientnet
from hemitwin.models.encoders.mobilenet import build_mobilenet
from hemitwin.models.encoders.pooled import PooledEncoder
from hemitwin.models.encoders.resnet import build_resnet
from hemitwin.models.encoders.unet import build_unet
from hemitwin.models.encoders.unet_encoder import build_unet_encoder
from hemitwin.models.encoders.vgg import build_vgg


@runtime_checkable
class Encoder(Protocol):
    """What turns images (B, C, *spatial) into embeddings (B, D)."""

    spatial_dims: int
    feature_layers: tuple[str, ...]

    def __call__(self, x: Tensor, /) -> Tensor:
        """Embed (B, C, *spatial) as (B, D), with whatever hooks the module carries."""
        ...

    def forward(self, x: Tensor, /) -> Tensor:
        """Embed (B, C, *spatial) as (B, D)."""
        ...


Builder = Callable[[EncoderConfig], PooledEncoder]
"""From settings to an encoder, its weights as torch initialises them."""

_FAMILIES: Mapping[Builder, tuple[EncoderName, ...]] = {
    build_unet: ("unet",),
    build_unet_encoder: ("unet_encoder",),
    build_resnet: ("resnet10", "resnet18", "resnet34", "resnet50", "resnext50"),
    build_densenet: ("densenet121", "densenet169"),
    build_efficientnet: (
        "efficientnet_b0",
        "efficientnet_b1",
        "efficientnet_b2",
        "efficientnet_b3",
    ),
    build_mobilenet: ("mobilenet_v3",),
    build_vgg: ("vgg11", "vgg16"),
    build_covidnet: ("covidnet",),
}

BUILDERS: Mapping[EncoderName, Builder] = MappingProxyType(
    {name: build for build, names in _FAMILIES.items() for name in names}
)
"""Encoder name to its builder."""


def build_encoder(
    config: EncoderConfig, generator: torch.Generator | None = None
) -> PooledEncoder:
    """
    Build an encoder with freshly drawn weights.

    Parameters
    ----------
    config : EncoderConfig
        Architecture and sizes.
    generator : torch.Generator, optional
        Source of the weights; without it they come from seed 0. Torch's global state is neither
        read nor advanced.

    Returns
    -------
    PooledEncoder
        In training mode, on the CPU, float32.

    Examples
    --------
    >>> encoder = build_encoder(EncoderConfig(width=4, spatial_dims=2, embedding_dim=5))
    >>> encoder(torch.zeros(2, 1, 32, 32)).shape
    torch.Size([2, 5])
    """
    generator = generator or torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        encoder = BUILDERS[config.name](config)
    _draw_weights(encoder, generator)
    return encoder


def _draw_weights(module: nn.Module, generator: torch.Generator) -> None:
    """Draw weights after He et al. 2015 (arXiv:1502.01852); norms stay at scale 1 and shift 0."""
    for layer in module.modules():
        if isinstance(layer, nn.modules.conv._ConvNd | nn.Linear):  # noqa: SLF001
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
