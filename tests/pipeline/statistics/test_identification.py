from pathlib import Path

import numpy as np
import pytest
import torch

from hemitwin.pipeline.cohort.brain_pairs import People
from hemitwin.pipeline.cohort.brains import Brain
from hemitwin.pipeline.cohort.demographics import Demographics
from hemitwin.pipeline.cohort.kinship import Kinship
from hemitwin.pipeline.cohort.split import Split
from hemitwin.pipeline.evaluation.brain_evaluation import _identify
from hemitwin.pipeline.stage.bids import Case
from hemitwin.pipeline.statistics.identification import identification_rates, ranks_of_mates
from hemitwin.pipeline.training.config import RunConfig
from hemitwin.pipeline.training.runs import Run
from hemitwin.pipeline.training.task import SiameseTask


def _twins(families=8, noise=0.5, seed=0):
    """Two people a family near one another on a plane, and two strangers without a mate."""
    rng = np.random.default_rng(seed)
    homes = np.repeat(rng.normal(size=(families, 2)), 2, axis=0)
    places = np.r_[homes + noise * rng.normal(size=homes.shape), rng.normal(size=(2, 2))]
    distances = np.linalg.norm(places[:, None] - places[None], axis=-1)
    names = [f"f{k // 2}" for k in range(2 * families + 2)]
    mates = _alike(names)
    mates[-2:] = False
    return distances, mates, names


def _alike(names):
    """Everybody is everybody else's mate who has the same name."""
    return (np.array(names)[:, None] == names) & ~np.eye(len(names), dtype=bool)


def test_ranks_are_those_of_sorting_each_row():
    distances, mates, _ = _twins()
    expected = []
    for probe in np.flatnonzero(mates.any(1)):
        others = [k for k in np.argsort(distances[probe]) if k != probe]
        expected.append(others.index(np.flatnonzero(mates[probe])[0]) + 1)
    assert len(set(expected)) > 2
    assert ranks_of_mates(distances, mates).tolist() == expected


def test_rates_rise_with_k_and_hold_the_bootstrap_over_families():
    distances, mates, families = _twins()
    rates = identification_rates(distances, mates, families, draws=200, seed=2)
    ranks = ranks_of_mates(distances, mates)
    assert [rates[k].value for k in (1, 5, 10)] == [(ranks <= k).mean() for k in (1, 5, 10)]
    by_family = (ranks <= 1).reshape(-1, 2).mean(1)
    times = np.random.default_rng(2).multinomial(8, np.full(8, 1 / 8), size=200)
    low, high = np.quantile(times @ by_family / 8, [0.025, 0.975])
    assert (rates[1].low, rates[1].high) == pytest.approx((low, high))


def test_a_network_that_sees_nothing_identifies_nobody():
    _, mates, families = _twins()
    rates = identification_rates(np.zeros((18, 18)), mates, families, ks=(1, 16, 17), draws=10)
    assert (rates[1].value, rates[16].value) == (0.0, 0.0)
    assert rates[17].reason == "there are only 17 others to find the mate among"


def _scans(counts, noise, seed=0):
    """Some scans a person, each near where the person is."""
    rng = np.random.default_rng(seed)
    people = np.repeat(np.arange(len(counts)), counts)
    places = 10.0 * rng.normal(size=(len(counts), 2))[people] + noise * rng.normal(
        size=(len(people), 2)
    )
    distances = np.linalg.norm(places[:, None] - places[None], axis=-1)
    names = [f"p{k}" for k in people]
    return distances, _alike(names), names


def test_scans_of_one_person_are_no_impostors_of_one_another():
    distances, mates, names = _scans((3, 3, 3, 2, 5, 1), noise=1e-3)
    rates = identification_rates(distances, mates, names, ks=(1, 5), draws=50)
    assert rates[1].value == rates[1].low == rates[1].high == 1.0


def test_a_rank_counts_who_is_no_mate_and_nearer_than_the_nearest_mate():
    distances, mates, names = _scans((3, 3, 2, 4), noise=8.0)
    expected = []
    for probe, name in enumerate(names):
        own = [k for k, other in enumerate(names) if other == name and k != probe]
        nearest = min(distances[probe, k] for k in own)
        strangers = [k for k, other in enumerate(names) if other != name]
        expected.append(1 + sum(distances[probe, k] <= nearest for k in strangers))
    assert len(set(expected)) > 2
    assert ranks_of_mates(distances, mates).tolist() == expected


def test_a_rank_that_none_can_miss_is_no_figure():
    """Of six scans, three of each person, the nearest mate is at the fourth place at the worst."""
    distances, mates, names = _scans((3, 3), noise=8.0)
    rates = identification_rates(distances, mates, names, ks=(3, 4), draws=10)
    assert rates[3].reason == ""
    assert rates[4].reason == "there are only 4 others to find the mate among"


def test_impossible_mates_are_refused():
    distances, mates, families = _twins()
    with pytest.raises(ValueError, match="must be another row"):
        ranks_of_mates(distances, np.eye(18, dtype=bool))
    with pytest.raises(ValueError, match="18 x 18"):
        ranks_of_mates(distances[:3], mates)
    with pytest.raises(ValueError, match="needs pairs"):
        identification_rates(distances, np.zeros((18, 18), dtype=bool), families)


@pytest.fixture
def rescans(tmp_path):
    """A run on scans of one person, and three scans of each of four people."""
    config = RunConfig.model_validate(
        {
            "data": {"prepared": tmp_path},
            "encoder": {"name": "resnet18", "width": 8, "blocks": (1, 1), "embedding_dim": 2},
            "pairs": {"positive": "same"},
            "evaluation": {"bootstrap": 100},
        }
    )
    people = [f"sub-{k}" for k in range(4)]
    split = Split(dict.fromkeys(people, "test"), 0)
    network = SiameseTask(config, steps=1).network.eval()
    grid = torch.zeros(1, 2, 2, 2)
    mask = np.ones((2, 2, 2), dtype=bool)
    brains = [
        Brain(grid, mask, np.eye(4), 1, 1.0, Case(name, f"{name}_ses-{k}", Path("x")))
        for name in people
        for k in range(3)
    ]
    return Run(tmp_path, config, split, network, 0.5, 0.5, ""), brains


def test_three_scans_of_each_person_that_a_network_tells_apart_are_all_identified(rescans):
    run, brains = rescans
    angles = torch.arange(4).repeat_interleave(3) + torch.tensor([0.0, 0.01, 0.03]).repeat(4)
    embeddings = torch.stack([angles.cos(), angles.sin()], dim=1)
    rates = _identify(run, brains, embeddings, People(Kinship(()), Demographics()))
    assert (rates[1].value, rates[1].low) == (1.0, 1.0)
    assert rates[5].value == 1.0
    assert rates[10].reason == "there are only 10 others to find the mate among"
