"""Conservation, purity and agreement of relevance propagation on whole networks."""

import copy
import gc
import weakref

import pytest
import torch
from captum.attr import LRP
from monai.data.meta_tensor import MetaTensor
from monai.networks.nets.densenet import DenseNet, DenseNet121
from monai.networks.nets.resnet import ResNet, resnet18
from monai.networks.nets.unet import UNet
from torch import nn

from hemitwin.interpret import Lrp, LrpConfig
from hemitwin.interpret.engine import forward_pass
from hemitwin.interpret.engine.accounts import Accounts
from hemitwin.models import BUILDERS, EncoderConfig, build_encoder

ENCODERS = ("resnet18", "densenet121", "unet")
RULES = [LrpConfig(rule="epsilon"), LrpConfig(rule="gamma"), LrpConfig(norm_statistics="all")]
PRECISION = {torch.float32: 1e-4, torch.float64: 1e-9}


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize(
    ("dims", "norm"), [(2, "group"), (2, "instance"), (2, "batch"), (3, "group"), (3, "batch")]
)
@pytest.mark.parametrize("dtype", PRECISION)
def test_ledger_closes_and_score_is_the_models(make_encoder, name, dims, norm, dtype):
    encoder = make_encoder(name, spatial_dims=dims, norm=norm, pooling="average+max").to(dtype)
    size = encoder.config.minimum_size + 1
    x = torch.randn(2, 1, *(size,) * dims, dtype=dtype)
    scores = encoder(x).detach()
    # Not a score that all but cancels: a residual cannot be smaller than float32 rounds its terms.
    target = int(scores.abs().amin(0).argmax())
    for config in RULES:
        explained = Lrp(encoder, config).explain(x, target)
        torch.testing.assert_close(explained.score, scores[:, target], rtol=1e-4, atol=1e-5)
        for ledger in explained.ledgers:
            reference = float(scores.abs().median())
            assert ledger.closes(reference, tolerance=PRECISION[dtype]), ledger.to_dict()
            assert ledger.bias != 0


QUICK = {"unet_encoder", "resnet10", "efficientnet_b0", "mobilenet_v3", "vgg11", "covidnet"}
ALL = [
    pytest.param(name, dims, marks=[] if name in QUICK and dims == 2 else pytest.mark.slow)
    for name in BUILDERS
    for dims in (2, 3)
]


@pytest.mark.parametrize(("name", "dims"), ALL)
def test_every_encoder_is_explained_by_every_rule_after_training(shake, train, name, dims):
    torch.manual_seed(0)
    config = EncoderConfig(name=name, spatial_dims=dims, width=8, embedding_dim=8)
    x = torch.randn(1, 1, *(config.minimum_size + 1,) * dims)
    encoder = train(shake(build_encoder(config)), x.shape[1:])
    scores = encoder(x).detach()
    target = int(scores.abs().argmax())
    for settings in (*RULES[:2], LrpConfig(rule="zplus", input_rule="box")):
        explained = Lrp(encoder, settings).explain(x, target)
        (ledger,) = explained.ledgers
        assert ledger.closes(float(scores.abs().median())), ledger.to_dict()
        if settings.rule != "zplus":
            # A gate that took its half of the relevance would leave none of it to the image.
            assert abs(ledger.constant) < 1e-3 * abs(ledger.explained)
            assert explained.relevance[0].abs().sum() > 0.1 * abs(ledger.explained)


def pooled_unet():
    return nn.Sequential(
        UNet(3, 1, 5, channels=(4, 8, 16), strides=(2, 2), num_res_units=2),
        nn.AdaptiveAvgPool3d(1),
        nn.Flatten(),
    )


STOCK = [
    pytest.param(
        lambda: ResNet("basic", [1, 1, 1, 1], [4, 4, 8, 8], n_input_channels=1, num_classes=5),
        id="resnet",
    ),
    pytest.param(lambda: DenseNet(3, 1, 5, 8, 4, (2, 2)), id="densenet"),
    pytest.param(pooled_unet, id="unet"),
    pytest.param(
        lambda: resnet18(n_input_channels=1, num_classes=5), marks=pytest.mark.slow, id="resnet18"
    ),
    pytest.param(lambda: DenseNet121(3, 1, 5), marks=pytest.mark.slow, id="densenet121"),
]


@pytest.mark.parametrize("build", STOCK)
@pytest.mark.parametrize("config", RULES[:2])
def test_stock_networks_of_monai_work_as_they_are(shake, build, config):
    network = shake(build())
    x = torch.randn(1, 1, 32, 32, 32)
    explained = Lrp(network, config).explain(x, 3)
    torch.testing.assert_close(explained.score, network(x)[:, 3].detach(), rtol=1e-3, atol=1e-4)
    assert explained.ledgers[0].closes(0.1)


def chain():
    torch.manual_seed(2)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3),
        nn.ReLU(),
        nn.AvgPool2d(3),
        nn.Conv2d(6, 3, 1),
    )


@pytest.mark.filterwarnings("ignore::UserWarning")  # Captum's full backward hooks
def test_epsilon_equals_captums_own_on_a_plain_chain():
    x = torch.randn(2, 1, 12, 12).double()
    network = chain().double().eval()
    ours = Lrp(network, LrpConfig(rule="epsilon", epsilon=1e-9)).attribute(x, target=(1, 0, 0))
    theirs = LRP(copy.deepcopy(network)).attribute(x.clone(), target=(1, 0, 0))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-7)  # it stabilises pooling too


def test_without_bias_and_epsilon_relevance_is_input_times_gradient():
    network = chain().eval()
    for layer in network:
        if getattr(layer, "bias", None) is not None:
            layer.register_parameter("bias", None)
    x = torch.randn(1, 1, 12, 12, requires_grad=True)
    (gradient,) = torch.autograd.grad(network(x)[0, 2, 0, 0], x)
    ours = Lrp(network, LrpConfig(rule="epsilon", epsilon=0)).attribute(x, (2, 0, 0))
    torch.testing.assert_close(ours, (x * gradient).detach())


def snapshot(network):
    flags = {name: module.training for name, module in network.named_modules()}
    hooks = [len(m._forward_hooks) + len(m._backward_hooks) for m in network.modules()]
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    return flags, hooks, [set(vars(m)) for m in network.modules()], state


def assert_untouched(network, before):
    *structure, state = snapshot(network)
    *old_structure, old_state = before
    assert structure == old_structure
    assert all(torch.equal(state[name], old_state[name]) for name in old_state)
    assert all(p.grad is None and p.requires_grad for p in network.parameters())


def test_twice_the_same_map_and_model_and_input_untouched(make_encoder):
    encoder = make_encoder("densenet121", norm="batch", spatial_dims=2)
    before, x = snapshot(encoder), torch.randn(1, 1, 24, 24)
    kept = x.clone()
    first, second = (Lrp(encoder).explain(x, 1).relevance[0] for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(x, kept)
    assert not x.requires_grad
    assert_untouched(encoder, before)


def test_model_is_untouched_after_an_exception(make_encoder):
    encoder = make_encoder("resnet18", norm="batch", spatial_dims=2)
    network = nn.Sequential(encoder, nn.Softmax(dim=1))
    before = snapshot(network)
    with pytest.raises(NotImplementedError, match="softmax has none"):
        Lrp(network).attribute(torch.randn(1, 1, 24, 24), 0)
    assert_untouched(network, before)
    assert torch.softmax(torch.zeros(1, 2), 1).sum() == 1  # torch itself is as before


@pytest.mark.parametrize("layer", [nn.BatchNorm2d(1), nn.Dropout(0.5)])
def test_training_mode_is_refused_before_anything_moves(layer):
    network = nn.Sequential(nn.Conv2d(1, 1, 3), layer).train()
    before = snapshot(network)
    with pytest.raises(ValueError, match=r"1 \(.*\) is in training mode; call model.eval"):
        Lrp(network).attribute(torch.randn(1, 1, 5, 5), (0, 0, 0))
    assert_untouched(network, before)
    with pytest.raises(ValueError, match=r"call model.eval\(\)"):
        Lrp(network[1].forward).attribute(torch.randn(1, 1, 5, 5), (0, 0, 0))


def test_group_norm_may_be_in_training_mode(make_encoder):
    encoder = make_encoder("resnet18", spatial_dims=2)
    x = torch.randn(1, 1, 24, 24)
    in_evaluation = Lrp(encoder).explain(x, 0)
    in_training = Lrp(encoder.train()).explain(x, 0)
    assert torch.equal(in_training.relevance[0], in_evaluation.relevance[0])


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_surroundings_without_gradients_do_not_matter(make_encoder, context):
    encoder = make_encoder("unet", spatial_dims=2)
    x = torch.randn(1, 1, 16, 16)
    expected = Lrp(encoder).explain(x, 0)
    with context():
        found = Lrp(encoder).explain(x.clone(), 0)
    assert torch.equal(found.relevance[0], expected.relevance[0])


def test_autocast_is_switched_off(make_encoder):
    encoder = make_encoder("unet", spatial_dims=2)
    x = torch.randn(1, 1, 16, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = Lrp(encoder).explain(x, 0).relevance[0]
    assert torch.equal(mixed, Lrp(encoder).explain(x, 0).relevance[0])


@pytest.mark.parametrize("norm", ["group", "instance", "batch"])
@pytest.mark.parametrize("config", [*RULES, LrpConfig(batch_norm="folded", input_rule="flat")])
def test_nothing_is_left_of_an_explanation(make_encoder, monkeypatch, norm, config):
    """A graph that holds itself is freed by nobody: every map would cost its memory for ever."""
    made = []

    def open_accounts(batch):
        accounts = Accounts(batch)
        made.append(weakref.ref(accounts))
        return accounts

    monkeypatch.setattr(forward_pass, "Accounts", open_accounts)
    encoder = make_encoder("resnet18", spatial_dims=2, norm=norm)
    Lrp(encoder, config).attribute(torch.randn(1, 1, 24, 24), 0)
    Lrp(encoder, config).attribute_targets(torch.randn(1, 1, 24, 24), [0, 1])
    gc.collect()
    assert [accounts() for accounts in made] == [None, None]


def test_targets_share_one_forward_pass(make_encoder):
    encoder = make_encoder("resnet18", spatial_dims=2)
    calls = []
    encoder.register_forward_hook(lambda *_: calls.append(1))
    x = torch.randn(2, 1, 24, 24)
    together = Lrp(encoder).attribute_targets(x, [0, (4,), [2, 5], torch.tensor([1, 1])])
    assert len(calls) == 1
    alone = [Lrp(encoder).explain(x, target) for target in (0, 4, [2, 5], 1)]
    for one, other in zip(together, alone, strict=True):
        assert torch.equal(one.relevance[0], other.relevance[0])
        assert one.ledgers == other.ledgers


def test_batch_explains_each_sample_as_if_alone(make_encoder):
    encoder = make_encoder("unet", spatial_dims=2).double()
    x = torch.randn(3, 1, 16, 16).double()
    whole = Lrp(encoder).explain(x, 2)
    one = Lrp(encoder).explain(x[1:2], 2)
    torch.testing.assert_close(whole.relevance[0][1:2], one.relevance[0])
    assert whole.ledgers[1].to_dict() == pytest.approx(one.ledgers[0].to_dict(), abs=1e-12)


def test_tuple_in_tuple_out_with_further_arguments_and_delta():
    def scaled_sum(a, b, factor):
        return (a + factor * b).sum(1)

    a, b = torch.ones(2, 3), torch.full((2, 3), 2.0)
    lrp = Lrp(scaled_sum)
    maps, delta = lrp.attribute((a, b), None, torch.tensor(0.5), return_convergence_delta=True)
    assert isinstance(maps, tuple)
    assert torch.equal(maps[0], a)
    assert torch.equal(maps[1], 0.5 * b)
    assert torch.equal(delta, torch.zeros(2, dtype=delta.dtype))
    assert lrp.has_convergence_delta()
    assert lrp.multiplies_by_inputs
    assert lrp.get_name() == "Lrp"


def test_module_used_twice_needs_nothing_special():
    layer = nn.Linear(4, 4).double()
    explained = Lrp(lambda x: layer(layer(x).relu()).sum(1)).explain(torch.randn(1, 4).double())
    assert explained.ledgers[0].closes(1.0, tolerance=1e-9)


def test_a_norm_of_pooled_features_is_followed():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 8), nn.GroupNorm(2, 8), nn.ReLU(), nn.Linear(8, 2))
    explained = Lrp(network.double()).explain(torch.randn(3, 6).double(), 1)
    assert all(ledger.closes(1.0, tolerance=1e-9) for ledger in explained.ledgers)


def test_meta_tensor_gives_a_plain_map(make_encoder):
    encoder, x = make_encoder("unet", spatial_dims=2), torch.randn(1, 1, 16, 16)
    relevance = Lrp(encoder).attribute(MetaTensor(x), 0)
    assert type(relevance) is torch.Tensor
    assert torch.equal(relevance, Lrp(encoder).explain(x, 0).relevance[0])


def test_constant_with_samples_apart_from_the_first_axis_is_refused():
    layer = nn.Linear(3, 2)
    with pytest.raises(ValueError, match="explain one sample at a time"):
        Lrp(lambda x: layer(torch.cat([x, x])).chunk(2)[0]).attribute(torch.randn(2, 3), 0)


@pytest.mark.parametrize(
    ("forward", "x", "target", "error", "message"),
    [
        (nn.Linear(2, 2), torch.ones(1, 2).bfloat16(), 0, ValueError, "float32 or float64"),
        (nn.Linear(2, 2), torch.ones(1, 2), None, ValueError, "must pick one number"),
        (nn.Linear(2, 2), (torch.ones(1, 2), torch.ones(2, 2)), 0, ValueError, "one batch size"),
        (lambda x: [x], torch.ones(1, 2), 0, TypeError, "must give one tensor; got list"),
        (lambda x: x.detach(), torch.ones(1, 2), 0, ValueError, "must depend on the inputs"),
    ],
)
def test_what_cannot_be_explained_is_refused(forward, x, target, error, message):
    with pytest.raises(error, match=message):
        Lrp(forward).attribute(x, target)
