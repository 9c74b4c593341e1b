"""The asymmetry of a group: its mean, or its difference from a reference."""

from pathlib import Path

import numpy as np
import pandas as pd

from hemitwin.atlases import save_table
from hemitwin.pipeline.group.asymmetry_cohort import AsymmetryCohort
from hemitwin.pipeline.group.asymmetry_tables import PairTables
from hemitwin.pipeline.group.config import AsymmetryConfig
from hemitwin.pipeline.group.covariates import Covariates
from hemitwin.pipeline.stage.dataset import provenance
from hemitwin.pipeline.stage.json_files import write_json
from hemitwin.pipeline.stage.sides import side_is_guess
from hemitwin.pipeline.statistics.bootstrap import tell_of_few
from hemitwin.pipeline.statistics.regression import Effects, group_effects

__all__ = [
    "MEASURE",
    "write_group",
]

MEASURE = (
    "difference: left less right positive relevance, over that of all paired regions; index: "
    "(left - right) / (left + right), within -1 and 1. HCP-MMP 1.0 areas were drawn from "
    "multimodal data; on single scans they are a projected group parcellation."
)
"""What the columns difference and index of every table are."""

_EFFECT = {
    False: "effect: the mean difference; t of one sample against 0",
    True: "effect: how much larger the difference is than the reference's, adjusted for the "
    "covariates; difference and index are of the group alone",
}
_INTERVAL = (
    "The 95 % interval is a bootstrap's over families. p two-sided; q over all pairs (Benjamini "
    "and Hochberg)."
)


def write_group(
    path: Path, tables: PairTables, cohort: AsymmetryCohort, config: AsymmetryConfig
) -> pd.DataFrame:
    """Write each pair's mean asymmetry, or its difference from that of a named reference.

    Parameters
    ----------
    path : Path
        The table; its sidecar lies beside it.
    tables : PairTables
        What was read.
    cohort : AsymmetryCohort
        Somebody in it is compared.
    config : AsymmetryConfig

    Returns
    -------
    DataFrame
        One row a pair, the smallest p first: left, right, cortex; difference and index, means over
        the group; effect with its 95 % interval over families; t, p, q.
    """
    group = list(cohort.compared)
    subjects = [*(cohort.reference if cohort.named else ()), *group]
    if cohort.named:
        design = cohort.covariates.design(subjects, group=np.isin(subjects, group))
    else:
        design = Covariates(pd.DataFrame(index=subjects), {}).design(subjects)
    families = [cohort.families[subject] for subject in subjects]
    found = group_effects(
        cohort.differences.loc[subjects].to_numpy(float),
        design.matrix,
        families,
        column=int(cohort.named),
        draws=config.draws,
        seed=config.seed,
    )
    names = next(iter(tables.read.values())).sides[["right", "cortex"]].reset_index()
    table = _table(names, cohort, found)
    save_table(path, table)
    content = {
        "Description": "Asymmetry of relevance by homotopic pairs over a group",
        "Note": f"{MEASURE} {_EFFECT[cohort.named]}. {_INTERVAL}",
        "Sources": [f"bids::{one.path.name}" for one in tables.read.values()],
        "SourcesSHA256": [one.digest for one in tables.read.values()],
        "SidesGuessed": sum(side_is_guess(one.case) for one in tables.read.values()),
        **cohort.describe(config, design),
        **_counts(cohort, found, len(set(families))),
        "Caution": tell_of_few(len(set(families))) or None,
        "Settings": {"draws": config.draws, "seed": config.seed},
        "GeneratedBy": provenance(),
    }
    write_json(path.with_suffix(".json"), content)
    return table


def _table(names: pd.DataFrame, cohort: AsymmetryCohort, found: Effects) -> pd.DataFrame:
    table, group = names.copy(), list(cohort.compared)
    for name, values in (("difference", cohort.differences), ("index", cohort.indices)):
        table[name] = values.loc[group].mean(axis=0).to_numpy()
    table["effect"], table["effect_low"], table["effect_high"] = (
        found.effect,
        found.low,
        found.high,
    )
    table["t"], table["p"], table["q"] = found.t, found.p, found.q
    return table.sort_values("p", kind="stable", ignore_index=True)


def _counts(cohort: AsymmetryCohort, found: Effects, families: int) -> dict[str, object]:
    return {
        "Subjects": len(cohort.compared),
        "ReferenceSubjects": len(cohort.reference) if cohort.named else 0,
        "Families": families,
        "DegreesOfFreedom": found.freedom,
        "StandardError": "over families (CR1)" if found.clustered else "over subjects",
    }
