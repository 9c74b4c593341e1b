"""Laws of the feature pyramids."""

import pytest
import torch

from hemitwin.models import BUILDERS, EncoderConfig, PooledEncoder, build_encoder


@pytest.mark.parametrize("dims", [2, 3])
def test_one_pass_gives_embedding_and_a_map_a_resolution(small, case, dims):
    encoder = build_encoder(small(case, spatial_dims=dims, in_channels=2)).eval()
    x = torch.randn(2, 2, *(24, 19, 17)[:dims], generator=torch.manual_seed(0))
    embedding, maps = encoder.forward_with_features(x)
    assert torch.equal(embedding, encoder(x))
    strides = encoder.pyramid_strides
    assert list(strides) == sorted(set(strides))
    assert [tuple(level.shape) for level in maps] == [
        (2, channels, *(-(-size // stride) for size in x.shape[2:]))
        for channels, stride in zip(encoder.pyramid_channels, strides, strict=True)
    ]
    assert all(map(torch.equal, maps, encoder.features(x)))


def test_maps_are_those_of_the_layers_named(small, case):
    encoder = build_encoder(small(case)).eval()
    kept = {}
    for level in encoder.trunk.levels:
        encoder.trunk.get_submodule(level.layer).register_forward_hook(
            lambda _m, _i, out, layer=level.layer: kept.setdefault(layer, out)
        )
    x = torch.randn(1, 1, 16, 16, 16, generator=torch.manual_seed(0))
    for found, level in zip(encoder.features(x), encoder.trunk.levels, strict=True):
        assert torch.equal(found, kept[level.layer])
    if case != "unet":  # whose feature layers are those of the expanding path
        layers = tuple(f"trunk.{level.layer}" for level in encoder.trunk.levels)
        assert encoder.feature_layers == layers


@pytest.mark.parametrize("name", BUILDERS)
def test_coarsest_map_of_the_paper_s_sizes_has_the_stated_stride(name):
    config = EncoderConfig(name=name, spatial_dims=2)
    with torch.device("meta"):
        encoder = BUILDERS[name](config)
    coarsest = encoder.pyramid_strides[-1] * config.architecture.top_stride
    assert coarsest == config.total_stride == (16 if "unet" in name else 32)


def test_features_of_a_wrong_input_are_refused(small):
    encoder = build_encoder(small("unet"))
    for ask in (encoder.features, encoder.forward_with_features):
        with pytest.raises(ValueError, match="at least 3 voxels"):
            ask(torch.zeros(1, 1, 8, 8, 2))


def test_trunk_without_pyramid_is_refused():
    with pytest.raises(TypeError, match="got Conv3d; use StagedTrunk"):
        PooledEncoder(EncoderConfig(), torch.nn.Conv3d(1, 4, 3), channels=4)
