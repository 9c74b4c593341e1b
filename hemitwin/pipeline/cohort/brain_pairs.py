"""Pairs of scans to be verified, twins or rescans and strangers, and their tables on disk."""

import io
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from hemitwin.atlases import save_table
from hemitwin.pipeline.cohort.config import BrainPairsConfig, Positive
from hemitwin.pipeline.cohort.demographics import Demographics
from hemitwin.pipeline.cohort.kinship import Kin, Kinship
from hemitwin.pipeline.cohort.leakage import refuse_relatives
from hemitwin.pipeline.cohort.split import Fold, Split
from hemitwin.pipeline.cohort.strangers import draw_strangers
from hemitwin.pipeline.stage.bids import Case
from hemitwin.pipeline.stage.errors import UserError, reading
from hemitwin.pipeline.stage.json_files import digest_json, write_private

__all__ = [
    "People",
    "all_pairs",
    "brain_pairs",
    "read_brain_pairs",
    "shareable_pairs",
    "write_brain_pairs",
    "write_shareable_pairs",
]

logger = logging.getLogger(__name__)

_Pair = tuple[Case, Case]
_Row = tuple[Case, Case, str, str]
_WORDS = {"mz": "identical twins", "same": "scans of one person"}
_NAMES = ("case", "partner_case", "subject", "partner")
_KEPT = ("group", "partner_group", "relation", "label")
_COLUMNS = (*_NAMES, *_KEPT, "matched")


@dataclass(frozen=True)
class People:
    """What the tables of a cohort say of its subjects; private to who holds the tables."""

    kinship: Kinship
    demographics: Demographics


def brain_pairs(
    cases: Sequence[Case],
    people: People,
    config: BrainPairsConfig,
    *,
    split: Split,
    fold: Fold,
) -> pd.DataFrame:
    """Pair the scans of one fold for verification.

    Twins are paired by the first scan of each (by name), rescans by every two scans of a subject;
    `draw_strangers` gives each of these pairs its negatives, and `config.hard_negatives` adds
    relatives.

    Parameters
    ----------
    cases : sequence of Case
        Scans of subjects of `fold`.
    people : People
        Relatives, age and sex.
    config : BrainPairsConfig
        Which pairs.
    split : Split
        The folds, and the seed of the draw.
    fold : Fold
        Where every subject must lie.

    Returns
    -------
    DataFrame
        Sorted by case: case, partner_case, subject, partner; group and partner_group (numbers
        that name no family outside this table); relation (mz, dz, sibling, same, unrelated);
        label (same, different); matched (on what a stranger is: ``sex age``, else ``n/a``). It
        names relatives: keep it by `write_brain_pairs`.

    Raises
    ------
    UserError
        A subject or a relative lies in another fold; zygosity, sex or age is not known; there is
        no positive pair, or one has no stranger to stand against it.
    """
    cohort = _Cohort.of(cases, people.kinship, split=split, fold=fold)
    positives = cohort.positives(config.positive)
    _require_positives(positives, people, config.positive, fold)
    strangers = draw_strangers(
        positives, cases, cohort.groups, people.demographics, config, seed=split.seed
    )
    rows: list[_Row] = [(one, other, config.positive, "n/a") for one, other in positives]
    rows += [(one.stays, one.case, "unrelated", one.matched) for one in strangers]
    rows += [
        (one, other, relation, "n/a")
        for one, other in combinations(cohort.first, 2)
        if (relation := cohort.relation(one, other)) in config.hard_negatives
    ]
    return cohort.table(rows, config.positive)


def all_pairs(
    cases: Sequence[Case], people: People, positive: Positive, *, split: Split, fold: Fold
) -> pd.DataFrame:
    """Pair every scan of one fold with every other, for identification.

    For twins the first scan of each subject is taken, for rescans every scan. Pairs that may be
    twins without the tables settling it are left out.

    Parameters and errors are those of `brain_pairs`; age and sex are not needed.

    Returns
    -------
    DataFrame
        As `brain_pairs` gives it, with the further relation ``related`` (half-siblings, parents,
        cousins).
    """
    cohort = _Cohort.of(cases, people.kinship, split=split, fold=fold)
    _require_positives(cohort.positives(positive), people, positive, fold)
    scans = cohort.cases if positive == "same" else cohort.first
    rows: list[_Row] = [
        (one, other, relation, "n/a")
        for one, other in combinations(scans, 2)
        if (relation := cohort.relation(one, other)) != "unclear"
    ]
    return cohort.table(rows, positive)


@dataclass(frozen=True, eq=False)
class _Cohort:
    """The scans of one fold, by name, and how their subjects are related."""

    cases: tuple[Case, ...]
    groups: Mapping[str, str]
    kin: Mapping[frozenset[str], Kin]
    seed: int

    @classmethod
    def of(cls, cases: Sequence[Case], kinship: Kinship, *, split: Split, fold: Fold) -> "_Cohort":
        """Take the cases if they and their relatives lie in the fold."""
        subjects = sorted({case.subject for case in cases})
        split.require(subjects, fold)
        groups = kinship.groups(subjects)
        refuse_relatives(subjects, split, groups)
        if not kinship.lines:
            logger.warning("no table tells relatives: any two subjects count as unrelated")
        ordered = tuple(sorted(cases, key=_name))
        own = {name: groups[name] for name in subjects}
        return cls(ordered, own, kinship.relations(subjects), split.seed)

    @property
    def first(self) -> tuple[Case, ...]:
        """Each subject's first scan."""
        first = {case.subject: case for case in reversed(self.cases)}
        return tuple(sorted(first.values(), key=_name))

    def relation(self, one: Case, other: Case) -> str:
        """Return ``same``, a `Kin` or ``unrelated``."""
        pair = frozenset((one.subject, other.subject))
        return "same" if len(pair) == 1 else self.kin.get(pair, "unrelated")

    def positives(self, positive: Positive) -> list[_Pair]:
        """Return the pairs that count as the same."""
        scans = self.cases if positive == "same" else self.first
        return [pair for pair in combinations(scans, 2) if self.relation(*pair) == positive]

    def table(self, rows: Iterable[_Row], positive: Positive) -> pd.DataFrame:
        """Return the rows as a table in which families have numbers."""
        names = sorted(set(self.groups.values()))
        # The order of the numbers hangs on the names of all families, which are private.
        key = int(digest_json(dict(self.groups))[:16], 16)
        order = np.random.default_rng([self.seed, key]).permutation(len(names))
        number = {name: int(place) for name, place in zip(names, order, strict=True)}
        found = []
        for one, other, relation, matched in rows:
            first, second = sorted((one, other), key=_name)
            groups = [number[self.groups[case.subject]] for case in (first, second)]
            label = "same" if relation == positive else "different"
            named = (first.name, second.name, first.subject, second.subject)
            found.append((*named, *groups, relation, label, matched))
        table = pd.DataFrame(found, columns=list(_COLUMNS))
        return table.sort_values(["case", "partner_case"], ignore_index=True)


def _name(case: Case) -> str:
    return case.name


def _require_positives(
    positives: Sequence[_Pair], people: People, positive: Positive, fold: Fold
) -> None:
    if positive == "mz" and not people.kinship.zygosity:
        msg = (
            "identical twins can be paired only where a table of families has their zygosity "
            "(ZygosityGT or ZygositySR), none does; hand in a table that has it, or take "
            "rescans: positive=same"
        )
        raise UserError(msg)
    if not positives:
        msg = (
            f"the fold '{fold}' must hold at least one pair of {_WORDS[positive]}, got none; make "
            f"the fold larger, or check {'zygosities' if positive == 'mz' else 'sessions'}"
        )
        raise UserError(msg)
    sex = people.demographics.sex
    subjects = [tuple(case.subject for case in pair) for pair in positives]
    wrong = [pair[0] for pair in subjects if len({sex[one] for one in pair if one in sex}) > 1]
    if wrong:
        msg = (
            f"identical twins must have one sex, but {', '.join(wrong[:8])} and the twin have "
            f"two; correct zygosity or sex in the tables"
        )
        raise UserError(msg)


def write_brain_pairs(path: Path, pairs: pd.DataFrame) -> Path:
    """Write a table of pairs, with or without scores, for its owner alone (mode 0600).

    Parameters
    ----------
    path : Path
        Outside every folder that is shared; its name must say that it is private.
    pairs : DataFrame
        What `brain_pairs` gives, and columns of scores.

    Raises
    ------
    UserError
        The name has no ``private`` in it.
    """
    if "private" not in path.name:
        msg = f"a table of relatives must be named private, got {path.name}; add '.private'"
        raise UserError(msg)
    text = io.StringIO()
    pairs.to_csv(text, sep="\t", index=False, na_rep="n/a", lineterminator="\n")
    return write_private(path, text.getvalue())


def read_brain_pairs(path: Path) -> pd.DataFrame:
    """Read what `write_brain_pairs` wrote.

    Raises
    ------
    UserError
        The file is not there, is no table of pairs of brains, or has another label than same and
        different.
    """
    if not path.is_file():
        msg = f"{path} must be a table of pairs, but it is not there; score the pairs again"
        raise UserError(msg)
    with reading(path, "score the pairs again"):
        if not path.read_bytes().endswith(b"\n"):
            msg = "its end is missing"
            raise ValueError(msg)
        table = pd.read_csv(path, sep="\t", dtype=dict.fromkeys(_NAMES, str))
    if missing := [name for name in (*_NAMES, *_KEPT) if name not in table.columns]:
        msg = f"{path} must have the columns of pairs, it lacks {', '.join(missing)}"
        raise UserError(msg)
    if unknown := sorted(set(map(str, table["label"])) - {"same", "different"}):
        msg = f"{path} must have the labels same and different, got {', '.join(unknown[:8])}"
        raise UserError(msg)
    if "matched" in table.columns:
        table["matched"] = table["matched"].fillna("n/a")
    return table


def shareable_pairs(pairs: pd.DataFrame, scores: Sequence[str]) -> pd.DataFrame:
    """Return scored pairs without names, in an order that says nothing about names.

    Parameters
    ----------
    pairs : DataFrame
        What `brain_pairs` gives, and columns of scores.
    scores : sequence of str
        The columns of scores to keep; all others that are not of the pair itself stay private.
        A difference of age is no score to be shared under the Connectome Project's terms.

    Returns
    -------
    DataFrame
        group, partner_group, relation, label and the scores, sorted by them.
    """
    columns = [*_KEPT, *scores]
    kept = pairs[columns].copy()
    # Which of the two came first went by the names.
    kept[["group", "partner_group"]] = np.sort(kept[["group", "partner_group"]].to_numpy(), axis=1)
    return kept.sort_values(columns, ignore_index=True)


def write_shareable_pairs(path: Path, pairs: pd.DataFrame, scores: Sequence[str]) -> Path:
    """Write what `shareable_pairs` gives as a table that may be shared."""
    save_table(path, shareable_pairs(pairs, scores))
    return path
