"""The second channel: deviation from reference images."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from hemitwin.interpret import explain_pair
from hemitwin.models import (
    EncoderConfig,
    HeadConfig,
    Reference,
    SiameseNetwork,
    build_encoder,
    build_head,
    load_weights,
    save_weights,
)

SHAPE = (8, 9, 8)


@pytest.fixture
def images():
    images = torch.randn(6, 1, *SHAPE, generator=torch.Generator().manual_seed(2))
    images[:, :, 0] = 0
    return images


@pytest.fixture
def siamese(images):
    config = EncoderConfig(width=4, blocks=(1, 1), stem_stride=1, embedding_dim=5, in_channels=2)
    return SiameseNetwork(build_encoder(config), None, Reference.fit(images)).eval()


def smooth(values, sd):
    """The mean over neighbours inside the brain, by another library."""
    inside = (values != 0).astype(float)
    axes = (0, *(sd,) * (values.ndim - 1))
    one, share = (
        gaussian_filter(part, axes, mode="constant", truncate=3.0) for part in (values, inside)
    )
    return one / np.maximum(share, 0.2) * inside


def test_mean_and_sd_are_those_of_scipy(images):
    found = Reference.fit(iter(images), smooth_voxels=1.0)
    values = smooth(images[:, 0].double().numpy(), 1.0)
    expected = np.sqrt(values.var(0, ddof=1) + 0.02)
    np.testing.assert_allclose(found.mean.numpy(), values.mean(0), atol=1e-5)
    np.testing.assert_allclose(found.sd.numpy()[1:], expected[1:], atol=1e-5)
    deviation = found.deviation(images)[:, 0].numpy()
    np.testing.assert_allclose(
        deviation[:, 1:], ((values - values.mean(0)) / expected)[:, 1:], atol=1e-4
    )


def test_channels_are_the_image_and_its_bounded_deviation(images):
    reference = Reference(torch.full(SHAPE, 1.0), torch.full(SHAPE, 0.5), torch.ones(1))
    images[0, 0, 1, 0, 0] = 100.0
    seen = reference(images)
    assert torch.equal(seen[:, :1], images)
    assert seen[0, 1, 1, 0, 0] == 6.0
    assert (seen[:, 1, 0] == 0).all(), "background deviates from nothing"
    torch.testing.assert_close(seen[1, 1, 3, 3, 3], (images[1, 0, 3, 3, 3] - 1) / 0.5)


def test_the_edge_where_some_have_no_brain_has_no_deviation(images):
    images = images.repeat(5, 1, 1, 1, 1)
    images[:4, :, 2] = 0
    images[0, :, 5] = 0
    reference = Reference.fit(images)
    assert torch.isinf(reference.sd[2]).all()
    assert (reference.deviation(images)[:, 0, 2] == 0).all()
    assert torch.isfinite(reference.sd[5]).all()
    # The one image without brain there takes no part.
    alone = Reference.fit(images[1:])
    torch.testing.assert_close(reference.mean[5], alone.mean[5])
    torch.testing.assert_close(reference.sd[5], alone.sd[5])


def test_asymmetry_is_the_mean_of_the_largest_differences(images):
    reference = Reference.fit(images)
    left, right = images[:3], images[3:]
    found = reference.asymmetry(left, right)
    assert torch.equal(found, reference.asymmetry(right, left))
    assert (reference.asymmetry(left, left) == 0).all()
    difference = (reference.deviation(left) - reference.deviation(right)).abs()[1, 0, 1:]
    # 0.5 % of 7 x 9 x 8 voxels.
    torch.testing.assert_close(found[1], difference.flatten().topk(2).values.mean())


def test_another_grid_and_too_few_images_are_refused(images):
    with pytest.raises(ValueError, match="the reference's grid"):
        Reference.fit(images)(images[..., :-1])
    with pytest.raises(ValueError, match="two images"):
        Reference.fit(images[:1])


def test_a_file_brings_the_reference_back(siamese, images, tmp_path):
    save_weights(tmp_path / "w", siamese, {})
    loaded, _ = load_weights(tmp_path / "w")
    there, back = siamese(images[:3], images[3:]), loaded(images[:3], images[3:])
    assert torch.equal(there.distance, back.distance)
    assert torch.equal(siamese.embed(images[:3]), back.embedding_left)


def test_relevance_comes_back_to_the_one_channel_of_the_image(siamese, images):
    found = explain_pair(siamese, images[:1], images[1:2])
    assert found.relevance_left.shape == (1, 1, *SHAPE)
    assert found.ledger.closes(found.score)
    total = float(found.relevance_left.double().sum() + found.relevance_right.double().sum())
    assert total == pytest.approx(found.ledger.input, rel=1e-5)


def test_decoder_sees_the_deviation_at_its_finest_level(images):
    config = EncoderConfig(width=4, blocks=(1, 1), stem_stride=1, embedding_dim=5, in_channels=2)
    settings = HeadConfig(name="decoder", decoder_width=4)
    encoder = build_encoder(config)
    network = SiameseNetwork(encoder, build_head(settings, encoder), Reference.fit(images))
    there, back = network(images[:3], images[3:]), network(images[3:], images[:3])
    assert there.anomaly is not None
    assert back.anomaly is not None
    torch.testing.assert_close(there.anomaly, back.anomaly.flip(1))
    assert network.reference is not None
    network.reference.mean += 1
    assert not torch.allclose(network(images[:3], images[3:]).anomaly, there.anomaly)


def test_without_smoothing_deviations_are_of_each_voxel(images):
    found = Reference.fit(images, smooth_voxels=0.0)
    torch.testing.assert_close(found.mean, images[:, 0].mean(0))
    assert torch.equal(found.kernel, torch.ones(1))


def test_profiles_multiply_to_the_correlation_of_deviations(images):
    reference = Reference.fit(images, smooth_voxels=0.0)
    rows = reference.profile(images)
    deviations = reference.deviation(images)[:, 0, 1:].flatten(1).numpy()
    np.testing.assert_allclose((rows @ rows.T).numpy(), np.corrcoef(deviations), atol=1e-5)
