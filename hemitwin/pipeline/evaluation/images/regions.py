"""The part of an image in which relevance is counted."""

import logging

import numpy as np
from jaxtyping import Bool

from hemitwin.pipeline.evaluation.images.maps import central_box
from hemitwin.pipeline.images.config import ImagesConfig
from hemitwin.pipeline.images.image_listing import listed
from hemitwin.pipeline.images.image_masks import ImageMasks
from hemitwin.pipeline.images.image_set import ImageSet
from hemitwin.pipeline.images.picture import fit_picture
from hemitwin.pipeline.stage.errors import UserError
from hemitwin.pipeline.training.runs import Run

__all__ = ["images_config", "regions_of"]

logger = logging.getLogger(__name__)

_HALF = 127  # of white: a mask's pixel that was resized


def images_config(run: Run) -> ImagesConfig:
    """Return what a run says of its images.

    Raises
    ------
    UserError
        It is on something else.
    """
    if run.config.images is None:
        msg = f"{run.folder} must be a run on labelled images, but is on something else"
        raise UserError(msg)
    return run.config.images


def regions_of(run: Run, images: ImageSet, rows: list[int]) -> Bool[np.ndarray, "n rows columns"]:
    """Return where relevance is counted in some images, as the network sees them.

    Parameters
    ----------
    run : Run
        Its `evaluation.region` is a central box or a folder of masks.
    images : ImageSet
        At the run's size.
    rows : list of int
        Places of the images.

    Returns
    -------
    (n, rows, columns) bool
        Nowhere in an image without a mask, which is told.

    Raises
    ------
    UserError
        The run is on something else, or there are no masks in the folder.
    """
    shape, region = images.pixels.shape[2:], run.config.evaluation.region
    if isinstance(region, tuple):
        return np.stack([central_box(shape, region)] * len(rows))
    grey = images_config(run).model_copy(update={"channels": 1})
    masks = ImageMasks.below(region)
    found = np.zeros((len(rows), *shape), dtype=bool)
    lost = []
    for k, row in enumerate(rows):
        known = images.table.iloc[row]
        try:
            mask = masks.mask_of(str(known["name"]), (int(known["width"]), int(known["height"])))
        except UserError as error:
            lost.append(f"{known['name']}: relevance is not counted, {error}")
            continue
        found[k] = fit_picture(mask, grey)[0] > _HALF
    if lost:
        logger.warning("%d of %d explained images: %s", len(lost), len(rows), listed(lost))
    return found
