"""What keeps images that a run learnt from out of a result: they are known by their pixels."""

import hashlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from hemitwin.pipeline.cohort.split import Fold, Split
from hemitwin.pipeline.images.image_listing import listed
from hemitwin.pipeline.stage.errors import UserError, reading
from hemitwin.pipeline.stage.json_files import read_json, write_json

__all__ = ["LEARNT", "learnt_images", "without_learnt", "write_image_guards"]

logger = logging.getLogger(__name__)

LEARNT: tuple[Fold, ...] = ("train", "validation")
"""Folds that a run has seen."""

_FINGERPRINTS = "fingerprints.json"


def write_image_guards(folder: Path, split: Split, learnt: Mapping[Fold, Iterable[str]]) -> None:
    """Write salted digests of the images that a run learns from, without names and sorted.

    Parameters
    ----------
    folder : Path
        The run folder; gets `fingerprints.json`.
    split : Split
        Its hash is the salt, so that the lists of two runs cannot be joined.
    learnt : mapping of str to iterable of str
        Fingerprints of a fold's images, as in an `ImageSet`'s table.
    """
    seen: dict[str, list[str]] = {
        fold: sorted(_salted(one, split.hash) for one in fingerprints)
        for fold, fingerprints in learnt.items()
    }
    write_json(folder / _FINGERPRINTS, {"salt": split.hash, **seen})


def learnt_images(folder: Path, fingerprints: Sequence[str]) -> dict[int, str]:
    """Tell which images a run learnt from, whatever they are called now.

    Parameters
    ----------
    folder : Path
        The run folder.
    fingerprints : sequence of str
        Of the images at hand.

    Returns
    -------
    dict of int to str
        The fold, by the image's number. Empty, with a warning, where the run's list is away.

    Raises
    ------
    UserError
        The list is damaged.
    """
    path = folder / _FINGERPRINTS
    if not path.is_file():
        logger.warning("%s is not there: images that the run learnt from go unnoticed", path)
        return {}
    with reading(path, "restore it or train again") as remedy:
        content = read_json(path, remedy=remedy)
        salt = str(content["salt"])
        seen = {digest: fold for fold in LEARNT for digest in content[fold]}
    found = {k: seen.get(_salted(one, salt)) for k, one in enumerate(fingerprints)}
    return {k: fold for k, fold in found.items() if fold is not None}


def without_learnt(
    run: Path, fingerprints: Sequence[str], names: Sequence[str], *, source: str, kind: str
) -> Bool[np.ndarray, " n"]:
    """Tell which images a run did not learn from; those that it did are named in a warning.

    Parameters
    ----------
    run : Path
        The run folder.
    fingerprints, names : sequence of str
        Of the images at hand.
    source : str
        Where they come from, for the message.
    kind : {'image', 'slice'}
        What they are called.

    Raises
    ------
    UserError
        None is left, or as `learnt_images` says.
    """
    learnt = learnt_images(run, fingerprints)
    if learnt:
        logger.warning(
            "%d %s(s) are left out, because the run learnt from them: %s",
            len(learnt),
            kind,
            listed([names[k] for k in sorted(learnt)]),
        )
    left = np.array([k not in learnt for k in range(len(names))], dtype=np.bool_)
    if not left.any():
        msg = f"{source} must have {kind}s that {run} did not learn from, but has none"
        raise UserError(msg)
    return left


def _salted(fingerprint: str, salt: str) -> str:
    return hashlib.sha256(f"{salt}{fingerprint}".encode()).hexdigest()
