"""Leak-proof folds: a subject's relatives, sessions and injected copies stay together."""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pandas as pd

from hemitwin.pipeline.cohort.config import SplitConfig
from hemitwin.pipeline.cohort.families import groups_of
from hemitwin.pipeline.stage.errors import UserError, reading
from hemitwin.pipeline.stage.json_files import digest_json, read_json, write_json
from hemitwin.pipeline.stage.tables import read_table

__all__ = [
    "Fold",
    "Split",
    "complete_split",
    "draw_split",
    "make_split",
    "read_split",
    "write_split",
]

logger = logging.getLogger(__name__)

Fold = Literal["train", "validation", "test", "unused"]
_FOLDS: tuple[Fold, ...] = get_args(Fold)


@dataclass(frozen=True)
class Split:
    """Which subject lies in which fold.

    Parameters
    ----------
    folds : mapping of str to Fold
        ``sub-01`` to ``train``, ``validation`` or ``test``; ``unused`` are those whom
        `SplitConfig.train_share` leaves out: neither learnt from nor tested.
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


def draw_split(
    subjects: Sequence[str], config: SplitConfig, *, participants: Path | None, seed: int
) -> Split:
    """Draw a cohort's folds by the groups and strata that its tables give.

    Parameters
    ----------
    subjects : sequence of str
        With ``sub-``.
    config : SplitConfig
        Sizes, folds, stratum and the private table of families.
    participants : Path, optional
        A BIDS ``participants.tsv``.
    seed : int
        Same seed and repeat, same split.

    Raises
    ------
    UserError
        A table does not suffice, or a fold would be empty.
    """
    groups = groups_of(subjects, participants, config.families)
    strata = None
    if config.stratify is not None:
        strata = _strata_of(subjects, participants, config.stratify)
    if config.leave_out is None:
        return make_split(groups, config, seed=seed, strata=strata)
    known = _left_out(subjects, participants, config.leave_out)
    return complete_split(groups, known, config, seed=seed, strata=strata)


def _left_out(
    subjects: Sequence[str], participants: Path | None, leave_out: Mapping[str, str]
) -> dict[str, Fold]:
    """Put those who have a value into the test, and all others into training."""
    ((column, value),) = leave_out.items()
    values = _strata_of(subjects, participants, column, setting="split.leave_out")
    known: dict[str, Fold] = {
        name: "test" if own == value else "train" for name, own in values.items()
    }
    if set(known.values()) != {"test", "train"}:
        msg = (
            f"split.leave_out must name some subjects and leave others, got {column} {value!r}, "
            f"which {'all have' if 'test' in known.values() else 'none has'}; there are "
            f"{', '.join(sorted(set(values.values())))}"
        )
        raise UserError(msg)
    return known


def _strata_of(
    subjects: Sequence[str],
    participants: Path | None,
    column: str,
    *,
    setting: str = "split.stratify",
) -> dict[str, str]:
    if participants is None:
        msg = f"{setting} ({column}) needs a table, but data.participants is not set; set it"
        raise UserError(msg)
    table = read_table(participants)
    if column not in table.columns:
        msg = f"{participants} must have the column {column}, got {', '.join(table.columns)}"
        raise UserError(msg)
    # Whose lines differ is a stratum of its own kind, as a group with several strata is.
    known = table.dropna(subset=[column]).groupby("subject")[column]
    values = known.agg(_joined).reindex(list(subjects))
    missing = [str(one) for one in values.index[values.isna()]]
    if len(missing) == len(values):
        msg = (
            f"{participants} must give the subjects their {column}, but it does so of none of "
            f"{', '.join(missing[:3])}{' ...' if len(missing) > 3 else ''}; write participant_id "
            f"as the volumes are named, or leave {setting} out"
        )
        raise UserError(msg)
    if missing:
        logger.warning(
            "%s has no %s of %s: they are a stratum of their own",
            participants,
            column,
            ", ".join([*missing[:8], *(["..."] if len(missing) > 8 else [])]),
        )
    values = values.fillna("n/a").astype(str)
    if values.nunique() > len(values) / 2:
        msg = (
            f"{setting} must name a column of few categories, got {column} with "
            f"{values.nunique()} values for {len(values)} subjects; group its values first"
        )
        raise UserError(msg)
    return {str(name): str(value) for name, value in values.items()}


def _joined(values: "pd.Series[str]") -> str:
    return "+".join(sorted({str(one).strip() for one in values}))


def make_split(
    groups: Mapping[str, str],
    config: SplitConfig,
    *,
    seed: int,
    strata: Mapping[str, str] | None = None,
) -> Split:
    """Draw folds over groups: all members of a family (or sessions of a subject) go together.

    The groups are put in random order; the test takes the first, validation the next, training
    the rest. With `config.folds`, the order is cut into so many blocks, and `config.fold` says
    which of them comes first. With `strata`, the order spreads each stratum evenly, so that every
    stretch of it, and so every fold, has them in proportion (systematic sampling); a group with
    members of several strata is a stratum of its own kind.

    Of the training groups, `config.train_share` keeps the first of the order, rounded up, and the
    rest is ``unused``: a smaller share lies within every larger one, and validation and test are
    the same for all.

    Parameters
    ----------
    groups : mapping of str to str
        Each subject's group; the subject's own name where it has no relatives in the data.
    config : SplitConfig
        Shares or counts of groups for validation and test, or folds.
    seed : int
        Same seed and repeat, same split.
    strata : mapping of str to str, optional
        Each subject's stratum.

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
    order = _order(groups, config, seed=seed, strata=strata)
    names = sorted(order)
    n_test, n_validation = _count(config.test, len(names)), _count(config.validation, len(names))
    if config.folds is not None:
        bounds = np.linspace(0, len(names), config.folds + 1).round().astype(int)
        start, stop = (int(bound) for bound in bounds[config.fold : config.fold + 2])
        n_test, order = stop - start, [*order[start:], *order[:start]]
    if min(n_validation, n_test, len(names) - n_validation - n_test) < 1:
        msg = (
            f"each fold must get at least one group, got {len(names)} group(s) for "
            f"{n_validation} validation and {n_test} test; add subjects or set split.validation "
            f"and split.test lower"
        )
        raise UserError(msg)
    fold_of = _dealt(order, {"test": n_test, "validation": n_validation}, config.train_share)
    return Split({name: fold_of[group] for name, group in sorted(groups.items())}, seed)


def complete_split(
    groups: Mapping[str, str],
    known: Mapping[str, Fold],
    config: SplitConfig,
    *,
    seed: int,
    strata: Mapping[str, str] | None = None,
) -> Split:
    """Keep folds that others drew; draw the missing one of them from the training groups.

    `config.train_share` holds for the training groups, as in `make_split`.

    Parameters
    ----------
    groups : mapping of str to str
        Each subject's group.
    known : mapping of str to Fold
        Each subject's fold: ``train``, and ``validation`` or ``test`` or both.
    config : SplitConfig
        The share, or count, that the missing fold gets of the training groups.
    seed : int
        Same seed and repeat, same split.
    strata : mapping of str to str, optional
        Each subject's stratum.

    Raises
    ------
    UserError
        A group lies in two folds, or no training group would be left.

    Examples
    --------
    >>> groups = {str(k): str(k) for k in range(10)}
    >>> known = {name: "test" if int(name) > 6 else "train" for name in groups}
    >>> split = complete_split(groups, known, SplitConfig(validation=2), seed=0)
    >>> [len(split.subjects(fold)) for fold in ("train", "validation", "test")]
    [5, 2, 3]
    """
    places: dict[str, set[Fold]] = {}
    for name, group in groups.items():
        places.setdefault(group, set()).add(known[name])
    if torn := sorted(group for group, folds in places.items() if len(folds) > 1):
        msg = (
            f"a group must lie in one fold, but {', '.join(torn[:8])} lie in several; correct the "
            f"folds, or draw new ones"
        )
        raise UserError(msg)
    inner = {name: group for name, group in groups.items() if known[name] == "train"}
    order = _order(inner, config, seed=seed, strata=strata)
    shares: dict[Fold, float] = {"test": config.test, "validation": config.validation}
    counts: dict[Fold, int] = {
        fold: max(1, _count(share, len(order)))
        for fold, share in shares.items()
        if fold not in known.values()
    }
    if sum(counts.values()) >= len(order):
        msg = (
            f"training must keep at least one group, got {len(order)} of which "
            f"{sum(counts.values())} go to a fold that is missing; add groups, or draw new folds"
        )
        raise UserError(msg)
    fold_of = _dealt(order, counts, config.train_share)
    fold_of |= {
        group: next(iter(folds)) for group, folds in places.items() if group not in fold_of
    }
    return Split({name: fold_of[group] for name, group in sorted(groups.items())}, seed)


def _order(
    groups: Mapping[str, str],
    config: SplitConfig,
    *,
    seed: int,
    strata: Mapping[str, str] | None,
) -> list[str]:
    names = sorted(set(groups.values()))
    rng = np.random.default_rng([seed, config.repeat] if config.repeat else seed)
    order = [names[int(index)] for index in rng.permutation(len(names))]
    if strata is not None:
        order = _spread(order, _strata_of_groups(groups, strata), rng)
    return order


def _dealt(order: Sequence[str], first: Mapping[Fold, int], train_share: float) -> dict[str, Fold]:
    """Give the first groups to these folds, and the rest, or a share of it, to training."""
    counts = dict(first)
    counts["train"] = _kept(train_share, len(order) - sum(counts.values()))
    counts["unused"] = len(order) - sum(counts.values())
    ranked: list[Fold] = [fold for fold, count in counts.items() for _ in range(count)]
    return dict(zip(order, ranked, strict=True))


def _strata_of_groups(groups: Mapping[str, str], strata: Mapping[str, str]) -> dict[str, str]:
    kinds: dict[str, set[str]] = {}
    for subject, group in groups.items():
        kinds.setdefault(group, set()).add(strata[subject])
    return {group: "+".join(sorted(kind)) for group, kind in kinds.items()}


def _spread(
    order: Sequence[str], strata: Mapping[str, str], rng: np.random.Generator
) -> list[str]:
    """Put the k-th of a stratum's n groups at a place near k / n of the whole."""
    place: dict[str, float] = {}
    for stratum in sorted(set(strata.values())):
        members = [group for group in order if strata[group] == stratum]
        start = rng.random()
        place |= {group: (k + start) / len(members) for k, group in enumerate(members)}
    return sorted(order, key=lambda group: place[group])


def _count(wanted: float, total: int) -> int:
    return round(wanted * total) if wanted < 1 else int(wanted)


def _kept(share: float, total: int) -> int:
    # Rounded first: 0.07 * 100 is a little more than 7, and 8 groups would be kept of it.
    return max(1, math.ceil(round(share * total, 6)))


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
    with reading(path, "restore it or train again") as remedy:
        content = read_json(path, remedy=remedy)
        folds = dict(content["folds"])
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
