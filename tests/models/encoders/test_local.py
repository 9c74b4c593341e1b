"""Patterns of each cell, whitened over the training images."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from hemitwin.interpret import Lrp, LrpConfig, explain_pair
from hemitwin.models import (
    HeadConfig,
    LocalEncoder,
    LocalEncoderConfig,
    SiameseNetwork,
    build_head,
    load_weights,
    save_weights,
)

SHAPE = (9, 10, 8)
CONFIG = LocalEncoderConfig(cell_voxels=4, patterns=5)


@pytest.fixture
def images():
    images = torch.randn(12, 1, *SHAPE, generator=torch.Generator().manual_seed(2))
    images[:, :, :4, :4] = 0
    return images


@pytest.fixture
def encoder(images):
    return LocalEncoder.fit(images, CONFIG).eval()


def test_each_cell_is_whitened_as_by_another_library(encoder, images):
    found = encoder(images).detach().reshape(len(images), encoder.config.cells, 5)
    # The cell that begins at the voxels 4, 4, 4: the second of three along each of the first axes.
    cell = images[:, 0, 4:8, 4:8, 4:8].flatten(1).double().numpy()
    expected = PCA(5, whiten=True).fit_transform(cell) * np.sqrt(12 / 11)
    place = encoder.cells.tolist().index((1 * 3 + 1) * 2 + 1)
    # A component's sign is anybody's choice.
    np.testing.assert_allclose(found[:, place].abs().numpy(), np.abs(expected), atol=1e-4)


def test_embeddings_have_mean_zero_and_unit_spread(encoder, images):
    found = encoder(images).detach()
    torch.testing.assert_close(found.mean(0), torch.zeros(found.shape[1]), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.square().mean(0), torch.ones(found.shape[1]))


def test_cells_without_brain_have_no_patterns(encoder, images):
    assert encoder.config.cells == 3 * 3 * 2 - 2
    assert encoder.config.embedding_dim == encoder(images).shape[1] == 16 * 5
    changed = images.clone()
    changed[:, :, :4, :4] = 7.0
    assert torch.equal(encoder(changed), encoder(images))


def test_voxels_that_some_lack_are_not_seen(images):
    images[:3, :, 6] = 0
    encoder = LocalEncoder.fit(images, CONFIG)
    changed = images.clone()
    changed[:, :, 6] += 1
    torch.testing.assert_close(encoder(changed), encoder(images))


def test_it_finds_who_shares_a_pattern_that_pooling_cannot_see():
    """Relatives share noise in one place; everybody varies more, and alike, all over."""
    draw = torch.Generator().manual_seed(0)
    common = torch.randn(3, 1, *SHAPE, generator=draw)
    weights = 5 * torch.randn(40, 3, generator=draw)
    images = torch.randn(40, 1, *SHAPE, generator=draw)
    images[20:, :, :8, :8] = images[:20, :, :8, :8]
    images += torch.einsum("nk,kcxyz->ncxyz", weights, common)
    encoder = LocalEncoder.fit(images, LocalEncoderConfig(patterns=16))
    rows = torch.nn.functional.normalize(encoder(images).detach())
    likeness = rows[:20] @ rows[20:].T
    assert (likeness.argmax(dim=1) == torch.arange(20)).float().mean() > 0.9
    plain = torch.nn.functional.normalize(images.flatten(1))
    by_voxels = plain[:20] @ plain[20:].T
    assert (by_voxels.argmax(dim=1) == torch.arange(20)).float().mean() < 0.7


def test_few_images_bound_the_patterns(images):
    encoder = LocalEncoder.fit(images[:3], CONFIG)
    assert encoder.config.patterns == 3
    # Three images span two directions about their mean: the third is rounding, and left out.
    assert (encoder(images).reshape(12, -1, 3)[..., 2].abs() < 1e-5).all()


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("rule", ["epsilon", "gamma"])
def test_relevance_of_a_pair_closes_and_lies_in_the_cells(dims, rule):
    images = torch.randn(8, 2, *SHAPE[:dims], generator=torch.Generator().manual_seed(1)) + 2
    images[:, :, -1] = 0
    settings = LocalEncoderConfig(spatial_dims=dims, patterns=4)
    network = SiameseNetwork(LocalEncoder.fit(images, settings)).eval()
    found = explain_pair(network, images[:1], images[1:2], LrpConfig(rule=rule))
    assert found.ledger.closes(found.score)
    assert (found.relevance_left[:, :, -1] == 0).all()
    assert found.relevance_left.abs().sum() > 0


def test_relevance_of_a_dimension_lies_in_its_cell(encoder, images):
    place = encoder.cells.tolist().index((1 * 3 + 1) * 2 + 1)
    explained = Lrp(encoder, LrpConfig(rule="epsilon")).explain(images[:1], place * 5)
    outside = explained.relevance[0].clone()
    outside[..., 4:8, 4:8, 4:8] = 0
    assert (outside == 0).all()
    assert explained.relevance[0].abs().sum() > 0


def test_bf16_does_not_drown_the_small_patterns(images):
    images += 100 * images[:, :, 5:6, 5:6, 5:6]
    encoder = LocalEncoder.fit(images, LocalEncoderConfig(patterns=11))
    plain = encoder(images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(encoder(images), plain)


def test_a_file_brings_it_back(encoder, images, tmp_path):
    network = SiameseNetwork(encoder).eval()
    save_weights(tmp_path / "w", network, {})
    loaded, _ = load_weights(tmp_path / "w")
    assert torch.equal(loaded.embed(images), network.embed(images))
    assert isinstance(loaded.encoder, LocalEncoder)
    assert loaded.encoder.config == encoder.config


def test_what_it_cannot_take_is_refused(encoder, images):
    with pytest.raises(ValueError, match="two images"):
        LocalEncoder.fit(images[:1], CONFIG)
    with pytest.raises(ValueError, match="share brain"):
        LocalEncoder.fit(torch.zeros(3, 1, *SHAPE), CONFIG)
    with pytest.raises(ValueError, match="images that the local patterns are of"):
        encoder(images[..., 1:])
    with pytest.raises(ValueError, match=r"LocalEncoder\.fit"):
        LocalEncoder(CONFIG)
    with pytest.raises(TypeError, match="decoder needs"):
        build_head(HeadConfig(name="decoder"), encoder)
