"""What an encoder is given of images, and the way of relevance back to them."""

import pytest
import torch

from hemitwin.interpret import check_swap, explain_pair, explain_score
from hemitwin.models import (
    HeadConfig,
    InputChannels,
    InputConfig,
    NormativeAsymmetry,
    Reference,
    SiameseNetwork,
    build_encoder,
    build_head,
    coarse_inside,
    load_weights,
    pack,
    save_weights,
)
from hemitwin.models.config import EncoderConfig
from hemitwin.models.input_channels import spread, unpack

SHAPE = (9, 8, 10)
ALL = InputConfig(packing=2, other=True, difference=True)


def halves(count, seed):
    """Standardised halves, the outermost columns of which are background."""
    images = torch.randn(count, 1, *SHAPE, generator=torch.Generator().manual_seed(seed))
    images[:, :, :2] = 0
    return images


def norms(factor):
    lefts, rights = (coarse_inside(halves(9, seed), factor) for seed in (1, 2))
    normative = NormativeAsymmetry.fit(zip(lefts, rights, strict=True), voxel_mm=4.0)
    return Reference.fit([*lefts, *rights]), normative


def channels(config=ALL):
    return InputChannels(config, *norms(config.packing))


@pytest.mark.parametrize("size", [(5,), (4, 6), (5, 4, 7)])
def test_blocks_become_channels_and_come_back(size):
    images = torch.rand(2, 3, *size)
    packed = pack(images, 2)
    assert packed.shape == (2, 3 * 2 ** len(size), *(-(-n // 2) for n in size))
    assert torch.equal(unpack(packed, 2, size), images)
    corner = (slice(None), slice(None), *(slice(0, None, 2),) * len(size))
    assert torch.equal(packed[:, :: 2 ** len(size)], images[corner])


@pytest.mark.parametrize("size", [(5, 4), (5, 4, 7)])
def test_spreading_keeps_the_sum_also_where_a_block_is_cut(size):
    grid = tuple(-(-n // 2) for n in size)
    coarse = torch.rand(2, 1, *grid, dtype=torch.float64)
    found = spread(coarse, 2, size)
    assert found.shape == (2, 1, *size)
    torch.testing.assert_close(found.sum(), coarse.sum())


def test_a_blocks_mean_is_that_of_the_brain_in_it():
    image = torch.zeros(1, 1, 4, 4, 4)
    image[..., :2, :2, :2] = 3.0
    image[..., 2:, 2:, :3] = 2.0  # a whole block, and half of the next
    image[..., 0, 2, 0] = 5.0  # an eighth of one
    found = coarse_inside(image, 2)[0, 0]
    expected = torch.zeros(2, 2, 2)
    expected[0, 0, 0], expected[1, 1, 0], expected[1, 1, 1] = 3.0, 2.0, 2.0
    assert torch.equal(found, expected)


def test_a_pair_is_seen_in_channels_of_both_and_of_their_difference():
    seen, (left, right) = channels(), halves(2, 5).split(1)
    found = seen.of_pair(left, right)
    assert seen.widths(1, 3) == {"image": 8, "other": 8, "deviation": 1, "difference": 4}
    assert found.shape == (2, 21, 5, 4, 5)
    assert torch.equal(found[:, :8], pack(torch.cat([left, right]), 2))
    assert torch.equal(found[:, 8:16], found[:, :8].flip(0))
    assert torch.equal(found[0, 17:], -found[1, 17:])
    small = [coarse_inside(half, 2) for half in (left, right)]
    assert seen.normative is not None
    assert seen.reference is not None
    assert torch.equal(found[:1, 17:18], seen.normative.map(*small))
    assert torch.equal(found[:, 16:17], seen.reference.deviation(torch.cat(small)))


def test_what_is_seen_of_the_difference_is_bounded_and_tells_widths_apart():
    seen, (left, right) = channels(InputConfig(difference=True)), halves(2, 5).split(1)
    assert seen.normative is not None
    wide, scaled, rest, whole = seen.normative.seen(100 * left, right)[0]
    assert wide.abs().max() > 8
    assert rest.abs().max() <= 8
    assert whole.abs().max() <= 8
    assert not torch.equal(rest, whole)  # the modes
    known = wide != 0
    (ratio,) = (scaled[known] / wide[known]).unique(sorted=False)[:1]
    torch.testing.assert_close(scaled, wide * ratio)


def test_images_of_such_a_network_are_never_seen_alone():
    image = halves(1, 5)
    for config in (InputConfig(other=True), InputConfig(difference=True)):
        with pytest.raises(ValueError, match=r"image must come with the one .* got it alone"):
            channels(config).of_images(image)
    packed = channels(InputConfig(packing=2)).of_images(image)
    assert packed.shape == (1, 9, 5, 4, 5)


def test_a_difference_without_norms_is_refused():
    with pytest.raises(ValueError, match=r"input.difference must have the norms .* got none"):
        InputChannels(InputConfig(difference=True)).of_pair(*halves(2, 5).split(1))


def test_relevance_goes_back_to_the_image_that_a_channel_is_of():
    seen = channels()
    relevance = torch.zeros(2, 21, 5, 4, 5, dtype=torch.float64)
    relevance[0, 0, 2, 1, 1] = 1.0  # the left image's own
    relevance[0, 8, 2, 1, 1] = 2.0  # what its branch sees of the right one
    relevance[1, 16, 2, 1, 1] = 4.0  # the right one's deviation
    relevance[0, 18, 2, 1, 1] = 8.0  # the difference
    found, shares = seen.to_images(relevance, SHAPE, pairs=True)
    assert shares == {"image": 1.0, "other": 2.0, "deviation": 4.0, "difference": 8.0}
    left, right = found[:, 0]
    assert left.sum() == pytest.approx(1 + 4)
    assert right.sum() == pytest.approx(2 + 4 + 4)
    block = (slice(4, 6), slice(2, 4), slice(2, 4))
    assert left[block].sum() == pytest.approx(5)
    assert left[4, 2, 2] == pytest.approx(1 + 4 / 8)
    assert right[4, 2, 2] == pytest.approx(2 + 8 / 8)


def network(head="decoder", config=ALL):
    reference, normative = norms(config.packing)
    seen = InputChannels(config, reference, normative)
    count = sum(seen.widths(1, 3).values())
    encoder = build_encoder(
        EncoderConfig(name="unet_encoder", width=4, levels=2, in_channels=count, embedding_dim=6),
        torch.Generator().manual_seed(3),
    )
    settings = HeadConfig.model_validate({"name": head, "decoder_width": 4})
    built = build_head(settings, encoder, torch.Generator().manual_seed(4))
    return SiameseNetwork(encoder, built, reference, normative, config).eval(), settings


def test_maps_lie_on_the_images_grid_and_weights_come_back_with_all_that_is_seen(tmp_path):
    siamese, settings = network()
    left, right = halves(4, 5).split(2)
    with torch.inference_mode():
        found = siamese(left, right)
    assert found.anomaly.shape == (2, 2, *SHAPE)
    save_weights(tmp_path / "w.safetensors", siamese, {}, settings)
    again, _ = load_weights(tmp_path / "w.safetensors")
    assert again.inputs == ALL
    with torch.inference_mode():
        back = again(left, right)
    torch.testing.assert_close(back.score, found.score, rtol=1e-3, atol=1e-3)  # modes: float16
    torch.testing.assert_close(back.distance, found.distance, rtol=1e-3, atol=1e-3)


def test_exchanged_images_by_exchanged_norms_give_exchanged_maps():
    siamese, _ = network()
    left, right = halves(2, 5).split(1)
    with torch.inference_mode():
        there, back = siamese(left, right), siamese.exchanged()(right, left)
    torch.testing.assert_close(back.score, there.score)
    torch.testing.assert_close(back.anomaly, there.anomaly.flip(1))
    plain, _ = network(config=InputConfig(other=True))
    assert plain.exchanged() is plain


@pytest.mark.parametrize("head", ["distance", "decoder"])
def test_ledgers_of_all_channels_close_and_the_maps_hold_their_sum(head):
    siamese, _ = network(head)
    siamese = siamese.double()
    left, right = halves(2, 5).double().split(1)
    if head == "distance":
        found = explain_pair(siamese, left, right)
        assert found.ledger_left is None
    else:
        found = explain_score(siamese, left, right, lambda output: output.score)
    assert found.ledger.closes(tolerance=1e-9)
    total = float(found.relevance_left.sum() + found.relevance_right.sum())
    assert total == pytest.approx(found.ledger.input, abs=1e-9)
    assert sum(found.channels.values()) == pytest.approx(total, abs=1e-9)
    assert set(found.channels) == {"image", "other", "deviation", "difference"}
    assert all(found.channels.values())


def test_the_check_of_exchanged_images_exchanges_the_norms_too():
    siamese, _ = network()

    def explain(model, left, right):
        found = explain_score(model, left, right, lambda output: output.score)
        return found.relevance_left, found.relevance_right

    assert check_swap(explain, siamese, *halves(2, 5).split(1)).passed
    siamese.exchanged = lambda: siamese
    assert not check_swap(explain, siamese, *halves(2, 5).split(1)).passed
