"""Leak-proof folds: a subject's relatives, sessions and injected copies stay together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from hemitwin.pipeline.config import SplitConfig
from hemitwin.pipeline.errors import UserError
from hemitwin.pipeline.outputs import digest_json, read_json, write_json

__all__ = ["Fold", "Split", "make_split", "read_split", "write_split"]

Fold = Literal["train", "validation", "test"]
_FOLDS: tuple[Fold, ...] = get_args(Fold)


@dataclass(frozen=True)
class Split:
    """Which subject lies in which fold.

    Parameters
    ----------
    folds : mapping of str to Fold
        ``sub-01`` to ``train``, ``validation`` or ``test``.
    seed : int
        The seed that drew it.
    """

    folds: Mapping[str, Fold]
    seed: int

    @property
    def hash(self) -> str:
        """SHA-256 over subjects and folds; the seed does not enter it."""
        return digest_json(dict(self.folds))

    def subjects(self, fold: Fold) -> tuple[str, ...]:
        """Return the subjects of one fold, sorted."""
        return tuple(sorted(name for name, where in self.folds.items() if where == fold))

    def require_known(self, subjects: Sequence[str]) -> None:
        """Refuse subjects that were not there when the folds were drawn.

        Raises
        ------
        UserError
            A subject has no fold.
        """
        unknown = sorted(set(subjects) - set(self.folds))
        if unknown:
            msg = (
                f"every subject must have a fold in the split, but {', '.join(unknown[:8])} has "
                f"none; leave it out, or draw a new split"
            )
            raise UserError(msg)

    def require(self, subjects: Sequence[str], fold: Fold) -> None:
        """Refuse subjects that are not in `fold`.

        Raises
        ------
        UserError
            A subject lies in another fold or in none.
        """
        wrong = {name: self.folds.get(name, "no fold") for name in subjects}
        wrong = {name: where for name, where in wrong.items() if where != fold}
        if wrong:
            listed = ", ".join(f"{name} ({where})" for name, where in sorted(wrong.items()))
            msg = (
                f"only subjects of the fold '{fold}' may be scored, got {listed}; "
                f"scoring others would leak training data into the result"
            )
            raise UserError(msg)


def make_split(groups: Mapping[str, str], config: SplitConfig, *, seed: int) -> Split:
    """Draw folds over groups: all members of a family (or sessions of a subject) go together.

    Parameters
    ----------
    groups : mapping of str to str
        Each subject's group; the subject's own name where it has no relatives in the data.
    config : SplitConfig
        Shares or counts of groups for validation and test.
    seed : int
        Same seed, same split.

    Raises
    ------
    UserError
        A fold would be empty.

    Examples
    --------
    >>> split = make_split({f"sub-{i}": f"family-{i // 2}" for i in range(10)},
    ...                    SplitConfig(validation=1, test=2), seed=0)
    >>> [len(split.subjects(fold)) for fold in ("train", "validation", "test")]
    [4, 2, 4]
    """
    names = sorted(set(groups.values()))
    order = np.random.default_rng(seed).permutation(len(names))
    n_validation = _count(config.validation, len(names))
    n_test = _count(config.test, len(names))
    if min(n_validation, n_test, len(names) - n_validation - n_test) < 1:
        msg = (
            f"each fold must get at least one group, got {len(names)} group(s) for "
            f"{n_validation} validation and {n_test} test; add subjects or set split.validation "
            f"and split.test lower"
        )
        raise UserError(msg)
    fold_of: dict[str, Fold] = {}
    for rank, index in enumerate(order):
        later: Fold = "validation" if rank < n_test + n_validation else "train"
        fold_of[names[int(index)]] = "test" if rank < n_test else later
    return Split({name: fold_of[group] for name, group in sorted(groups.items())}, seed)


def _count(wanted: float, total: int) -> int:
    return round(wanted * total) if wanted < 1 else int(wanted)


def write_split(path: Path, split: Split) -> None:
    """Write `splits.json`: subject, fold, hash; no family, so that it may be shared."""
    write_json(path, {"hash": split.hash, "seed": split.seed, "folds": dict(split.folds)})


def read_split(path: Path) -> Split:
    """Read `splits.json` and hold it against its own hash.

    Raises
    ------
    UserError
        The file is missing, has no folds, or was changed after it was written.
    """
    if not path.is_file():
        msg = f"the run must hold splits.json, but {path} is not there; train again"
        raise UserError(msg)
    content = read_json(path)
    folds = content.get("folds", {})
    if not folds or not set(folds.values()) <= set(_FOLDS):
        msg = f"{path} must give each subject one of {', '.join(_FOLDS)}; train again"
        raise UserError(msg)
    split = Split(folds, int(content.get("seed", 0)))
    if split.hash != content.get("hash"):
        msg = (
            f"{path} must not be edited: its hash is {content.get('hash')!s:.12}, its content "
            f"gives {split.hash:.12}; restore the file or train again"
        )
        raise UserError(msg)
    return split
