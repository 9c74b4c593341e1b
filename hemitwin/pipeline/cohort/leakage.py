"""What keeps training data out of a result: relatives and copies are refused by name."""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from hemitwin.pipeline.cohort.brains import Brain
from hemitwin.pipeline.cohort.families import FAMILIES, read_families, write_families
from hemitwin.pipeline.cohort.split import Split
from hemitwin.pipeline.stage.bids import Case
from hemitwin.pipeline.stage.errors import UserError, reading
from hemitwin.pipeline.stage.json_files import read_json, write_json
from hemitwin.pipeline.stage.records import VOXELS, content_digest, digest_voxels, read_product
from hemitwin.transforms import load_volume

__all__ = [
    "fingerprint",
    "refuse_copies",
    "refuse_relatives",
    "require_unseen",
    "unseen_brains",
    "write_guards",
]

logger = logging.getLogger(__name__)

_FINGERPRINTS = "fingerprints.json"
"""The name of a run's file of fingerprints of the volumes that it learnt from."""

_NAMED = 8


def fingerprint(volume: Path, *, salt: str = "") -> str:
    """Return the SHA-256 of a volume's voxels and affine, whatever its name and compression.

    Parameters
    ----------
    volume : Path
        A NIfTI file.
    salt : str
        Enters the digest, so that the lists of two runs cannot be joined.
    """
    plain = _voxel_digest(volume, content_digest(volume))
    return hashlib.sha256(f"{salt}{plain}".encode()).hexdigest()


@lru_cache(maxsize=4096)
def _voxel_digest(volume: Path, content: str) -> str:
    del content  # it tells the cache that the file was replaced
    known = (read_product(volume) or {}).get(VOXELS)
    return str(known) if known else digest_voxels(load_volume(volume))


def write_guards(
    folder: Path, split: Split, cases: Sequence[Case], groups: Mapping[str, str]
) -> None:
    """Write what a later stage needs to recognise what a run has seen.

    `fingerprints.json` holds salted digests of the training and validation volumes in order of
    the digests, without names. `families.private.json` (mode 0600; only where there are
    relatives) holds the groups: it stays with the run's owner, and outside the derivatives.

    Parameters
    ----------
    folder : Path
        The run folder.
    split : Split
        Its folds.
    cases : sequence of Case
        All volumes.
    groups : mapping of str to str
        Groups of the subjects, and of relatives that were not scanned.
    """
    seen = {
        fold: sorted(
            fingerprint(case.scan, salt=split.hash)
            for case in cases
            if split.folds[case.subject] == fold
        )
        for fold in ("train", "validation")
    }
    write_json(folder / _FINGERPRINTS, {"salt": split.hash, **seen})
    write_families(folder / FAMILIES, groups)


def unseen_brains(folder: Path, split: Split, brains: Sequence[Brain]) -> tuple[Brain, ...]:
    """Return the brains of the test fold, all of them, and none that the run learnt from.

    Parameters
    ----------
    folder : Path
        The run folder.
    split : Split
        Its folds.
    brains : sequence of Brain
        Everybody who is prepared.

    Raises
    ------
    UserError
        A test subject is not among the brains, or as `require_unseen` says.
    """
    wanted = set(split.subjects("test"))
    tested = tuple(brain for brain in brains if brain.subject in wanted)
    missing = wanted - {brain.subject for brain in tested}
    if missing:
        msg = (
            f"every test subject of {folder} must have a prepared volume, but "
            f"{', '.join(sorted(missing))} has none; prepare it: a test without it is another "
            f"test; 'hemitwin evaluate' scores the run's own test fold, scans of other people are "
            f"scored by 'hemitwin explain {folder} DERIVATIVES'"
        )
        raise UserError(msg)
    require_unseen(folder, split, [brain.case for brain in tested])
    return tested


def require_unseen(folder: Path, split: Split, cases: Sequence[Case]) -> None:
    """Refuse cases that cross a run's split: training data, its relatives and its copies.

    Parameters
    ----------
    folder : Path
        The run folder; relatives are known where its private file is there.
    split : Split
        Its folds. People who have none, because they came later, are welcome.
    cases : sequence of Case
        What is to be scored.

    Raises
    ------
    UserError
        A case is in training or validation, related to a subject there, or the same volume under
        another name.
    """
    subjects = sorted({case.subject for case in cases})
    learnt = [name for name in subjects if split.folds.get(name, "test") != "test"]
    split.require(learnt, "test")
    refuse_relatives(subjects, split, read_families(folder / FAMILIES))
    path = folder / _FINGERPRINTS
    if not path.is_file():
        logger.warning("%s is not there: copies of training scans go unnoticed", path)
        return
    with reading(path, "restore it or train again") as remedy:
        content = read_json(path, remedy=remedy)
        salt = str(content["salt"])
        seen = {digest: fold for fold in ("train", "validation") for digest in content[fold]}
    digests = {case.name: fingerprint(case.scan, salt=salt) for case in cases}
    copies = {name: seen[digest] for name, digest in digests.items() if digest in seen}
    if copies:
        msg = (
            f"no volume that the run learnt from may be scored, but {_listed(copies)} holds the "
            f"same voxels under another name; leave it out"
        )
        raise UserError(msg)


def refuse_relatives(subjects: Sequence[str], split: Split, groups: Mapping[str, str]) -> None:
    """Refuse subjects with a relative in another fold than their own.

    The message names each subject and its relatives' fold, and not the relatives.

    Parameters
    ----------
    subjects : sequence of str
        Those who are to be used; without a fold they count as unseen, as the test does.
    split : Split
        The folds.
    groups : mapping of str to str
        Groups of subjects; who is not in it has no relatives.

    Raises
    ------
    UserError
        A group crosses folds.
    """
    folds: dict[str, set[str]] = {}
    for name, group in groups.items():
        if name in split.folds:
            folds.setdefault(group, set()).add(split.folds[name])
    crossing = {
        name: other
        for name in subjects
        for other in sorted(folds.get(groups.get(name, ""), set()))
        if other != split.folds.get(name, "test")
    }
    if crossing:
        msg = (
            f"relatives must lie in one fold, but {_listed(crossing, 'relative in ')}; leave "
            f"them out, or draw a new split with the table of families"
        )
        raise UserError(msg)


def refuse_copies(cases: Sequence[Case], split: Split) -> None:
    """Refuse a volume that two subjects of different folds share.

    Raises
    ------
    UserError
        The same voxels have two names; both are in the message.
    """
    first: dict[str, Case] = {}
    for case in cases:
        try:
            twin = first.setdefault(fingerprint(case.scan), case)
        except ValueError:  # cannot be read: that is the case's own failure, where it is loaded
            continue
        if split.folds[twin.subject] != split.folds[case.subject]:
            msg = (
                f"each volume must belong to one subject, but {twin.name} and {case.name} hold "
                f"the same voxels and lie in different folds; exclude one of them"
            )
            raise UserError(msg)


def _listed(found: Mapping[str, str], word: str = "") -> str:
    named = [f"{name} ({word}{fold})" for name, fold in sorted(found.items())[:_NAMED]]
    return ", ".join([*named, *(["..."] if len(found) > _NAMED else [])])
