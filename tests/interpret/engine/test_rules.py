"""The rules against slow loops over the layer's matrix, in float64, from the papers."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hemitwin.interpret import (
    BoxRule,
    EpsilonRule,
    GammaRule,
    LayerRule,
    Lrp,
    LrpConfig,
    ZPlusRule,
)
from hemitwin.interpret.engine.accounts import Accounts
from hemitwin.interpret.engine.rules import LinearLayer, propagate

LAYERS = {
    "Conv1d": (nn.Conv1d, {"stride": 2, "padding": 1}, (7,)),
    "Conv2d": (nn.Conv2d, {"stride": 2, "padding": 1, "groups": 2}, (5, 4)),
    "Conv3d": (nn.Conv3d, {"padding": 1}, (3, 2, 3)),
    "ConvTranspose2d": (nn.ConvTranspose2d, {"stride": 2, "output_padding": 1}, (3, 2)),
    "ConvTranspose3d": (nn.ConvTranspose3d, {"padding": 1}, (3, 2, 2)),
}


def positive(values):
    return values.clamp(min=0)


def negative(values):
    return values.clamp(max=0)


def numerators_of(rule, bounds=(0.0, 0.0), gamma=0.3):
    """Give (w_j, b_j, x, z_j) to the shares' numerators, as the papers have them."""
    low, high = bounds

    def same_sign(row, b, x, z):
        part = positive if z >= 0 else negative
        return row * x + gamma * part(row * x), b + gamma * part(b)

    return {
        "epsilon": lambda row, b, x, _: (row * x, b),
        "gamma": same_sign,
        "zplus": lambda row, b, x, _: (positive(row * x), positive(b)),
        "box": lambda row, b, x, _: (row * x - low * positive(row) - high * negative(row), 0 * b),
        # Entries of the matrix without a weight lie outside of the receptive field.
        "flat": lambda row, b, x, _: ((row != 0).to(x), 0 * b),
    }[rule]


RULES = ("epsilon", "gamma", "zplus", "box", "flat")


def config_of(rule):
    of_input = {"input_rule": rule} if rule in {"box", "flat"} else {"rule": rule}
    return LrpConfig(epsilon=0.05, gamma=0.3, **of_input)


def shares(numerators, matrix, bias, x, *, epsilon, relevance_ratio):
    """Give R_i = sum_j n_ij / (sum n_ij + n_bj + eps sign) R_j and the bias's part, by loops."""
    relevance, bias_relevance = torch.zeros_like(x), 0.0
    for j, row in enumerate(matrix):
        z = (row * x).sum() + bias[j]
        own, bias_numerator = numerators(row, bias[j], x, z)
        denominator = own.sum() + bias_numerator
        denominator = denominator + (epsilon if denominator >= 0 else -epsilon)
        out = relevance_ratio[j] * z
        relevance += own / denominator * out
        bias_relevance += float(bias_numerator / denominator * out)
    return relevance, bias_relevance


def matrix_of(layer, x):
    flat_bias = layer(torch.zeros_like(x)).flatten().detach()
    matrix = torch.autograd.functional.jacobian(layer, x)
    return matrix.reshape(len(flat_bias), -1), flat_bias


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("signed", [True, False])
def test_convolution_follows_the_rule_of_the_paper(kind, bias, rule, signed):
    torch.manual_seed(4)
    build, geometry, size = LAYERS[kind]
    layer = build(2, 4, 3, bias=bias, **geometry).double()
    x = torch.randn(1, 2, *size).double()
    x = x if signed else x.abs()
    matrix, flat_bias = matrix_of(layer, x)
    weights = torch.randn(len(flat_bias)).double()

    def weighted(image):
        return (layer(image).flatten(1) * weights).sum(1)

    explained = Lrp(weighted, config_of(rule)).explain(x)
    dims = tuple(range(2, x.ndim))
    extremes = (one(dims, keepdim=True) for one in (x.amin, x.amax))
    numerators = numerators_of(rule, [one.expand(x.shape).flatten() for one in extremes])
    expected, expected_bias = shares(
        numerators, matrix, flat_bias, x.flatten(), epsilon=0.05, relevance_ratio=weights
    )
    torch.testing.assert_close(explained.relevance[0].flatten(), expected)
    ledger = explained.ledgers[0]
    assert ledger.bias == pytest.approx(expected_bias, abs=1e-12)
    assert abs(ledger.stabiliser) > 0
    assert ledger.closes(1.0, tolerance=1e-9)


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("epsilon", EpsilonRule(0.05)),
        ("epsilon", EpsilonRule(0.0)),
        ("gamma", GammaRule(0.3, 0.05)),
        ("zplus", ZPlusRule(0.05)),
    ],
)
@pytest.mark.parametrize("with_bias", [True, False])
def test_dense_layer_follows_the_rule_of_the_paper(name, rule, with_bias):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(1, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(5, 6, generator=generator, dtype=torch.float64)
    bias = torch.randn(5, generator=generator, dtype=torch.float64) * with_bias
    ratio = torch.randn(5, generator=generator, dtype=torch.float64)
    accounts = Accounts(1)
    layer = LinearLayer(F.linear, x, weight, bias if with_bias else None)
    y = propagate(layer, rule, accounts)
    torch.testing.assert_close(y, F.linear(x, weight, bias))
    (gradient,) = torch.autograd.grad((y * ratio).sum(), x)
    expected, expected_bias = shares(
        numerators_of(name),
        weight,
        bias,
        x.detach()[0],
        epsilon=rule.epsilon,
        relevance_ratio=ratio,
    )
    torch.testing.assert_close((x * gradient)[0], expected)
    assert float(accounts.totals()["bias"]) == pytest.approx(expected_bias, abs=1e-12)


def test_gamma_zero_is_epsilon():
    layer, x = nn.Conv2d(2, 3, 3), torch.randn(1, 2, 6, 6)

    def pooled(image):
        return layer(image).sum((1, 2, 3))

    one = Lrp(pooled, LrpConfig(rule="gamma", gamma=0)).attribute(x)
    other = Lrp(pooled, LrpConfig(rule="epsilon")).attribute(x)
    torch.testing.assert_close(one, other)


def test_output_of_zero_sends_no_relevance_and_stays_finite():
    layer = nn.Linear(3, 2, bias=False)
    for epsilon in (0.0, 1e-6):
        explained = Lrp(layer, LrpConfig(epsilon=epsilon)).explain(torch.zeros(1, 3), 0)
        assert torch.equal(explained.relevance[0], torch.zeros(1, 3))


def test_bounds_of_the_box_may_be_given():
    x = torch.tensor([[0.5, -1.0]]).double()
    weight = torch.tensor([[2.0, -3.0]]).double()
    rule = BoxRule(-1.0, 1.0, epsilon=0.0)
    low, high = rule.stand_ins(x)
    layer = LinearLayer(F.linear, x, weight, None, stand_ins=(low, high))
    numerator, _ = rule.numerators(layer, F.linear(x, weight), x.new_zeros(()))
    by_hand = (2.0 * 0.5 + -3.0 * -1.0) - 2.0 * -1.0 - -3.0 * 1.0
    torch.testing.assert_close(numerator, torch.tensor([[by_hand]]).double())


def test_a_rule_of_the_input_acts_on_what_reads_it_and_on_nothing_else():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Conv2d(3, 2, 3)).double()
    x = torch.randn(2, 1, 7, 6).double().to(memory_format=torch.channels_last)
    for rule in ("box", "flat"):
        explained = Lrp(network, LrpConfig(rule="epsilon", input_rule=rule)).explain(x, (1, 2, 1))
        assert all(ledger.closes(1.0, tolerance=1e-9) for ledger in explained.ledgers)
        assert all(abs(ledger.input) > 0.1 * abs(ledger.explained) for ledger in explained.ledgers)
    first = Lrp(network[0], LrpConfig(input_rule="flat", epsilon=0)).explain(x, (1, 2, 1))
    for relevance, score in zip(first.relevance[0], first.score, strict=True):
        torch.testing.assert_close(relevance[0, 2:5, 1:4], (score / 9).expand(3, 3))
        assert relevance.count_nonzero() == 9
    hidden = nn.Sequential(nn.ReLU(), network[0])
    with pytest.raises(ValueError, match="the model has none; take input_rule same"):
        Lrp(hidden, LrpConfig(input_rule="box")).attribute(x, (0, 0, 0))


def test_each_of_two_inputs_has_stand_ins_of_its_own():
    layer = nn.Conv2d(1, 2, 3).double()
    a, b = torch.randn(2, 1, 1, 5, 5).double()

    def both(one, other):
        return (layer(one) - 2 * layer(other)).sum((2, 3))

    maps = Lrp(both, LrpConfig(input_rule="box")).attribute((a, b), 1)
    alone = [Lrp(lambda x: layer(x).sum((2, 3)), LrpConfig(input_rule="box")) for _ in range(2)]
    torch.testing.assert_close(maps[0], alone[0].attribute(a, 1))
    torch.testing.assert_close(maps[1], -2 * alone[1].attribute(b, 1))


def test_a_composite_picks_rules_by_kind_and_depth():
    torch.manual_seed(1)
    convolutions = [nn.Conv2d(1, 3, 3), nn.Conv2d(3, 3, 3), nn.Conv2d(3, 2, 3)]
    network = nn.Sequential(*convolutions, nn.Flatten(), nn.LazyLinear(2)).double()
    x = torch.randn(1, 1, 8, 8).double()
    network(x)
    composite = (
        LayerRule(rule="zplus", last=0),
        LayerRule(rule="gamma", first=1, last=1),
        LayerRule(rule="gamma", kind="dense"),
    )
    config = LrpConfig(rule="epsilon", epsilon=0.05, gamma=0.3, composite=composite)
    rules = [config.rule_of("convolution", depth) for depth in range(3)]
    assert rules == [ZPlusRule(0.05), GammaRule(0.3, 0.05), EpsilonRule(0.05)]
    assert config.rule_of("dense", 0) == GammaRule(0.3, 0.05)
    (found,) = Lrp(network, config).explain(x, 1).relevance
    relevance = torch.zeros(2).double()
    values = [x]
    for layer in network:
        values.append(layer(values[-1]).detach())
    relevance[1] = values[-1][0, 1]
    names = {0: "zplus", 1: "gamma", 2: "epsilon", 4: "gamma"}
    for k in (4, 2, 1, 0):  # by hand, from the top down; flattening moves nothing
        matrix, bias = matrix_of(network[k], values[k])
        numerators, ratio = numerators_of(names[k]), relevance / values[k + 1].flatten()
        relevance, _ = shares(
            numerators, matrix, bias, values[k].flatten(), epsilon=0.05, relevance_ratio=ratio
        )
    torch.testing.assert_close(found.flatten(), relevance)


@pytest.mark.parametrize("rule", ["epsilon", "gamma", "zplus"])
@pytest.mark.parametrize("transposed", [False, True])
def test_a_folded_norm_is_part_of_the_convolution_before(rule, transposed, shake):
    torch.manual_seed(3)
    build = nn.ConvTranspose3d if transposed else nn.Conv3d
    network = shake(nn.Sequential(build(2, 4, 3), nn.BatchNorm3d(4)).double())
    x = torch.randn(1, 2, 4, 4, 4).double()
    folded = build(2, 4, 3).double()
    scale = network[1].weight / torch.sqrt(network[1].running_var + network[1].eps)
    along = (1, -1, 1, 1, 1) if transposed else (-1, 1, 1, 1, 1)
    with torch.no_grad():
        folded.weight.copy_(network[0].weight * scale.view(along))
        bias = (network[0].bias - network[1].running_mean) * scale + network[1].bias
    folded.bias = nn.Parameter(bias)
    config = LrpConfig(rule=rule, batch_norm="folded")
    target = (1, 1, 0, 1)
    ours, expected = (Lrp(one, config).explain(x, target) for one in (network, folded))
    torch.testing.assert_close(ours.relevance[0], expected.relevance[0])
    assert ours.ledgers[0].to_dict() == pytest.approx(expected.ledgers[0].to_dict(), abs=1e-9)
    affine = Lrp(network, LrpConfig(rule=rule)).explain(x, target)
    assert affine.ledgers[0].closes(1.0, tolerance=1e-9)


def test_a_norm_is_not_folded_into_a_grouped_transposed_convolution():
    network = nn.Sequential(nn.ConvTranspose2d(2, 4, 3, groups=2), nn.BatchNorm2d(4)).eval()
    with pytest.raises(NotImplementedError, match="set batch_norm to affine"):
        Lrp(network, LrpConfig(batch_norm="folded")).attribute(torch.ones(1, 2, 4, 4), (0, 0, 0))


def test_a_rule_for_no_layer_is_refused():
    with pytest.raises(ValueError, match="last must not be below first"):
        LayerRule(rule="zplus", first=3, last=1)
