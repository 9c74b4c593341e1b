"""Sizes and parts of the encoders, beside what is published of them."""

from typing import get_args

import pytest
import torch
from monai.networks.nets.densenet import DenseNet121
from monai.networks.nets.efficientnet import MBConvBlock
from monai.networks.nets.resnet import ResNet
from torch.nn import functional as F

from hemitwin.models import BUILDERS, EncoderConfig, build_encoder, count_parameters
from hemitwin.models.architectures import ARCHITECTURES, EncoderName
from hemitwin.models.encoders.inverted_residual import BlockPlan, InvertedResidual
from hemitwin.models.encoders.unet_encoder import AttentionGate

IMAGENET_CLASSES = 1000
PUBLISHED = {
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnext50": 25_028_904,
    "densenet121": 7_978_856,
    "densenet169": 14_149_480,
    "efficientnet_b0": 5_288_548,
    "efficientnet_b1": 7_794_184,
    "efficientnet_b2": 9_109_994,
    "efficientnet_b3": 12_233_232,
}
VGG_HEAD = (512 * 7 * 7 + 1) * 4096 + (4096 + 1) * 4096 + (4096 + 1) * IMAGENET_CLASSES
MOBILENET_HEAD = (960 + 1) * 1280 + (1280 + 1) * IMAGENET_CLASSES
TRUNKS = {  # networks with other heads; VGG's convolutions before a norm also have biases there
    "vgg11": 132_868_840 - VGG_HEAD - (64 + 128 + 2 * 256 + 4 * 512),
    "vgg16": 138_365_992 - VGG_HEAD - (2 * 64 + 2 * 128 + 3 * 256 + 6 * 512),
    "mobilenet_v3": 5_483_032 - MOBILENET_HEAD,
}


def paper_sized(name):
    config = EncoderConfig(
        name=name, spatial_dims=2, in_channels=3, embedding_dim=IMAGENET_CLASSES, norm="batch"
    )
    with torch.device("meta"):
        return BUILDERS[name](config)


def test_one_table_holds_every_encoder():
    assert set(BUILDERS) == set(ARCHITECTURES) == set(get_args(EncoderName))


@pytest.mark.parametrize("name", PUBLISHED)
def test_paper_sizes_have_the_published_parameters(name):
    assert count_parameters(paper_sized(name)) == PUBLISHED[name]


@pytest.mark.parametrize("name", TRUNKS)
def test_paper_sized_trunks_have_the_published_parameters(name):
    assert count_parameters(paper_sized(name).trunk) == TRUNKS[name]


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
@pytest.mark.parametrize(("name", "block"), [("resnet18", "basic"), ("resnet50", "bottleneck")])
def test_resnet_is_monai_s_with_the_same_weights(name, block, dims):
    config = EncoderConfig(name=name, spatial_dims=dims, width=8, norm="batch", embedding_dim=5)
    ours = build_encoder(config).eval()
    theirs = ResNet(
        block,
        list(config.stages),
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
        ("norm", "bn"),
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


@pytest.mark.parametrize("dims", [2, 3])
def test_inverted_residual_is_monai_s_with_the_same_weights(dims):
    plan = BlockPlan(8, 24, 8, 5, 1, 2, torch.nn.SiLU, torch.nn.SiLU)
    ours = InvertedResidual(EncoderConfig(spatial_dims=dims, norm="batch"), plan).eval()
    theirs = MBConvBlock(dims, 8, 8, 5, 1, [9] * dims, 3, 0.25, norm="batch").eval()
    paired(ours, theirs)
    x = torch.randn(2, 8, *(9,) * dims)
    torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize("dims", [2, 3])
def test_attention_gate_is_the_formula(dims):
    gate = AttentionGate(EncoderConfig(name="unet_encoder", spatial_dims=dims), 3, 5)
    size = (7, 6, 5)[:dims]
    x, g = torch.randn(2, 3, *size), torch.randn(2, 5, *(-(-n // 2) for n in size))
    coarse = x[(..., *(slice(None, None, 2),) * dims)]
    weight_x, weight_g, psi = (
        layer.weight.flatten(1) for layer in (gate.from_map, gate.from_coarser, gate.weigh)
    )
    joint = torch.einsum("oc,bc...->bo...", weight_x, coarse)
    joint = joint + torch.einsum("oc,bc...->bo...", weight_g, g)
    joint = (joint + gate.from_coarser.bias.reshape(1, -1, *(1,) * dims)).relu()
    alpha = (torch.einsum("oc,bc...->bo...", psi, joint) + gate.weigh.bias).sigmoid()
    mode = {2: "bilinear", 3: "trilinear"}[dims]
    torch.testing.assert_close(gate(x, g), x * F.interpolate(alpha, size, mode=mode))


def covid_stage(encoder, index):
    stage = encoder.trunk.get_submodule(f"stage{index}")
    skip, *blocks = stage.children()
    return stage, skip, [*blocks[0].children()]


def test_covidnet_has_the_published_stages_and_pepx_blocks():
    encoder = paper_sized("covidnet")
    assert [len(covid_stage(encoder, index)[2]) for index in (1, 2, 3, 4)] == [3, 4, 6, 3]
    assert encoder.pyramid_channels == (56, 112, 216, 424)
    block = covid_stage(encoder, 2)[2][1]
    convolutions = [m for m in block.modules() if isinstance(m, torch.nn.Conv2d)]
    assert [c.kernel_size for c in convolutions] == [(1, 1), (1, 1), (3, 3), (1, 1), (1, 1)]
    assert [c.out_channels for c in convolutions] == [56, 84, 84, 56, 112]
    assert [c.groups for c in convolutions] == [1, 1, 84, 1, 1]


def test_long_skips_hand_every_earlier_map_of_a_stage_to_each_pepx_block(small):
    stage, skip, blocks = covid_stage(build_encoder(small("covidnet", spatial_dims=2)), 2)
    seen = []
    for module in (skip, *blocks):
        module.register_forward_hook(lambda _m, came, gave: seen.append((came[0], gave)))
    left = stage(torch.randn(1, 8, 6, 6))
    for index in range(2, len(seen)):
        torch.testing.assert_close(seen[index][0], sum(gave for _, gave in seen[:index]))
    torch.testing.assert_close(left, sum(gave for _, gave in seen))
