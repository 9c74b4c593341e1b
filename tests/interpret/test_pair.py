"""Laws of the explained distance."""

import pytest
import torch
from torch.nn import functional as F

from hemitwin.interpret import HasEncoder, LrpConfig, explain_embedding, explain_pair
from hemitwin.interpret.pair import _directions
from hemitwin.models import SiameseNetwork

ENCODERS = ("resnet18", "densenet121", "unet")


def pair(dims, dtype=torch.float32, size=12):
    generator = torch.Generator().manual_seed(11)
    return torch.randn(2, 1, 1, *(size,) * dims, generator=generator, dtype=dtype)


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("rule", ["epsilon", "gamma"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_each_branch_explains_half_of_the_distance(make_encoder, name, dims, rule, dtype):
    tolerance = 1e-4 if dtype == torch.float32 else 1e-9
    siamese = SiameseNetwork(make_encoder(name, spatial_dims=dims)).to(dtype)
    left, right = pair(dims, dtype)
    explained = explain_pair(siamese, left, right, LrpConfig(rule=rule))
    assert isinstance(siamese, HasEncoder)
    assert explained.score == pytest.approx(
        float(siamese(left, right).distance.detach()), abs=1e-5
    )
    assert explained.ledger.closes(tolerance=tolerance), explained.ledger.to_dict()
    assert explained.ledger.explained == pytest.approx(explained.score, rel=tolerance)
    for ledger in (explained.ledger_left, explained.ledger_right):
        assert ledger is not None
        assert ledger.closes(tolerance=tolerance)
        assert ledger.explained == pytest.approx(explained.score / 2, rel=tolerance)


@pytest.mark.parametrize("name", ENCODERS)
def test_branch_maps_equal_single_branch_runs(make_encoder, name):
    encoder = make_encoder(name).double()
    left, right = pair(3, torch.float64)
    explained = explain_pair(SiameseNetwork(encoder), left, right)
    directions, _ = _directions(encoder(torch.cat([left, right])).detach())
    maps = (explained.relevance_left, explained.relevance_right)
    ledgers = (explained.ledger_left, explained.ledger_right)
    for image, direction, relevance, ledger in zip(
        (left, right), directions, maps, ledgers, strict=True
    ):
        alone, alone_ledger = explain_embedding(encoder, image, direction)
        assert ledger is not None
        torch.testing.assert_close(relevance, alone)
        assert ledger.to_dict() == pytest.approx(alone_ledger.to_dict(), abs=1e-12)


@pytest.mark.parametrize("name", ENCODERS)
def test_swapped_sides_swap_their_maps(make_encoder, name):
    siamese = SiameseNetwork(make_encoder(name, spatial_dims=2)).double()
    left, right = pair(2, torch.float64)
    there, back = explain_pair(siamese, left, right), explain_pair(siamese, right, left)
    torch.testing.assert_close(there.relevance_left, back.relevance_right)
    torch.testing.assert_close(there.relevance_right, back.relevance_left)
    assert there.score == pytest.approx(back.score)


def test_equal_images_have_no_distance_and_empty_maps(make_encoder):
    siamese = SiameseNetwork(make_encoder("unet", spatial_dims=2)).double()
    left, _ = pair(2, torch.float64)
    explained = explain_pair(siamese, left, left)
    assert explained.score == pytest.approx(0, abs=1e-12)
    assert torch.isfinite(explained.relevance_left).all()


def test_directions_are_the_gradient_with_norms_held():
    a, b = torch.randn(2, 6, dtype=torch.float64, requires_grad=True)
    unit = [v / v.norm().detach() for v in (a, b)]
    distance = (unit[0] - unit[1]).norm()
    expected = torch.stack(torch.autograd.grad(distance, (a, b)))
    directions, value = _directions(torch.stack([a, b]).detach())
    torch.testing.assert_close(directions, expected)
    assert value == pytest.approx(float(distance.detach()))


def test_pair_equals_the_networks_own_forward_pass(make_encoder):
    from hemitwin.interpret import Lrp  # noqa: PLC0415

    siamese = SiameseNetwork(make_encoder("resnet18", spatial_dims=2)).double()
    left, right = pair(2, torch.float64)
    maps = Lrp(lambda a, b: siamese(a, b).distance).attribute((left, right))
    explained = explain_pair(siamese, left, right)
    torch.testing.assert_close(maps[0], explained.relevance_left)
    torch.testing.assert_close(maps[1], explained.relevance_right)


def test_more_than_one_pair_is_refused(make_encoder):
    siamese = SiameseNetwork(make_encoder("unet", spatial_dims=2))
    x = torch.zeros(2, 1, 16, 16)
    with pytest.raises(ValueError, match="both sides must be one image"):
        explain_pair(siamese, x, x)
    with pytest.raises(ValueError, match="both sides must be one image"):
        explain_pair(siamese, x[:1], F.pad(x[:1], (0, 1)))
    with pytest.raises(ValueError, match="image must be one"):
        explain_embedding(siamese.encoder, x, torch.zeros(8))
