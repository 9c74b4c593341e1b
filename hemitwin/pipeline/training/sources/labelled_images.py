"""Labelled images: what training draws of them, and what validation scores."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from hemitwin._atomic import atomic_path
from hemitwin._shapes import Batch
from hemitwin.atlases import save_table
from hemitwin.models import ClassHead, EncodedImages, Items, SiameseNetwork
from hemitwin.pipeline.cohort.split import Fold, Split
from hemitwin.pipeline.images.image_guards import LEARNT, write_image_guards
from hemitwin.pipeline.images.image_set import ImageSet, read_images
from hemitwin.pipeline.images.image_split import split_images
from hemitwin.pipeline.images.shortcuts import find_shortcuts
from hemitwin.pipeline.stage.errors import UserError
from hemitwin.pipeline.stage.json_files import digest_json
from hemitwin.pipeline.stage.records import Record
from hemitwin.pipeline.training.config import RunConfig
from hemitwin.pipeline.training.data import (
    Draw,
    EpochScores,
    TrainingData,
    Validation,
    mean_hinge,
)
from hemitwin.pipeline.training.plan import (
    SHOWN,
    TrainingPlan,
    TrainingSetup,
    described,
    transferred,
)
from hemitwin.pipeline.training.sources.pairs import TrainingBatch
from hemitwin.pipeline.training.task import channels_last
from hemitwin.transforms import augment_images, standardise_images, standardise_pixels

__all__ = [
    "EMBEDDINGS",
    "VALIDATION_IMAGES",
    "DrawnImages",
    "ImagePlan",
    "ImageScores",
    "ImagesValidation",
    "class_templates",
    "embed_images",
    "plan_images",
    "score_against_templates",
]

EMBEDDINGS = "embeddings.safetensors"
"""Embeddings of the training and validation images in the run folder, without names."""

VALIDATION_IMAGES = "validation_images.tsv"
"""Each validation image held against each class, in the run folder."""

_AT_ONCE = 64
_PAIRED = 256
"""Validation images whose pairs are scored after an epoch, at most."""


class DrawnImages(Dataset[TrainingBatch]):
    """Images of the training fold, drawn and changed anew in each epoch.

    Pairs and triplets are made of the batch, of every two of its images. Where the classes are
    balanced, each has the same share of every batch, whatever it has of the fold.

    Parameters
    ----------
    config : RunConfig
        The run's settings.
    images : ImageSet
        The training fold.
    """

    def __init__(self, config: RunConfig, images: ImageSet) -> None:
        if config.images is None:
            msg = "the configuration must be one of images; got volumes"
            raise TypeError(msg)
        self._seed = config.seed
        self._data = config.images
        self._augmentation = config.training.image_augmentation
        self._pixels = images.pixels
        self._classes = images.class_numbers
        self._members = [
            np.flatnonzero(self._classes == number) for number in range(len(images.classes))
        ]

    def __len__(self) -> int:
        """Count the images that are drawn in an epoch."""
        return self._data.epoch_images or len(self._pixels)

    def __getitem__(self, draws: list[Draw]) -> TrainingBatch:
        """Return a batch of as many images."""
        epoch, first = draws[0]
        rng = np.random.default_rng([self._seed, epoch, first])
        chosen = self._choose(epoch, [place for _, place in draws], rng)
        images = torch.from_numpy(self._pixels[chosen]).float() / 255
        numbers = torch.from_numpy(self._classes[chosen])
        items = Items(numbers, torch.from_numpy(chosen), numbers, torch.zeros(len(chosen)).bool())
        return TrainingBatch(
            standardise_images(augment_images(images, self._augmentation, rng)), items
        )

    def _choose(
        self, epoch: int, places: Sequence[int], rng: np.random.Generator
    ) -> Int[np.ndarray, " n"]:
        """Take an epoch's places in a class's own order, which each epoch shuffles."""
        if not self._data.balanced:
            return np.array(places) % len(self._pixels)
        turn = int(rng.integers(len(self._members)))
        chosen = []
        for k, place in enumerate(places):
            number = (turn + k) % len(self._members)
            members = self._members[number]
            order = np.random.default_rng([self._seed, epoch, number]).permutation(len(members))
            chosen.append(members[order[place % len(members)]])
        return np.array(chosen)


class ImagesValidation(Validation):
    """The validation fold's images, each of which is embedded once.

    After an epoch they are paired with each other; of the trained network each is held against
    the class templates, which are of training images.

    Parameters
    ----------
    config : RunConfig
        The run's settings.
    train, checked : ImageSet
        The training and the validation fold.
    """

    def __init__(self, config: RunConfig, train: ImageSet, checked: ImageSet) -> None:
        self._config = config
        self._train = train
        self._checked = checked
        self._embedded: tuple[Tensor, Tensor] | None = None

    @property
    def batches(self) -> Dataset[TrainingBatch]:
        """Images in their order, some at a time."""
        return _ImagesInOrder(self._checked)

    def epoch_scores(self) -> EpochScores:
        """Embed images as they come, and pair them at the end."""
        return ImageScores()

    def table(self, network: SiameseNetwork) -> pd.DataFrame:
        """See `score_against_templates`."""
        train, checked = (embed_images(network, one) for one in (self._train, self._checked))
        self._embedded = train, checked
        templates = class_templates(train, self._train.class_numbers, len(self._train.classes))
        return score_against_templates(network, checked, templates, self._checked)

    def different(self, table: pd.DataFrame) -> Bool[np.ndarray, " n"]:
        """Tell which rows hold an image against another class than its own."""
        return (table["label"] != table["template"]).to_numpy()

    def write(self, folder: Path, table: pd.DataFrame) -> Path:
        """Write `VALIDATION_IMAGES` and `EMBEDDINGS`."""
        save_table(folder / VALIDATION_IMAGES, table)
        if self._embedded is None:
            msg = "the validation must have been scored before it is written; call table first"
            raise RuntimeError(msg)
        folds = zip(("train", "validation"), (self._train, self._checked), strict=True)
        tensors = {}
        for (name, images), embedded in zip(folds, self._embedded, strict=True):
            tensors[name] = embedded.cpu().contiguous()
            tensors[f"{name}_classes"] = torch.from_numpy(images.class_numbers)
        with atomic_path(folder / EMBEDDINGS) as temporary:
            save_file(tensors, temporary)
        return folder / VALIDATION_IMAGES


class ImageScores:
    """The embeddings of an epoch's validation images."""

    def __init__(self) -> None:
        self._embedded: list[Tensor] = []
        self._classes: list[Tensor] = []

    def add(self, network: SiameseNetwork, batch: TrainingBatch) -> None:
        """Embed some images."""
        self._embedded.append(network.embed(channels_last(batch.images)).float())
        self._classes.append(batch.items.group)

    def finish(
        self, network: SiameseNetwork, margin: float
    ) -> tuple[Float[np.ndarray, " n"], Bool[np.ndarray, " n"], float]:
        """Give scores and labels of every two images, and the hinge over them.

        Of a plain classifier, whose distances nothing trains, the cross-entropy of its classes
        stands for the hinge.
        """
        embedded, classes = torch.cat(self._embedded), torch.cat(self._classes)
        self._embedded.clear()
        self._classes.clear()
        chosen = torch.linspace(0, len(embedded) - 1, min(_PAIRED, len(embedded))).long()
        one, other = torch.triu_indices(len(chosen), len(chosen), offset=1)
        some, numbers = embedded[chosen], classes[chosen]
        output = network.head(
            EncodedImages.of_embeddings(some[one]), EncodedImages.of_embeddings(some[other])
        )
        scores = output.score.float().cpu().numpy()
        different = (numbers[one] != numbers[other]).cpu().numpy()
        if isinstance(network.head, ClassHead):
            loss = float(_balanced_entropy(network.head.classify(embedded), classes))
        else:
            loss = mean_hinge(scores, different, margin)
        return scores, different, loss


class _ImagesInOrder(Dataset[TrainingBatch]):
    def __init__(self, images: ImageSet) -> None:
        self._images = images

    def __len__(self) -> int:
        return math.ceil(len(self._images) / _AT_ONCE)

    def __getitem__(self, index: int) -> TrainingBatch:
        if not 0 <= index < len(self):
            raise IndexError(index)
        rows = np.arange(len(self._images))[index * _AT_ONCE : (index + 1) * _AT_ONCE]
        numbers = torch.from_numpy(self._images.class_numbers[rows])
        items = Items(numbers, torch.from_numpy(rows), numbers, torch.zeros(len(rows)).bool())
        return TrainingBatch(standardise_pixels(self._images.pixels[rows]), items)


def embed_images(network: SiameseNetwork, images: ImageSet) -> Float[Tensor, "n dim"]:
    """Embed each image once, in float32, on the network's device."""
    batches = _ImagesInOrder(images)
    with torch.inference_mode():
        return torch.cat([network.embed(_seen(network, batches[k])) for k in range(len(batches))])


def _seen(network: SiameseNetwork, batch: TrainingBatch) -> Batch:
    return channels_last(batch.images.to(network.device))


def class_templates(
    embeddings: Float[Tensor, "n dim"], numbers: Int[np.ndarray, " n"], classes: int
) -> Float[Tensor, "classes dim"]:
    """Return the mean of each class's normalised embeddings.

    Parameters
    ----------
    embeddings : (n, D) float
        Of training images.
    numbers : (n,) int
        Their classes.
    classes : int
        How many there are.
    """
    unit = F.normalize(embeddings)
    rows = [unit[torch.from_numpy(numbers == number)].mean(dim=0) for number in range(classes)]
    return torch.stack(rows)


def score_against_templates(
    network: SiameseNetwork,
    embeddings: Float[Tensor, "n dim"],
    templates: Float[Tensor, "classes dim"],
    images: ImageSet,
) -> pd.DataFrame:
    """Hold each image against each class.

    Returns
    -------
    DataFrame
        n x classes rows: name, group, label, template (a class), distance, and score where the
        head has a logit.
    """
    count, classes = len(embeddings), len(templates)
    rows = torch.arange(count).repeat_interleave(classes)
    columns = torch.arange(classes).repeat(count)
    with torch.inference_mode():
        output = network.head(
            EncodedImages.of_embeddings(embeddings[rows]),
            EncodedImages.of_embeddings(templates[columns]),
        )
    known = images.table.loc[:, ["name", "group", "label"]].iloc[rows.numpy()]
    table = known.reset_index(drop=True)
    table["template"] = [images.classes[k] for k in columns.tolist()]
    table["distance"] = output.distance.double().cpu().numpy()
    if output.logit is not None:
        table["score"] = output.logit.double().cpu().numpy()
    return table


def _balanced_entropy(logits: Tensor, classes: Tensor) -> Tensor:
    """Return the cross-entropy, each class that is there with the same weight."""
    terms = F.cross_entropy(logits, classes, reduction="none")
    return torch.stack([terms[classes == one].mean() for one in classes.unique()]).mean()


@dataclass(frozen=True, eq=False)
class ImagePlan(TrainingPlan):
    """Labelled images, whose classes are told apart.

    Parameters
    ----------
    config : RunConfig
        The settings.
    split : Split
        Groups of images, patients or subjects, by fold.
    images : ImageSet
        All images that have a fold.
    """

    config: RunConfig
    split: Split
    images: ImageSet

    def fold(self, name: Fold) -> ImageSet:
        """Return the images of one fold; of training no more of a class than are asked for."""
        found = self.images.take((self._folds == name).to_numpy())
        most = None if self.config.images is None else self.config.images.images_per_class
        if name != "train" or most is None:
            return found
        rng = np.random.default_rng(self.config.evaluation_seed)
        order = rng.permutation(len(found))
        rank = found.table["label"].iloc[order].groupby(found.table["label"]).cumcount()
        return found.take(np.sort(order[(rank < most).to_numpy()]))

    @property
    def _folds(self) -> "pd.Series[str]":
        return self.images.table["group"].map(dict(self.split.folds))

    @property
    def record(self) -> Record:
        """What the run is trained on; its settings are in its configuration."""
        settings = {"folds": self.split.hash, "images": _digest_of(self.images)}
        inputs = transferred(self.config)
        return Record("train", computation=1, inputs=inputs, settings=settings)

    def describe(self, network: SiameseNetwork) -> str:
        """Say in one line what will happen."""
        counts = [f"{len(self.fold(name).table)} {name}" for name in SHOWN]
        rows, columns = self.images.pixels.shape[-2:]
        return (
            f"{described(self.config, network)}, images of {rows} x {columns} pixels in "
            f"{len(self.images.classes)} classes; images: {', '.join(counts)}; "
            f"{self.config.training.epochs} epochs"
        )

    def write_guards(self, folder: Path) -> None:
        """Write the fingerprints of the images that the run learns from."""
        learnt: dict[Fold, list[str]] = {
            name: list(self.fold(name).table["digest"]) for name in LEARNT
        }
        write_image_guards(folder, self.split, learnt)

    def set_up(self, device: torch.device | None = None) -> TrainingSetup:
        """Make what the training needs."""
        del device  # nothing is computed of the images before training
        train, checked = self.fold("train"), self.fold("validation")
        validation = ImagesValidation(self.config, train, checked)
        drawn = DrawnImages(self.config, train)
        data = TrainingData(self.config, drawn, validation.batches)
        told = {
            "shortcuts": [asdict(one) for one in find_shortcuts(self.images)],
            "left_out": list(self.images.problems),
        }
        return TrainingSetup(self.config, data, validation, classes=self.images.classes, told=told)


def plan_images(config: RunConfig) -> ImagePlan:
    """Read labelled images and draw their folds.

    Raises
    ------
    UserError
        The run is about volumes, or as `read_images` and `split_images` say.
    """
    if config.images is None:
        msg = "images need a configuration whose data has the key images; add it"
        raise UserError(msg)
    images = read_images(config.images)
    split, kept = split_images(images, config.split, config.evaluation_seed)
    return ImagePlan(config, split, kept)


def _digest_of(images: ImageSet) -> str:
    """Return what tells two sets of images apart: pixels, classes and groups, in any order."""
    return digest_json(sorted(images.table[["digest", "label", "group"]].to_numpy().tolist()))
