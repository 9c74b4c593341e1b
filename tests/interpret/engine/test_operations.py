"""Every rewritten operation keeps its value and its balance."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hemitwin.interpret import Lrp, LrpConfig
from hemitwin.interpret.engine.operations import OPERATIONS

CONSTANT = torch.linspace(-1, 2, 24, dtype=torch.float64).reshape(1, 2, 3, 4)
MATRIX = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(4, 3)


def in_place_chain(x):
    y = x * 2
    alias = y
    y += CONSTANT
    F.relu(y, inplace=True)  # the result is dropped on purpose
    return alias.mul_(3)


CASES = {
    "add": lambda x: x + CONSTANT + 0.5,
    "add alpha": lambda x: torch.add(x, CONSTANT, alpha=2),
    "radd": lambda x: 1 + x,
    "sub": lambda x: x - CONSTANT,
    "rsub": lambda x: 1.5 - x,
    "sub from": lambda x: CONSTANT - x,
    "mul": lambda x: CONSTANT * x * 2,
    "mul both": lambda x: x * x.sigmoid(),
    "square gate": lambda x: x**2,
    "div": lambda x: x / CONSTANT.abs().add(1),
    "div by own norm": lambda x: x / x.norm(),
    "normalize": F.normalize,
    "normalize p1": lambda x: F.normalize(x, p=1.0, dim=2),
    "cat constant": lambda x: torch.cat([x, CONSTANT], dim=1),
    "stack": lambda x: torch.stack([x, CONSTANT, x]),
    "where": lambda x: torch.where(x > 0.3, x, 0.3),
    "masked_fill": lambda x: x.masked_fill(x > 0, 2.0),
    "maximum": lambda x: torch.maximum(x, CONSTANT),
    "pad": lambda x: F.pad(x, (1, 2)),
    "pad replicate": lambda x: F.pad(x, (1, 1, 0, 2), mode="replicate"),
    "interpolate": lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
    "matmul": lambda x: x @ MATRIX,
    "matmul from the left": lambda x: MATRIX.T @ x.transpose(2, 3),
    "matmul both": lambda x: x @ x.transpose(2, 3),
    "max pool": lambda x: F.max_pool2d(x, 2),
    "max pool with indices": lambda x: F.max_pool2d(x, 2, return_indices=True)[0],
    "adaptive max": lambda x: F.adaptive_max_pool2d(x, 1),
    "avg pool": lambda x: F.avg_pool2d(x, 2, ceil_mode=True),
    "adaptive avg": lambda x: F.adaptive_avg_pool2d(x, (2, 2)),
    "amax": lambda x: x.amax(dim=(2, 3)),
    "leaky": lambda x: F.leaky_relu(x, 0.1),
    "prelu": lambda x: F.prelu(x, torch.tensor([0.2], dtype=torch.float64)),
    "gates": lambda x: F.silu(x) + F.gelu(x) + F.softplus(x) + x.tanh() + F.hardswish(x),
    "elu": lambda x: F.elu(x) + F.relu6(x) + x.clamp(-0.5, 0.7),
    "layer norm": lambda x: F.layer_norm(x, (3, 4), bias=CONSTANT[0, 0]),
    "instance norm": F.instance_norm,
    "group norm": lambda x: F.group_norm(x, 2, weight=CONSTANT[0, 0, 0, :2]),
    "index": lambda x: x[:, 1:, ::2].sum() + x[..., [0]],
    "split": lambda x: torch.split(x, 2, dim=3)[0] - x.chunk(2, dim=3)[1],
    "reshape": lambda x: x.permute(0, 2, 3, 1).flatten(1).unsqueeze(1).mT,
    "in place": in_place_chain,
    "in place on a norm": lambda x: F.group_norm(x, 2).relu_(),
    "dropout in evaluation": lambda x: F.dropout(x, training=False),
    "cosine": lambda x: F.cosine_similarity(x, x.flip(1)),
    "pairwise distance": lambda x: F.pairwise_distance(x[:, 0], x[:, 1]),
    "detached": lambda x: x + x.detach(),
    "asked for its shape": lambda x: x * x.shape[1] * x.size(2) * len(x) * x.dim(),
    "input by keyword": lambda x: F.linear(input=x, weight=MATRIX.T),
    "kept in a buffer": lambda x: torch.zeros_like(x).add_(x),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("statistics", ["scale", "all"])
def test_operation_keeps_value_and_balance(name, statistics):
    operation = CASES[name]
    x = torch.randn(1, 2, 3, 4, generator=torch.Generator().manual_seed(7), dtype=torch.float64)

    def score(image):
        y = operation(image)
        return (y * torch.arange(1, y.numel() + 1).reshape(y.shape).double()).sum().reshape(1)

    explained = Lrp(score, LrpConfig(norm_statistics=statistics)).explain(x)
    torch.testing.assert_close(explained.score, score(x.clone()))
    assert explained.ledgers[0].closes(1e-2, tolerance=1e-9), explained.ledgers[0].to_dict()


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        (lambda x: x.softmax(1), "torch.Tensor.softmax has none"),
        (torch.sin, "torch.sin has none"),
        (lambda x: torch.zeros_like(x).copy_(x), "torch.Tensor.copy_ has none"),
        (lambda x: 1 / x, "rule"),
        (lambda x: F.pad(x, (1, 1), value=2.0), "padding must be with 0"),
        (lambda x: x.view(-1).relu_(), "must not write through a view"),
        (lambda x: F.conv2d(x, x), "must not depend on the explained input"),
    ],
)
def test_operation_without_a_rule_is_named(operation, message):
    with pytest.raises(NotImplementedError, match=message):
        Lrp(operation).attribute(torch.randn(1, 2, 3, 4), (0, 0, 0))


def test_assignment_into_a_constant_is_refused():
    def assign(x):
        y = torch.zeros_like(x)
        y[:] = x
        return y

    with pytest.raises(NotImplementedError, match="__setitem__ has none"):
        Lrp(assign).attribute(torch.randn(1, 2), 0)


def test_table_names_exist_in_torch():
    places = (torch, torch.Tensor, F, torch.linalg)
    aliases = {"rsub", "getitem", "linalg_vector_norm", "linalg_norm", "clamp_min", "clamp_max"}
    missing = {n for n in OPERATIONS if not any(hasattr(p, n) for p in places)}
    assert missing <= aliases, missing - aliases


def test_channel_attention_closes():
    class Squeeze(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 4, 3)
            self.gate = nn.Sequential(nn.Linear(4, 2), nn.SiLU(), nn.Linear(2, 4), nn.Sigmoid())

        def forward(self, x):
            x = self.conv(x)
            return (x * self.gate(x.mean((2, 3)))[..., None, None]).mean((2, 3))

    explained = Lrp(Squeeze().double()).explain(torch.randn(3, 1, 8, 8).double(), 1)
    assert all(ledger.closes(0.1, tolerance=1e-9) for ledger in explained.ledgers)


@pytest.mark.parametrize(
    "gate",
    [
        lambda x: torch.sigmoid(3 * x.mean((2, 3), keepdim=True)),
        lambda x: F.interpolate(F.hardsigmoid(F.avg_pool2d(x, 2)), scale_factor=2),
        lambda x: x.mean((2, 3)).sigmoid().view(1, 2, 1, 1).expand_as(x),
    ],
    ids=["sigmoid", "interpolated", "viewed"],
)
def test_what_a_switch_lets_pass_takes_all(gate):
    x = torch.randn(1, 2, 4, 4, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    for switched in (lambda v: v * gate(v), lambda v: gate(v) * v):
        explained = Lrp(lambda v, f=switched: f(v).sum((1, 2, 3))).explain(x)
        torch.testing.assert_close(explained.relevance[0], x * gate(x))
        assert explained.ledgers[0].constant == 0


def test_two_switches_share_as_two_signals_do():
    x = torch.tensor([[0.3, -0.4]], dtype=torch.float64)
    explained = Lrp(lambda v: (v.sigmoid() * (2 * v).sigmoid()).sum(1)).explain(x)
    assert explained.ledgers[0].closes(1.0, tolerance=1e-9)
    assert explained.ledgers[0].constant > 0
