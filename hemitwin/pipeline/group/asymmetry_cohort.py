"""Whose asymmetries there are, who is the reference, and what is known of everybody."""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float

from hemitwin.pipeline.cohort.demographics import listed_subjects, read_demographics
from hemitwin.pipeline.cohort.families import kinship_of
from hemitwin.pipeline.group.config import AsymmetryConfig
from hemitwin.pipeline.group.covariates import Covariates, Design
from hemitwin.pipeline.stage.bids import Case, session_of
from hemitwin.pipeline.stage.errors import UserError
from hemitwin.pipeline.stage.tables import read_table, sessions_of

__all__ = ["AsymmetryCohort", "sides_of"]

logger = logging.getLogger(__name__)

_LEAST_BEYOND = 8
"""How many reference subjects there must be beyond the number of covariates."""

_NEEDED = ("left", "right", "cortex", "positive_left", "positive_right")


@dataclass(frozen=True, eq=False)
class AsymmetryCohort:
    """All subjects with a table of homotopic pairs.

    Parameters
    ----------
    differences, indices : DataFrame
        A row a subject (the mean of its scans), a column a pair, by its left region: as `sides_of`
        gives them.
    families : mapping of str to str
        Whom each subject is related to; private.
    relatives_known : bool
        Whether a table says so.
    reference : tuple of str
        The subjects of the reference group, without those aside.
    named : bool
        Whether it was named; if not, it is everybody.
    covariates : Covariates
        Of a subject, age is the mean over its scans, as the differences are.
    aside : frozenset of str
        Whose age, sex or group is needed and not clear: in no reference, and not in a group that
        is held against a named one.
    """

    differences: pd.DataFrame
    indices: pd.DataFrame
    families: Mapping[str, str]
    relatives_known: bool
    reference: tuple[str, ...]
    named: bool
    covariates: Covariates
    aside: frozenset[str] = frozenset()

    @classmethod
    def of(
        cls,
        tables: Mapping[str, Sequence[pd.DataFrame]],
        config: AsymmetryConfig,
        scans: Mapping[str, Sequence[str]] | None = None,
    ) -> "AsymmetryCohort":
        """Take subjects' tables together with what the configured tables say of them.

        Parameters
        ----------
        tables : mapping of str to sequence of DataFrame
            By subject, one a scan, as `sides_of` gives them.
        config : AsymmetryConfig
        scans : mapping of str to sequence of str, optional
            Their names: where a table has several lines of a subject, the sessions of its scans
            decide. By default a subject is one scan without a session.

        Raises
        ------
        UserError
            A table cannot be read as what it should be or names none of the subjects, or no
            subject is in the reference.
        """
        subjects = sorted(tables)
        names = scans or {one: [one] for one in subjects}
        differences, indices = (
            pd.DataFrame({one: _mean(tables[one], column) for one in subjects}).T
            for column in ("difference", "index")
        )
        paths = [] if config.participants is None else [config.participants]
        named = config.reference is not None or config.reference_group is not None
        kinship = kinship_of(subjects, config.participants, config.families)
        covariates = Covariates.of(subjects, read_demographics(*paths), names)
        _tell(covariates, paths, subjects)
        group, unclear = _reference(names, config) if named else (tuple(subjects), frozenset())
        aside = unclear | (frozenset(subjects) - covariates.known)
        return cls(
            differences,
            indices,
            kinship.groups(subjects),
            bool(kinship.lines),
            tuple(one for one in group if one not in aside),
            named,
            covariates,
            aside,
        )

    @property
    def compared(self) -> tuple[str, ...]:
        """Who is held against a named reference; everybody where none is named."""
        inside = {*self.reference, *self.aside} if self.named else set()
        return tuple(str(one) for one in self.differences.index if one not in inside)

    def reference_for(self, subject: str) -> tuple[str, ...]:
        """List the reference without the subject and its relatives.

        Raises
        ------
        UserError
            So few are left that there is no telling how much they vary.
        """
        own = self.families[subject]
        lost = f", {len(self.aside)} are left out for want of age or sex" if self.aside else ""
        left = tuple(one for one in self.reference if self.families[one] != own)
        covariates = len(self.covariates.design(left).used) if left else 0
        if len(left) < covariates + _LEAST_BEYOND:
            msg = (
                f"a reference must have {covariates + _LEAST_BEYOND} subjects or more "
                f"({_LEAST_BEYOND} beyond {covariates} covariates) who are not related to the "
                f"subject, got {len(left)} for {subject}{lost}; run explain and parcellate for "
                f"more subjects, name a larger reference"
                + (", complete the table or take the column out" if lost else "")
            )
            raise UserError(msg)
        return left

    def against(self, case: Case) -> tuple[tuple[str, ...], Design, Float[np.ndarray, " columns"]]:
        """Return whom a scan is held against, their design, and the scan's own row of it.

        Raises
        ------
        UserError
            As `reference_for` says, or a covariate of the scan is not known.
        """
        reference = self.reference_for(case.subject)
        design = self.covariates.design(reference)
        return reference, design, self.covariates.row(case.name, design)

    def describe(self, config: AsymmetryConfig, design: Design) -> dict[str, object]:
        """Say for a sidecar who is compared with whom: no names, and no paths."""
        return {
            "Reference": "a named group" if self.named else "all other subjects",
            "ReferenceGroup": config.reference_group,
            "RelativesKnown": self.relatives_known,
            "Covariates": list(design.used),
            "CovariatesLeftOut": dict(design.left_out),
            "SubjectsWithoutCovariate": {
                kind: len(subjects) for kind, subjects in self.covariates.lacking.items()
            },
        }


def sides_of(table: pd.DataFrame) -> pd.DataFrame:
    """Make the two sides of one map's homotopic pairs comparable between subjects.

    Parameters
    ----------
    table : DataFrame
        As `asymmetry_by_pair` gives it, in any order.

    Returns
    -------
    DataFrame
        By the name of the left region: `right`, `cortex`; `difference`, left minus right of the
        positive relevance as a share of that of all paired regions; and `index`, (left - right) /
        (left + right), which lies within -1 and 1 and is missing where both sides have none.

    Raises
    ------
    UserError
        A column is missing, or no pair has positive relevance.
    """
    missing = sorted(set(_NEEDED) - set(table.columns))
    both = pd.Series(dtype=float)
    if not missing:
        both = table["positive_left"] + table["positive_right"]
    if missing or not both.sum() > 0:
        lack = f"no columns {', '.join(missing)}" if missing else "no positive relevance"
        msg = (
            f"a table of homotopic pairs must have positive relevance on its sides, found {lack}; "
            f"run 'hemitwin explain' and 'hemitwin parcellate' again"
        )
        raise UserError(msg)
    difference = table["positive_left"] - table["positive_right"]
    found = table[["left", "right", "cortex"]].copy()
    found["difference"] = difference / both.sum()
    found["index"] = difference / both.where(both > 0)
    return found.set_index("left")


def _mean(tables: Sequence[pd.DataFrame], column: str) -> "pd.Series[float]":
    return pd.concat([one[column] for one in tables], axis=1).mean(axis=1)


def _tell(covariates: Covariates, paths: Sequence[Path], subjects: Sequence[str]) -> None:
    """Say on the console what is not accounted for, and of whom something is not known."""
    for path in paths:
        _require_some(path, {str(one) for one in read_table(path)["subject"]}, subjects)
        for kind, reason in covariates.left_out.items():
            logger.info("%s is not accounted for: it is %s in %s", kind, reason, path.name)
        for kind, missing in covariates.lacking.items():
            if missing:
                logger.warning(
                    "%s is not known of %s: they are in no reference and no group that is "
                    "adjusted for it; complete %s",
                    kind,
                    listed_subjects(missing),
                    path.name,
                )


def _require_some(path: Path, named: Collection[str], subjects: Sequence[str]) -> None:
    """Refuse a table that names none of the subjects: its numbers may have lost their zeros."""
    if not set(named) & set(subjects):
        msg = (
            f"{path} must name explained and parcellated subjects, but of the {len(named)} that "
            f"it names there is none, for example {', '.join(sorted(named)[:3]) or 'nobody'}; "
            f"write them as the maps are named, {', '.join(subjects[:3])}"
        )
        raise UserError(msg)


def _reference(
    scans: Mapping[str, Sequence[str]], config: AsymmetryConfig
) -> tuple[tuple[str, ...], frozenset[str]]:
    """Return the subjects of the reference, and those of whom it is not clear."""
    path = config.reference or config.participants
    if path is None:
        msg = (
            f"the reference group must be in a table, got {config.reference_group} and no table; "
            f"name it with --reference or --participants"
        )
        raise UserError(msg)
    table = read_table(path)
    chosen = pd.Series(data=True, index=table.index)
    if config.reference_group is not None:
        column, value = config.reference_group.split("=", 1)
        if column not in table.columns:
            msg = (
                f"{path} must have the column {column}, got {', '.join(table.columns)}; name one "
                f"of these"
            )
            raise UserError(msg)
        chosen = table[column].fillna("").str.strip() == value
    wanted = {str(one) for one in table["subject"][chosen]}
    _require_some(path, wanted, sorted(scans))
    if config.reference is not None and (absent := wanted - set(scans)):
        logger.warning(
            "%d of the reference in %s have no map here: %s",
            len(absent),
            path.name,
            listed_subjects(dict.fromkeys(absent, "")),
        )
    lines = _lines(table, chosen)
    inside = {one: _is_inside(lines[one], scans[one]) for one in sorted(scans) if one in lines}
    unclear = frozenset(one for one, answer in inside.items() if answer is None)
    if unclear:
        logger.warning(
            "%s is and is not %s in %s, and no session decides: in no reference and no group",
            listed_subjects(dict.fromkeys(unclear, "")),
            config.reference_group,
            path.name,
        )
    return tuple(one for one, answer in inside.items() if answer), unclear


def _lines(
    table: pd.DataFrame, chosen: "pd.Series[bool]"
) -> dict[str, list[tuple[str | None, bool]]]:
    """Gather, by subject, the session of each line and whether it is chosen."""
    found: dict[str, list[tuple[str | None, bool]]] = {}
    for subject, session, one in zip(table["subject"], sessions_of(table), chosen, strict=True):
        found.setdefault(str(subject), []).append((session, bool(one)))
    return found


def _is_inside(lines: Sequence[tuple[str | None, bool]], scans: Sequence[str]) -> bool | None:
    """Tell whether a subject is chosen by all lines, or by those of its scans' sessions."""
    answers = {chosen for _, chosen in lines}
    if len(answers) > 1:
        sessions = {session_of(scan) for scan in scans} - {None}
        own = {session: {one for at, one in lines if at == session} for session in sessions}
        answers = set().union(*own.values()) if own and all(own.values()) else answers
    return answers.pop() if len(answers) == 1 else None
