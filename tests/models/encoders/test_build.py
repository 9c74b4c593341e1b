"""Laws of the encoders."""

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from hemitwin.interpret import Lrp
from hemitwin.models import BUILDERS, Encoder, EncoderConfig, build_encoder
from hemitwin.models.encoders.layers import group_count
from hemitwin.models.encoders.pooled import HighestMean

NORM_TYPES = {
    ("group", 2): nn.GroupNorm,
    ("group", 3): nn.GroupNorm,
    ("instance", 2): nn.InstanceNorm2d,
    ("instance", 3): nn.InstanceNorm3d,
    ("batch", 2): nn.BatchNorm2d,
    ("batch", 3): nn.BatchNorm3d,
}
ALL_NORMS = (nn.GroupNorm, nn.modules.batchnorm._NormBase)


ACTIVATIONS = {
    "unet": {nn.ReLU, nn.PReLU},
    "unet_encoder": {nn.PReLU},
    "unet_encoder+attention": {nn.ReLU, nn.PReLU, nn.Sigmoid},
    "mobilenet_v3": {nn.ReLU, nn.Hardswish, nn.Hardsigmoid},
    **{f"efficientnet_b{index}": {nn.SiLU, nn.Sigmoid} for index in range(4)},
}


@pytest.mark.parametrize("dims", [2, 3])
def test_embedding_is_one_vector_per_image(small, case, dims):
    config = small(case, spatial_dims=dims, in_channels=2)
    encoder = build_encoder(config)
    size = config.total_stride + 3  # odd, no multiple of anything
    assert encoder(torch.randn(2, 2, *(size,) * dims)).shape == (2, 6)
    assert isinstance(encoder, Encoder)
    assert encoder.spatial_dims == dims


@pytest.mark.parametrize("case", ["vgg11", "unet_encoder+attention"])
@pytest.mark.parametrize("pooling", ["average", "max", "average+max", "average+highest"])
def test_every_map_that_leaves_the_trunk_is_pooled_and_embedded(small, case, pooling):
    encoder = build_encoder(small(case, spatial_dims=2, pooling=pooling)).eval()
    x = torch.randn(2, 1, 16, 16)
    leaving = encoder.trunk(x)
    maps = (leaving,) if torch.is_tensor(leaving) else leaving
    reduce = {"average": lambda m: m.mean(dim=(2, 3)), "max": lambda m: m.amax(dim=(2, 3))}
    reduce["highest"] = reduce["max"]  # of so few voxels one is the highest hundredth
    pooled = [reduce[kind](features) for features in maps for kind in pooling.split("+")]
    torch.testing.assert_close(encoder(x), encoder.embed(torch.cat(pooled, dim=1)))


def test_the_highest_are_a_hundredth_of_each_channel_and_their_relevance_closes(small):
    values = torch.randn(2, 3, 20, 20)
    ordered = values.flatten(2).sort(dim=2).values
    torch.testing.assert_close(HighestMean()(values)[..., 0], ordered[..., -4:].mean(dim=2))
    encoder = build_encoder(small("vgg11", spatial_dims=2, pooling="highest")).double().eval()
    x = torch.randn(1, 1, 48, 40, dtype=torch.float64)
    (ledger,) = Lrp(encoder).explain(x, 0).ledgers
    assert ledger.closes(tolerance=1e-9)
    with pytest.raises(ValidationError, match=r"pooling_grid must be 1 with pooling=highest"):
        EncoderConfig(pooling="highest", pooling_grid=2)


def test_a_grid_of_pooling_keeps_where_features_lie(small):
    encoder = build_encoder(small("vgg11", spatial_dims=2, pooling_grid=2)).eval()
    x = torch.randn(2, 1, 16, 16)
    cells = encoder.trunk(x).unflatten(2, (2, -1)).unflatten(4, (2, -1)).mean(dim=(3, 5))
    torch.testing.assert_close(encoder(x), encoder.embed(cells.flatten(1)))
    assert encoder.embed.in_features == 4 * cells.shape[1]


@pytest.mark.parametrize("name", [*BUILDERS, "unet_encoder+attention"])
def test_every_norm_and_activation_is_the_one_asked_for_and_none_in_place(small, name):
    for (norm, dims), norm_type in NORM_TYPES.items():
        encoder = build_encoder(small(name, norm=norm, spatial_dims=dims))
        norms = [m for m in encoder.modules() if isinstance(m, ALL_NORMS)]
        assert {type(m) for m in norms} == {norm_type}
        assert all(m.weight is not None and m.bias is not None for m in norms)
        parts = (m for m in encoder.modules() if type(m).__module__ == nn.ReLU.__module__)
        assert {type(m) for m in parts} == ACTIVATIONS.get(name, {nn.ReLU})
        assert not any(getattr(m, "inplace", False) for m in encoder.modules())


def test_no_module_runs_twice_and_feature_layers_exist(small, case):
    config = small(case)
    encoder = build_encoder(config).eval()
    calls = []
    leaves = [m for m in encoder.modules() if not list(m.children())]
    for module in leaves:
        module.register_forward_hook(lambda m, _i, _o: calls.append(id(m)))
    encoder(torch.randn(1, 1, *(config.total_stride * 2,) * 3))
    assert len(calls) == len(set(calls))
    assert all(encoder.get_submodule(layer) for layer in encoder.feature_layers)


def test_same_generator_state_gives_same_weights_and_global_state_stays(small):
    before = torch.get_rng_state()
    first = build_encoder(small("unet"), torch.Generator().manual_seed(3))
    second = build_encoder(small("unet"), torch.Generator().manual_seed(3))
    other = build_encoder(small("unet"))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.embed.weight, second.embed.weight)
    assert not torch.equal(first.embed.weight, other.embed.weight)


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        ("resnet18", (-0.08596952, -0.08799465), (-0.09510310, 0.21035793)),
        ("densenet121", (-0.08596952, -0.08799465), (-0.10091891, 0.30314839)),
        ("unet", (-0.30641481, -0.31363273), (0.28999096, -1.56245363)),
    ],
)
def test_weights_are_drawn_in_the_order_that_results_stand_on(small, name, first, last):
    encoder = build_encoder(small(name))
    drawn = next(encoder.parameters()).flatten()[:2], encoder.embed.weight[0, :2]
    torch.testing.assert_close(drawn, (torch.tensor(first), torch.tensor(last)))


@pytest.mark.parametrize("norm", ["group", "instance"])
def test_minimum_size_is_enough_and_one_voxel_less_is_refused(small, case, norm):
    config = small(case, norm=norm)
    encoder = build_encoder(config)
    embedded = encoder(torch.randn(1, 1, *(config.minimum_size,) * 3))
    assert torch.isfinite(embedded).all()
    with pytest.raises(ValueError, match=f"at least {config.minimum_size} voxels"):
        encoder(torch.randn(1, 1, 40, 40, config.minimum_size - 1))


def test_wrong_axes_are_refused(small):
    encoder = build_encoder(small("resnet18"))
    with pytest.raises(ValueError, match=r"got shape \(1, 32, 32, 32\); add the batch"):
        encoder(torch.zeros(1, 32, 32, 32))
    with pytest.raises(ValueError, match=r"must be \(B, 1, \*spatial\)"):
        encoder(torch.zeros(1, 2, 32, 32, 32))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "vgg"}, "resnet18"),
        ({"name": "unet", "blocks": (1,)}, "must belong to the encoder"),
        ({"levels": 3}, "must belong to the encoder"),
        ({"name": "unet", "attention": True}, "must belong to the encoder"),
        ({"name": "vgg11", "stem_stride": 2}, "must belong to the encoder"),
        ({"name": "mobilenet_v3", "stem_stride": 4}, r"must be in \[1, 2\]; got 4"),
        ({"name": "efficientnet_b0", "blocks": (1,) * 8}, "at most 7 stages"),
        ({"name": "mobilenet_v3", "norm": "instance"}, "the same for every image"),
        ({"blocks": (1, 0)}, "at least one block"),
        ({"depth": 3}, "Extra inputs"),
    ],
)
def test_settings_that_do_nothing_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        EncoderConfig(**settings)


def test_groups_hold_at_least_four_channels():
    assert [group_count(c) for c in (4, 8, 24, 64, 7)] == [1, 2, 6, 8, 1]


@pytest.mark.parametrize("dims", [2, 3])
def test_gradients_reach_every_parameter(small, case, dims):
    config = small(case, spatial_dims=dims)
    encoder = build_encoder(config)
    generator = torch.Generator().manual_seed(0)
    size = (2 * config.total_stride + 1,) * dims
    embedded = encoder(torch.randn(2, 1, *size, generator=generator))
    (embedded * torch.randn(embedded.shape, generator=generator)).sum().backward()
    gradients = {name: p.grad for name, p in encoder.named_parameters()}
    assert not [name for name, grad in gradients.items() if grad is None or not grad.any()]


def test_batch_norm_trains_on_two_images_of_the_minimum_size(small, case):
    config = small(case, norm="batch", spatial_dims=2)
    encoder = build_encoder(config).train()
    assert torch.isfinite(encoder(torch.randn(2, 1, *(config.minimum_size,) * 2))).all()


@pytest.mark.parametrize("norm", ["group", "instance", "batch"])
def test_untrained_embeddings_tell_images_apart(small, case, norm):
    encoder = build_encoder(small(case, norm=norm, spatial_dims=2)).eval()
    images = torch.rand(4, 1, 24, 24, generator=torch.manual_seed(0))
    embedded = encoder(images * torch.linspace(0.5, 2, 4).reshape(4, 1, 1, 1))
    assert embedded.std(dim=0).mean() > 1e-3 * embedded.abs().mean()


def test_no_sample_sees_another(small, case):
    encoder = build_encoder(small(case)).eval()
    x = torch.randn(3, 1, 24, 24, 24)
    torch.testing.assert_close(encoder(x)[1:2], encoder(x[1:2]), rtol=1e-4, atol=1e-5)


def test_centring_moves_the_mean_embedding_to_zero_and_no_weight():
    encoder = build_encoder(EncoderConfig(name="resnet18", width=8, blocks=(1,), spatial_dims=2))
    images = torch.rand(6, 1, 24, 24, generator=torch.Generator().manual_seed(0))
    before, weight = encoder(images).detach(), encoder.embed.weight.detach().clone()
    encoder.centre(images)
    after = encoder(images).detach()
    torch.testing.assert_close(after.mean(dim=0), torch.zeros(128), atol=1e-5, rtol=0)
    torch.testing.assert_close(after - after.mean(0), before - before.mean(0), atol=1e-5, rtol=0)
    torch.testing.assert_close(encoder.embed.weight, weight)
