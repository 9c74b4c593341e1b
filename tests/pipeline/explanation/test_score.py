"""Which number of a pair is explained, and which voxels of the decoder's map it means."""

from typing import get_args

import pytest
import torch

from hemitwin.interpret import explain_score
from hemitwin.models import EncoderConfig, HeadConfig, SiameseNetwork, build_encoder, build_head
from hemitwin.pipeline.explanation.request import ScoreName
from hemitwin.pipeline.explanation.score import choose_score, pair_score, region_of_map
from hemitwin.pipeline.stage.errors import UserError

HEADS = {
    "distance": ("distance", "embedding"),
    "joint": ("distance", "logit", "embedding"),
    "weighted_l1": ("distance", "logit", "embedding"),
    "classifier": ("distance", "logit", "embedding"),
    "single": ("distance", "logit", "embedding"),
    "decoder": ("distance", "logit", "map", "embedding"),
    "classes": ("distance", "embedding"),
}
NAMES = get_args(ScoreName)


def siamese(head="decoder", dims=2):
    content = {"width": 4, "blocks": (1,), "spatial_dims": dims, "embedding_dim": 5}
    encoder = build_encoder(EncoderConfig.model_validate(content))
    settings = HeadConfig.model_validate({"name": head, "decoder_width": 4, "classes": 3})
    return SiameseNetwork(encoder, build_head(settings, encoder)).double().eval()


def pair(dims=2, count=1):
    generator = torch.Generator().manual_seed(2)
    shape = (9, 8, 7)[:dims]
    return torch.randn(2, count, 1, *shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("head", HEADS)
def test_without_a_wish_it_is_what_the_head_ranks_by(head):
    config = HeadConfig.model_validate({"name": head})
    assert choose_score(config) == ("logit" if "logit" in HEADS[head] else "distance")
    left, right = pair()
    network = siamese(head)
    score = pair_score(choose_score(config), network, left, right)
    output = network(left, right)
    assert torch.equal(score(output), output.score)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("name", NAMES)
def test_a_score_is_given_only_by_heads_that_have_it(head, name):
    config = HeadConfig.model_validate({"name": head})
    if name in HEADS[head]:
        assert choose_score(config, name) == name
    else:
        known = ", ".join(HEADS[head])
        with pytest.raises(UserError, match=rf"head {head} gives \({known}\), got {name}"):
            choose_score(config, name)


@pytest.mark.parametrize("dims", [2, 3])
def test_each_name_picks_its_number_of_every_pair(dims):
    network, (left, right) = siamese(dims=dims), pair(dims, count=3)
    with torch.no_grad():
        output = network(left, right)
    assert torch.equal(pair_score("distance", network, left, right)(output), output.distance)
    assert output.logit is not None
    assert torch.equal(pair_score("logit", network, left, right)(output), output.logit)
    of_entries = output.embedding_left.mean(1) + output.embedding_right.mean(1)
    torch.testing.assert_close(pair_score("embedding", network, left, right)(output), of_entries)
    score = pair_score("map", network, left[:1], right[:1])
    assert output.anomaly is not None
    region = region_of_map(output.anomaly[:1])
    expected = [float((one * region[0]).sum()) for one in output.anomaly]
    assert score(output).tolist() == pytest.approx(expected)
    assert len(set(expected)) == 3


def test_the_maps_score_is_the_same_place_for_changed_pairs_and_can_be_explained():
    network, (left, right) = siamese(), pair()
    score = pair_score("map", network, left, right)
    with torch.no_grad():
        output, changed = network(left, right), network(left + 1, right)
    assert output.anomaly is not None
    assert changed.anomaly is not None
    region = region_of_map(output.anomaly)
    assert float(score(output)) == pytest.approx(float(output.anomaly[region > 0].mean()))
    assert float(score(changed)) == pytest.approx(float(changed.anomaly[region > 0].mean()))
    found = explain_score(network, left, right, score)
    assert found.score == pytest.approx(float(score(output)))
    assert found.ledger.closes(tolerance=1e-9)


@pytest.mark.parametrize(("head", "name"), [("distance", "logit"), ("joint", "map")])
def test_a_score_that_the_network_does_not_give_is_refused(head, name):
    network, (left, right) = siamese(head), pair()
    with pytest.raises(TypeError, match="the head must give what is explained"):
        pair_score(name, network, left, right)(network(left, right))


def test_the_region_is_the_peaks_by_corners_on_its_side_alone():
    anomaly = torch.full((1, 2, 5, 5), -1.0)
    anomaly[0, 1, 1, 1] = 5.0
    for place in ((1, 2), (2, 3), (3, 2)):  # by a face, then by corners
        anomaly[0, 1][place] = 0.1
    anomaly[0, 1, 0, 4] = 4.0  # positive, apart
    anomaly[0, 0, 1, 1] = 4.0  # in the same place, on the other side
    region = region_of_map(anomaly)
    expected = torch.zeros(1, 2, 5, 5)
    for place in ((1, 1), (1, 2), (2, 3), (3, 2)):
        expected[0, 1][place] = 0.25
    torch.testing.assert_close(region, expected)


@pytest.mark.parametrize("side", [0, 1])
def test_corners_touch_in_space_too(side):
    anomaly = torch.full((1, 2, 3, 3, 3), -1.0, dtype=torch.float64)
    anomaly[0, side, 0, 0, 0] = 1.0
    anomaly[0, side, 1, 1, 1] = 2.0
    anomaly[0, side, 2, 2, 0] = 1.5
    region = region_of_map(anomaly)
    assert region.dtype == anomaly.dtype
    assert (region > 0).sum() == 3
    assert torch.equal(region > 0, anomaly > 0)
    assert float((region * anomaly).sum()) == pytest.approx(1.5)


@pytest.mark.parametrize("peak", [0.0, -0.5])
def test_an_unlikely_peak_stands_alone(peak):
    anomaly = torch.full((1, 2, 3, 4), -1.0)
    anomaly[0, 1, 2, 0] = peak
    region = region_of_map(anomaly)
    assert region[0, 1, 2, 0] == 1
    assert region.sum() == 1


def test_weights_are_a_mean_and_the_map_is_untouched():
    anomaly = torch.randn(1, 2, 6, 5, 4, generator=torch.Generator().manual_seed(0))
    kept = anomaly.clone()
    region = region_of_map(anomaly)
    assert float(region.sum()) == pytest.approx(1)
    assert region.flatten()[anomaly.argmax()] > 0
    assert (anomaly[region > 0] > 0).all()
    assert len(region[region > 0].unique()) == 1
    assert torch.equal(anomaly, kept)
