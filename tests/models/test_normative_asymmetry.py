"""The difference of two halves, in units of what is usual at each place."""

import pytest
import torch

from hemitwin.models import (
    NormativeAsymmetry,
    SiameseNetwork,
    build_encoder,
    load_weights,
    normative_asymmetry,
)
from hemitwin.models.config import EncoderConfig
from hemitwin.models.weights import save_weights

SHAPE = (12, 14, 10)
VOXEL_MM = 4.0


def pairs_of(count, seed, modes=2):
    """Halves whose difference is a few common shapes of random size, and noise."""
    fixed = torch.Generator().manual_seed(7)
    shapes = torch.randn((modes, 1, *SHAPE), generator=fixed)
    generator = torch.Generator().manual_seed(seed)
    inside = torch.zeros(SHAPE, dtype=torch.bool)
    inside[1:-1, 1:-1, 1:-1] = True
    found = []
    for _ in range(count):
        base = 3 + torch.randn((1, *SHAPE), generator=generator) * 0.3
        sizes = torch.randn(modes, generator=generator)
        turned = torch.einsum("k,kcxyz->cxyz", sizes, shapes)
        noise = torch.randn((1, *SHAPE), generator=generator) * 0.3
        found.append((base * inside, (base + turned + noise) * inside))
    return found


def stacked(pairs):
    return tuple(torch.stack([pair[k] for pair in pairs]) for k in (0, 1))


@pytest.fixture(scope="module")
def norms():
    return NormativeAsymmetry.fit(pairs_of(40, 1), voxel_mm=VOXEL_MM)


def test_new_pairs_without_a_lesion_lie_within_the_norms(norms):
    values = norms.map(*stacked(pairs_of(30, 2)))
    spread = values[:, :, 2:-2, 2:-2, 2:-2].std()
    assert 0.85 < spread < 1.15


def test_norms_of_modes_that_the_pairs_are_made_of_would_be_too_narrow(monkeypatch):
    name = "hemitwin.models.normative_asymmetry._modes"
    take, seen = normative_asymmetry._modes, []
    monkeypatch.setattr(name, lambda rows, most: seen.append(rows) or take(rows, most))
    crossed = NormativeAsymmetry.fit(pairs_of(16, 1), voxel_mm=VOXEL_MM)
    assert [len(rows) for rows in seen] == [12, 13, 13, 13, 13, 16]
    monkeypatch.setattr(name, lambda _, most: take(seen[-1], most))
    own = NormativeAsymmetry.fit(pairs_of(16, 1), voxel_mm=VOXEL_MM)
    new = stacked(pairs_of(40, 2))
    inner = (..., *[slice(2, -2)] * 3)
    spreads = [float(norms.map(*new)[inner].std()) for norms in (crossed, own)]
    assert spreads[0] == pytest.approx(1, abs=0.12)
    assert spreads[1] > spreads[0] + 0.1


def test_a_lesion_is_where_the_map_is_highest_and_dark_or_bright(norms):
    left, right = stacked(pairs_of(6, 3))
    left[:, :, 5:8, 6:9, 4:7] -= 1.5
    values = norms.map(left, right)[:, 0]
    for one in values:
        place = torch.tensor(torch.unravel_index(one.abs().argmax(), SHAPE))
        assert ((place >= torch.tensor([4, 5, 3])) & (place <= torch.tensor([8, 9, 7]))).all()
        assert one[tuple(place)] < 0
    healthy = norms.score(*stacked(pairs_of(6, 3)))
    assert (norms.score(left, right) > healthy).all()


def test_what_brains_have_in_common_counts_little(norms):
    without = NormativeAsymmetry.fit(pairs_of(40, 1), voxel_mm=VOXEL_MM, modes=0)
    left, right = stacked(pairs_of(20, 4))
    lesioned = left.clone()
    lesioned[:, :, 5:8, 6:9, 4:7] -= 0.5
    gains = [
        float((one.score(lesioned, right) > one.score(left, right).max()).float().mean())
        for one in (without, norms)
    ]
    assert gains[1] > gains[0] + 0.3


def test_a_large_lesion_does_not_hide_behind_its_own_scale(norms):
    left, right = stacked(pairs_of(4, 5))
    scores = []
    for edge in (3, 6, 9):
        lesioned = left.clone()
        lesioned[:, :, 1 : 1 + edge, 1 : 1 + edge, 1:-1] -= 2.0
        scores.append(norms.score(lesioned, right))
    # However large it is, it is found; its own scale is held to that of the reference.
    assert (torch.stack(scores) > 2 * norms.score(left, right)).all()


def test_halves_that_are_swapped_change_the_sign_alone():
    left, right = stacked(pairs_of(20, 1))
    mean = NormativeAsymmetry.fit(
        [*zip(left, right, strict=True), *zip(right, left, strict=True)], voxel_mm=VOXEL_MM
    )
    one, other = mean.map(left[:2], right[:2]), mean.map(right[:2], left[:2])
    assert torch.corrcoef(torch.stack([one.flatten(), -other.flatten()]))[0, 1] > 0.99


def test_norms_come_back_with_the_weights(norms, tmp_path):
    config = EncoderConfig(name="resnet18", width=8, blocks=(1,))
    network = SiameseNetwork(build_encoder(config), normative=norms).eval()
    save_weights(tmp_path / "a.safetensors", network, {})
    again, _ = load_weights(tmp_path / "a.safetensors")
    assert again.normative is not None
    pair = stacked(pairs_of(3, 6))
    torch.testing.assert_close(again.normative.score(*pair), norms.score(*pair))


def test_one_pair_has_no_norm():
    with pytest.raises(ValueError, match="two pairs at least; got 1"):
        NormativeAsymmetry.fit(pairs_of(1, 1), voxel_mm=VOXEL_MM)


def test_halves_on_another_grid_are_refused(norms):
    small = torch.ones(1, 1, 4, 4, 4)
    with pytest.raises(ValueError, match="the norms' grid"):
        norms.map(small, small)
