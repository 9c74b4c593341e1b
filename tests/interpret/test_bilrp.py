"""Laws of the matches between regions of two images."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from hemitwin.interpret import (
    RESIDUES,
    LrpConfig,
    RegionMatches,
    explain_embedding,
    match_regions,
    principal_directions,
)
from hemitwin.models import Reference, SiameseNetwork

DIM = 6
TINY = {"width": 4, "blocks": (1,), "embedding_dim": DIM}
REGIONS = np.array([5, 2, 9])
"""Not sorted: the rows' order is that of the question."""


def siamese(make_encoder, dims=2, reference=None, **settings):
    channels = 1 if reference is None else 2
    sizes = {**TINY, "spatial_dims": dims, "in_channels": channels, **settings}
    return SiameseNetwork(make_encoder("resnet18", **sizes), None, reference).double().eval()


def pair(dims=2, seed=0, count=2):
    shape = (9, 8, 7)[:dims]
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 1, 1, *shape, generator=generator, dtype=torch.float64)


def labels(dims=2):
    """Each region, none (0) and one that nobody asks for (7), at random, for both images."""
    rng = np.random.default_rng(3)
    return rng.choice([0, 7, *REGIONS], size=(2, *(9, 8, 7)[:dims]))


def orthonormal(count, seed=0):
    square = np.random.default_rng(seed).normal(size=(DIM, DIM))
    return torch.from_numpy(np.linalg.qr(square)[0][:count])


def matches(network, images, places, directions, config=None) -> RegionMatches:
    return match_regions(
        network,
        images[0],
        images[1],
        labels_left=places[0],
        labels_right=places[1],
        regions=REGIONS,
        directions=directions,
        config=config,
    )


def cosine(network, images):
    with torch.no_grad():
        embeddings = network.embed(torch.cat(list(images)))
    return float(F.cosine_similarity(*embeddings.split(1)))


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("rule", ["epsilon", "gamma"])
def test_all_directions_matches_sum_to_the_cosine_similarity(make_encoder, dims, rule):
    network, images = siamese(make_encoder, dims), pair(dims)
    config = LrpConfig(rule=rule)
    found = matches(network, images, labels(dims), orthonormal(DIM), config)
    assert found.matrix.shape == (len(REGIONS) + len(RESIDUES),) * 2
    assert found.similarity == pytest.approx(cosine(network, images), rel=1e-9)
    assert found.matrix.sum() == pytest.approx(found.similarity, rel=1e-9, abs=1e-9)
    assert found.neglected == pytest.approx(0, abs=1e-9)
    assert found.directions == DIM
    assert found.ledger_error < 1e-9
    # Nothing is lost in a row that must not have any.
    assert (np.abs(found.matrix).max(axis=1) > 0).all()


def test_the_matrix_is_that_of_all_pairs_of_voxels(make_encoder):
    network, images, places = siamese(make_encoder), pair(), labels()
    directions = orthonormal(4)
    with torch.no_grad():
        norms = [float(network.embed(image).norm()) for image in images]
    voxels = torch.zeros(72, 72, dtype=torch.float64)
    rest = np.zeros((4, 2))
    sums = np.zeros((4, 2))
    for k, direction in enumerate(directions):
        maps = []
        for side, image in enumerate(images):
            relevance, ledger = explain_embedding(network.encoder, image, direction)
            maps.append(relevance.flatten() / norms[side])
            rest[k, side] = (ledger.bias + ledger.stabiliser + ledger.constant) / norms[side]
            sums[k, side] = ledger.input / norms[side]
        voxels += torch.outer(*maps)
    found = matches(network, images, places, directions)
    masks = [[np.ravel(place == value) for value in REGIONS] for place in places]
    for mask in masks:
        mask.append(~np.any(mask, axis=0))
    for i, rows in enumerate(masks[0]):
        for j, columns in enumerate(masks[1]):
            expected = float(voxels.numpy()[np.ix_(rows, columns)].sum())
            assert found.matrix[i, j] == pytest.approx(expected, rel=1e-9, abs=1e-12)
    # The last row and column hold what constants earned, with all the other image's voxels.
    assert found.matrix[-1, :-1].sum() == pytest.approx(float(rest[:, 0] @ sums[:, 1]))
    assert found.matrix[:-1, -1].sum() == pytest.approx(float(sums[:, 0] @ rest[:, 1]))
    assert found.matrix[-1, -1] == pytest.approx(float(rest[:, 0] @ rest[:, 1]))


def test_which_orthonormal_basis_does_not_matter_when_none_is_left_out(make_encoder):
    network, images, places = siamese(make_encoder), pair(), labels()
    bases = (
        torch.eye(DIM, dtype=torch.float64),
        orthonormal(DIM),
        orthonormal(DIM, seed=1),
        principal_directions(network.embed(torch.cat(list(pair(seed=4, count=5))))),
    )
    found = [matches(network, images, places, basis).matrix for basis in bases]
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("count", [1, 3, DIM - 1])
def test_what_fewer_directions_neglect_is_stated(make_encoder, count):
    network, images = siamese(make_encoder), pair()
    found = matches(network, images, labels(), orthonormal(count))
    with torch.no_grad():
        one, other = F.normalize(network.embed(torch.cat(list(images))))
    kept = float((orthonormal(count) @ one) @ (orthonormal(count) @ other))
    assert found.directions == count
    assert found.matrix.sum() == pytest.approx(kept, rel=1e-9)
    assert found.neglected == pytest.approx(1 - kept / float(one @ other), rel=1e-7)
    assert abs(found.neglected) > 1e-6


def test_exchanged_images_transpose_the_matrix(make_encoder):
    network, images, places = siamese(make_encoder), pair(), labels()
    there = matches(network, images, places, orthonormal(4))
    back = matches(network, images.flip(0), places[::-1], orthonormal(4))
    np.testing.assert_allclose(back.matrix, there.matrix.T, rtol=1e-9, atol=1e-12)
    assert back.similarity == pytest.approx(there.similarity)
    assert not np.allclose(there.matrix, there.matrix.T)


def test_rows_follow_the_order_of_the_regions_and_absent_ones_are_empty(make_encoder):
    network, images, places = siamese(make_encoder), pair(), labels()
    whole = matches(network, images, places, orthonormal(2)).matrix
    asked = np.array([9, 1, 5, 100])
    found = match_regions(
        network,
        *images,
        labels_left=places[0],
        labels_right=places[1],
        regions=asked,
        directions=orthonormal(2),
    ).matrix
    rows = [2, 0]  # 9 and 5 in REGIONS
    np.testing.assert_allclose(found[np.ix_([0, 2], [0, 2])], whole[np.ix_(rows, rows)])
    assert not found[[1, 3]].any()
    assert not found[:, [1, 3]].any()
    # Region 2, not asked for now, counts as unassigned.
    np.testing.assert_allclose(found[4, 4], whole[np.ix_([1, 3], [1, 3])].sum())


def test_an_image_is_one_with_itself(make_encoder):
    network, (image, _) = siamese(make_encoder), pair()
    place = labels()[0]
    found = matches(network, (image, image), (place, place), orthonormal(DIM))
    assert found.similarity == pytest.approx(1)
    np.testing.assert_allclose(found.matrix, found.matrix.T, atol=1e-12)
    assert np.linalg.eigvalsh(found.matrix).min() > -1e-9


def test_with_a_reference_matches_sum_to_the_similarity_too(make_encoder):
    reference = Reference.fit(pair(seed=5, count=6).flatten(1, 2))
    network, images = siamese(make_encoder, reference=reference), pair()
    found = matches(network, images, labels(), orthonormal(DIM))
    assert found.similarity == pytest.approx(cosine(network, images), rel=1e-9)
    assert found.matrix.sum() == pytest.approx(found.similarity, rel=1e-9, abs=1e-9)


def test_labels_on_another_grid_and_several_pairs_are_refused(make_encoder):
    network, images, places = siamese(make_encoder), pair(), labels()
    for wrong in ((places[0][1:], places[1]), (places[0], places[1].T), (places, places)):
        with pytest.raises(ValueError, match=r"labels must lie on the images' grid \(9, 8\)"):
            matches(network, images, wrong, orthonormal(2))
    with pytest.raises(ValueError, match="both sides must be one image"):
        matches(network, images.repeat(1, 2, 1, 1, 1), places, orthonormal(2))


@pytest.mark.parametrize("rows", [3, 40])
def test_principal_directions_are_those_of_the_moments_not_centred(rows):
    embeddings = torch.randn(rows, DIM, generator=torch.Generator().manual_seed(1)) + 0.5
    found = principal_directions(embeddings)
    assert found.shape == (DIM, DIM)
    torch.testing.assert_close(found @ found.T, torch.eye(DIM, dtype=torch.float64))
    unit = F.normalize(embeddings.double())
    values, vectors = np.linalg.eigh((unit.T @ unit).numpy())
    lengths = (unit @ found.T).square().sum(0)
    np.testing.assert_allclose(lengths, values[::-1], atol=1e-6)
    for k in range(min(rows, DIM)):
        assert abs(found[k].numpy() @ vectors[:, -1 - k]) == pytest.approx(1, abs=1e-6)
    assert torch.equal(principal_directions(embeddings, 2), found[:2])


@pytest.mark.parametrize("count", [0, -1, DIM + 1])
def test_a_count_of_directions_out_of_range_is_refused(count):
    with pytest.raises(ValueError, match=f"from 1 to the embedding's 6 dimensions; got {count}"):
        principal_directions(torch.ones(2, DIM), count)
