"""Images that a run has never seen: which class, how far from each, and why."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from hemitwin.pipeline.evaluation.images.classes import LearntClasses, classify_set
from hemitwin.pipeline.evaluation.images.maps import ImageMaps, class_axes, explain_images
from hemitwin.pipeline.evaluation.images.regions import images_config, regions_of
from hemitwin.pipeline.images.image_guards import without_learnt
from hemitwin.pipeline.images.image_set import ImageSet, read_images, read_unlabelled
from hemitwin.pipeline.images.picture import IMAGE_SUFFIXES
from hemitwin.pipeline.training.runs import Run

__all__ = ["UnseenImages", "classify_images", "unseen_images"]


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
    digests, names = (found.table[column].tolist() for column in ("digest", "name"))
    left = without_learnt(run.folder, digests, names, source=str(source), kind="image")
    return found.take(left)
