"""Weights of a file against plain networks with torchvision's names."""

from dataclasses import dataclass

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from hemitwin.models import (
    EncoderConfig,
    HeadConfig,
    SiameseNetwork,
    build_encoder,
    build_head,
    freeze,
    save_weights,
    transfer_weights,
)

SIZES = {  # tensors and parameters that torchvision publishes, with 1000 classes
    "resnet18": (122, 11_689_512),
    "resnet50": (320, 25_557_032),
    "resnext50": (320, 25_028_904),
    "densenet121": (727, 7_978_856),
}


@dataclass
class Draw:
    """Tensors by torchvision's names."""

    generator: torch.Generator
    tensors: dict[str, torch.Tensor]

    def convolution(self, name, out, into, kernel):
        weight = torch.empty(out, into, kernel, kernel)
        torch.nn.init.kaiming_normal_(weight, generator=self.generator)
        self.tensors[f"{name}.weight"] = weight

    def norm(self, name, channels):
        for part, low, high in (
            ("weight", 0.5, 1.5),
            ("bias", -0.3, 0.3),
            ("running_mean", -0.5, 0.5),
            ("running_var", 0.5, 2.0),
        ):
            tensor = torch.empty(channels).uniform_(low, high, generator=self.generator)
            self.tensors[f"{name}.{part}"] = tensor
        self.tensors[f"{name}.num_batches_tracked"] = torch.tensor(1000)

    def linear(self, name, out, into):
        self.tensors[f"{name}.weight"] = torch.randn(out, into, generator=self.generator)
        self.tensors[f"{name}.bias"] = torch.randn(out, generator=self.generator)


def resnet_state(draw, blocks, width=64, *, channels=3, expansion=4, inner=1, groups=1):
    """Draw a ResNet's tensors: `inner` and `groups` make a ResNeXt, expansion 1 basic blocks."""
    draw.convolution("conv1", width, channels, 7)
    draw.norm("bn1", width)
    into = width
    for stage, count in enumerate(blocks):
        for block in range(count):
            name, middle = f"layer{stage + 1}.{block}", width * 2**stage * inner
            out = width * 2**stage * expansion
            bottleneck = [(middle, into, 1), (middle, middle // groups, 3), (out, middle, 1)]
            basic = [(out, into, 3), (out, out, 3)]
            for k, shape in enumerate(basic if expansion == 1 else bottleneck, start=1):
                draw.convolution(f"{name}.conv{k}", *shape)
                draw.norm(f"{name}.bn{k}", shape[0])
            if block == 0 and (stage > 0 or into != out):
                draw.convolution(f"{name}.downsample.0", out, into, 1)
                draw.norm(f"{name}.downsample.1", out)
            into = out
    draw.linear("fc", 1000, into)


def densenet_state(draw, blocks, width=64, *, channels=3):
    growth = width // 2
    draw.convolution("features.conv0", width, channels, 7)
    draw.norm("features.norm0", width)
    into = width
    for number, count in enumerate(blocks, start=1):
        for layer in range(1, count + 1):
            name = f"features.denseblock{number}.denselayer{layer}"
            draw.norm(f"{name}.norm1", into)
            draw.convolution(f"{name}.conv1", 4 * growth, into, 1)
            draw.norm(f"{name}.norm2", 4 * growth)
            draw.convolution(f"{name}.conv2", growth, 4 * growth, 3)
            into += growth
        if number < len(blocks):
            draw.norm(f"features.transition{number}.norm", into)
            draw.convolution(f"features.transition{number}.conv", into // 2, into, 1)
            into //= 2
    draw.norm("features.norm5", into)
    draw.linear("classifier", 1000, into)


def torchvision_state(name, blocks=None, width=64, *, channels=3, seed=0):
    """Write the state_dict that torchvision would, with random numbers."""
    draw = Draw(torch.Generator().manual_seed(seed), {})
    default = EncoderConfig(name=name).stages
    if name.startswith("densenet"):
        densenet_state(draw, blocks or default, width, channels=channels)
    else:
        kinds = {"resnext50": {"inner": 2, "groups": width // 2}}
        kinds |= {key: {"expansion": 1} for key in ("resnet18", "resnet34")}
        resnet_state(draw, blocks or default, width, channels=channels, **kinds.get(name, {}))
    return draw.tensors


def norm_of(state, name, x):
    parts = (f"{name}.{part}" for part in ("running_mean", "running_var", "weight", "bias"))
    return F.batch_norm(x, *(state[part] for part in parts))


def stem_of(state, convolution, norm, x):
    x = F.conv2d(x, state[f"{convolution}.weight"], stride=2, padding=3)
    return F.max_pool2d(F.relu(norm_of(state, norm, x)), 3, stride=2, padding=1)


def residual_block(state, name, x, stride):
    """Shrink in the 3 x 3 convolution of a bottleneck, as torchvision does, or in the first."""
    weights = [
        state[f"{name}.conv{k}.weight"] for k in (1, 2, 3) if f"{name}.conv{k}.weight" in state
    ]
    y, shrinks = x, len(weights) - 2
    for k, weight in enumerate(weights):
        y = F.conv2d(
            y,
            weight,
            stride=stride if k == shrinks else 1,
            padding=weight.shape[-1] // 2,
            groups=y.shape[1] // weight.shape[1],
        )
        y = norm_of(state, f"{name}.bn{k + 1}", y)
        y = F.relu(y) if k < len(weights) - 1 else y
    if f"{name}.downsample.0.weight" in state:
        x = F.conv2d(x, state[f"{name}.downsample.0.weight"], stride=stride)
        x = norm_of(state, f"{name}.downsample.1", x)
    return F.relu(x + y)


def residual_maps(state, blocks, x):
    x, maps = stem_of(state, "conv1", "bn1", x), []
    for stage, count in enumerate(blocks, start=1):
        for block in range(count):
            x = residual_block(state, f"layer{stage}.{block}", x, 2 if stage > 1 > block else 1)
        maps.append(x)
    return maps


def dense_maps(state, blocks, x):
    x, maps = stem_of(state, "features.conv0", "features.norm0", x), []
    for number, count in enumerate(blocks, start=1):
        for layer in range(1, count + 1):
            name, y = f"features.denseblock{number}.denselayer{layer}", x
            for part, padding in (("1", 0), ("2", 1)):
                y = F.relu(norm_of(state, f"{name}.norm{part}", y))
                y = F.conv2d(y, state[f"{name}.conv{part}.weight"], padding=padding)
            x = torch.cat([x, y], dim=1)
        maps.append(x)
        if number < len(blocks):
            name = f"features.transition{number}"
            x = F.relu(norm_of(state, f"{name}.norm", x))
            x = F.avg_pool2d(F.conv2d(x, state[f"{name}.conv.weight"]), 2, stride=2)
    return maps


def reference_maps(name, state, blocks, x):
    maps = dense_maps if name.startswith("densenet") else residual_maps
    return maps(state, blocks, x)


def encoder_of(name="resnet18", **changes):
    settings = {
        "spatial_dims": 2,
        "in_channels": 3,
        "norm": "batch",
        "embedding_dim": 6,
        **changes,
    }
    return build_encoder(EncoderConfig.model_validate({"name": name, **settings})).eval()


def small(name="resnet18", **changes):
    return encoder_of(name, **{"width": 8, "blocks": (1, 2), **changes})


@pytest.fixture(scope="module", name="small_file")
def _small_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    state = torchvision_state("resnet18", (1, 2), 8)
    torch.save(state, path)
    return path, state


def images(channels=3, size=64):
    return torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(4))


def assert_near(found, expected):
    """Compare maps relative to their spread: single precision adds up over fifty layers."""
    assert found.shape == expected.shape
    assert expected.std() > 0
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * float(expected.std()))


@pytest.mark.parametrize("name", SIZES)
def test_the_generated_names_are_as_many_as_the_published(name):
    state = torchvision_state(name)
    parameters = [
        tensor.numel()
        for key, tensor in state.items()
        if not key.endswith(("running_mean", "running_var", "num_batches_tracked"))
    ]
    assert (len(state), sum(parameters)) == SIZES[name]


@pytest.mark.parametrize("name", ["resnet50", "densenet121"])
def test_at_full_size_the_maps_are_those_of_the_network_in_the_file(name, tmp_path):
    state = torchvision_state(name)
    torch.save(state, tmp_path / "weights.pth")
    encoder = encoder_of(name)
    found = transfer_weights(encoder, tmp_path / "weights.pth")
    assert found.convolutions[0] == found.convolutions[1]
    classifier = "classifier" if name == "densenet121" else "fc"
    assert set(found.left) == {f"{classifier}.weight", f"{classifier}.bias"}
    assert set(found.left.values()) == {"a classifier has no place"}
    assert found.fresh == ("embed.weight", "embed.bias")
    assert len(found.taken) == len(state) - 2
    assert found.first == ""
    with torch.no_grad():
        maps = encoder.features(images())
        for ours, theirs in zip(
            maps, reference_maps(name, state, encoder.config.stages, images()), strict=True
        ):
            assert_near(ours, theirs)


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "resnext50", "densenet169"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_every_network_and_format_gives_the_files_maps(name, suffix, tmp_path):
    state = torchvision_state(name, (1, 2), 16)
    path = tmp_path / f"weights{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    encoder = encoder_of(name, width=16, blocks=(1, 2))
    transfer_weights(encoder, path)
    with torch.no_grad():
        for ours, theirs in zip(
            encoder.features(images()), reference_maps(name, state, (1, 2), images()), strict=True
        ):
            assert_near(ours, theirs)


def test_a_densenets_last_norm_is_taken(tmp_path):
    state = torchvision_state("densenet121", (1, 2), 16)
    torch.save(state, tmp_path / "weights.pth")
    encoder = encoder_of("densenet121", width=16, blocks=(1, 2))
    transfer_weights(encoder, tmp_path / "weights.pth")
    with torch.no_grad():
        last = reference_maps("densenet121", state, (1, 2), images())[-1]
        pooled = F.relu(norm_of(state, "features.norm5", last)).mean(dim=(2, 3))
        torch.testing.assert_close(encoder(images()), encoder.embed(pooled), rtol=1e-3, atol=1e-4)


def test_only_the_odd_end_of_a_densenets_map_differs(tmp_path):
    state = torchvision_state("densenet121", (1, 1), 16)
    torch.save(state, tmp_path / "weights.pth")
    encoder = encoder_of("densenet121", width=16, blocks=(1, 1))
    transfer_weights(encoder, tmp_path / "weights.pth")
    with torch.no_grad():
        ours = encoder.features(images(size=52))[-1]
        theirs = reference_maps("densenet121", state, (1, 1), images(size=52))[-1]
    assert (ours.shape[-1], theirs.shape[-1]) == (7, 6)
    assert_near(ours[:, :, :5, :5], theirs[:, :, :5, :5])


def test_old_densenet_names_are_the_new_ones(tmp_path):
    state = torchvision_state("densenet121", (2, 1), 16)
    old = {
        key.replace("norm1", "norm.1")
        .replace("norm2", "norm.2")
        .replace("conv1", "conv.1")
        .replace("conv2", "conv.2"): tensor
        for key, tensor in state.items()
        if not key.endswith("num_batches_tracked")  # younger than these files
    }
    assert "features.denseblock1.denselayer2.conv.1.weight" in old
    kept = []
    for content in (state, old):
        torch.save(content, tmp_path / "weights.pth")
        encoder = encoder_of("densenet121", width=16, blocks=(2, 1))
        found = transfer_weights(encoder, tmp_path / "weights.pth")
        assert len(found.left) == 2
        kept.append(encoder.state_dict())
    for key, tensor in kept[0].items():
        if not key.endswith("num_batches_tracked"):
            assert torch.equal(tensor, kept[1][key]), key


@pytest.mark.parametrize("wrapper", ["state_dict", "model_state_dict", "model"])
def test_checkpoints_around_a_state_dict_are_opened(wrapper, small_file, tmp_path):
    path, state = small_file
    parallel = {f"module.{key}": tensor for key, tensor in state.items()}
    torch.save({"epoch": 7, wrapper: parallel}, tmp_path / "checkpoint.pt")
    one, other = small(), small()
    transfer_weights(one, path)
    transfer_weights(other, tmp_path / "checkpoint.pt")
    for ours, theirs in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_grey_image_is_seen_as_in_three_equal_channels(small_file):
    path, _ = small_file
    colour, grey = small(), small(in_channels=1)
    transfer_weights(colour, path)
    found = transfer_weights(grey, path)
    assert found.first == "summed over 3 channels"
    x = images(channels=1)
    with torch.no_grad():
        for one, other in zip(
            grey.features(x), colour.features(x.repeat(1, 3, 1, 1)), strict=True
        ):
            assert_near(one, other)


def test_three_equal_channels_are_seen_as_the_grey_image(tmp_path):
    torch.save(torchvision_state("resnet18", (1, 2), 8, channels=1), tmp_path / "grey.pth")
    grey, colour = small(in_channels=1), small()
    transfer_weights(grey, tmp_path / "grey.pth")
    found = transfer_weights(colour, tmp_path / "grey.pth")
    assert found.first == "divided among 3 channels"
    x = images(channels=1)
    with torch.no_grad():
        for one, other in zip(
            grey.features(x), colour.features(x.repeat(1, 3, 1, 1)), strict=True
        ):
            assert_near(one, other)


def test_channels_that_no_rule_brings_together_are_left(small_file):
    path, _ = small_file
    found = transfer_weights(small(in_channels=2), path)
    assert found.left["conv1.weight"] == "(8, 3, 7, 7) does not fit (8, 2, 7, 7)"
    assert "trunk.stem.conv.weight" in found.fresh
    assert found.first == ""


@pytest.mark.parametrize("norm", ["group", "instance"])
def test_of_batch_norm_only_what_means_the_same_is_taken(norm, small_file):
    path, state = small_file
    encoder = small(norm=norm)
    found = transfer_weights(encoder, path)
    reasons = {f"{norm} norm has no running statistics", "a classifier has no place"}
    if norm == "group":
        reasons.add("scale and shift of batch norm mean another thing in group norm")
    assert set(found.left.values()) == reasons
    assert found.convolutions == (8, 8)
    own = encoder.state_dict()
    assert torch.equal(own["trunk.stage2.1.conv2.weight"], state["layer2.1.conv2.weight"])
    scale = own["trunk.stage2.1.norm2.weight"]
    assert torch.equal(
        scale, state["layer2.1.bn2.weight"] if norm == "instance" else scale * 0 + 1
    )


def test_every_tensor_is_told_of_once(small_file):
    path, state = small_file
    encoder = small(stem_stride=1)
    found = transfer_weights(encoder, path)
    assert sorted([*found.taken.values(), *found.left]) == sorted(state)
    assert sorted([*found.taken, *found.fresh]) == sorted(encoder.state_dict())
    assert found.left["conv1.weight"] == "(8, 3, 7, 7) does not fit (8, 3, 3, 3)"
    assert str(found) == (
        "7 of 8 convolutions and 40 other tensors taken; 1 left: (8, 3, 7, 7) does not fit "
        "(8, 3, 3, 3); 2 left: a classifier has no place; 3 of the encoder's stay as drawn"
    )
    taken = transfer_weights(small(in_channels=1), path)
    assert "first convolution: summed over 3 channels" in str(taken)


def test_layers_that_are_only_in_the_file_are_left(small_file):
    path, _ = small_file
    found = transfer_weights(small(blocks=(1, 1)), path)
    assert found.left["layer2.1.conv1.weight"] == "this resnet18 has no such layer"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"width": 4}, r"0 of 8 of resnet18.*\(8, 3, 7, 7\) does not fit \(4, 3, 7, 7\)"),
        ({"spatial_dims": 3}, r"0 of 8 of resnet18.*does not fit \(8, 3, 7, 7, 7\)"),
        ({"name": "densenet121"}, r"0 of 8 of densenet121.*densenet121 has no such name"),
        ({"name": "resnet50", "blocks": (3, 4)}, r"4 of 24 of resnet50.*set encoder\.name"),
        ({"blocks": (3, 4, 6)}, r"8 of 29 of resnet18.*it lacks the others"),
    ],
)
def test_a_file_of_another_network_is_refused_and_nothing_is_changed(changes, why, small_file):
    path, _ = small_file
    encoder = small(**{"name": "resnet18", **changes})
    before = {key: tensor.clone() for key, tensor in encoder.state_dict().items()}
    with pytest.raises(ValueError, match=rf"at least half of the trunk's convolutions.*{why}"):
        transfer_weights(encoder, path)
    assert all(torch.equal(tensor, before[key]) for key, tensor in encoder.state_dict().items())


def test_networks_whose_names_are_not_known_are_refused(small_file):
    path, _ = small_file
    with pytest.raises(ValueError, match=r"must be one whose names.*got vgg11.*take one of them"):
        transfer_weights(small("vgg11", blocks=(1, 1)), path)


def test_what_is_no_file_of_tensors_is_refused(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"must be a file; nothing at .*none is downloaded"
    ):
        transfer_weights(small(), tmp_path / "resnet50.pth")
    path = tmp_path / "weights.pth"
    for content in (b"", b"no weights at all", b"PK\x03\x04 half an archive"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"must be tensors by name.*save model\.state_dict"):
            transfer_weights(small(), path)
    torch.save([1, 2], path)
    with pytest.raises(ValueError, match=r"must be tensors by name.*holds a list; save"):
        transfer_weights(small(), path)
    (tmp_path / "weights.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"must be a whole safetensors file.*copy it again"):
        transfer_weights(small(), tmp_path / "weights.safetensors")


def test_no_code_in_a_file_is_run(tmp_path):
    torch.save(torch.nn.Conv2d(1, 1, 1), tmp_path / "model.pth")  # a module, not its tensors
    with pytest.raises(ValueError, match=r"needs no code to be read.*model\.pth is not"):
        transfer_weights(small(), tmp_path / "model.pth")


@pytest.mark.parametrize("name", ["resnet18", "vgg11", "covidnet"])
def test_a_run_of_our_own_gives_its_whole_encoder(name, tmp_path):
    source = small(name, norm="group", in_channels=1)
    with torch.no_grad():
        for tensor in source.state_dict().values():
            tensor.add_(0.1)
    head = HeadConfig(name="joint")
    path = tmp_path / "model.safetensors"
    save_weights(path, SiameseNetwork(source, build_head(head, source)), {}, head)
    encoder = small(name, norm="group", in_channels=1)
    found = transfer_weights(encoder, path)
    assert found.left == {}
    assert found.fresh == ()
    assert torch.equal(encoder(images(1)), source(images(1)))
    other = small(name, norm="group", in_channels=1, embedding_dim=9)
    assert transfer_weights(other, path).fresh == ("embed.weight", "embed.bias")


def test_a_run_in_group_norm_gives_batch_norm_its_convolutions_alone(tmp_path):
    source = small(norm="group")
    save_weights(tmp_path / "model.safetensors", SiameseNetwork(source), {})
    encoder = small(norm="batch")
    found = transfer_weights(encoder, tmp_path / "model.safetensors")
    assert found.convolutions == (8, 8)
    assert set(found.left.values()) == {
        "scale and shift of group norm mean another thing in batch norm"
    }


def step(encoder):
    """Train a step, as a trainer does: with the whole network in training mode."""
    network = SiameseNetwork(encoder).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1)
    network.embed(images()).square().sum().backward()
    optimizer.step()


def changed(before, encoder):
    return {
        key for key, tensor in encoder.state_dict().items() if not torch.equal(tensor, before[key])
    }


@pytest.mark.parametrize("name", ["resnet18", "densenet121", "covidnet", "vgg11"])
def test_what_is_held_keeps_weights_and_statistics(name):
    for stages in (0, 1, 2):
        encoder = small(name)
        names = freeze(encoder, stages)
        before = {key: tensor.clone() for key, tensor in encoder.state_dict().items()}
        step(encoder)
        held = {key for key in before if key.startswith(tuple(f"{one}." for one in names))}
        assert changed(before, encoder) == set(before) - held
        assert bool(held) == (stages > 0)
    assert all(key.startswith("embed.") for key in changed(before, encoder))


def test_stages_are_held_in_evaluation_also_when_training_goes_on():
    encoder = small("densenet121", blocks=(1, 1, 1))
    assert freeze(encoder, 2) == (
        "trunk.stem",
        "trunk.block1",
        "trunk.transition1",
        "trunk.block2",
    )
    network = SiameseNetwork(encoder)
    for mode in (True, False, True):
        network.train(mode)
        assert encoder.training == mode
        for name, module in encoder.named_modules():
            if name.startswith(encoder.frozen):
                assert not module.training
        assert encoder.get_submodule("trunk.block3").training == mode
    assert freeze(encoder, 0) == ()
    assert all(parameter.requires_grad for parameter in encoder.parameters())
    assert all(module.training for module in encoder.train().modules())


def test_more_stages_than_there_are_cannot_be_held():
    with pytest.raises(ValueError, match=r"must be 0 to 2 for resnet18; got 3; hold fewer"):
        freeze(small(), 3)
    unet = build_encoder(EncoderConfig(name="unet", spatial_dims=2, width=4, levels=2))
    with pytest.raises(ValueError, match=r"a row of stages.*got unet"):
        freeze(unet, 1)
