"""The objectives against plain loops."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from hemitwin.models import (
    ClassHead,
    DistanceHead,
    Items,
    JointHead,
    LossConfig,
    MemoryBank,
    Objective,
    PairClassifier,
    SingleClassifier,
    map_loss,
    mine,
    pair_distance,
    relate_brains,
    relate_classes,
    relate_halves,
    relate_whole_pairs,
)

METRICS = ("euclidean", "cosine", "l1")


def batch(seed, size=10):
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(size, 4, generator=generator, dtype=torch.float64)
    draw = torch.randint(0, 2, (3, size), generator=generator)
    return embeddings, Items(draw[0], draw[2], draw[0], draw[1].bool())


def distances(embeddings, metric):
    count = len(embeddings)
    rows, columns = torch.arange(count).repeat_interleave(count), torch.arange(count).repeat(count)
    return pair_distance(embeddings[rows], embeddings[columns], metric).view(count, count)


def is_positive(items, a, p):
    return bool(
        items.group[a] == items.group[p]
        and items.item[a] != items.item[p]
        and not items.lesioned[a]
        and not items.lesioned[p]
    )


def is_negative(items, a, n, negatives):
    own_lesion = items.group[a] == items.group[n] and items.lesioned[n]
    other = negatives == "subject" and items.group[a] != items.group[n]
    healthy = not items.lesioned[a]
    return bool(healthy and items.item[a] != items.item[n] and (own_lesion or other))


def triplets(items, d, negatives, mining):
    rows = range(len(d))
    found = []
    for a in rows:
        positives = [p for p in rows if is_positive(items, a, p)]
        others = [n for n in rows if is_negative(items, a, n, negatives)]
        if not (positives and others):
            continue
        if mining == "all":
            found += list(itertools.product([a], positives, others))
        elif mining == "hard":
            hardest = max(positives, key=lambda p: d[a, p]), min(others, key=lambda n: d[a, n])
            found.append((a, *hardest))
        else:
            for p in positives:
                beyond = [n for n in others if d[a, n] > d[a, p]]
                found.append(
                    (a, p, min(beyond, key=lambda n: d[a, n]))
                    if beyond
                    else (a, p, max(others, key=lambda n: d[a, n]))
                )
    return found


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    negatives=st.sampled_from(["lesion", "subject"]),
    mining=st.sampled_from(["hard", "semihard", "all"]),
    metric=st.sampled_from(METRICS),
)
def test_triplets_are_those_of_plain_loops(seed, negatives, mining, metric):
    config = LossConfig(margin=0.3, negatives=negatives, mining=mining)
    embeddings, items = batch(seed)
    relations = relate_halves(items, items, negatives)
    d = distances(embeddings, metric)
    wanted = triplets(items, d, negatives, mining)
    found = torch.stack(mine(d, relations, mining), dim=1).tolist()
    assert sorted(map(tuple, found)) == sorted(wanted)
    terms = [max(0.0, float(d[a, p] - d[a, n]) + 0.3) for a, p, n in wanted]
    violated = [term for term in terms if term > 0]
    loss = Objective(config, metric)(embeddings, relations, DistanceHead(metric))
    assert float(loss) == pytest.approx(sum(violated) / max(len(violated), 1), abs=1e-7)


@pytest.mark.parametrize("metric", METRICS)
def test_contrastive_pulls_positives_to_zero_and_pushes_negatives_to_the_margin(metric):
    embeddings, items = batch(3)
    relations = relate_halves(items, items, "subject")
    d = distances(embeddings, metric)
    near = [float(x) for x in d[relations.positive] if x > 0]
    far = [0.8 - float(x) for x in d[relations.negative] if x < 0.8]
    config = LossConfig(objective="contrastive", margin=0.8, negatives="subject")
    loss = Objective(config, metric)(embeddings, relations, DistanceHead(metric))
    wanted = sum(near) / max(len(near), 1) + sum(far) / max(len(far), 1)
    assert float(loss) == pytest.approx(wanted, abs=1e-7)


@pytest.mark.parametrize("metric", METRICS)
def test_positives_within_their_margin_are_near_enough(metric):
    embeddings, items = batch(0, size=16)
    relations = relate_halves(items, items, "subject")
    d = distances(embeddings, metric)
    own = sorted(float(x) for x in d[relations.positive])
    middle = len(own) // 2 + len(own) // 2 % 2  # each pair comes twice, one way and the other
    margin = (own[middle - 1] + own[middle]) / 2
    far_positives = [x - margin for x in own if x > margin]
    near_negatives = [1.9 - float(x) for x in d[relations.negative] if x < 1.9]
    assert 0 < len(far_positives) < len(own)
    content = {"margin": 1.9, "positive_margin": margin, "negatives": "subject"}
    config = LossConfig(objective="contrastive", **content)
    loss = Objective(config, metric)(embeddings, relations, DistanceHead(metric))
    wanted = sum(far_positives) / len(far_positives) + sum(near_negatives) / len(near_negatives)
    assert float(loss) == pytest.approx(wanted, abs=1e-6)
    head = JointHead(metric).double()
    bce, both = (
        Objective(LossConfig(objective=name, **content), metric)(embeddings, relations, head)
        for name in ("bce", "joint")
    )
    torch.testing.assert_close(both, bce + loss)


def test_a_positive_margin_beyond_the_negatives_is_refused():
    with pytest.raises(
        ValueError, match=r"positive_margin must be below margin \(0\.5\).*got 0\.5"
    ):
        LossConfig(objective="contrastive", positive_margin=0.5)


def test_ntxent_is_the_cross_entropy_of_the_positive_among_its_negatives():
    embeddings, items = batch(0, size=16)
    relations = relate_halves(items, items, "subject")
    unit = F.normalize(embeddings)
    similarity = (unit @ unit.T) / 0.2
    terms = [
        -float(similarity[a, p])
        + float(torch.logsumexp(torch.cat([similarity[a][negatives], similarity[a, p][None]]), 0))
        for a, p in relations.positive.nonzero().tolist()
        for negatives in [relations.negative[a]]
    ]
    config = LossConfig(objective="ntxent", temperature=0.2)
    loss = Objective(config)(embeddings, relations, DistanceHead())
    assert float(loss) == pytest.approx(sum(terms) / len(terms), abs=1e-6)


def test_both_classes_of_pairs_weigh_the_same_in_the_cross_entropy():
    embeddings, items = batch(4)
    relations = relate_halves(items, items, "subject")
    head = JointHead().double()
    logit = 5.0 * (distances(embeddings, "euclidean") - 0.5)
    same = F.softplus(logit[relations.positive]).mean()
    apart = F.softplus(-logit[relations.negative]).mean()
    loss = Objective(LossConfig(objective="bce"))(embeddings, relations, head)
    torch.testing.assert_close(loss, (same + apart) / 2, atol=1e-6, rtol=0.0)
    contrast = Objective(LossConfig(objective="contrastive"))(embeddings, relations, head)
    both = Objective(LossConfig(objective="joint"))(embeddings, relations, head)
    torch.testing.assert_close(both, loss + contrast)
    with pytest.raises(TypeError, match="head with a logit"):
        Objective(LossConfig(objective="bce"))(embeddings, relations, DistanceHead())


def test_a_single_classifier_learns_each_images_own_label():
    embeddings, items = batch(3)
    head = SingleClassifier(4, 3).double()
    objective = Objective(LossConfig(objective="bce"))
    found = objective(embeddings, relate_halves(items, items), head)
    chances = torch.sigmoid(head.classify(embeddings))
    miss = torch.where(items.lesioned, -chances.log(), -(1 - chances).log())
    means = [miss[items.lesioned == label].mean() for label in (True, False)]
    torch.testing.assert_close(found, sum(means) / 2)
    with pytest.raises(TypeError, match="must have their labels"):
        objective(embeddings, relate_brains(items, items), head)


def test_every_class_of_a_batch_weighs_the_same_in_the_softmax():
    embeddings, _ = batch(3)
    label = torch.tensor([0, 0, 0, 0, 0, 0, 0, 2, 2, 3])  # none of class 1
    items = Items(label, torch.arange(10), torch.arange(10), torch.zeros(10).bool())
    head = ClassHead(4, 5).double()
    found = Objective(LossConfig(objective="softmax"))(
        embeddings, relate_classes(items, items), head
    )
    miss = -torch.log_softmax(head.classify(embeddings), 1)[torch.arange(10), label]
    means = [miss[label == one].mean() for one in (0, 2, 3)]
    torch.testing.assert_close(found, sum(means) / 3)


def test_a_softmax_needs_classes_of_the_images_and_of_the_head():
    embeddings, items = batch(3)
    objective, head = Objective(LossConfig(objective="softmax")), ClassHead(4, 2).double()
    with pytest.raises(TypeError, match=r"got DistanceHead and images with classes; take"):
        objective(embeddings, relate_classes(items, items), DistanceHead())
    with pytest.raises(TypeError, match=r"got ClassHead and images without classes; take"):
        objective(embeddings, relate_halves(items, items), head)
    more = Items(items.group + 2, items.item, items.kin, items.lesioned)
    with pytest.raises(ValueError, match=r"numbered from 0 to 1.*got 3; set head\.classes"):
        objective(embeddings, relate_classes(more, more), head)


def test_images_of_one_class_belong_together_and_no_image_to_itself():
    n = torch.tensor
    # Two images of a person, in two classes; a stranger; and the first image once more.
    items = Items(n([0, 1, 0, 0]), n([0, 1, 2, 0]), n([7, 7, 8, 7]), n([False] * 4))
    relations = relate_classes(items, items)
    assert relations.positive.int().tolist() == [
        [0, 0, 1, 0],
        [0, 0, 0, 0],
        [1, 0, 0, 1],
        [0, 0, 1, 0],
    ]
    assert relations.negative[1].tolist() == [True, False, True, True]
    assert relations.classes is not None
    assert relations.classes.tolist() == [0, 1, 0, 0]
    strangers = relate_classes(items, items, "subject").negative
    assert strangers.nonzero().tolist() == [[1, 2], [2, 1]]


@pytest.mark.parametrize("objective", ["triplet", "contrastive", "ntxent", "bce", "joint"])
def test_a_batch_without_pairs_gives_a_zero_with_gradient(objective):
    embeddings = torch.randn(4, 3, requires_grad=True)
    same = torch.zeros(4, dtype=torch.int64)
    items = Items(same, same, same, same.bool())
    relations = relate_halves(items, items)
    loss = Objective(LossConfig(objective=objective))(
        embeddings, relations, PairClassifier(3, hidden=2)
    )
    loss.backward()
    assert float(loss.detach()) == 0
    assert embeddings.grad is not None
    assert torch.equal(embeddings.grad, torch.zeros(4, 3))


def test_swapping_left_and_right_changes_nothing():
    embeddings, items = batch(5)
    turned = Items(items.group, 1 - items.item, items.kin, items.lesioned)
    there, back = (
        Objective(LossConfig())(embeddings, relate_halves(one, one), DistanceHead())
        for one in (items, turned)
    )
    torch.testing.assert_close(there, back)


def test_half_precision_is_scored_in_single():
    embeddings, items = batch(5)
    relations, head = relate_halves(items, items), DistanceHead()
    half = embeddings.bfloat16()
    loss = Objective(LossConfig())(half, relations, head)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, Objective(LossConfig())(half.float(), relations, head))


def test_relatives_are_negatives_only_when_asked_for():
    n = torch.tensor
    # A twin pair, their sibling, and a stranger.
    items = Items(n([0, 0, 1, 2]), n([0, 1, 2, 3]), n([0, 0, 0, 9]), n([False] * 4))
    usual, hard = (relate_brains(items, items, kind) for kind in ("subject", "relative"))
    assert usual.positive.nonzero().tolist() == [[0, 1], [1, 0]]
    assert usual.negative[0].tolist() == [False, False, False, True]
    assert hard.negative[0].tolist() == [False, False, True, True]


def test_the_bank_keeps_the_last_rows_and_comes_back_from_its_state():
    bank = MemoryBank(5, 2)
    rows = torch.arange(14.0).view(7, 2)
    ids = torch.arange(7)
    items = Items(ids, ids, ids, ids.bool())

    def some(first, last):
        part = slice(first, last)
        return rows[part], Items(*(one[part] for one in vars(items).values()))

    assert len(bank) == 0
    bank.push(*some(0, 3))
    assert bank.read()[0].tolist() == rows[:3].tolist()
    bank.push(*some(3, 7))
    kept, who = bank.read()
    assert sorted(who.group.tolist()) == [2, 3, 4, 5, 6]
    torch.testing.assert_close(kept, rows[who.group])
    again = MemoryBank(5, 2)
    again.load_state_dict(bank.state_dict())
    assert torch.equal(again.read()[0], kept)
    bank.push(rows, items)
    assert sorted(bank.read()[1].group.tolist()) == [2, 3, 4, 5, 6]


def test_the_banks_embeddings_serve_as_negatives():
    embeddings, items = batch(6)
    older, old_items = batch(7)
    everyone = Items.unpack(torch.cat([items.pack(), old_items.pack()]))
    relations = relate_halves(items, everyone, "subject")
    joined = torch.cat([embeddings, older])
    loss = Objective(LossConfig(mining="all"))(embeddings, relations, DistanceHead(), joined)
    d = torch.cdist(F.normalize(embeddings), F.normalize(joined))
    anchor, match, other = mine(d, relations, "all")
    terms = (d[anchor, match] - d[anchor, other] + 0.5).clamp(min=0)
    assert (other >= len(items.group)).any()
    torch.testing.assert_close(loss, terms.sum() / (terms > 0).sum())


def test_the_map_loss_is_lowest_for_the_true_map():
    truth = torch.zeros(2, 2, 4, 4, 4, dtype=torch.bool)
    truth[0, 1, 1:3, 1:3, 1:3] = True
    right = torch.where(truth, 9.0, -9.0)
    wrong_side = right.flip(1)
    logit = torch.tensor([9.0, -9.0])
    best = map_loss(right, truth.byte(), logit)
    assert best < 0.01
    assert map_loss(wrong_side, truth.byte(), logit) > best + 0.5
    assert map_loss(right, truth.byte(), -logit, pair_weight=1.0) > best + 5


def test_a_small_lesion_counts_as_much_as_a_large_one():
    truth = torch.zeros(2, 2, 6, 6, 6, dtype=torch.bool)
    truth[0, 0, :5, :5, :5] = True
    truth[1, 1, 0, 0, 0] = True
    seen, logit = torch.where(truth, 9.0, -9.0), torch.full((2,), 9.0)
    missed = [seen.index_fill(0, torch.tensor([k]), -9.0) for k in range(2)]
    large, small = (map_loss(anomaly, truth.byte(), logit) for anomaly in missed)
    torch.testing.assert_close(large, small)
    # Half of the mean over both pairs of a miss, whose cross-entropy is 9.
    assert float(large) == pytest.approx(0.5 * 9 / 2, abs=0.01)


def test_two_lesions_of_one_pair_count_alike_and_as_much_as_one():
    lesions = torch.zeros(2, 2, 6, 6, 6, dtype=torch.uint8)
    lesions[0, 0, :5, :5, :5] = 1
    lesions[0, 1, 0, 0, 0] = 2
    found, logit = torch.where(lesions > 0, 9.0, -9.0), torch.tensor([9.0, -9.0])
    large, small = (
        map_loss(torch.where(lesions == number, -9.0, found), lesions, logit, lesion_weight=1.0)
        for number in (1, 2)
    )
    torch.testing.assert_close(large, small)
    # Half of the pairs have a lesion, and half of the lesions there are missed.
    assert float(large) == pytest.approx(9.0 / 4, rel=0.01)
    missed = torch.where(lesions > 0, -9.0, found)
    weak = map_loss(missed, lesions, logit, lesion_weight=0.1)
    assert float(weak) == pytest.approx(0.1 * 9.0 / 2, rel=0.01)


def whole_pairs(seed, pairs=9):
    """Embeddings of whole pairs of three subjects: left halves, then right ones."""
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(2 * pairs, 4, generator=generator, dtype=torch.float64)
    subject = (torch.arange(pairs) % 3).repeat(2)
    lesioned = torch.zeros(2 * pairs, dtype=torch.bool)
    # Of each subject one pair is healthy, one has its lesion on the left, one on the right.
    lesioned[3:6] = lesioned[pairs + 6 :] = True
    side = torch.arange(2).repeat_interleave(pairs)
    items = Items(subject, side, subject, lesioned)
    return embeddings, items, torch.arange(pairs), torch.arange(pairs, 2 * pairs)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("negatives", ["lesion", "subject"])
@pytest.mark.parametrize("mining", ["all", "hard"])
@settings(max_examples=10)
@given(seed=st.integers(0, 10_000))
def test_triplets_of_whole_pairs_hold_distances_against_distances(metric, negatives, mining, seed):
    embeddings, items, left, right = whole_pairs(seed)
    own = pair_distance(embeddings[left], embeddings[right], metric)
    losses = []
    for healthy in range(3):
        away = [k for k in range(3, 9) if negatives == "subject" or k % 3 == healthy]
        nearest = min(away, key=lambda k: float(own[k]))
        chosen = away if mining == "all" else [nearest]
        losses += [float(own[healthy] - own[other]) + 0.5 for other in chosen]
    violated = [loss for loss in losses if loss > 0]
    expected = sum(violated) / max(1, len(violated))
    objective = Objective(
        LossConfig(objective="triplet", negatives=negatives, mining=mining), metric
    )
    relations = relate_whole_pairs(items, left, right, negatives)
    found = objective(embeddings, relations, DistanceHead(metric=metric))
    assert float(found) == pytest.approx(expected, abs=1e-6)


def test_semihard_triplets_of_whole_pairs_are_beyond_the_healthy_one_where_there_is_one():
    embeddings, items, left, right = whole_pairs(3)
    own = pair_distance(embeddings[left], embeddings[right])
    losses = []
    for healthy in range(3):
        away = [own[k] for k in (healthy + 3, healthy + 6)]
        beyond = [one for one in away if one > own[healthy]]
        losses.append(float(own[healthy] - (min(beyond) if beyond else max(away))) + 0.5)
    violated = [loss for loss in losses if loss > 0]
    objective = Objective(LossConfig(objective="triplet", mining="semihard"))
    relations = relate_whole_pairs(items, left, right)
    found = objective(embeddings, relations, DistanceHead())
    assert float(found) == pytest.approx(sum(violated) / len(violated), abs=1e-6)


@pytest.mark.parametrize("pairs", [range(3), range(3, 9)], ids=["healthy", "lesioned"])
def test_whole_pairs_of_one_kind_alone_teach_nothing_and_keep_a_gradient(pairs):
    embeddings, items, _, _ = whole_pairs(0)
    rows = torch.tensor([*pairs, *(9 + k for k in pairs)])
    some = embeddings[rows].requires_grad_()
    chosen = Items.unpack(items.pack()[rows])
    left, right = torch.arange(len(rows)).chunk(2)
    loss = Objective(LossConfig(objective="triplet"))(
        some, relate_whole_pairs(chosen, left, right), DistanceHead()
    )
    loss.backward()
    assert float(loss.detach()) == 0
    assert some.grad is not None
