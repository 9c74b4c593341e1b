"""Laws of the encoders."""

import pytest
import torch
from monai.networks.nets.densenet import DenseNet121
from monai.networks.nets.resnet import ResNet
from pydantic import ValidationError
from torch import nn

from hemitwin.models import BUILDERS, Encoder, EncoderConfig, build_encoder, count_parameters
from hemitwin.models.layers import group_count

SMALL = {
    "resnet18": {"width": 8, "blocks": (1, 1, 1), "stem_stride": 2},
    "densenet121": {"width": 8, "blocks": (2, 1), "stem_stride": 4},
    "unet": {"width": 4, "levels": 3},
}
NORM_TYPES = {
    ("group", 2): nn.GroupNorm,
    ("group", 3): nn.GroupNorm,
    ("instance", 2): nn.InstanceNorm2d,
    ("instance", 3): nn.InstanceNorm3d,
    ("batch", 2): nn.BatchNorm2d,
    ("batch", 3): nn.BatchNorm3d,
}
ALL_NORMS = (nn.GroupNorm, nn.modules.batchnorm._NormBase)


def small(name, **changes):
    return EncoderConfig(name=name, **{"embedding_dim": 6, **SMALL[name], **changes})


@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("pooling", ["average", "max", "average+max"])
def test_embedding_is_one_vector_per_image(name, dims, pooling):
    config = small(name, spatial_dims=dims, pooling=pooling, in_channels=2)
    encoder = build_encoder(config)
    size = config.total_stride + 3  # odd, no multiple of anything
    assert encoder(torch.randn(2, 2, *(size,) * dims)).shape == (2, 6)
    assert isinstance(encoder, Encoder)
    assert encoder.spatial_dims == dims


@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize("norm", ["group", "instance", "batch"])
def test_every_norm_is_the_one_asked_for(name, norm):
    for dims in (2, 3):
        encoder = build_encoder(small(name, norm=norm, spatial_dims=dims))
        found = [m for m in encoder.modules() if isinstance(m, ALL_NORMS)]
        assert found
        assert {type(m) for m in found} == {NORM_TYPES[norm, dims]}
        assert all(m.weight is not None and m.bias is not None for m in found)


@pytest.mark.parametrize("name", BUILDERS)
def test_every_activation_is_out_of_place_and_of_one_type(name):
    encoder = build_encoder(small(name))
    kinds = {type(m) for m in encoder.modules() if isinstance(m, nn.ReLU | nn.PReLU)}
    assert kinds == ({nn.ReLU, nn.PReLU} if name == "unet" else {nn.ReLU})
    assert not any(getattr(m, "inplace", False) for m in encoder.modules())


@pytest.mark.parametrize("name", BUILDERS)
def test_no_module_runs_twice_and_feature_layers_exist(name):
    config = small(name)
    encoder = build_encoder(config).eval()
    calls = []
    leaves = [m for m in encoder.modules() if not list(m.children())]
    for module in leaves:
        module.register_forward_hook(lambda m, _i, _o: calls.append(id(m)))
    encoder(torch.randn(1, 1, *(config.total_stride * 2,) * 3))
    assert len(calls) == len(set(calls))
    assert all(encoder.get_submodule(layer) for layer in encoder.feature_layers)


def paired(source, target):
    """Copy parameters and buffers in order; shapes must agree one by one."""
    state = zip(source.state_dict().values(), target.state_dict().values(), strict=True)
    with torch.no_grad():
        for mine, theirs in state:
            mine.copy_(theirs)


@pytest.mark.parametrize("dims", [2, 3])
def test_densenet121_is_monai_s_with_the_same_weights(dims):
    config = EncoderConfig(
        name="densenet121", spatial_dims=dims, width=8, norm="batch", embedding_dim=5
    )
    ours = build_encoder(config).eval()
    theirs = DenseNet121(dims, 1, 5, init_features=8, growth_rate=4).eval()
    paired(ours, theirs)
    x = torch.randn(1, 1, *(32,) * dims)
    torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize("dims", [2, 3])
def test_resnet18_is_monai_s_with_the_same_weights(dims):
    config = EncoderConfig(spatial_dims=dims, width=8, norm="batch", embedding_dim=5)
    ours = build_encoder(config).eval()
    theirs = ResNet(
        "basic",
        [2, 2, 2, 2],
        [8, 16, 32, 64],
        spatial_dims=dims,
        n_input_channels=1,
        num_classes=5,
        conv1_t_stride=2,
        bias_downsample=False,
    ).eval()
    theirs.load_state_dict(renamed(ours.state_dict(), theirs.state_dict()))
    x = torch.randn(1, 1, *(32,) * dims)
    torch.testing.assert_close(ours(x), theirs(x))


def renamed(ours, theirs):
    pairs = (
        ("trunk.stem.conv", "conv1"),
        ("trunk.stem.norm", "bn1"),
        ("trunk.stage", "layer"),
        ("norm1", "bn1"),
        ("norm2", "bn2"),
        ("skip", "downsample"),
        ("embed", "fc"),
    )
    state = {}
    for key, value in ours.items():
        name = key
        for old, new in pairs:
            name = name.replace(old, new)
        state[name] = value
    assert state.keys() == theirs.keys()
    return state


def test_paper_sizes_have_the_papers_parameters():
    def count(name):
        config = EncoderConfig(
            name=name, spatial_dims=2, in_channels=3, embedding_dim=1000, norm="batch"
        )
        return count_parameters(build_encoder(config))

    assert count("resnet18") == 11_689_512
    assert count("densenet121") == 7_978_856


def test_same_generator_state_gives_same_weights_and_global_state_stays():
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
def test_weights_are_drawn_in_the_order_that_results_stand_on(name, first, last):
    encoder = build_encoder(small(name))
    drawn = next(encoder.parameters()).flatten()[:2], encoder.embed.weight[0, :2]
    torch.testing.assert_close(drawn, (torch.tensor(first), torch.tensor(last)))


@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize("norm", ["group", "instance"])
def test_minimum_size_is_enough_and_one_voxel_less_is_refused(name, norm):
    config = small(name, norm=norm)
    encoder = build_encoder(config)
    embedded = encoder(torch.randn(1, 1, *(config.minimum_size,) * 3))
    assert torch.isfinite(embedded).all()
    with pytest.raises(ValueError, match=f"at least {config.minimum_size} voxels"):
        encoder(torch.randn(1, 1, 40, 40, config.minimum_size - 1))


def test_wrong_axes_are_refused():
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
        ({"blocks": (1, 0)}, "at least one block"),
        ({"depth": 3}, "Extra inputs"),
    ],
)
def test_settings_that_do_nothing_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        EncoderConfig(**settings)


def test_groups_hold_at_least_four_channels():
    assert [group_count(c) for c in (4, 8, 24, 64, 7)] == [1, 2, 6, 8, 1]


@pytest.mark.parametrize("name", BUILDERS)
def test_no_sample_sees_another(name):
    encoder = build_encoder(small(name)).eval()
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
