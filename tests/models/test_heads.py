"""Laws of the heads: symmetric scores, equivariant maps, gradients in chunks."""

import pytest
import torch

from hemitwin.models import (
    ClassHead,
    EncoderConfig,
    HeadConfig,
    SiameseNetwork,
    SingleClassifier,
    WeightedL1Head,
    build_encoder,
    build_head,
    embed_in_chunks,
    load_weights,
    save_weights,
)

HEADS = ("distance", "joint", "weighted_l1", "classifier", "single", "decoder")
EVERY_HEAD = (*HEADS, "classes")
ENCODERS = {
    "resnet18": {"width": 4, "blocks": (1, 1), "stem_stride": 2},
    "unet": {"width": 4, "levels": 3},
}


def network(head="distance", name="resnet18", dims=2, **head_settings):
    content = {"name": name, "spatial_dims": dims, "embedding_dim": 5, **ENCODERS[name]}
    encoder = build_encoder(EncoderConfig.model_validate(content))
    settings = HeadConfig.model_validate(
        {"name": head, "decoder_width": 4, "classes": 3, **head_settings}
    )
    return SiameseNetwork(encoder, build_head(settings, encoder)).eval(), settings


def images(dims, count=2):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, count, 1, *(13, 12, 11)[:dims], generator=generator)


@pytest.mark.parametrize("head", EVERY_HEAD)
@pytest.mark.parametrize("metric", ["euclidean", "cosine", "l1"])
def test_scores_are_symmetric_and_finite(head, metric):
    model, _ = network(head, metric=metric)
    left, right = images(2)
    there, back = model(left, right), model(right, left)
    torch.testing.assert_close(there.score, back.score)
    torch.testing.assert_close(there.distance, back.distance)
    assert (there.logit is None) == (head in {"distance", "classes"})
    assert model.head.gives_logit == (there.logit is not None)
    assert torch.isfinite(there.score).all()
    assert (there.distance <= 2).all()


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("dims", [2, 3])
def test_exchanging_the_images_exchanges_the_maps(name, dims):
    model, _ = network("decoder", name, dims)
    left, right = images(dims)
    there, back = model(left, right), model(right, left)
    assert there.anomaly is not None
    assert back.anomaly is not None
    assert there.anomaly.shape == (2, 2, *left.shape[2:])
    torch.testing.assert_close(there.anomaly, back.anomaly.flip(1))
    assert not torch.allclose(there.anomaly[:, 0], there.anomaly[:, 1])


def test_the_decoders_logit_is_the_mean_of_its_highest_voxels():
    model, _ = network("decoder", peak_voxels=3)
    output = model(*images(2))
    assert output.anomaly is not None
    for logit, anomaly in zip(output.score, output.anomaly, strict=True):
        torch.testing.assert_close(logit, anomaly.flatten().sort().values[-3:].mean())


def test_a_single_classifier_compares_nothing():
    model, _ = network("single")
    assert isinstance(model.head, SingleClassifier)
    left, right = images(2)
    each = model.head.classify(model.embed(torch.cat([left, right])))
    torch.testing.assert_close(model(left, right).score, each.view(2, 2).amax(0))
    torch.testing.assert_close(model(left, left).score, each[:2])


@pytest.mark.parametrize("head", HEADS)
def test_gradients_reach_every_parameter(head):
    model, _ = network(head)
    output = model.train()(*images(2))
    (output.score.sum() + output.distance.sum()).backward()
    without = [name for name, p in model.named_parameters() if p.grad is None]
    assert without == []


def test_a_class_heads_gradients_reach_every_parameter():
    model, _ = network("classes")
    assert isinstance(model.head, ClassHead)
    logits = model.head.classify(model.train().embed(images(2)[0]))
    assert logits.shape == (2, 3)
    logits[:, 0].sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_a_class_head_sees_only_the_directions_of_embeddings():
    head = ClassHead(4, 2)
    rows = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(head.classify(rows), head.classify(7 * rows))
    assert head.classify(rows).std() > 0


def test_a_class_head_must_know_how_many_classes_there_are():
    encoder = build_encoder(EncoderConfig(spatial_dims=2, **ENCODERS["resnet18"]))
    with pytest.raises(ValueError, match=r"head\.classes must say how many.*got none; set it"):
        build_head(HeadConfig(name="classes"), encoder)


def test_the_weighted_l1_starts_as_the_calibrated_l1_distance():
    pairs = images(2)
    weighted, _ = network("weighted_l1")
    calibrated, _ = network("joint", metric="l1")
    torch.testing.assert_close(weighted(*pairs).score, calibrated(*pairs).score)


def test_the_weighted_l1_grows_with_every_entry_that_differs():
    head = WeightedL1Head(4).requires_grad_(requires_grad=False)
    head.raw_weight.copy_(torch.tensor([-9.0, -1.0, 0.5, 3.0]))
    a = torch.nn.functional.normalize(torch.tensor([[0.4, -0.2, 0.7, 0.1]]))
    b = torch.nn.functional.normalize(torch.tensor([[0.1, 0.3, 0.5, -0.6]]))
    weight = (1 + head.raw_weight.exp()).log()
    assert (weight >= 0).all()
    by_hand = (weight * (a - b).abs()[0]).sum() * 2 + head.bias
    torch.testing.assert_close(head.logit(3 * a, b)[0], by_hand)
    assert float(head.logit(a, a)) == pytest.approx(float(head.bias))


@pytest.mark.parametrize("head", EVERY_HEAD)
def test_a_head_comes_back_from_its_file(head, tmp_path):
    model, settings = network(head)
    with torch.no_grad():
        for parameter in model.head.parameters():  # as after some training
            parameter.add_(0.1)
    save_weights(tmp_path / "w.safetensors", model, {}, settings)
    loaded, _ = load_weights(tmp_path / "w.safetensors")
    torch.testing.assert_close(loaded(*images(2)).score, model(*images(2)).score)
    own = model.head.state_dict()
    for name, tensor in loaded.head.state_dict().items():
        torch.testing.assert_close(tensor, own[name], rtol=0, atol=0)


@pytest.mark.parametrize("norm", ["group", "instance"])
@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_chunks_give_the_whole_batchs_gradients(name, norm, dtype, tolerance):
    config = EncoderConfig(name=name, spatial_dims=3, norm=norm, embedding_dim=5, **ENCODERS[name])
    encoder = build_encoder(config).train().to(dtype)
    batch = torch.cat(tuple(images(3, count=4))).to(dtype)
    weights = torch.randn(8, 8, generator=torch.Generator().manual_seed(2)).to(dtype)

    def gradients(chunk):
        encoder.zero_grad()
        embeddings = embed_in_chunks(encoder, batch, chunk)
        (torch.cdist(embeddings, embeddings) * weights).sum().backward()  # couples all rows
        parameters = [p.grad.flatten() for p in encoder.parameters() if p.grad is not None]
        return embeddings.detach(), torch.cat(parameters)

    (whole, expected), (parts, found) = gradients(None), gradients(3)
    torch.testing.assert_close(parts, whole, atol=tolerance, rtol=tolerance)
    assert (found - expected).norm() <= tolerance * expected.norm()


def test_chunks_refuse_the_statistics_of_a_batch():
    config = EncoderConfig(spatial_dims=2, norm="batch", **ENCODERS["resnet18"])
    encoder = build_encoder(config).train()
    batch = torch.randn(4, 1, 13, 12)
    with pytest.raises(ValueError, match=r"couples no two images.*set encoder\.norm"):
        embed_in_chunks(encoder, batch, 2)
    assert embed_in_chunks(encoder.eval(), batch, 2).shape == (4, 128)
