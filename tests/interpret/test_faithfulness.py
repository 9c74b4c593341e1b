"""What taking regions out does to a score, held against slow loops."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hemitwin.interpret import (
    RegionEffects,
    explain_score,
    mean_height,
    rank_agreement,
    voxel_average_precision,
)
from hemitwin.models import HeadConfig, SiameseNetwork, build_head

REGIONS = np.array([4, 1, 3])


def siamese(make_encoder, shake, head="distance", dims=2):
    encoder = make_encoder("resnet18", spatial_dims=dims, width=4, blocks=(1,))
    config = HeadConfig.model_validate({"name": head})
    return SiameseNetwork(encoder, shake(build_head(config, encoder))).double().eval()


def pair(dims=2):
    shape, generator = (9, 8, 7)[:dims], torch.Generator().manual_seed(1)
    return torch.randn(2, 1, 1, *shape, generator=generator, dtype=torch.float64)


def labels(dims=2, *, whole=False):
    values = [*REGIONS] if whole else [0, 8, *REGIONS]
    found = np.random.default_rng(2).choice(values, size=(9, 8, 7)[:dims])
    return torch.from_numpy(found)


def score(output):
    return output.score


def effects_of(network, images, places, regions=REGIONS, batch_pairs=8):
    return RegionEffects(network, images[0], images[1], places, regions, score, batch_pairs)


def symmetrise(images, inside):
    """Give both images the mean of the two, voxel by voxel, where asked for."""
    left, right = (image.clone() for image in images)
    for place in torch.nonzero(inside):
        at = (0, 0, *place.tolist())
        mean = (left[at] + right[at]) / 2
        left[at], right[at] = mean, mean
    return left, right


def score_of(network, images):
    with torch.no_grad():
        return float(score(network(*images)))


@pytest.mark.parametrize(("head", "dims"), [("distance", 2), ("classifier", 2), ("distance", 3)])
@pytest.mark.parametrize("batch_pairs", [1, 2, 8])
def test_ablation_is_a_slow_loop_that_symmetrises_each_region(
    make_encoder, shake, head, dims, batch_pairs
):
    network, images, places = siamese(make_encoder, shake, head, dims), pair(dims), labels(dims)
    kept = images.clone()
    found = effects_of(network, images, places, batch_pairs=batch_pairs).ablate()
    before = score_of(network, images)
    expected = [
        before - score_of(network, symmetrise(images, places == value))
        for value in REGIONS.tolist()
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    assert np.abs(found).min() > 0
    assert torch.equal(images, kept)


def test_a_region_without_voxels_has_no_effect(make_encoder, shake):
    network, images, places = siamese(make_encoder, shake), pair(), labels()
    found = effects_of(network, images, places, np.array([4, 77])).ablate()
    assert found[1] == 0
    assert found[0] == pytest.approx(effects_of(network, images, places).ablate()[0])


@pytest.mark.parametrize("batch_pairs", [1, 3, 8])
def test_deletion_and_insertion_are_slow_loops_in_the_order_asked_for(
    make_encoder, shake, batch_pairs
):
    network, images, places = siamese(make_encoder, shake), pair(), labels()
    effects = effects_of(network, images, places, batch_pairs=batch_pairs)
    order = [2, 0, 1]
    gone = torch.zeros_like(places, dtype=torch.bool)
    falling, rising = [], []
    for row in (None, *order):
        if row is not None:
            gone |= places == int(REGIONS[row])
        falling.append(score_of(network, symmetrise(images, gone)))
        rising.append(score_of(network, symmetrise(images, ~gone)))
    np.testing.assert_allclose(effects.delete(order), falling, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(effects.insert(order), rising, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(effects.delete([1]), [falling[0], falling[0] - effects.ablate()[1]])


def test_regions_that_cover_everything_lead_from_the_pair_to_equal_images(make_encoder, shake):
    network, images = siamese(make_encoder, shake), pair()
    effects = effects_of(network, images, labels(whole=True))
    whole, equal = effects.span()
    mean = images.mean(0)
    assert whole == pytest.approx(score_of(network, images), rel=1e-9)
    assert equal == pytest.approx(score_of(network, (mean, mean)), abs=1e-12)
    assert equal < whole
    deleted, inserted = effects.delete([0, 1, 2]), effects.insert([0, 1, 2])
    for curve, ends in ((deleted, (whole, equal)), (inserted, (equal, whole))):
        assert curve.shape == (4,)
        assert curve[[0, -1]].tolist() == pytest.approx(list(ends), abs=1e-12)
    # Last in is first out: the states are the same.
    np.testing.assert_allclose(effects.insert([2, 1, 0]), deleted[::-1], atol=1e-12)


def test_an_empty_order_leaves_the_ends(make_encoder, shake):
    effects = effects_of(siamese(make_encoder, shake), pair(), labels())
    assert effects.delete([]).tolist() == [effects.span()[0]]
    assert effects.insert([]).tolist() == [effects.span()[1]]


class Weighing(torch.nn.Module):
    """Embed an image as its voxels, each times its weight."""

    spatial_dims, feature_layers = 2, ()

    def forward(self, x):
        weights = torch.randn(9, 8, generator=torch.Generator().manual_seed(6)).to(x)
        return (x * weights).flatten(1)


def test_effects_on_a_linear_score_are_the_regions_sums_of_relevance():
    network, images, places = SiameseNetwork(Weighing()).eval(), pair(), labels()

    def difference(output):
        return (output.embedding_left - output.embedding_right).sum(1)

    found = explain_score(network, images[0], images[1], difference)
    both = (found.relevance_left + found.relevance_right)[0, 0]
    relevance = np.array([float(both[places == int(value)].sum()) for value in REGIONS])
    effects = RegionEffects(network, images[0], images[1], places, REGIONS, difference).ablate()
    np.testing.assert_allclose(effects, relevance)
    assert rank_agreement(relevance, effects) == pytest.approx(1)


def test_labels_on_another_grid_and_several_pairs_are_refused(make_encoder, shake):
    network, images, places = siamese(make_encoder, shake), pair(), labels()
    for wrong in (places[1:], places.T.contiguous(), places[None]):
        with pytest.raises(ValueError, match=r"labels must lie on the images' grid \(9, 8\)"):
            effects_of(network, images, wrong)
    with pytest.raises(ValueError, match="both sides must be one image"):
        effects_of(network, images.repeat(1, 2, 1, 1, 1), places)


@pytest.mark.parametrize(
    ("curve", "whole", "equal", "height"),
    [
        ([4.0, 3.0, 2.0], 4.0, 2.0, 0.5),
        ([-1.0, -1.0], 1.0, -1.0, 0.0),
        ([1.0, 5.0, 3.0], 3.0, 1.0, 1.0),
        # A score that falls for more different images: heights still go from equal to whole.
        ([-2.0, -1.0], -2.0, 0.0, 0.75),
    ],
)
def test_mean_height_lies_between_both_scores(curve, whole, equal, height):
    assert mean_height(np.array(curve), whole, equal) == pytest.approx(height)


def test_no_height_where_both_scores_are_the_same():
    assert math.isnan(mean_height(np.array([1.0, 2.0]), whole=1.0, equal=1.0))


def test_rank_agreement_is_spearmans_and_unknown_for_constants():
    one, other = np.array([1.0, 2.0, 3.0, 40.0]), np.array([-1.0, 0.5, 0.25, 0.75])
    ranks = np.corrcoef([0, 1, 2, 3], [0, 2, 1, 3])[0, 1]
    assert rank_agreement(one, other) == pytest.approx(ranks)
    assert rank_agreement(one, -one) == pytest.approx(-1)
    constant = np.full(4, 0.1)
    for relevance, effects in ((constant, one), (one, constant), (constant, constant)):
        assert math.isnan(rank_agreement(relevance, effects))


maps = hnp.arrays(float, (3, 4, 2), elements=st.floats(-9, 9).map(lambda v: round(v, 1)))
masks = hnp.arrays(bool, (3, 4, 2)).filter(lambda m: m.any())


@settings(max_examples=40)
@given(maps, masks)
def test_average_precision_is_that_of_plain_loops(relevance, mask):
    values = [max(float(v), 0.0) for v in relevance.ravel()]
    truth = [bool(m) for m in mask.ravel()]
    area, recalled = 0.0, 0.0
    for threshold in sorted(set(values), reverse=True):
        chosen = [inside for v, inside in zip(values, truth, strict=True) if v >= threshold]
        recall = sum(chosen) / sum(truth)
        area += (recall - recalled) * sum(chosen) / len(chosen)
        recalled = recall
    assert voxel_average_precision(relevance, mask) == pytest.approx(area)


def test_average_precision_of_perfect_empty_and_bad_maps():
    mask = np.zeros((3, 4), dtype=bool)
    mask[1, 1:] = True
    assert voxel_average_precision(mask.astype(np.float32), mask) == 1
    # Nothing positive tells no voxel from another: as by chance.
    assert voxel_average_precision(-np.ones((3, 4)), mask) == pytest.approx(0.25)
    with pytest.raises(ValueError, match="not empty"):
        voxel_average_precision(np.ones((2, 2)), np.zeros((2, 2), dtype=bool))
    with pytest.raises(ValueError, match="of the relevance's shape"):
        voxel_average_precision(np.ones((2, 2)), np.ones((2, 3), dtype=bool))
    with pytest.raises(ValueError, match="must be finite"):
        voxel_average_precision(np.full((2, 2), np.inf), np.ones((2, 2), dtype=bool))
