"""Deviations from a reference and effects over a group, against slow recomputations."""

import numpy as np
import pytest
from scipy import stats

from hemitwin.pipeline.cohort.demographics import Demographics
from hemitwin.pipeline.group.covariates import Covariates
from hemitwin.pipeline.statistics.paired_tests import false_discovery_rates
from hemitwin.pipeline.statistics.regression import deviations, group_effects, tail_scale

PEOPLE, PAIRS = 20, 30


def design_of(rng, people=PEOPLE):
    age, male = rng.uniform(20, 80, people), np.arange(people) % 2
    return np.column_stack([np.ones(people), age, male])


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_z_is_the_deviation_over_the_error_of_the_prediction(rng):
    design, values = design_of(rng), rng.standard_normal((PEOPLE, PAIRS))
    own, row = rng.standard_normal(PAIRS), np.array([1.0, 33.0, 1.0])
    found = deviations(values, design, own, row)
    for pair in range(PAIRS):
        slopes, residual, *_ = np.linalg.lstsq(design, values[:, pair], rcond=None)
        variance = residual[0] / (PEOPLE - 3)
        leverage = row @ np.linalg.solve(design.T @ design, row)
        z = (own[pair] - row @ slopes) / np.sqrt(variance * (1 + leverage))
        assert found.expected[pair] == pytest.approx(row @ slopes)
        assert found.z[pair] == pytest.approx(z)
        assert found.p[pair] == pytest.approx(2 * stats.t.cdf(-abs(z), PEOPLE - 3))
    assert found.freedom == PEOPLE - 3


def test_without_covariates_it_is_crawford_and_howells_t(rng):
    values, own = rng.standard_normal((PEOPLE, PAIRS)), rng.standard_normal(PAIRS)
    found = deviations(values, np.ones((PEOPLE, 1)), own, np.ones(1))
    spread = values.std(axis=0, ddof=1) * np.sqrt((PEOPLE + 1) / PEOPLE)
    np.testing.assert_allclose(found.z, (own - values.mean(axis=0)) / spread)


def test_q_is_benjamini_and_hochbergs_over_what_is_known(rng):
    p_values = rng.uniform(size=50) ** 3
    expected = stats.false_discovery_control(p_values)
    np.testing.assert_allclose(false_discovery_rates(p_values), expected)
    with_gaps = np.insert(p_values, [0, 20], np.nan)
    found = false_discovery_rates(with_gaps)
    np.testing.assert_allclose(found[~np.isnan(with_gaps)], expected)
    assert np.isnan(found[np.isnan(with_gaps)]).all()
    assert np.isnan(false_discovery_rates(np.full(3, np.nan))).all()


def test_p_of_people_without_a_deviation_is_uniform(rng):
    found = []
    for _ in range(400):
        design, row = design_of(rng, 14), np.array([1.0, rng.uniform(20, 80), 1.0])
        values = rng.standard_normal((14, PAIRS)) + 0.1 * design[:, 1:2]
        own = rng.standard_normal(PAIRS) + 0.1 * row[1]
        found.append(deviations(values, design, own, row).p)
    p_values = np.concatenate(found)
    assert np.mean(p_values < 0.05) == pytest.approx(0.05, abs=0.008)
    assert stats.kstest(p_values, "uniform").statistic < 0.02
    # A normal distribution with the group's spread would call twice as many.
    naive = 2 * stats.norm.sf(stats.t.isf(p_values / 2, 11) * np.sqrt(1 + 3 / 14))
    assert np.mean(naive < 0.05) > 0.08


def test_heavy_tails_are_no_findings(rng):
    """Sizes over people like those of relevance: log-normal, a hundredfold at the far end."""

    def called(transform):
        count = 0
        for _ in range(100):
            values = rng.standard_normal((41, PAIRS)) * np.exp(
                1.5 * rng.standard_normal((41, PAIRS))
            )
            reference, own = transform(values[1:], values[0])
            found = deviations(reference, np.ones((40, 1)), own, np.ones(1))
            count += (found.q < 0.05).any()
        return count

    def evened(reference, own):
        scale = tail_scale(reference, np.ones((len(reference), 1)))
        return np.arcsinh(reference / scale), np.arcsinh(own / scale)

    assert called(lambda reference, own: (reference, own)) > 20
    assert called(evened) <= 8


def test_normal_differences_stay_as_they_are(rng):
    values = rng.standard_normal((60, 200))
    scale = tail_scale(values, np.ones((60, 1)))
    np.testing.assert_allclose(scale * np.arcsinh(values / scale), values, rtol=0.05)
    heavy = values * np.exp(1.5 * rng.standard_normal((60, 200)))
    assert np.median(tail_scale(heavy, np.ones((60, 1))) / np.median(np.abs(heavy), axis=0)) <= 1
    np.testing.assert_array_equal(np.isfinite(tail_scale(0 * values, np.ones((60, 1)))), True)


def test_an_effect_of_age_is_no_deviation(rng):
    design = design_of(rng)
    trend = 0.2 * design[:, 1:2]
    values = trend + rng.standard_normal((PEOPLE, PAIRS))
    row = np.array([1.0, 80.0, 0.0])
    own = 0.2 * 80 + rng.standard_normal(PAIRS)
    young = design[:, 1] < 50
    known = deviations(values, design, own, row)
    unknown = deviations(values[young], np.ones((young.sum(), 1)), own, np.ones(1))
    assert (known.q > 0.05).all()
    assert (unknown.q < 0.05).mean() > 0.9


def test_a_mirrored_subject_has_mirrored_signs(rng):
    design, values = design_of(rng), rng.standard_normal((PEOPLE, PAIRS))
    own, row = rng.standard_normal(PAIRS), np.array([1.0, 40.0, 0.0])
    one, other = deviations(values, design, own, row), deviations(-values, design, -own, row)
    np.testing.assert_allclose(one.z, -other.z)
    np.testing.assert_allclose(one.q, other.q)


def test_a_pair_that_does_not_vary_has_no_z(rng):
    values = rng.standard_normal((PEOPLE, 3))
    values[:, 0], values[:, 1] = 0.0, 0.1
    own = np.array([0.5, 0.1, 0.0])
    found = deviations(values, design_of(rng), own, np.array([1.0, 40.0, 0.0]))
    assert np.isnan(found.z[:2]).all()
    assert np.isnan(found.q[:2]).all()
    assert found.q[2] == found.p[2]


def test_the_mean_of_a_group_has_the_one_sample_t(rng):
    values = 0.3 + rng.standard_normal((PEOPLE, PAIRS))
    families = [str(number) for number in range(PEOPLE)]
    found = group_effects(values, np.ones((PEOPLE, 1)), families, column=0, draws=2000, seed=0)
    expected = stats.ttest_1samp(values, 0)
    np.testing.assert_allclose(found.effect, values.mean(axis=0))
    np.testing.assert_allclose(found.t, expected.statistic)
    np.testing.assert_allclose(found.p, expected.pvalue)
    normal = 1.96 * values.std(axis=0) / np.sqrt(PEOPLE)
    np.testing.assert_allclose(found.high - found.low, 2 * normal, rtol=0.15)


def test_copies_of_a_person_are_one_family(rng):
    values = 0.3 + rng.standard_normal((PEOPLE, PAIRS))
    families = [str(number) for number in range(PEOPLE)]
    settings = {"column": 0, "draws": 500, "seed": 0}
    once = group_effects(values, np.ones((PEOPLE, 1)), families, **settings)
    twice = group_effects(
        np.tile(values, (2, 1)), np.ones((2 * PEOPLE, 1)), families * 2, **settings
    )
    np.testing.assert_allclose(twice.t, once.t)
    np.testing.assert_allclose(twice.low, once.low)
    assert (twice.freedom, twice.clustered) == (PEOPLE - 1, True)
    alone = group_effects(values, np.ones((PEOPLE, 1)), ["a"] * PEOPLE, **settings)
    assert np.isnan(alone.t).all()
    assert np.isnan(alone.low).all()


def test_a_difference_of_groups_is_adjusted_for_age(rng):
    people = 60
    group = np.arange(people) < 25
    age = rng.uniform(20, 60, people) + 20 * group
    values = 0.05 * age[:, None] + rng.standard_normal((people, PAIRS))
    values[group, 0] += 3.0
    design = np.column_stack([np.ones(people), group, age])
    families = [str(number) for number in range(people)]
    found = group_effects(values, design, families, column=1, draws=500, seed=0)
    for pair in range(PAIRS):
        slopes, residual, *_ = np.linalg.lstsq(design, values[:, pair], rcond=None)
        error = np.sqrt(residual[0] / (people - 3) * np.linalg.inv(design.T @ design)[1, 1])
        assert found.effect[pair] == pytest.approx(slopes[1])
        assert found.t[pair] == pytest.approx(slopes[1] / error)
    assert found.q[0] < 0.05
    assert np.mean(found.q[1:] < 0.05) < 0.1
    assert (found.low < found.effect).all()
    assert (found.effect < found.high).all()


def test_covariates_that_say_nothing_are_left_out_by_name():
    subjects = ["sub-1", "sub-2", "sub-3", "sub-4"]
    ages = dict(zip(subjects, (20.0, 30.0, 40.0, 50.0), strict=True))
    sexes = dict.fromkeys(subjects, "F") | {"sub-4": "M"}
    both = Covariates.of(subjects, Demographics(ages, sexes))
    assert both.design(subjects).used == ("age_years", "sex=M")
    without = both.design(subjects[:3])
    assert without.used == ("age_years",)
    assert "sex=M" in without.left_out
    np.testing.assert_array_equal(both.row("sub-4", without), [1.0, 50.0])
    partly = Covariates.of(subjects, Demographics(ages, {"sub-1": "F"}))
    assert partly.left_out == {"sex": "the same for everybody"}
    same = Covariates.of(subjects, Demographics(dict.fromkeys(subjects, 30.0), sexes))
    assert same.left_out == {"age": "the same for everybody"}
    # The group comes first: what goes with it is not taken out of its effect.
    grouped = both.design(subjects, group=np.array([False, False, False, True]))
    assert grouped.used == ("age_years",)
