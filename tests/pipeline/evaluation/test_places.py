"""The AUC at the known place, and the peak and the side of the arithmetic's map."""

import numpy as np
import pandas as pd
import pytest
import torch

from hemitwin.models import (
    EncoderConfig,
    NormativeAsymmetry,
    PairOutput,
    Reference,
    SiameseNetwork,
    build_encoder,
)
from hemitwin.pipeline.cohort.split import Split
from hemitwin.pipeline.evaluation.breakdown import SIZE_BINS_MM3, auc_by_bin
from hemitwin.pipeline.evaluation.places import found_places, places_of
from hemitwin.pipeline.evaluation.score_table import ScoreTable
from hemitwin.pipeline.training.sources.halves import score_pairs
from hemitwin.pipeline.training.sources.pairs import ScoredPair
from hemitwin.transforms import LesionSpec

SHAPE = (12, 14, 10)
BOX = (slice(3, 6), slice(5, 8), slice(4, 7))
ELSEWHERE = (slice(7, 10), slice(9, 12), slice(2, 5))


def halves(seed):
    generator = torch.Generator().manual_seed(seed)
    inside = torch.zeros(SHAPE)
    inside[1:-1, 1:-1, 1:-1] = 1
    base = 3 + torch.randn((1, *SHAPE), generator=generator) * 0.2
    noise = torch.randn((1, *SHAPE), generator=generator) * 0.2
    return base * inside, (base + noise) * inside


def spec(side, seed=0):
    return LesionSpec(
        kind="ellipsoid", side=side, seed=seed, centre_mm=(19.0, 1.0, 1.0), volume_mm3=3000.0,
        contrast=-0.5,
    )  # fmt: skip


def lesioned(subject, seed, side, change, *, truth=BOX):
    """A pair with a change in the box, said to be at the truth."""
    pair = dict(zip("LR", halves(seed), strict=True))
    pair[side] = pair[side].clone()
    pair[side][0][BOX] += change
    changed = torch.zeros(SHAPE, dtype=torch.bool)
    changed[truth] = True
    return ScoredPair(subject, pair["L"], pair["R"], spec(side), changed)


def healthy(subject, seed):
    return ScoredPair(subject, *halves(seed), None)


@pytest.fixture(scope="module")
def known():
    pairs = [halves(seed) for seed in range(100, 140)]
    reference = Reference.fit([half for pair in pairs for half in pair], smooth_voxels=0.5)
    return NormativeAsymmetry.fit(pairs, voxel_mm=4.0), reference


def test_a_clear_lesion_is_found_at_its_place_on_its_side(known):
    normative, reference = known
    groups = [
        [healthy(f"s{k}", k), lesioned(f"s{k}", k, "LR"[k % 2], 1.5 * (-1) ** (k // 2))]
        for k in range(8)
    ]
    rows = places_of(normative, groups, reference=reference)
    assert rows.iloc[::2].isna().all().all()
    found = rows.iloc[1::2]
    assert found["known_place"].tolist() == [1.0] * 8
    assert found["peak_inside"].tolist() == [1.0] * 8
    assert found["side_found"].tolist() == list("LRLRLRLR")


def test_a_change_elsewhere_is_no_peak_and_no_more_than_chance_at_the_place(known):
    normative, reference = known
    groups = [
        [healthy(f"s{k}", k), lesioned(f"s{k}", k, "L", 1.5, truth=ELSEWHERE)] for k in range(30)
    ]
    found = places_of(normative, groups, reference=reference).iloc[1::2]
    assert found["peak_inside"].tolist() == [0.0] * 30
    assert 0.35 < found["known_place"].mean() < 0.65


def test_a_place_is_held_against_all_healthy_pairs_at_that_place(known):
    normative, _ = known
    groups = [[healthy("a", 1), healthy("b", 2)], [lesioned("c", 3, "R", 0.0)]]
    (place,) = places_of(normative, groups)["known_place"].dropna()
    means = []
    for pair in (groups[0][0], groups[0][1], groups[1][0]):
        found = normative.map(pair.left[None], pair.right[None])[0, 0]
        means.append(abs(float(found[BOX].mean())))
    assert place == np.mean([means[2] > means[0], means[2] > means[1]])
    assert places_of(normative, groups)["side_found"].isna().all()  # nothing tells the side


def test_a_lesion_below_a_voxel_and_pairs_without_one_have_no_place(known):
    normative, reference = known
    small = lesioned("a", 1, "L", 1.0, truth=(slice(0, 0),) * 3)
    rows = places_of(normative, [[healthy("a", 1), small]], reference=reference)
    assert rows.isna().all().all()
    assert found_places(ScoreTable(table(rows, side=[None, "L"]))) == {}


def table(rows, side):
    plain = {"subject": [f"s{k // 2}" for k in range(len(rows))], "side": side}
    plain |= {"lesioned": [False, True] * (len(rows) // 2), "volume_mm3": 3000.0}
    plain |= {"role": ["healthy", "lesion"] * (len(rows) // 2), "distance": 1.0}
    return pd.DataFrame(plain).join(rows)


def test_the_means_are_told_for_all_and_by_size_and_are_no_scores():
    columns = ["known_place", "peak_inside", "side_found"]
    lines = [(None, None, None), (1.0, 1.0, "L"), (None, None, None), (0.5, 0.0, "L")]
    rows = pd.DataFrame(lines, columns=columns)
    scored = ScoreTable(table(rows, side=[None, "L", None, "R"]))
    assert scored.score_names == ("distance",)
    found = found_places(scored, draws=50)
    assert {name: one.value for name, one in found.items()} == {
        "known_place": 0.75,
        "peak_inside": 0.5,
        "right_side": 0.5,
    }
    (size,) = auc_by_bin(scored, "volume_mm3", SIZE_BINS_MM3, draws=50)
    assert size.places == found_places(scored, draws=50, seed=0)
    assert size.to_dict()["places"]["known_place"]["value"] == 0.75


def test_a_networks_own_map_is_told_beside_the_arithmetics():
    lines = [(None, None), (1.0, "L"), (None, None), (0.0, "R")]
    rows = pd.DataFrame(lines, columns=["map_inside", "map_side"])
    scored = ScoreTable(table(rows, side=[None, "L", None, "R"]))
    assert scored.score_names == ("distance",)
    found = found_places(scored, draws=50)
    assert {name: one.value for name, one in found.items()} == {
        "map_inside": 0.5,
        "map_right_side": 1.0,
    }


class Mapping(SiameseNetwork):
    """A network whose maps are handed in."""

    def __init__(self, anomaly):
        super().__init__(build_encoder(EncoderConfig(width=4, blocks=(1,), stem_stride=1)))
        self.drawn = anomaly

    def forward(self, left, right):
        del right
        count, nothing = len(left), torch.zeros(len(left))
        anomaly = self.drawn.expand(count, -1, -1, -1, -1)
        return PairOutput(nothing[:, None], nothing[:, None], nothing, nothing, anomaly)


@pytest.mark.parametrize(("side", "inside"), [("L", True), ("R", True), ("R", False)])
def test_a_map_names_the_side_and_the_place_where_it_is_highest(side, inside):
    anomaly = torch.zeros(2, *SHAPE)
    anomaly["LR".index(side)][BOX if inside else ELSEWHERE] = 5.0
    pairs = [(healthy("a", 1), lesioned("a", 1, side, 1.0))]
    network = Mapping(anomaly)
    rows = score_pairs(network, pairs, split=Split({"a": "test"}, 0), fold="test")
    assert rows["map_side"][1] == side
    assert np.isnan(rows["map_inside"][0])
    assert rows["map_inside"][1] == float(inside)


def test_on_larger_voxels_a_pair_is_where_half_of_them_is():
    pair = lesioned("a", 1, "L", 1.0)
    coarse = pair.coarse(2)
    assert coarse.left.shape == (1, 6, 7, 5)
    assert pair.coarse(1) is pair
    expected = torch.zeros(6, 7, 5)
    expected[2, 3, 2:3] = 1  # 4-5, 6-7, 4-5: whole
    expected[1, 3, 2] = expected[2, 2, 2] = expected[2, 3, 3] = 1  # halves
    assert coarse.changed is not None
    assert torch.equal(coarse.changed, expected > 0)
    assert healthy("a", 1).coarse(2).changed is None
