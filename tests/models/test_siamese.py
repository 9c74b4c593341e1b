"""Laws of the pair and of its file."""

import pytest
import torch
from torch import nn

from hemitwin.models import (
    EncoderConfig,
    SiameseNetwork,
    build_encoder,
    load_weights,
    pair_distance,
    save_weights,
)
from hemitwin.models.encoders.pooled import PooledEncoder

CONFIG = EncoderConfig(width=4, blocks=(1, 1), stem_stride=1, embedding_dim=5)


@pytest.fixture
def siamese():
    return SiameseNetwork(build_encoder(CONFIG)).eval()


@pytest.fixture
def sides():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, 3, 1, 8, 9, 8, generator=generator)


def test_score_is_the_same_for_swapped_sides(siamese, sides):
    left, right = sides
    there, back = siamese(left, right), siamese(right, left)
    torch.testing.assert_close(there.distance, back.distance)
    torch.testing.assert_close(there.embedding_left, back.embedding_right)


def test_distance_of_an_image_to_itself_is_zero_with_finite_gradient(siamese, sides):
    output = siamese(sides[0], sides[0])
    assert output.distance.max() < 1e-6
    a = torch.ones(2, 3, requires_grad=True)
    pair_distance(a, a.detach()).sum().backward()
    assert a.grad is not None
    assert torch.isfinite(a.grad).all()


def test_encoder_is_called_once(siamese, sides):
    calls = []
    siamese.encoder.register_forward_hook(lambda *_: calls.append(1))
    siamese(*sides)
    assert calls == [1]


def test_distance_is_the_formula():
    a, b = torch.randn(2, 4, 7, dtype=torch.float64)
    cosine = (a * b).sum(1) / a.norm(dim=1) / b.norm(dim=1)
    torch.testing.assert_close(pair_distance(a, b), (2 - 2 * cosine).sqrt())


def test_sides_of_different_shape_are_refused(siamese):
    with pytest.raises(ValueError, match="both sides must have one shape"):
        siamese(torch.zeros(1, 1, 8, 8, 8), torch.zeros(1, 1, 8, 8, 9))


def test_saved_network_comes_back_with_its_metadata(siamese, sides, tmp_path):
    path = tmp_path / "weights.safetensors"
    save_weights(path, siamese, {"b": "2", "a": "1"})
    first = path.read_bytes()
    loaded, metadata = load_weights(path)
    assert metadata == {"a": "1", "b": "2"}
    assert isinstance(loaded.encoder, PooledEncoder)
    assert loaded.encoder.config == CONFIG
    assert torch.equal(loaded(*sides).distance, siamese(*sides).distance)
    save_weights(path, siamese, {"a": "1", "b": "2"})
    assert path.read_bytes() == first
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_network_that_cannot_be_rebuilt_is_not_saved(tmp_path):
    class Own(nn.Module):
        spatial_dims = 3
        feature_layers = ()

        def forward(self, x):
            return x.flatten(1)

    with pytest.raises(TypeError, match="must come from build_encoder; got Own"):
        save_weights(tmp_path / "w", SiameseNetwork(Own()), {})


def test_damaged_and_foreign_weights_are_refused(siamese, tmp_path):
    path = tmp_path / "weights.safetensors"
    with pytest.raises(FileNotFoundError, match="weights must be a file"):
        load_weights(path)
    save_weights(path, siamese, {})
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match="must be a whole safetensors file"):
        load_weights(path)
    from safetensors.torch import save_file  # noqa: PLC0415

    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="'hemitwin' header"):
        load_weights(path)
