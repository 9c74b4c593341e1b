import numpy as np
import pytest
from scipy.stats import norm

from hemitwin.pipeline.statistics.bootstrap import Clusters
from hemitwin.pipeline.statistics.detection_threshold import (
    detection_threshold,
    threshold_of_validation,
)
from hemitwin.pipeline.statistics.metrics import youden_threshold
from hemitwin.pipeline.statistics.psychometric import Detections, fit_psychometric

GUESS, LAPSE, MIDPOINT, SLOPE = 0.05, 0.04, 3.2, 4.0


def _truth(volumes):
    rise = 1 / (1 + np.exp(-SLOPE * (np.log10(volumes) - MIDPOINT)))
    return GUESS + (1 - GUESS - LAPSE) * rise


def _detections(n=1200, seed=0):
    rng = np.random.default_rng(seed)
    volumes = 10 ** rng.uniform(2, 4.6, n)
    people = Clusters.of([f"sub-{k % 60}" for k in range(n)])
    return Detections(volumes, rng.random(n) < _truth(volumes), people, GUESS)


def _all(seen, n=40):
    volumes = np.geomspace(310, 40000, n)
    return Detections(volumes, np.full(n, seen), Clusters.of([f"s{k % 8}" for k in range(n)]), 0.0)


@pytest.mark.parametrize("seed", [2, 3])
def test_the_curve_that_made_the_detections_is_found(seed):
    curve = fit_psychometric(_detections(seed=seed), draws=100)
    grid = np.geomspace(100, 40000, 400)
    d50, d90 = (grid[np.argmax(_truth(grid) >= level)] for level in (0.5, 0.9))
    assert curve.d50.value == pytest.approx(d50, rel=0.15)
    assert curve.d50.low < d50 < curve.d50.high
    assert curve.d90.low < d90 < curve.d90.high
    assert np.abs(curve.at(grid) - _truth(grid)).max() < 0.06
    low, high = curve.band(grid)
    assert ((low <= curve.at(grid)) & (curve.at(grid) <= high)).mean() > 0.95


def test_the_fit_is_the_most_likely_one():
    data = _detections(n=300)
    curve = fit_psychometric(data, draws=1)
    log_mm3 = np.log10(data.volumes_mm3)

    def log_likelihood(midpoint, slope, lapse):
        rise = 1 / (1 + np.exp(-slope * (log_mm3 - midpoint)))
        chance = GUESS + (1 - GUESS - lapse) * rise
        return np.where(data.detected, np.log(chance), np.log(1 - chance)).sum()

    best = log_likelihood(curve.midpoint, curve.slope, curve.lapse)
    others = [
        log_likelihood(midpoint, slope, lapse)
        for midpoint in np.linspace(2.6, 3.8, 41)
        for slope in np.linspace(1.5, 7, 23)
        for lapse in (0.0, 0.03, 0.06, 0.1)
    ]
    assert 0 <= curve.lapse <= 0.1
    assert best >= max(others) - 1e-3


def test_sizes_that_were_not_tested_are_bounds():
    found, missed = (fit_psychometric(_all(seen), draws=20) for seen in (True, False))
    assert str(found.d50) == "< 310"
    assert str(missed.d50) == "> 40000"
    assert missed.d90.to_dict()["value"] is None


def test_an_interval_may_end_outside_what_was_tested():
    volumes = np.tile([300.0, 3000.0], 6)
    seen = np.tile([False, True], 6)
    seen[:4] = False  # two subjects in whom nothing is found
    people = Clusters.of([f"sub-{k // 2}" for k in range(12)])
    curve = fit_psychometric(Detections(volumes, seen, people, 0.0), draws=300)
    assert 300 < curve.d50.value < 3000
    assert (curve.d50.high, curve.to_dict()["d50_mm3"]["high"]) == (np.inf, None)


def test_a_level_that_the_lapses_never_reach_is_a_bound():
    volumes = np.repeat([100.0, 200.0, 4000.0, 5000.0], 20)
    seen = (volumes > 1000) & (np.arange(80) % 6 > 0)  # a sixth of the large ones is missed
    people = Clusters.of([f"sub-{k % 16}" for k in range(80)])
    curve = fit_psychometric(Detections(volumes, seen, people, 0.0), draws=40)
    assert curve.lapse == pytest.approx(0.1)
    assert 200 < curve.d50.value < 4000
    assert curve.d90.value == np.inf


def test_impossible_sizes_are_refused():
    with pytest.raises(ValueError, match="two positive volumes"):
        fit_psychometric(Detections(np.ones(3), np.ones(3, bool), Clusters.of("abc"), 0.0))


def test_many_healthy_pairs_give_the_threshold_by_their_ranks():
    scores = np.random.default_rng(0).normal(size=99)
    found = detection_threshold(scores)
    assert (scores > found.value).sum() == 4  # and one more pair exceeds it 5 times in 100
    assert found.rule == "95th smallest score of 99 healthy validation pairs"


@pytest.mark.parametrize("count", [8, 25])
def test_a_new_healthy_pair_exceeds_the_threshold_as_rarely_as_it_should(count):
    rng = np.random.default_rng(count)
    rates = [norm.sf(detection_threshold(rng.normal(size=count)).value) for _ in range(3000)]
    assert np.mean(rates) == pytest.approx(0.05 if count == 8 else 1 / 26, abs=0.004)


def test_a_run_is_judged_at_its_stated_false_alarms_or_else_by_youden():
    rng = np.random.default_rng(0)
    scores = np.concatenate([rng.normal(size=99), rng.normal(1.0, size=40)])
    lesioned = np.arange(139) >= 99
    stated = threshold_of_validation(lesioned, scores, 0.05)
    assert stated == detection_threshold(scores[:99])
    looser = threshold_of_validation(lesioned, scores, 0.2)
    assert (scores[:99] > looser.value).sum() == 19
    balanced = threshold_of_validation(lesioned, scores, None)
    assert balanced.value == youden_threshold(lesioned, scores)
    assert "only" not in balanced.rule
    few = threshold_of_validation(lesioned[97:], scores[97:], 0.05)
    assert few.value == youden_threshold(lesioned[97:], scores[97:])
    assert "only 2 healthy" in few.rule


def test_few_healthy_pairs_are_said_and_two_refused():
    assert "only 8 healthy" in detection_threshold(np.arange(8.0)).rule
    with pytest.raises(ValueError, match="3 finite scores"):
        detection_threshold(np.array([0.1, 0.2]))
