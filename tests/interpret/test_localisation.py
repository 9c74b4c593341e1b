"""Laws of the localisation measures, and of the ledger."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hemitwin.interpret import (
    Ledger,
    pointing_game,
    relevance_mass_accuracy,
    relevance_rank_accuracy,
)

MEASURES = [relevance_mass_accuracy, relevance_rank_accuracy, pointing_game]
maps = hnp.arrays(float, (3, 4, 2), elements=st.floats(-10, 10).map(lambda v: round(v, 3)))
masks = hnp.arrays(bool, (3, 4, 2)).filter(lambda m: m.any())


@given(maps, masks)
def test_measures_are_those_of_plain_loops(relevance, mask):
    positive = {i: max(v, 0.0) for i, v in np.ndenumerate(relevance)}
    total, inside = sum(positive.values()), {i for i, m in np.ndenumerate(mask) if m}
    mass = sum(positive[i] for i in inside) / total if total else 0.0
    ranked = sorted(positive, key=lambda i: -positive[i])[: len(inside)]
    hits = [i for i in ranked if i in inside and positive[i] > 0]
    assert relevance_mass_accuracy(relevance, mask) == pytest.approx(mass)
    assert relevance_rank_accuracy(relevance, mask) == pytest.approx(len(hits) / len(inside))
    assert pointing_game(relevance, mask) == (ranked[0] in inside and positive[ranked[0]] > 0)


@given(maps, masks)
def test_negative_relevance_and_scale_do_not_matter(relevance, mask):
    for measure in MEASURES:
        assert measure(np.clip(relevance, 0, None), mask) == measure(relevance, mask)
        assert measure(relevance * 4, mask) == pytest.approx(measure(relevance, mask))


@pytest.mark.parametrize("measure", MEASURES)
def test_perfect_map_scores_one_and_empty_map_zero(measure):
    mask = np.zeros((3, 3), dtype=bool)
    mask[1, 1:] = True
    assert measure(mask.astype(np.float32), mask) == 1
    assert measure(-np.ones((3, 3)), mask) == 0


@pytest.mark.parametrize("measure", MEASURES)
def test_bad_masks_and_maps_are_refused(measure):
    with pytest.raises(ValueError, match="not empty"):
        measure(np.ones((2, 2)), np.zeros((2, 2), dtype=bool))
    with pytest.raises(ValueError, match="of the relevance's shape"):
        measure(np.ones((2, 2)), np.ones((2, 3), dtype=bool))
    with pytest.raises(ValueError, match="must be finite"):
        measure(np.full((2, 2), np.nan), np.ones((2, 2), dtype=bool))


def test_ledger_judges_small_scores_against_the_reference():
    ledger = Ledger(input=1e-6, bias=0.0, stabiliser=0.0, constant=0.0, explained=2e-6)
    assert not ledger.closes()
    assert ledger.closes(reference=1.0)
    assert ledger.ratio == pytest.approx(0.5)
    assert set(ledger.to_dict()) >= {"input", "bias", "explained", "residual", "ratio"}


def test_ledgers_add_account_by_account():
    one = Ledger(input=1.0, bias=2.0, stabiliser=3.0, constant=4.0, explained=10.0)
    both = one + one
    assert (both.input, both.bias, both.stabiliser, both.constant) == (2.0, 4.0, 6.0, 8.0)
    assert (both.explained, both.ratio) == (20.0, 1.0)
    empty = Ledger(input=0.0, bias=0.0, stabiliser=0.0, constant=0.0, explained=0.0)
    assert math.isnan(empty.ratio)
    assert empty.closes()
