"""Training on labelled images: what a batch holds, and that classes are learnt."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from hemitwin.models import (
    EncoderConfig,
    PooledEncoder,
    SiameseNetwork,
    build_encoder,
    save_weights,
)
from hemitwin.pipeline.images.image_guards import learnt_images
from hemitwin.pipeline.stage.errors import UserError
from hemitwin.pipeline.stage.settings import validated
from hemitwin.pipeline.training.config import RunConfig
from hemitwin.pipeline.training.runs import SUMMARY, load_run
from hemitwin.pipeline.training.setup import plan_training
from hemitwin.pipeline.training.sources.labelled_images import (
    EMBEDDINGS,
    VALIDATION_IMAGES,
    DrawnImages,
    class_templates,
    plan_images,
)
from hemitwin.pipeline.training.train import train

CLASSES = ("bars", "dots", "plain")


def draw(kind: str, rng: np.random.Generator) -> np.ndarray:
    """Draw an image of a class, none like another."""
    image = rng.normal(90, 12, (24, 24))
    if kind == "bars":
        image[:: int(rng.integers(3, 5))] += 90
    if kind == "dots":
        rows, columns = rng.integers(2, 22, (2, 12))
        image[rows, columns] += 130
    return np.clip(image, 1, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three classes, of which one is rare."""
    root = tmp_path_factory.mktemp("classes")
    rng = np.random.default_rng(0)
    for kind, count in zip(CLASSES, (40, 40, 12), strict=True):
        (root / kind).mkdir()
        for number in range(count):
            Image.fromarray(draw(kind, rng)).save(root / kind / f"{number:03d}.png")
    return root


def config_of(folder, data=None, **parts):
    content = {
        "data": {"images": folder, "pixels": 24, **(data or {})},
        "split": {"validation": 0.25, "test": 0.25},
        "encoder": {"name": "resnet18", "width": 8, "blocks": (1, 1), "embedding_dim": 16},
        "evaluation": {"bootstrap": 100},
        **parts,
    }
    if content["encoder"].get("name", "resnet18") == "resnet18":
        content["encoder"]["stem_stride"] = 1
    content["training"] = {
        "epochs": 6,
        "batch_subjects": 24,
        "learning_rate": 0.01,
        "precision": "32-true",
        **parts.get("training", {}),
    }
    return validated(RunConfig, content, "test")


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    return train(config_of(folder), tmp_path_factory.mktemp("run") / "run")


def drawn_of(folder, **data):
    config = config_of(folder, data)
    return DrawnImages(config, plan_images(config).fold("train"))


def batch(drawn, epoch, count=12):
    return drawn[[(epoch, place) for place in range(count)]]


def encoder_of(run) -> PooledEncoder:
    assert isinstance(run.network.encoder, PooledEncoder)
    return run.network.encoder


def test_each_class_has_the_same_share_of_a_batch_however_rare(folder):
    items = batch(drawn_of(folder), 0).items
    assert torch.bincount(items.group).tolist() == [4, 4, 4]


def test_without_balance_an_epoch_has_every_image_once(folder):
    drawn = drawn_of(folder, balanced=False)
    items = batch(drawn, 3, count=len(drawn)).items
    assert sorted(items.item.tolist()) == list(range(len(drawn)))


def test_images_are_drawn_anew_in_each_epoch_and_again_by_the_seed(folder):
    drawn = drawn_of(folder)
    one, again, later = batch(drawn, 0), batch(drawn, 0), batch(drawn, 1)
    torch.testing.assert_close(one.images, again.images)
    assert one.items.item.tolist() != later.items.item.tolist()


def test_a_class_is_gone_through_before_an_image_comes_twice(folder):
    drawn = drawn_of(folder, epoch_images=3 * 18)
    items = batch(drawn, 0, count=len(drawn)).items
    bars = items.item[items.group == 0].tolist()
    assert len(set(bars)) > len(bars) / 2


def test_few_shots_are_so_many_training_images_a_class_and_no_fewer_others(folder):
    few, whole = (plan_images(config_of(folder, one)) for one in ({"images_per_class": 5}, {}))
    counts = few.fold("train").table["label"].value_counts()
    assert counts.to_dict() == dict.fromkeys(CLASSES, 5)
    for fold in ("validation", "test"):
        assert few.fold(fold).table["name"].tolist() == whole.fold(fold).table["name"].tolist()


@pytest.mark.parametrize(
    ("loss", "head"),
    [
        ("contrastive", "distance"),
        pytest.param("triplet", "distance", marks=pytest.mark.slow),
        pytest.param("joint", "joint", marks=pytest.mark.slow),
        ("bce", "weighted_l1"),
        ("softmax", "classes"),
    ],
)
def test_every_objective_learns_the_classes(folder, tmp_path, loss, head):
    config = config_of(folder, loss={"objective": loss}, head={"name": head})
    run = load_run(train(config, tmp_path / "run").folder)
    metrics = pd.read_csv(run.folder / "metrics.csv")
    assert metrics["validation_loss"].min() < metrics["validation_loss"][0]
    table = pd.read_csv(run.folder / VALIDATION_IMAGES, sep="\t", dtype={"label": str})
    nearest = table.loc[table.groupby("name")["distance"].idxmin()]
    assert (nearest["label"] == nearest["template"]).mean() > 0.7
    assert run.network.head.gives_logit == ("score" in table)


def test_a_run_keeps_its_embeddings_without_names(trained):
    found = load_file(trained.folder / EMBEDDINGS)
    plan = plan_images(trained.config)
    for fold in ("train", "validation"):
        images = plan.fold(fold)
        assert found[fold].shape == (len(images), 16)
        assert found[f"{fold}_classes"].tolist() == images.class_numbers.tolist()
    templates = class_templates(found["train"], found["train_classes"].numpy(), 3)
    assert (torch.linalg.vector_norm(templates, dim=1) <= 1 + 1e-6).all()


def test_a_run_knows_what_it_learnt_from_by_its_pixels(trained):
    table = plan_images(trained.config).images.table
    folds = table["group"].map(dict(trained.split.folds))
    found = learnt_images(trained.folder, table["digest"].tolist())
    assert [found.get(k, "test") for k in range(len(table))] == folds.tolist()


def test_a_finished_run_is_found_again_and_other_images_are_refused(trained, folder):
    before = (trained.folder / SUMMARY).stat().st_mtime_ns
    assert train(trained.config, trained.folder).weights_digest == trained.weights_digest
    assert (trained.folder / SUMMARY).stat().st_mtime_ns == before
    extra = folder / "bars" / "more.png"
    Image.fromarray(draw("bars", np.random.default_rng(9))).save(extra)
    try:
        with pytest.raises(UserError, match="on these data, but it was begun with others"):
            train(trained.config, trained.folder)
    finally:
        extra.unlink()


def test_a_class_that_is_told_by_its_size_alone_is_in_the_summary(folder, tmp_path, caplog):
    for kind, side in zip(CLASSES[:2], (24, 30), strict=True):
        (tmp_path / "sizes" / kind).mkdir(parents=True)
        for path in (folder / kind).glob("*.png"):
            sized = Image.open(path).resize((side, side))
            sized.save(tmp_path / "sizes" / kind / path.name)
    run = train(config_of(tmp_path / "sizes", training={"epochs": 1}), tmp_path / "run")
    (found,) = json.loads((run.folder / SUMMARY).read_text())["shortcuts"]
    assert found["attribute"] == "size"
    assert found["balanced_accuracy"] > 0.95
    assert found["finding"] in caplog.text


def test_colour_images_have_three_channels(folder, tmp_path):
    for kind in CLASSES[:2]:
        (tmp_path / "colour" / kind).mkdir(parents=True)
        for path in (folder / kind).glob("*.png"):
            Image.open(path).convert("RGB").save(tmp_path / "colour" / kind / path.name)
    data = {"channels": 3}
    training = {"epochs": 1}
    run = train(config_of(tmp_path / "colour", data, training=training), tmp_path / "run")
    assert encoder_of(run).config.in_channels == 3


def test_an_encoder_starts_from_a_run_and_its_held_stages_stay(trained, folder, tmp_path):
    weights = trained.folder / "model.safetensors"
    transfer = {"weights": weights, "freeze_stages": 1}
    config = config_of(folder, transfer=transfer, training={"epochs": 1})
    run = train(config, tmp_path / "run")
    fresh = build_encoder(EncoderConfig(**config.encoder.model_dump())).state_dict()
    for name, tensor in encoder_of(run).state_dict().items():
        if name.startswith(("trunk.stem", "trunk.stage1")):
            torch.testing.assert_close(tensor, encoder_of(trained).state_dict()[name])
    assert not torch.equal(encoder_of(run).embed.weight, fresh["embed.weight"])
    setup = plan_training(config_of(folder, transfer={"weights": tmp_path / "no.pth"})).set_up()
    with pytest.raises(UserError, match=r"transfer: .* must"):
        setup.task(1)


@pytest.mark.parametrize("parts", [{"name": "unet"}, {"name": "unet_encoder", "attention": True}])
def test_an_encoder_without_stages_starts_from_a_run_where_none_is_held(folder, tmp_path, parts):
    encoder = {"width": 4, "levels": 2, "embedding_dim": 16, **parts}
    source = build_encoder(EncoderConfig(spatial_dims=2, **encoder))
    with torch.no_grad():
        next(source.parameters()).fill_(0.25)
    save_weights(tmp_path / "weights.safetensors", SiameseNetwork(source), {})
    transfer = {"weights": tmp_path / "weights.safetensors"}
    started = plan_training(config_of(folder, encoder=encoder, transfer=transfer)).set_up()
    tensors = started.task(1).network.state_dict().values()
    assert any((tensor == 0.25).all() for tensor in tensors)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"loss": {"objective": "map"}}, "must be one of images' classes, got map"),
        ({"loss": {"objective": "bce"}, "head": {"name": "single"}}, "take softmax"),
        ({"lesion_masks": "masks"}, "lesion_masks must be left out"),
        ({"pairs": {}}, "pairs must be left out"),
        ({"encoder": {"spatial_dims": 3}}, "two dimensions"),
        ({"loss": {"negatives": "relative"}}, "it is subject"),
    ],
)
def test_what_images_do_not_have_is_refused(folder, parts, message):
    with pytest.raises(UserError, match=message):
        config_of(folder, **parts)


def test_classes_are_for_images(folder):
    del folder
    with pytest.raises(UserError, match="needs the classes of images"):
        validated(RunConfig, {"data": {"prepared": "x"}, "loss": {"objective": "softmax"}}, "test")


def test_a_run_on_images_has_no_volumes(trained):
    with pytest.raises(UserError, match="a run on prepared volumes, but the run learnt from"):
        trained.config.volumes  # noqa: B018
