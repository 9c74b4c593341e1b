"""Laws of any score of a pair, and of many targets from one forward pass."""

from functools import partial

import pytest
import torch
from torch.nn.functional import normalize

from hemitwin.interpret import (
    LrpConfig,
    PairExplanation,
    explain_embedding,
    explain_embeddings,
    explain_pair,
    explain_score,
)
from hemitwin.interpret.engine.forward_pass import run_forward
from hemitwin.models import (
    ClassHead,
    HeadConfig,
    Reference,
    SiameseNetwork,
    SingleClassifier,
    build_head,
)

METRICS = ("euclidean", "cosine", "l1")
DIM = 8
TINY = {  # each operation's arguments are checked at run time, which is what takes long here
    "resnet18": {"width": 4, "blocks": (1,)},
    "densenet121": {"width": 4, "blocks": (1, 1)},
    "unet": {"levels": 2},
}


def siamese(make_encoder, shake, head="distance", *, name="resnet18", dims=2, **settings):
    """Build a tiny shaken network in double precision."""
    reference = settings.pop("reference", None)
    of_head = ("metric", "peak_voxels", "classes")
    chosen = {key: settings.pop(key) for key in of_head if key in settings}
    channels = 1 if reference is None else 2
    sizes = {"spatial_dims": dims, "in_channels": channels, **TINY[name], **settings}
    encoder = make_encoder(name, **sizes)
    config = HeadConfig.model_validate({"name": head, "decoder_width": 4, "hidden": 6, **chosen})
    network = SiameseNetwork(encoder, shake(build_head(config, encoder), 1), reference)
    return network.double().eval()


def pair(dims=2, seed=11):
    generator = torch.Generator().manual_seed(seed)
    shape = (9, 8, 7)[:dims]
    return torch.randn(2, 1, 1, *shape, generator=generator, dtype=torch.float64)


def fitted_reference(dims=2):
    images = torch.cat(list(pair(dims, 3)) + list(pair(dims, 4)))
    return Reference.fit(images)


def logit(output):
    return output.logit


def distance(output):
    return output.distance


def mean_of_region(output, side=0):
    """Mean logit of some voxels of one side's anomaly map."""
    return output.anomaly[:, side, 3:7, 2:6].flatten(1).mean(1)


def assert_same(one, other):
    torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def assert_explained(network, left, right, score, config=None) -> PairExplanation:
    """Ledger closed, maps in it, score the network's own."""
    found = explain_score(network, left, right, score, config)
    with torch.no_grad():
        expected = float(score(network(left, right)))
    assert found.score == pytest.approx(expected, rel=1e-9)
    assert found.ledger.explained == found.score
    assert found.ledger.closes(tolerance=1e-9), found.ledger.to_dict()
    maps = (found.relevance_left, found.relevance_right)
    assert {tuple(one.shape) for one in maps} == {tuple(left.shape)}
    total = sum(float(one.sum()) for one in maps)
    assert total == pytest.approx(found.ledger.input, rel=1e-9, abs=1e-12)
    assert max(float(one.abs().max()) for one in maps) > 0
    return found


HEADS = [
    *(pytest.param("distance", {"metric": metric}, distance, id=metric) for metric in METRICS),
    *(
        pytest.param("joint", {"metric": metric}, logit, id=f"joint-{metric}")
        for metric in METRICS
    ),
    pytest.param("weighted_l1", {}, logit, id="weighted_l1"),
    pytest.param("classes", {"classes": 3}, distance, id="classes-distance"),
    pytest.param("classifier", {}, logit, id="classifier"),
    pytest.param("classifier", {"metric": "l1"}, distance, id="classifier-distance"),
    pytest.param("single", {}, logit, id="single"),
    pytest.param("decoder", {"peak_voxels": 3}, logit, id="decoder"),
    pytest.param("decoder", {"dims": 3}, logit, id="decoder-3d"),
    pytest.param("decoder", {"name": "unet"}, logit, id="decoder-unet"),
    pytest.param("decoder", {}, distance, id="decoder-distance"),
]


@pytest.mark.parametrize(("head", "settings", "score"), HEADS)
def test_every_heads_score_is_explained_and_swaps_with_the_images(
    make_encoder, shake, head, settings, score
):
    network = siamese(make_encoder, shake, head, **settings)
    left, right = pair(settings.get("dims", 2))
    there = assert_explained(network, left, right, score)
    back = explain_score(network, right, left, score)
    assert back.score == pytest.approx(there.score, rel=1e-9)
    assert_same(there.relevance_left, back.relevance_right)
    assert_same(there.relevance_right, back.relevance_left)
    assert there.ledger.to_dict() == pytest.approx(back.ledger.to_dict(), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(
    ("head", "score"),
    [
        ("distance", distance),
        ("joint", logit),
        ("weighted_l1", logit),
        ("classifier", logit),
        ("single", logit),
        ("decoder", logit),
        ("decoder", mean_of_region),
    ],
)
def test_with_a_reference_relevance_comes_back_to_the_images_own_channel(
    make_encoder, shake, head, score
):
    network = siamese(make_encoder, shake, head, reference=fitted_reference())
    left, right = pair()
    there = assert_explained(network, left, right, score)
    if score is not mean_of_region:
        back = explain_score(network, right, left, score)
        assert_same(there.relevance_left, back.relevance_right)


@pytest.mark.parametrize("rule", ["epsilon", "zplus"])
def test_rules_are_those_asked_for(make_encoder, shake, rule):
    network = siamese(make_encoder, shake, "classifier")
    left, right = pair()
    found = assert_explained(network, left, right, logit, LrpConfig(rule=rule))
    otherwise = explain_score(network, left, right, logit)
    assert not torch.allclose(found.relevance_left, otherwise.relevance_left)


@pytest.mark.parametrize("dims", [2, 3])
def test_a_region_of_the_decoders_map_is_a_score(make_encoder, shake, dims):
    network = siamese(make_encoder, shake, "decoder", dims=dims)
    left, right = pair(dims)
    there = assert_explained(network, left, right, mean_of_region)
    # Of the exchanged images, the right side's map is the same one.
    back = explain_score(network, right, left, partial(mean_of_region, side=1))
    assert_same(there.relevance_left, back.relevance_right)
    assert_same(there.relevance_right, back.relevance_left)


def test_the_distance_as_a_score_is_explained_as_by_explain_pair(make_encoder, shake):
    network = siamese(make_encoder, shake, "joint")
    left, right = pair()
    one, other = explain_score(network, left, right, distance), explain_pair(network, left, right)
    assert_same(one.relevance_left, other.relevance_left)
    assert_same(one.relevance_right, other.relevance_right)
    assert one.ledger.to_dict() == pytest.approx(other.ledger.to_dict(), rel=1e-9, abs=1e-12)
    assert one.ledger_left is None
    assert one.ledger_right is None


def test_the_calibrating_heads_map_is_the_distances_times_its_slope(make_encoder, shake):
    network = siamese(make_encoder, shake, "joint")
    left, right = pair()
    calibrated = explain_score(network, left, right, logit)
    plain = explain_score(network, left, right, distance)
    weights = network.head.state_dict()
    slope, threshold = float(weights["log_slope"].exp()), float(weights["threshold"])
    assert_same(calibrated.relevance_left, slope * plain.relevance_left)
    # The threshold is nobody's; it is booked.
    booked = calibrated.ledger.constant - slope * plain.ledger.constant
    assert booked == pytest.approx(-slope * threshold)


def test_relevance_of_the_weighted_l1_is_the_weighted_sum_of_its_entries(make_encoder, shake):
    network = siamese(make_encoder, shake, "weighted_l1")
    left, right = pair()
    found = explain_score(network, left, right, logit)
    with torch.no_grad():
        a, b = network.embed(left), network.embed(right)
        apart = normalize(a) - normalize(b)
        weight = network.head.get_parameter("raw_weight").exp().log1p() * DIM**0.5
        directions = weight * apart.sign()
        bias = float(network.head.get_parameter("bias"))
    own, _ = explain_embedding(network.encoder, left, (directions / a.norm())[0])
    other, _ = explain_embedding(network.encoder, right, (-directions / b.norm())[0])
    assert_same(found.relevance_left, own)
    assert_same(found.relevance_right, other)
    assert found.score - bias == pytest.approx(float((weight * apart.abs()).sum()), rel=1e-9)


def test_the_logit_of_a_class_is_explained_for_each_image(make_encoder, shake):
    network = siamese(make_encoder, shake, "classes", classes=3)
    head, images = network.head, torch.cat(list(pair()))
    assert isinstance(head, ClassHead)
    run = run_forward(lambda seen: head.classify(network.encoder(seen)), (images,), LrpConfig())
    targets = torch.eye(3, dtype=torch.float64)[:, None].expand(-1, 2, -1)
    with torch.no_grad():
        logits = head.classify(network.embed(images))
    for explanation, expected in zip(run.explain(targets), logits.T, strict=True):
        assert_same(explanation.score, expected)
        sums = explanation.relevance[0].flatten(1).sum(1).tolist()
        assert sums == pytest.approx([ledger.input for ledger in explanation.ledgers])
        for ledger in explanation.ledgers:
            assert ledger.closes(1.0, tolerance=1e-9), ledger.to_dict()


def test_the_side_that_decides_takes_all_of_the_single_classifiers_logit(make_encoder, shake):
    network = siamese(make_encoder, shake, "single")
    assert isinstance(network.head, SingleClassifier)
    images = torch.cat(list(pair()))
    with torch.no_grad():
        by_side = network.head.classify(network.embed(images))
    found = explain_score(network, images[:1], images[1:], logit)
    maps = (found.relevance_left, found.relevance_right)
    decides = int(by_side.argmax())
    assert maps[decides].abs().max() > 0
    assert maps[1 - decides].abs().max() == 0


@pytest.mark.parametrize("head", ["distance", "decoder"])
def test_training_mode_with_batch_norm_is_refused_before_anything_moves(make_encoder, shake, head):
    network = siamese(make_encoder, shake, head, norm="batch").train()
    state = {name: value.clone() for name, value in network.state_dict().items()}
    left, right = pair()
    with pytest.raises(ValueError, match=r"in training mode; call model\.eval\(\)"):
        explain_score(network, left, right, distance)
    assert all(torch.equal(state[name], value) for name, value in network.state_dict().items())
    assert_explained(network.eval(), left, right, distance)


def test_what_is_not_one_pair_or_one_number_is_refused(make_encoder, shake):
    network = siamese(make_encoder, shake, "decoder")
    left, right = pair()
    with pytest.raises(ValueError, match="both sides must be one image"):
        explain_score(network, left.repeat(2, 1, 1, 1), right.repeat(2, 1, 1, 1), distance)
    with pytest.raises(ValueError, match="both sides must be one image"):
        explain_score(network, left, right[..., 1:], distance)
    with pytest.raises(ValueError, match=r"the score must be one number, \(1,\); got \(1, 8\)"):
        explain_score(network, left, right, lambda output: output.embedding_left)
    with pytest.raises(ValueError, match=r"the score must be one number, \(1,\); got \(\)"):
        explain_score(network, left, right, lambda output: output.distance.sum())


@pytest.mark.parametrize("name", ["resnet18", "densenet121", "unet"])
def test_maps_of_all_dimensions_sum_to_that_of_their_sum(make_encoder, shake, name):
    network = siamese(make_encoder, shake, name=name)
    images = torch.cat(list(pair()))
    dimensions = list(explain_embeddings(network, images))
    (together,) = explain_embeddings(network, images, torch.ones(1, DIM, dtype=torch.float64))
    assert len(dimensions) == DIM
    total = torch.stack([one.relevance[0] for one in dimensions]).sum(0)
    assert_same(total, together.relevance[0])
    scores = torch.stack([one.score for one in dimensions], dim=1)
    torch.testing.assert_close(scores, network.embed(images).detach())
    for one in (*dimensions, together):
        for ledger in one.ledgers:
            assert ledger.closes(1.0, tolerance=1e-9), ledger.to_dict()


@pytest.mark.parametrize("dims", [2, 3])
def test_each_image_and_direction_is_explained_as_if_alone(make_encoder, shake, dims):
    network = siamese(make_encoder, shake, dims=dims)
    images = torch.cat(list(pair(dims)))
    directions = torch.randn(3, DIM, generator=torch.Generator().manual_seed(5)).double()
    found = list(explain_embeddings(network, images, directions))
    for one, direction in zip(found, directions, strict=True):
        for row, image in enumerate(images):
            relevance, ledger = explain_embedding(network.encoder, image[None], direction)
            assert_same(one.relevance[0][row], relevance[0])
            assert one.ledgers[row].to_dict() == pytest.approx(ledger.to_dict(), abs=1e-12)


def test_relevance_of_embeddings_comes_back_through_the_reference(make_encoder, shake):
    network = siamese(make_encoder, shake, reference=fitted_reference())
    images = torch.cat(list(pair()))
    (found,) = explain_embeddings(network, images, torch.ones(1, DIM))
    assert found.relevance[0].shape == images.shape
    sums = found.relevance[0].flatten(1).sum(1).tolist()
    assert sums == pytest.approx([ledger.input for ledger in found.ledgers])


@pytest.mark.parametrize("head", ["distance", "decoder"])
def test_all_directions_share_one_forward_pass(make_encoder, shake, head):
    network = siamese(make_encoder, shake, head)
    calls = []
    dict(network.named_modules())["encoder"].register_forward_hook(lambda *_: calls.append(1))
    assert len(list(explain_embeddings(network, torch.cat(list(pair())), memory_mb=0))) == DIM
    assert len(calls) == 1


@pytest.mark.parametrize("norm", ["group", "batch"])
def test_how_many_go_together_changes_no_map_and_no_ledger(make_encoder, shake, norm):
    network = siamese(make_encoder, shake, norm=norm)
    images = torch.cat(list(pair()))
    config = LrpConfig(rule="gamma", norm_statistics="all")
    budgets = (0, 1, 1000)
    found = [
        list(explain_embeddings(network, images, config=config, memory_mb=budget))
        for budget in budgets
    ]
    for others in found[1:]:
        for one, other in zip(found[0], others, strict=True):
            assert_same(one.relevance[0], other.relevance[0])
            assert_same(one.score, other.score)
            for ledger, same in zip(one.ledgers, other.ledgers, strict=True):
                assert ledger.bias != 0
                assert ledger.to_dict() == pytest.approx(same.to_dict(), rel=1e-9, abs=1e-12)


def test_stand_ins_of_the_input_rule_go_together_too(make_encoder, shake):
    network = siamese(make_encoder, shake)
    images, config = torch.cat(list(pair())), LrpConfig(rule="zplus", input_rule="box")
    alone, together = (
        list(explain_embeddings(network, images, config=config, memory_mb=budget))
        for budget in (0, 1000)
    )
    for one, other in zip(alone, together, strict=True):
        assert_same(one.relevance[0], other.relevance[0])


@pytest.mark.parametrize(("count", "last"), [(1, 1), (3, 3), (5, 2), (6, 3)])
def test_chunks_of_any_size_cover_all_targets_in_order(monkeypatch, count, last):
    layer = torch.nn.Linear(4, count).double()
    x = torch.randn(2, 4, dtype=torch.float64)
    run = run_forward(layer, (x,), LrpConfig())
    together = []
    propagate = type(run)._propagate

    def record(self, weights, *, last):
        together.append((len(weights), last))
        return propagate(self, weights, last=last)

    monkeypatch.setattr(type(run), "_propagate", record)
    monkeypatch.setattr(type(run), "chunk", lambda *_: 3)
    weights = torch.eye(count, dtype=torch.float64)[:, None].expand(-1, 2, -1)
    scores = torch.stack([one.score for one in run.explain(weights)], dim=1)
    assert_same(scores, layer(x).detach())
    assert sum(size for size, _ in together) == count
    assert together[-1] == (last, True)
    assert not any(is_last for _, is_last in together[:-1])


def test_more_memory_lets_more_targets_go_together(make_encoder):
    encoder = make_encoder("resnet18", spatial_dims=2)
    small, large = (
        run_forward(encoder, (torch.randn(1, 1, size, size),), LrpConfig()) for size in (16, 128)
    )
    chunks = [large.chunk(budget) for budget in (0, 1, 4, 16, 10**6)]
    assert chunks[0] == 1
    assert chunks == sorted(chunks)
    assert 1 < chunks[2] < chunks[3], "some budget lies between one at a time and the most"
    assert chunks[-1] == small.chunk(10**6) == 32
    assert small.chunk(1) > large.chunk(1)
    assert large.largest_bytes == 64 * small.largest_bytes


@pytest.mark.parametrize("shape", [(2, DIM + 1), (2, 1)])
def test_directions_that_do_not_fit_the_embedding_are_refused(make_encoder, shake, shape):
    network = siamese(make_encoder, shake)
    with pytest.raises(ValueError, match=r"weights must be \(K, 2, 8\).*give targets of this"):
        list(explain_embeddings(network, torch.cat(list(pair())), torch.ones(shape)))


def test_weights_of_another_batch_are_refused():
    run = run_forward(torch.nn.Linear(4, 3), (torch.randn(2, 4),), LrpConfig())
    with pytest.raises(ValueError, match=r"weights must be \(K, 2, 3\)"):
        next(run.explain(torch.ones(1, 1, 3)))
