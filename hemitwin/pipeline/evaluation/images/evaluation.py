"""Evaluate labelled images: the test fold's classes, or images that the run has never seen."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hemitwin.atlases import save_table
from hemitwin.models import ClassHead
from hemitwin.pipeline.evaluation.images.classes import (
    OWN,
    ClassedImages,
    LearntClasses,
    classify_set,
)
from hemitwin.pipeline.evaluation.images.embedding_classifiers import (
    ClassifierName,
    EmbeddedImages,
)
from hemitwin.pipeline.evaluation.images.explained import explain_some, explain_some_pairs
from hemitwin.pipeline.evaluation.images.few_shot import EmbeddedFolds, few_shot_curve
from hemitwin.pipeline.evaluation.images.pictures import ImagesFigure, picture_of_images
from hemitwin.pipeline.evaluation.images.regions import images_config
from hemitwin.pipeline.evaluation.images.unseen import unseen_images
from hemitwin.pipeline.evaluation.results import EVALUATION, NEW_IMAGES
from hemitwin.pipeline.images.image_set import ImageSet
from hemitwin.pipeline.stage.errors import UserError
from hemitwin.pipeline.stage.json_files import write_json
from hemitwin.pipeline.statistics.bootstrap import Clusters, Estimate, tell_of_few
from hemitwin.pipeline.statistics.classification import (
    BY_CLASS,
    ClassFigures,
    Classified,
    class_figures,
)
from hemitwin.pipeline.training.runs import Run
from hemitwin.pipeline.training.sources.labelled_images import plan_images

__all__ = ["ImagesEvaluation", "evaluate_images"]

_FEW_SHOT: tuple[ClassifierName, ...] = ("prototype", "logistic")


@dataclass(frozen=True, eq=False)
class ImagesEvaluation:
    """What a run says of labelled images.

    Parameters
    ----------
    stem : str
        How the names of what is written begin: `EVALUATION`, or `NEW_IMAGES`.
    table : DataFrame
        A row an image, as `ClassedImages.table` gives it; those that are explained have the
        relevance's ledger and the shares in `evaluation.region`.
    classes : tuple of str
        In the order of the confusion's rows.
    figures : mapping of str to ClassFigures
        By method; empty where no class is known.
    few_shot : mapping of str to mapping of int to mapping of str to Estimate
        By classifier of embeddings and number of training images a class.
    has_pairs : bool
        Whether pairs of images are explained: a network compares, and two images have a class.
    """

    stem: str
    table: pd.DataFrame
    classes: tuple[str, ...]
    figures: Mapping[str, ClassFigures]
    few_shot: Mapping[str, Mapping[int, Mapping[str, Estimate]]]
    has_pairs: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON."""
        return {
            "images": len(self.table),
            "groups": int(self.table["group"].nunique()),
            "classes": list(self.classes),
            "methods": {name: self._of_method(one) for name, one in self.figures.items()},
            "few_shot": {
                name: {
                    str(count): {figure: one.to_dict() for figure, one in found.items()}
                    for count, found in curve.items()
                }
                for name, curve in self.few_shot.items()
            },
        }

    def _of_method(self, found: ClassFigures) -> dict[str, Any]:
        return {
            "confusion": found.confusion.tolist(),
            "overall": {name: one.to_dict() for name, one in found.overall.items()},
            "by_class": {
                name: {figure: one.to_dict() for figure, one in figures.items()}
                for name, figures in zip(self.classes, found.by_class, strict=True)
            },
            "reliability": [
                {
                    "low": one.low,
                    "high": one.high,
                    "images": one.images,
                    "confidence": one.confidence,
                    "accuracy": one.accuracy.to_dict(),
                }
                for one in found.reliability
            ],
        }

    def files(self, run: Path) -> dict[str, Path]:
        """Name what is written into a run folder, by kind."""
        there = {
            "written": run / f"{self.stem}.json",
            "table": run / f"{self.stem}_images.tsv",
            "maps": run / f"{self.stem}_maps.png",
        }
        if self.has_pairs:
            there["pairs"] = run / f"{self.stem}_pair_maps.tsv"
            there["pair maps"] = run / f"{self.stem}_pair_maps.png"
        if self.figures:
            there["picture"] = run / f"{self.stem}.png"
        return there

    def to_rows(self) -> dict[str, str]:
        """Return the figures as the lines of a short table."""
        rows = {"images": str(len(self.table))}
        if not self.figures:
            counts = self.table["class"].value_counts()
            return rows | {f"taken for {name}": str(counts.get(name, 0)) for name in self.classes}
        own = self.figures[OWN]
        rows |= {name.replace("_", " "): str(one) for name, one in own.overall.items()}
        for name, figures in zip(self.classes, own.by_class, strict=True):
            rows |= {
                f"{name}, {figure.replace('_', ' ')}": str(figures[figure]) for figure in BY_CLASS
            }
        others = {name: one for name, one in self.figures.items() if name != OWN}
        rows |= {f"accuracy, {name}": str(one.overall["accuracy"]) for name, one in others.items()}
        for name, curve in self.few_shot.items():
            rows |= {
                f"accuracy, {name}, {count} a class": str(found["accuracy"])
                for count, found in curve.items()
            }
        shown = self.table.dropna(subset=["relevance_inside"])
        rows["relevance, Grad-CAM in the region"] = (
            f"{shown['relevance_inside'].mean():.2f}, {shown['grad_cam_inside'].mean():.2f}"
        )
        return rows


def evaluate_images(run: Run, *, images: Path | None = None) -> ImagesEvaluation:
    """Say of which class images are, with figures where their classes are known.

    Writes ``evaluation.json``, ``evaluation_images.tsv``, ``evaluation_maps.png`` and
    ``evaluation.png``, and of a network that compares ``evaluation_pair_maps.tsv`` and ``.png``,
    into the run folder; of other images their names begin with
    ``evaluation-images``.

    Parameters
    ----------
    run : Run
        Trained on labelled images.
    images : Path, optional
        Images that the run has never seen: a folder (class folders with the run's names, or any
        images), a table or an .npz. By default the run's own test fold.

    Raises
    ------
    UserError
        The run is on something else, its images have other folds now, or none is left that it has
        not learnt from.
    """
    images_config(run)
    learnt = LearntClasses.of(run)
    stem = EVALUATION if images is None else NEW_IMAGES
    seen = _test_fold(run) if images is None else unseen_images(run, images, learnt.classes)
    classed = classify_set(run, seen, learnt)
    known = np.flatnonzero(seen.class_numbers >= 0)
    labelled = seen.take(known)
    result = ImagesEvaluation(
        stem,
        explain_some(run, stem, seen, classed, learnt),
        learnt.classes,
        _figures(run, classed, labelled, known) if known.size else {},
        _few_shot(run, classed, labelled, known, learnt) if images is None else {},
        has_pairs=known.size > 1 and not isinstance(run.network.head, ClassHead),
    )
    save_table(run.folder / f"{stem}_images.tsv", result.table)
    if known.size:
        _draw(run, result, classed, labelled, known)
    if result.has_pairs:
        pairs = explain_some_pairs(run, stem, labelled, classed.embeddings[known])
        save_table(run.folder / f"{stem}_pair_maps.tsv", pairs)
    written = {
        "splits_hash": run.split.hash,
        "weights_sha256": run.weights_digest,
        "caution": tell_of_few(int(seen.table["group"].nunique())),
        "problems": list(seen.problems),
    }
    write_json(run.folder / f"{stem}.json", {**result.to_dict(), **written})
    return result


def _test_fold(run: Run) -> ImageSet:
    plan = plan_images(run.config)
    if plan.split.hash != run.split.hash:
        msg = (
            f"the images of {run.folder} must have the folds that it was trained with, but are "
            f"others now; restore them, or give unseen images with --images"
        )
        raise UserError(msg)
    return plan.fold("test")


def _figures(
    run: Run, classed: ClassedImages, labelled: ImageSet, known: np.ndarray
) -> dict[str, ClassFigures]:
    clusters = Clusters.of(labelled.table["group"].astype(str).tolist())
    labels = labelled.class_numbers
    draws = {"draws": run.config.evaluation.bootstrap, "seed": run.config.seed}
    found = {}
    for name, every in classed.scores.items():
        scores = every[known]
        one = Classified(labels, scores, scores.argmax(axis=1), name not in classed.plain)
        found[name] = class_figures(one, clusters, **draws)
    return found


def _few_shot(
    run: Run,
    classed: ClassedImages,
    labelled: ImageSet,
    known: np.ndarray,
    learnt: LearntClasses,
) -> dict[str, dict[int, dict[str, Estimate]]]:
    test = EmbeddedImages(classed.embeddings[known], labelled.class_numbers)
    folds = EmbeddedFolds(learnt.train, learnt.validation, test)
    return {name: few_shot_curve(name, folds, seed=run.config.seed) for name in _FEW_SHOT}


def _draw(
    run: Run,
    result: ImagesEvaluation,
    classed: ClassedImages,
    labelled: ImageSet,
    known: np.ndarray,
) -> None:
    numbers = labelled.class_numbers
    own = np.eye(len(result.classes), dtype=bool)[numbers]
    distances = classed.distances[known]
    embeddings = classed.embeddings[known]
    gives_logit = run.network.head.gives_logit
    shown = ImagesFigure(
        result.classes,
        result.figures[OWN].confusion,
        distances[own],
        distances[~own],
        None if gives_logit else run.threshold,
        embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True).clip(min=1e-12),
        numbers,
    )
    picture_of_images(run.folder / f"{result.stem}.png", shown)
