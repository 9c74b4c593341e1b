"""The triplet loss against plain loops."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from hemitwin.models import LossConfig, TripletLoss


def batch(seed, size=10):
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(size, 4, generator=generator, dtype=torch.float64)
    draw = torch.randint(0, 2, (3, size), generator=generator)
    return embeddings, draw[0], draw[1].bool(), draw[2]


def oracle(config, embeddings, subjects, lesioned, sides):
    unit = F.normalize(embeddings)
    rows = range(len(unit))

    def d(i, j):
        return float((unit[i] - unit[j]).norm())

    def is_positive(a, p):
        return (
            subjects[a] == subjects[p]
            and sides[a] != sides[p]
            and not lesioned[a]
            and not lesioned[p]
        )

    def is_negative(a, n):
        own_lesion = subjects[a] == subjects[n] and lesioned[n]
        other = config.negatives == "subject" and subjects[a] != subjects[n]
        return sides[a] != sides[n] and (own_lesion or other)

    losses = []
    for a in rows:
        positives = [p for p in rows if is_positive(a, p)]
        negatives = [n for n in rows if is_negative(a, n)]
        if config.mining == "hard" and positives and negatives:
            positives = [max(positives, key=lambda p: d(a, p))]
            negatives = [min(negatives, key=lambda n: d(a, n))]
        for p, n in itertools.product(positives, negatives):
            losses.append(max(0.0, d(a, p) - d(a, n) + config.margin))
    violated = [loss for loss in losses if loss > 0]
    return sum(violated) / len(violated) if violated else 0.0


@settings(max_examples=15)
@given(
    seed=st.integers(0, 10_000),
    negatives=st.sampled_from(["lesion", "subject"]),
    mining=st.sampled_from(["hard", "all"]),
)
def test_loss_is_that_of_plain_loops(seed, negatives, mining):
    config = LossConfig(margin=0.3, negatives=negatives, mining=mining)
    embeddings, subjects, lesioned, sides = batch(seed)
    loss = TripletLoss(config)(embeddings, subjects, lesioned=lesioned, sides=sides)
    assert float(loss) == pytest.approx(oracle(config, *batch(seed)), abs=1e-9)
    assert loss >= 0


def test_batch_without_triplets_gives_a_zero_with_gradient():
    embeddings = torch.randn(4, 3, requires_grad=True)
    same = torch.zeros(4, dtype=torch.int64)
    loss = TripletLoss(LossConfig())(embeddings, same, lesioned=same.bool(), sides=same)
    loss.backward()
    assert float(loss.detach()) == 0
    assert embeddings.grad is not None
    assert torch.equal(embeddings.grad, torch.zeros(4, 3))


def test_swapping_left_and_right_changes_nothing():
    embeddings, subjects, lesioned, sides = batch(5)
    loss = TripletLoss(LossConfig())
    there = loss(embeddings, subjects, lesioned=lesioned, sides=sides)
    back = loss(embeddings, subjects, lesioned=lesioned, sides=1 - sides)
    torch.testing.assert_close(there, back)


def test_half_precision_is_scored_in_single():
    embeddings, subjects, lesioned, sides = batch(5)
    half = embeddings.bfloat16()
    loss = TripletLoss(LossConfig())(half, subjects, lesioned=lesioned, sides=sides)
    whole = TripletLoss(LossConfig())(half.float(), subjects, lesioned=lesioned, sides=sides)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, whole)
