"""Images that a run has never seen: which class, how far from each, and why."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from hemitwin.pipeline.evaluation.images.classes import LearntClasses, classify_set
from hemitwin.pipeline.evaluation.images.maps import ImageMaps, class_axes, explain_images
from hemitwin.pipeline.evaluation.images.regions import images_config, regions_of
from hemitwin.pipeline.images.image_guards import learnt_images
from hemitwin.pipeline.images.image_listing import listed
from hemitwin.pipeline.images.image_set import ImageSet, read_images, read_unlabelled
from hemitwin.pipeline.images.picture import IMAGE_SUFFIXES
from hemitwin.pipeline.stage.errors import UserError
from hemitwin.pipeline.training.runs import Run

__all__ = ["UnseenImages", "classify_images", "unseen_images"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class UnseenImages:
    """What a run says of images that it has never seen.

    Parameters
    ----------
    table : DataFrame
        A row an image: name, ``class``, the class by each classifier of embeddings, ``distance_``
        to the template of each class, ``probability_`` of each.
    maps : tuple of ImageMaps
        Of each image: why it was taken for its class rather than for the next.
    problems : tuple of str
        What was left out or changed.
    """

    table: pd.DataFrame
    maps: tuple[ImageMaps, ...]
    problems: tuple[str, ...]


def classify_images(run: Run, files: Path | Sequence[Path]) -> UnseenImages:
    """Say of which class images are, and why; nothing is written.

    Parameters
    ----------
    run : Run
        Trained on labelled images.
    files : Path or sequence of Path
        Image files; a folder, searched to any depth; or a table or an .npz. What the run learnt
        from is left out, and what cannot be read.

    Raises
    ------
    UserError
        The run is on something else, a file of it is missing or damaged, or no image is left.
    """
    learnt = LearntClasses.of(run)
    seen = unseen_images(run, files, learnt.classes)
    classed = classify_set(run, seen, learnt)
    maps = explain_images(
        run.network,
        seen.pixels,
        class_axes(run.network, learnt.templates),
        classed.ranking(),
        lrp=run.config.lrp,
        regions=regions_of(run, seen, list(range(len(seen)))),
    )
    return UnseenImages(classed.table(seen), tuple(maps), seen.problems)


def unseen_images(run: Run, source: Path | Sequence[Path], classes: tuple[str, ...]) -> ImageSet:
    """Read images at a run's size, and leave out those that it learnt from.

    Raises
    ------
    UserError
        As `classify_images` does.
    """
    config = images_config(run)
    if (
        isinstance(source, Path)
        and not source.is_dir()
        and source.suffix.lower() not in IMAGE_SUFFIXES
    ):
        found = read_images(config.model_copy(update={"images": source, "classes": classes}))
    else:
        found = read_unlabelled(source, config, classes=classes)
    learnt = learnt_images(run.folder, found.table["digest"].tolist())
    if learnt:
        names = found.table["name"].iloc[sorted(learnt)].tolist()
        logger.warning(
            "%d image(s) are left out, because the run learnt from them: %s",
            len(names),
            listed(names),
        )
    left = found.take(np.array([k not in learnt for k in range(len(found))], dtype=np.bool_))
    if not len(left):
        msg = f"{source} must have images that {run.folder} did not learn from, but has none"
        raise UserError(msg)
    return left
