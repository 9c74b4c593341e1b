import numpy as np
import pytest

from hemitwin.pipeline.identification import identification_rates, ranks_of_mates


def _twins(families=8, noise=0.5, seed=0):
    """Two people a family near one another on a plane, and two strangers without a mate."""
    rng = np.random.default_rng(seed)
    homes = np.repeat(rng.normal(size=(families, 2)), 2, axis=0)
    places = np.r_[homes + noise * rng.normal(size=homes.shape), rng.normal(size=(2, 2))]
    distances = np.linalg.norm(places[:, None] - places[None], axis=-1)
    mates = np.r_[np.arange(2 * families).reshape(-1, 2)[:, ::-1].ravel(), -1, -1]
    return distances, mates, [f"f{k // 2}" for k in range(2 * families + 2)]


def test_ranks_are_those_of_sorting_each_row():
    distances, mates, _ = _twins()
    expected = []
    for probe in np.flatnonzero(mates >= 0):
        others = [k for k in np.argsort(distances[probe]) if k != probe]
        expected.append(others.index(mates[probe]) + 1)
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


def test_impossible_mates_are_refused():
    distances, mates, families = _twins()
    with pytest.raises(ValueError, match="must be another row"):
        ranks_of_mates(distances, np.arange(18))
    with pytest.raises(ValueError, match="18 x 18"):
        ranks_of_mates(distances[:3], mates)
    with pytest.raises(ValueError, match="needs pairs"):
        identification_rates(distances, np.full(18, -1), families)
