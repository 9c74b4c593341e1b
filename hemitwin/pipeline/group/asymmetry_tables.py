"""The files of an asymmetry: where they lie, how they are written, how done ones are known."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float

from hemitwin.atlases import hcpmmp_regions, relevance_palette, save_parcel_scalar, save_table
from hemitwin.pipeline.group.asymmetry_cohort import sides_of
from hemitwin.pipeline.regions.parcellate import read_region_sidecar, unlike_most
from hemitwin.pipeline.stage.bids import Case
from hemitwin.pipeline.stage.errors import CaseError, UserError, reading, reason_of
from hemitwin.pipeline.stage.json_files import digest_file
from hemitwin.pipeline.stage.names import pair_table_path
from hemitwin.pipeline.stage.records import Record
from hemitwin.pipeline.stage.sides import side_is_guess

__all__ = [
    "CasePairs",
    "PairTables",
    "SubjectAsymmetry",
    "read_asymmetry",
    "write_asymmetry",
]


logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class CasePairs:
    """The homotopic pairs of one map.

    Parameters
    ----------
    case : Case
        Whose they are.
    path : Path
        Where they were read.
    digest : str
        Of the file.
    sides : DataFrame
        As `sides_of` gives them, by left region in alphabetical order.
    regions : str
        How the regions were found.
    """

    case: Case
    path: Path
    digest: str
    sides: pd.DataFrame
    regions: str = ""


@dataclass(frozen=True, eq=False)
class SubjectAsymmetry:
    """One map's asymmetry against a reference.

    Parameters
    ----------
    case : Case
        Whose it is.
    path : Path
        The table; sidecar and `.pscalar.nii` lie beside it.
    table : DataFrame
        A row a pair, the smallest p first.
    reference : int
        How many subjects the reference had.
    """

    case: Case
    path: Path
    table: pd.DataFrame
    reference: int


@dataclass(frozen=True, eq=False)
class PairTables:
    """The homotopic pairs of all maps of one kind.

    Parameters
    ----------
    read : mapping of str to CasePairs
        By case; all have the same pairs.
    problems : mapping of str to CaseError
        Why the others could not be read.
    """

    read: Mapping[str, CasePairs]
    problems: Mapping[str, CaseError]

    @classmethod
    def of(cls, cases: Sequence[Case], derivatives: Path, desc: str) -> "PairTables":
        """Read what `parcellate` wrote, and log what cannot be read.

        Raises
        ------
        UserError
            No table can be read.
        """
        read: dict[str, CasePairs] = {}
        problems: dict[str, CaseError] = {}
        for case in cases:
            try:
                read[case.name] = _read_pairs(case, derivatives, desc)
            except CaseError as error:
                problems[case.name] = error
        problems |= _unlike_most(read)
        read = {name: one for name, one in read.items() if name not in problems}
        for name, problem in problems.items():
            logger.warning("%s is in no reference and no group: %s", name, problem.reason)
        if not read:
            msg = f"no table of homotopic pairs can be read; {problems[cases[0].name].reason}"
            raise UserError(msg)
        return cls(read, problems)

    @cached_property
    def by_subject(self) -> dict[str, list[CasePairs]]:
        """The scans of each subject."""
        found: dict[str, list[CasePairs]] = {}
        for one in self.read.values():
            found.setdefault(one.case.subject, []).append(one)
        return found

    def digests(self, subject: str) -> list[str]:
        """Return the digests of a subject's tables, sorted."""
        return sorted(one.digest for one in self.by_subject[subject])

    def get(self, case: Case) -> CasePairs:
        """Return one case's pairs, or raise why there are none."""
        if case.name in self.problems:
            raise self.problems[case.name]
        return self.read[case.name]


def _read_pairs(case: Case, derivatives: Path, desc: str) -> CasePairs:
    path = pair_table_path(case, derivatives, desc)
    try:
        content = read_region_sidecar(case, derivatives, desc, path)
    except CaseError as error:
        raise CaseError(case.name, "asymmetry", error.reason) from error
    try:
        with reading(path, "run 'hemitwin parcellate' again"):
            sides = sides_of(pd.read_csv(path, sep="\t"))
    except (UserError, OSError) as error:
        raise CaseError(case.name, "asymmetry", f"{path.name}: {reason_of(error)}") from error
    return CasePairs(case, path, digest_file(path), sides.sort_index(), str(content["Regions"]))


def _unlike_most(read: Mapping[str, CasePairs]) -> dict[str, CaseError]:
    """Find the tables that have other pairs than most, or pairs of other regions."""
    counted = Counter(tuple(one.sides.index) for one in read.values())
    pairs = counted.most_common(1)[0][0] if counted else ()
    reasons = {
        name: f"all tables must have the same pairs of regions, {one.path.name} has others than "
        f"most; run 'hemitwin parcellate' again for it"
        for name, one in read.items()
        if tuple(one.sides.index) != pairs
    }
    reasons |= unlike_most(
        {name: (one.path.name, one.regions) for name, one in read.items() if name not in reasons}
    )
    return {name: CaseError(name, "asymmetry", reason) for name, reason in reasons.items()}


def read_asymmetry(case: Case, path: Path, record: Record) -> SubjectAsymmetry | None:
    """Return what was found when these very files were written, if they were."""
    content = record.find(path.with_suffix(".json"))
    if content is None:
        return None
    table = pd.read_csv(path, sep="\t")
    return SubjectAsymmetry(case, path, table, int(content["ReferenceSubjects"]))


def write_asymmetry(
    case: Case, path: Path, table: pd.DataFrame, content: Mapping[str, object], record: Record
) -> SubjectAsymmetry:
    """Write table and `.pscalar.nii`, and the sidecar last."""
    sidecar, scalar = path.with_suffix(".json"), path.with_suffix(".pscalar.nii")
    record.begin(sidecar)
    save_table(path, table)
    values = _by_region(table)
    save_parcel_scalar(scalar, values, name="asymmetry z", palette=relevance_palette(values))
    made = {**content, "SideIsGuess": side_is_guess(case)}
    record.write(sidecar, made, [path, scalar])
    return SubjectAsymmetry(case, path, table, int(str(content["ReferenceSubjects"])))


def _by_region(table: pd.DataFrame) -> Float[np.ndarray, " regions"]:
    """Give left regions z, right ones -z, and 0 to what has no partner or no z."""
    left = dict(zip(table["left"], table["z"], strict=True))
    right = dict(zip(table["right"], -table["z"], strict=True))
    known = {name: z for name, z in {**left, **right}.items() if not np.isnan(z)}
    return np.array([known.get(region.name, 0.0) for region in hcpmmp_regions()])
