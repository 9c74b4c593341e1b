"""Whose asymmetries there are, who is the reference, and what is known of everybody."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from hemitwin.pipeline.covariates import Covariates, Design
from hemitwin.pipeline.demographics import read_demographics
from hemitwin.pipeline.errors import UserError
from hemitwin.pipeline.families import kinship_of, read_table

__all__ = ["LEAST_BEYOND", "AsymmetryCohort", "AsymmetryConfig", "sides_of"]

LEAST_BEYOND = 8
"""How many reference subjects there must be beyond the number of covariates."""

_NEEDED = ("left", "right", "cortex", "positive_left", "positive_right")


class AsymmetryConfig(BaseModel):
    """Who is compared with whom."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reference: Path | None = Field(
        default=None,
        description="Table with participant_id of the reference group; all subjects by default.",
    )
    reference_group: str | None = Field(
        default=None,
        pattern=r"^[^=]+=.+$",
        description="column=value that selects the reference group in its table.",
    )
    participants: Path | None = Field(default=None, description="Table with age and sex.")
    families: Path | None = Field(default=None, description="Table of relatives, kept apart.")
    draws: int = Field(default=2000, ge=100, description="Draws of the bootstrap over families.")
    seed: int = Field(default=0, ge=0, description="Same seed, same intervals.")


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
        The subjects of the reference group.
    named : bool
        Whether it was named; if not, it is everybody.
    covariates : Covariates
    """

    differences: pd.DataFrame
    indices: pd.DataFrame
    families: Mapping[str, str]
    relatives_known: bool
    reference: tuple[str, ...]
    named: bool
    covariates: Covariates

    @classmethod
    def of(
        cls, tables: Mapping[str, Sequence[pd.DataFrame]], config: AsymmetryConfig
    ) -> "AsymmetryCohort":
        """Take subjects' tables together with what the configured tables say of them.

        Parameters
        ----------
        tables : mapping of str to sequence of DataFrame
            By subject, one a scan, as `sides_of` gives them.
        config : AsymmetryConfig

        Raises
        ------
        UserError
            A table cannot be read as what it should be, or no subject is in the reference.
        """
        subjects = sorted(tables)
        differences, indices = (
            pd.DataFrame({one: _mean(tables[one], column) for one in subjects}).T
            for column in ("difference", "index")
        )
        paths = [] if config.participants is None else [config.participants]
        named = config.reference is not None or config.reference_group is not None
        kinship = kinship_of(subjects, config.participants, config.families)
        return cls(
            differences,
            indices,
            kinship.groups(subjects),
            bool(kinship.lines),
            _reference(subjects, config) if named else tuple(subjects),
            named,
            Covariates.of(subjects, read_demographics(*paths)),
        )

    @property
    def compared(self) -> tuple[str, ...]:
        """The subjects who are not in a named reference; everybody where none is named."""
        inside = set(self.reference) if self.named else set()
        return tuple(str(one) for one in self.differences.index if one not in inside)

    def reference_for(self, subject: str) -> tuple[str, ...]:
        """List the reference without the subject and its relatives.

        Raises
        ------
        UserError
            So few are left that there is no telling how much they vary.
        """
        own = self.families[subject]
        left = tuple(one for one in self.reference if self.families[one] != own)
        covariates = len(self.covariates.design(left).used) if left else 0
        if len(left) < covariates + LEAST_BEYOND:
            msg = (
                f"a reference must have {covariates + LEAST_BEYOND} subjects or more "
                f"({LEAST_BEYOND} beyond {covariates} covariates) who are not related to the "
                f"subject, got {len(left)} for {subject}; run explain and parcellate for more "
                f"subjects, or name a larger reference"
            )
            raise UserError(msg)
        return left

    def describe(self, config: AsymmetryConfig, design: Design) -> dict[str, object]:
        """Say for a sidecar who is compared with whom: no names, and no paths."""
        return {
            "Reference": "a named group" if self.named else "all other subjects",
            "ReferenceGroup": config.reference_group,
            "RelativesKnown": self.relatives_known,
            "Covariates": list(design.used),
            "CovariatesLeftOut": dict(design.left_out),
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


def _reference(subjects: Sequence[str], config: AsymmetryConfig) -> tuple[str, ...]:
    path = config.reference or config.participants
    if path is None:
        msg = (
            f"the reference group must be in a table, got {config.reference_group} and no table; "
            f"name it with --reference or --participants"
        )
        raise UserError(msg)
    table = read_table(path)
    if config.reference_group is not None:
        column, value = config.reference_group.split("=", 1)
        if column not in table.columns:
            msg = (
                f"{path} must have the column {column}, got {', '.join(table.columns)}; name one "
                f"of these"
            )
            raise UserError(msg)
        table = table[table[column].fillna("").str.strip() == value]
    wanted = set(table["subject"])
    found = tuple(one for one in subjects if one in wanted)
    if not found:
        msg = (
            f"the reference group must have explained and parcellated subjects, but of the "
            f"{len(wanted)} that {path} names there is none; look at its column participant_id"
        )
        raise UserError(msg)
    return found
