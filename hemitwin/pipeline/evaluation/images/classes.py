"""What a run says of images: the class, by its own head and from the embeddings."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from safetensors.torch import load_file
from scipy.special import softmax
from torch import Tensor

from hemitwin.models import ClassHead, EncodedImages, SiameseNetwork, pair_distance
from hemitwin.pipeline.evaluation.images.embedding_classifiers import (
    CLASSIFIERS,
    EmbeddedImages,
    fit_classifier,
)
from hemitwin.pipeline.images.image_set import ImageSet
from hemitwin.pipeline.stage.errors import reading
from hemitwin.pipeline.stage.json_files import read_json
from hemitwin.pipeline.statistics.class_offsets import fit_offsets
from hemitwin.pipeline.training.runs import SUMMARY, Run
from hemitwin.pipeline.training.sources.labelled_images import (
    EMBEDDINGS,
    class_templates,
    embed_images,
)

__all__ = ["OWN", "ClassedImages", "LearntClasses", "classify_set"]

OWN = "network"
"""What the run's own head says is called."""

_AGAIN = "restore it or train again"


@dataclass(frozen=True, eq=False)
class LearntClasses:
    """What a run keeps of the images that it learnt from: embeddings, and no images.

    Parameters
    ----------
    classes : tuple of str
        In the order of their numbers.
    train, validation : EmbeddedImages
        Of both folds.
    templates : (classes, D) float
        Means of the training images' normalised embeddings.
    """

    classes: tuple[str, ...]
    train: EmbeddedImages
    validation: EmbeddedImages
    templates: Float[Tensor, "classes dim"]

    @classmethod
    def of(cls, run: Run) -> "LearntClasses":
        """Read them from a run folder.

        Raises
        ------
        UserError
            A file is missing or damaged.
        """
        with reading(run.folder / SUMMARY, _AGAIN) as remedy:
            classes = tuple(read_json(run.folder / SUMMARY, remedy=remedy)["classes"])
        path = run.folder / EMBEDDINGS
        with reading(path, _AGAIN):
            found = load_file(path)
            train, validation = (
                EmbeddedImages(found[fold].double().numpy(), found[f"{fold}_classes"].numpy())
                for fold in ("train", "validation")
            )
            templates = class_templates(found["train"], train.classes, len(classes))
        return cls(classes, train, validation, templates.to(run.network.device))


@dataclass(frozen=True, eq=False)
class ClassedImages:
    """Images with the classes that they were taken for.

    Parameters
    ----------
    classes : tuple of str
        In the order of their numbers.
    embeddings : (n, D) float
        Of the images.
    distances : (n, classes) float
        To the class templates.
    scores : mapping of str to (n, classes) float
        By method, `OWN` first: the highest is the class. Probabilities, but for those named in
        `plain`.
    settings : mapping of str to str
        What each method chose by the validation images.
    plain : frozenset of str
        Methods whose scores are no probabilities.
    """

    classes: tuple[str, ...]
    embeddings: Float[np.ndarray, "n dim"]
    distances: Float[np.ndarray, "n classes"]
    scores: Mapping[str, Float[np.ndarray, "n classes"]]
    settings: Mapping[str, str]
    plain: frozenset[str]

    def ranking(self) -> Int[np.ndarray, "n 2"]:
        """Return the class that the network takes each image for, and the next best."""
        return np.argsort(-self.scores[OWN], axis=1, kind="stable")[:, :2]

    def table(self, images: ImageSet) -> pd.DataFrame:
        """Write a row an image: name, label, class by each method, distances, probabilities."""
        found = images.table[["name", "group", "label"]].reset_index(drop=True)
        for method, scores in self.scores.items():
            column = "class" if method == OWN else f"class_{method}"
            found[column] = [self.classes[k] for k in scores.argmax(axis=1)]
        for number, name in enumerate(self.classes):
            found[f"distance_{name}"] = self.distances[:, number]
        calibrated = OWN if OWN not in self.plain else "prototype"
        for number, name in enumerate(self.classes):
            found[f"probability_{name}"] = self.scores[calibrated][:, number]
        return found


def classify_set(run: Run, images: ImageSet, learnt: LearntClasses) -> ClassedImages:
    """Say of which class images are.

    Parameters
    ----------
    run : Run
        Trained on labelled images.
    images : ImageSet
        At the run's size; their labels, where they have some, are not looked at.
    learnt : LearntClasses
        The run's.

    Returns
    -------
    ClassedImages
        By the run's own head (of a Siamese network: the nearest class template by what its head
        ranks pairs by; of a plain classifier its classes), and by every classifier of embeddings.
        Where `evaluation.criterion` is set, offsets of the classes are chosen by the validation
        images, for all alike.
    """
    embeddings = embed_images(run.network, images)
    rows = embeddings.double().cpu().numpy()
    validation = torch.from_numpy(learnt.validation.embeddings).float().to(embeddings.device)
    scores: dict[str, np.ndarray] = {}
    settings: dict[str, str] = {}
    criterion = run.config.evaluation.criterion
    own, checked = (_own(run.network, one, learnt) for one in (embeddings, validation))
    if criterion is not None:
        offsets = fit_offsets(checked, learnt.validation.classes, criterion)
        own = own + offsets
    is_classifier = isinstance(run.network.head, ClassHead)
    scores[OWN] = softmax(own, axis=1) if is_classifier else own
    for name in CLASSIFIERS:
        fitted = fit_classifier(name, learnt.train, learnt.validation, criterion)
        scores[name] = fitted.scores(rows)
        settings[name] = fitted.setting
    plain = {"template", "medoid"} if is_classifier else {OWN, "template", "medoid"}
    return ClassedImages(
        learnt.classes,
        rows,
        _to_templates(run.network, embeddings, learnt).cpu().numpy(),
        scores,
        settings,
        frozenset(plain),
    )


def _to_templates(
    network: SiameseNetwork, embeddings: Float[Tensor, "n dim"], learnt: LearntClasses
) -> Float[Tensor, "n classes"]:
    """Return the distances to the templates, as the head measures them."""
    columns = [
        pair_distance(embeddings, one.expand_as(embeddings), network.head.metric)
        for one in learnt.templates
    ]
    return torch.stack(columns, dim=1).double()


def _own(
    network: SiameseNetwork, embeddings: Float[Tensor, "n dim"], learnt: LearntClasses
) -> Float[np.ndarray, "n classes"]:
    """Return what the network itself ranks classes by: logits, or how alike a template is."""
    with torch.inference_mode():
        if isinstance(network.head, ClassHead):
            return np.asarray(network.head.classify(embeddings).double().cpu().numpy())
        columns = []
        for one in learnt.templates:
            template = one.expand_as(embeddings)
            output = network.head(
                EncodedImages.of_embeddings(embeddings), EncodedImages.of_embeddings(template)
            )
            columns.append(-output.score)
        return np.asarray(torch.stack(columns, dim=1).double().cpu().numpy())
