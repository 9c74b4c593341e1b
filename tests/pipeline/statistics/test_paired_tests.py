from math import comb

import numpy as np
import pytest

from hemitwin.pipeline.statistics.paired_tests import bootstrap_difference, holm, mcnemar


@pytest.mark.parametrize(("first", "second"), [(3, 9), (9, 3), (5, 5), (0, 1)])
def test_mcnemar_is_the_two_sided_binomial_test(first, second):
    right = np.array([True] * first + [False] * second + [True] * 7)
    other = np.array([False] * first + [True] * second + [True] * 7)
    count, least = first + second, min(first, second)
    tail = sum(comb(count, k) for k in range(least + 1)) / 2**count
    found = mcnemar(right, other)
    assert (found.only_first_right, found.only_second_right) == (first, second)
    assert found.p == pytest.approx(min(1.0, 2 * tail))


def test_detectors_that_never_differ_do_not_differ():
    assert mcnemar(np.array([True, False]), np.array([True, False])).p == 1.0
    assert bootstrap_difference(0.0, np.zeros(99)).p == 1.0


def test_p_counts_draws_as_far_from_the_value_as_the_value_is_from_nothing():
    draws = np.array([0.1, 0.2, 0.3, 0.4, np.nan, -0.05])
    found = bootstrap_difference(0.2, draws)
    assert found.p == (1 + 2) / 6  # 0.4 and -0.05 lie 0.2 and more away
    assert found.estimate.value == 0.2


def test_p_is_uniform_where_nothing_differs():
    rng = np.random.default_rng(0)
    values = rng.normal(size=400)
    p = [bootstrap_difference(one, rng.normal(one, 1.0, 199)).p for one in values]
    assert np.mean(np.array(p) <= 0.1) == pytest.approx(0.1, abs=0.04)


def test_holm_steps_down_and_never_falls():
    assert holm([0.02, 0.01, 0.5, 0.02]) == pytest.approx((0.06, 0.04, 0.5, 0.06))
    assert holm([0.9, 0.8]) == (1.0, 1.0)
    assert holm([]) == ()
