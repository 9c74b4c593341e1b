"""Asymmetry: each subject's homotopic regions against a reference group, and the group's."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from hemitwin.pipeline.explanation.map_files import find_explained
from hemitwin.pipeline.group.asymmetry_cohort import AsymmetryCohort
from hemitwin.pipeline.group.asymmetry_group import MEASURE, write_group
from hemitwin.pipeline.group.asymmetry_tables import (
    PairTables,
    SubjectAsymmetry,
    read_asymmetry,
    write_asymmetry,
)
from hemitwin.pipeline.group.config import AsymmetryConfig
from hemitwin.pipeline.stage.bids import Case, Modality
from hemitwin.pipeline.stage.errors import UserError
from hemitwin.pipeline.stage.json_files import digest_json
from hemitwin.pipeline.stage.names import asymmetry_path, group_asymmetry_path
from hemitwin.pipeline.stage.records import Record
from hemitwin.pipeline.stage.runner import Outcome, run_cases
from hemitwin.pipeline.statistics.regression import deviations, tail_scale

__all__ = ["Asymmetries", "AsymmetryConfig", "SubjectAsymmetry", "asymmetry"]

_SCORE = (
    "expected: the difference that the reference's regression predicts; z: distance from it over "
    "the standard error of the prediction, which follows Student's t (Crawford and Howell 1998, "
    "doi:10.1076/clin.12.4.482.7241), of the inverse hyperbolic sine where the reference's tails "
    "are heavy; p two-sided; q over all pairs (Benjamini and Hochberg). The "
    "subject and its relatives are not in its reference. In the .pscalar.nii left regions have z, "
    "right ones -z."
)


@dataclass(frozen=True, eq=False)
class Asymmetries:
    """What was found, subject by subject and over the group.

    Parameters
    ----------
    outcome : Outcome of SubjectAsymmetry
        A subject that fails is a failure in it.
    group : DataFrame or None
        A row a pair, the smallest p first; `None` where all subjects are in a named reference.
    group_path : Path
        Its table.
    """

    outcome: Outcome[SubjectAsymmetry]
    group: pd.DataFrame | None
    group_path: Path


def asymmetry(
    derivatives: Path,
    *,
    labels: tuple[str, ...] | None = None,
    desc: str = "lrp",
    modality: Modality = "T1w",
    config: AsymmetryConfig | None = None,
) -> Asymmetries:
    """Hold the asymmetry of parcellated maps against a reference group, pair by pair.

    Parameters
    ----------
    derivatives : Path
        The folder with the tables of homotopic pairs.
    labels : tuple of str, optional
        Whose deviations are written; all that were explained by default. Reference and group
        table do not depend on it.
    desc : str
        Which map: the word after ``desc-`` in its name, without a modality.
    modality : {'T1w', 'T2w', 'FLAIR'}
        Of the explained volumes.
    config : AsymmetryConfig, optional
        The reference, covariates and relatives.

    Returns
    -------
    Asymmetries

    Raises
    ------
    UserError
        There is no map; a table of subjects cannot be read; or nobody's reference is large enough.
    """
    config = config or AsymmetryConfig()
    everyone = find_explained(derivatives, desc, modality=modality)
    wanted = everyone
    if labels is not None:
        wanted = find_explained(derivatives, desc, labels=labels, modality=modality)
    tables = PairTables.of(everyone, derivatives, desc)
    sides = {name: [one.sides for one in many] for name, many in tables.by_subject.items()}
    names = {name: [one.case.name for one in many] for name, many in tables.by_subject.items()}
    cohort = AsymmetryCohort.of(sides, config, names)
    _require_reference(cohort, [case for case in wanted if case.name in tables.read])
    work = partial(
        _score,
        path_of=partial(asymmetry_path, derivatives=derivatives, desc=desc),
        tables=tables,
        cohort=cohort,
        config=config,
    )
    outcome = run_cases(work, wanted, stage="asymmetry", out=derivatives)
    path = group_asymmetry_path(everyone[0], derivatives, desc)
    group = write_group(path, tables, cohort, config) if cohort.compared else None
    return Asymmetries(outcome, group, path)


def _require_reference(cohort: AsymmetryCohort, cases: Sequence[Case]) -> None:
    """Refuse the request where nobody has a reference; one among others fails as a case."""
    errors = []
    for case in cases:
        try:
            cohort.against(case)
        except UserError as error:
            errors.append(error)
        else:
            return
    if errors:
        raise errors[0]


def _score(
    case: Case,
    path_of: Callable[[Case], Path],
    tables: PairTables,
    cohort: AsymmetryCohort,
    config: AsymmetryConfig,
) -> SubjectAsymmetry:
    """Hold one map against its reference, unless that was done from these very tables."""
    own = tables.get(case)
    reference, design, row = cohort.against(case)
    content = {
        "Description": "Asymmetry of relevance by homotopic pairs, against a reference group",
        "Note": f"{MEASURE} {_SCORE}",
        "Sources": [f"bids::{own.path.name}"],
        **cohort.describe(config, design),
        "ReferenceSubjects": len(reference),
        "DegreesOfFreedom": len(design.matrix) - design.matrix.shape[1],
    }
    rows = zip(map(tables.digests, reference), design.matrix.tolist(), strict=True)
    # A digest of all together: ages and sexes of people are not to be read from a sidecar.
    settings = {"compared": digest_json([row.tolist(), sorted(rows), content])}
    record = Record("asymmetry", computation=3, inputs={"pairs": own.path}, settings=settings)
    path = path_of(case)
    if (done := read_asymmetry(case, path, record)) is not None:
        return done
    others = cohort.differences.loc[list(reference)].to_numpy(float)
    scale = tail_scale(others, design.matrix)
    difference = own.sides["difference"].to_numpy(float)
    found = deviations(
        np.arcsinh(others / scale), design.matrix, np.arcsinh(difference / scale), row
    )
    table = own.sides.reset_index()
    table["expected"] = scale * np.sinh(found.expected)
    for name in ("z", "p", "q"):
        table[name] = getattr(found, name)
    table = table.sort_values("p", kind="stable", ignore_index=True)
    return write_asymmetry(case, path, table, content, record)
