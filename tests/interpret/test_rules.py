"""The rules against slow loops over the layer's matrix, in float64, from the papers."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hemitwin.interpret import EpsilonRule, GammaRule, Lrp, LrpConfig
from hemitwin.interpret.accounts import Accounts
from hemitwin.interpret.rules import LinearLayer, propagate

LAYERS = {
    "Conv1d": (nn.Conv1d, {"stride": 2, "padding": 1}, (7,)),
    "Conv2d": (nn.Conv2d, {"stride": 2, "padding": 1, "groups": 2}, (5, 4)),
    "Conv3d": (nn.Conv3d, {"padding": 1}, (3, 2, 3)),
    "ConvTranspose2d": (nn.ConvTranspose2d, {"stride": 2, "output_padding": 1}, (3, 2)),
    "ConvTranspose3d": (nn.ConvTranspose3d, {"padding": 1}, (3, 2, 2)),
}


def shares(matrix, bias, x, *, gamma, epsilon, relevance_ratio):
    """Give R_i = sum_j n_ij / (sum n_ij + n_bj + eps sign) R_j and the bias's part, by loops."""
    relevance, bias_relevance = torch.zeros_like(x), 0.0
    for j, row in enumerate(matrix):
        z_ij, b = row * x, bias[j]
        z = z_ij.sum() + b
        part = (lambda t: t.clamp(min=0)) if z >= 0 else (lambda t: t.clamp(max=0))
        numerators, bias_numerator = z_ij + gamma * part(z_ij), b + gamma * part(b)
        denominator = numerators.sum() + bias_numerator
        denominator = denominator + (epsilon if denominator >= 0 else -epsilon)
        out = relevance_ratio[j] * z
        relevance += numerators / denominator * out
        bias_relevance += float(bias_numerator / denominator * out)
    return relevance, bias_relevance


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rule", ["epsilon", "gamma"])
@pytest.mark.parametrize("signed", [True, False])
def test_convolution_follows_the_rule_of_the_paper(kind, bias, rule, signed):
    torch.manual_seed(4)
    build, geometry, size = LAYERS[kind]
    layer = build(2, 4, 3, bias=bias, **geometry).double()
    x = torch.randn(1, 2, *size).double()
    x = x if signed else x.abs()
    flat_bias = layer(torch.zeros_like(x)).flatten().detach()
    matrix = torch.autograd.functional.jacobian(layer, x).reshape(len(flat_bias), -1)
    weights = torch.randn(len(flat_bias)).double()

    def weighted(image):
        return (layer(image).flatten(1) * weights).sum(1)

    config = LrpConfig(rule=rule, epsilon=0.05, gamma=0.3)
    explained = Lrp(weighted, config).explain(x)
    gamma = 0.3 if rule == "gamma" else 0.0
    expected, expected_bias = shares(
        matrix, flat_bias, x.flatten(), gamma=gamma, epsilon=0.05, relevance_ratio=weights
    )
    torch.testing.assert_close(explained.relevance[0].flatten(), expected)
    ledger = explained.ledgers[0]
    assert ledger.bias == pytest.approx(expected_bias, abs=1e-12)
    assert abs(ledger.stabiliser) > 0
    assert ledger.closes(1.0, tolerance=1e-9)


@pytest.mark.parametrize("rule", [EpsilonRule(0.05), GammaRule(0.3, 0.05), EpsilonRule(0.0)])
@pytest.mark.parametrize("with_bias", [True, False])
def test_dense_layer_follows_the_rule_of_the_paper(rule, with_bias):
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
        weight,
        bias,
        x.detach()[0],
        gamma=getattr(rule, "gamma", 0.0),
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
