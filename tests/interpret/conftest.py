"""Networks with weights as after some training, and after a little of it."""

import pytest
import torch

from hemitwin.models import EncoderConfig, build_encoder

SMALL = {
    "resnet18": {"width": 8, "blocks": (2, 1, 1), "stem_stride": 2},
    "densenet121": {"width": 8, "blocks": (2, 2), "stem_stride": 4},
    "unet": {"width": 4, "levels": 3},
}


def shake(network, seed=0):
    """Move biases, norm parameters and running statistics off their initial values."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in network.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2, generator=generator)
        elif tensor.ndim == 1 and tensor.is_floating_point():
            tensor.add_(torch.empty_like(tensor).normal_(0, 0.2, generator=generator))
    return network.eval()


def train(network, shape, steps=5):
    """Teach a network to tell images of noise apart, as a few steps do."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(4, *shape, generator=generator)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    network.train()
    for _ in range(steps):
        rows = torch.nn.functional.normalize(network(images))
        loss = (rows @ rows.T - torch.eye(4)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


def make_encoder(name, **changes):
    """Build a small shaken encoder."""
    config = EncoderConfig(name=name, **{"embedding_dim": 8, **SMALL[name], **changes})
    return shake(build_encoder(config))


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Threads cost more than they bring on images this small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session", name="shake")
def _shake():
    return shake


@pytest.fixture(scope="session", name="train")
def _train():
    return train


@pytest.fixture(scope="session", name="make_encoder")
def _make_encoder():
    return make_encoder
