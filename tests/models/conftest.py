"""Small versions of every encoder."""

import pytest
import torch

from hemitwin.models import EncoderConfig

RESIDUAL = {"width": 8, "blocks": (1, 1, 1), "stem_stride": 2}
DENSE = {"width": 8, "blocks": (2, 1), "stem_stride": 4}
INVERTED = {"width": 8, "blocks": (1, 2, 1), "stem_stride": 1}
SMALL = {
    "unet": {"width": 4, "levels": 3},
    "unet_encoder": {"width": 4, "levels": 3},
    "resnet10": RESIDUAL,
    "resnet18": RESIDUAL,
    "resnet34": RESIDUAL,
    "resnet50": RESIDUAL,
    "resnext50": RESIDUAL,
    "densenet121": DENSE,
    "densenet169": DENSE,
    "efficientnet_b0": INVERTED,
    "efficientnet_b1": INVERTED,
    "efficientnet_b2": INVERTED,
    "efficientnet_b3": INVERTED,
    "mobilenet_v3": {**INVERTED, "blocks": (1, 1, 1, 2), "pooling": "max"},
    "vgg11": {"width": 4, "blocks": (1, 2)},
    "vgg16": {"width": 4, "blocks": (2, 1)},
    "covidnet": {"width": 8, "blocks": (2, 3), "stem_stride": 4},
}

CASES = (  # what differs in more than numbers
    "unet",
    "unet_encoder",
    "unet_encoder+attention",
    "resnet18",
    "resnet50",
    "resnext50",
    "densenet121",
    "efficientnet_b3",
    "mobilenet_v3",
    "vgg11",
    "covidnet",
)


def small_config(case, **changes):
    """Shrink a case: the encoder's name, with `+attention` for its gates."""
    name, _, gates = case.partition("+")
    given = {"embedding_dim": 6, **SMALL[name], **({"attention": True} if gates else {})}
    return EncoderConfig(name=name, **{**given, **changes})


@pytest.fixture(scope="session", name="small")
def _small():
    return small_config


@pytest.fixture(name="case", params=CASES)
def _case(request):
    return request.param


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Threads cost more than they bring on images this small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
