"""Parcellate: a relevance map becomes a table of named regions that sums to the score."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from hemitwin.atlases import (
    HCPMMP,
    Atlas,
    Parcellation,
    asymmetry_by_pair,
    hcpmmp_volume,
    relevance_by_region,
    save_table,
)
from hemitwin.pipeline.atlas_paths import (
    own_atlas,
    own_regions_from,
    regions_of_atlas,
    write_regions,
)
from hemitwin.pipeline.bids import Case, Modality
from hemitwin.pipeline.case_sides import side_is_guess
from hemitwin.pipeline.cohort import find_prepared
from hemitwin.pipeline.errors import CaseError, UserError
from hemitwin.pipeline.map_request import map_desc, relevance_path
from hemitwin.pipeline.outputs import provenance, read_matching_sidecar, write_json
from hemitwin.pipeline.runner import Outcome, run_cases
from hemitwin.transforms import Scan, load_volume

__all__ = ["RegionTable", "find_explained", "parcellate", "parcellate_case", "read_relevance"]

_NOTE = "Rows unassigned, bias and stabiliser complete the sum to the score."
_TEMPLATES = "the template's, not deformed"
_NOTE_HCPMMP = (
    "HCP-MMP 1.0 areas were drawn from multimodal data; on a single scan they are a projected "
    "group parcellation. "
)


@dataclass(frozen=True, eq=False)
class RegionTable:
    """One case's regions.

    Parameters
    ----------
    case : Case
        Whose table it is.
    path : Path
        The TSV file.
    table : DataFrame
        The regions, then `unassigned`, `bias` and `stabiliser`.
    """

    case: Case
    path: Path
    table: pd.DataFrame


def find_explained(
    derivatives: Path,
    desc: str,
    *,
    labels: tuple[str, ...] | None = None,
    modality: Modality = "T1w",
) -> tuple[Case, ...]:
    """Find the prepared cases that have a relevance map.

    Raises
    ------
    UserError
        No case has one, or one that was asked for has none.
    """
    cases = find_prepared(derivatives, labels=labels, modality=modality)
    done = tuple(
        case for case in cases if relevance_path(case, derivatives, map_desc(case, desc)).is_file()
    )
    if not done or (labels and len(done) < len(cases)):
        missing = ", ".join(case.name for case in cases if case not in done)
        msg = (
            f"{missing} must have a map desc-{desc}_relevance below {derivatives}, found none; "
            f"run 'hemitwin explain RUN {derivatives}' with the options that make it"
        )
        raise UserError(msg)
    return done


def read_relevance(case: Case, derivatives: Path, desc: str) -> tuple[Scan, dict[str, Any]]:
    """Read a relevance map and its sidecar; refuse a map without its audit.

    Raises
    ------
    CaseError
        The sidecar is missing, or the map is not the one that was audited.
    """
    path = relevance_path(case, derivatives, map_desc(case, desc))
    content = read_matching_sidecar(path)
    if content is None:
        reason = (
            f"{path.name} must be the map that was audited, but its sidecar does not match; "
            f"run 'hemitwin explain' again"
        )
        raise CaseError(case.name, "parcellate", reason)
    return load_volume(path), content


def parcellate(
    derivatives: Path,
    *,
    cache: Path,
    labels: tuple[str, ...] | None = None,
    desc: str = "lrp",
    modality: Modality = "T1w",
    atlas: Atlas | str = HCPMMP,
) -> Outcome[RegionTable]:
    """Write the region tables of explained subjects.

    Parameters
    ----------
    derivatives : Path
        The folder with the relevance maps.
    cache : Path
        Where the atlas is kept between runs.
    labels : tuple of str, optional
        Subjects; all that were explained by default.
    desc : str
        Which map: the word after ``desc-`` in its name, without a modality.
    modality : {'T1w', 'T2w', 'FLAIR'}
        Of the explained volumes.
    atlas : Atlas or str
        The regions: HCP-MMP 1.0, another atlas, or the name of one that `build_atlases` has
        written for every subject. A subject's own regions are taken where they are there, else
        the template's.

    Returns
    -------
    Outcome of RegionTable

    Raises
    ------
    UserError
        There is no map to parcellate, or no such atlas.
    """
    cases = find_explained(derivatives, desc, labels=labels, modality=modality)
    name = atlas if isinstance(atlas, str) else atlas.name
    known = regions_of_atlas(derivatives, name) if isinstance(atlas, str) else atlas.regions
    write_regions(derivatives, name, known)
    work = partial(parcellate_case, derivatives=derivatives, cache=cache, desc=desc, atlas=atlas)
    return run_cases(work, cases, stage="parcellate", log_folder=derivatives / "logs")


def parcellate_case(
    case: Case, derivatives: Path, cache: Path, desc: str, atlas: Atlas | str = HCPMMP
) -> RegionTable:
    """Sum one relevance map over the regions; write the table, the homotopic pairs, a sidecar.

    Raises
    ------
    CaseError
        The map is missing its audit, or the subject has no regions of an atlas without files.
    """
    relevance, audit = read_relevance(case, derivatives, desc)
    ledger = audit["Ledger"]
    name = atlas if isinstance(atlas, str) else atlas.name
    own = own_atlas(case, derivatives, name)
    table = relevance_by_region(
        relevance.data,
        relevance.affine,
        own or _of_template(case, relevance, atlas, cache),
        bias=float(ledger["bias"]) + float(ledger["constant"]),
        stabiliser=float(ledger["stabiliser"]),
    )
    desc = map_desc(case, desc)
    volume = relevance_path(case, derivatives, desc).name
    stem = volume.replace(f"_desc-{desc}_relevance.nii.gz", "")
    folder = case.folder(derivatives)
    path = folder / f"{stem}_atlas-{name}_desc-{desc}_relevance.tsv"
    save_table(path, table)
    pairs = folder / f"{stem}_atlas-{name}_desc-{desc}pairs_relevance.tsv"
    sides = table
    if own is None:  # what the atlas has larger on one side is no asymmetry of the brain
        mirrored = _of_template(case, relevance, atlas, cache, symmetric=True)
        sides = relevance_by_region(relevance.data, relevance.affine, mirrored)
    kind = own_regions_from(case, derivatives, name) if own else _TEMPLATES
    guess = side_is_guess(case)
    common = {"Regions": kind, "SideIsGuess": guess, "Sources": [f"bids::{volume}"]}
    if sides["partner"].notna().any():
        save_table(pairs, asymmetry_by_pair(sides))
        said = "Positive relevance of homotopic regions; of the template's, left and mirrored ones"
        write_json(pairs.with_suffix(".json"), {"Description": said, **common})
    sidecar = {
        "Description": "Relevance by region",
        "Note": (_NOTE_HCPMMP if name == HCPMMP else "") + _NOTE,
        **common,
        "ExplainedScore": audit["ExplainedScore"],
        "Sum": float(table["sum"].sum()),
        "GeneratedBy": provenance(),
    }
    write_json(path.with_suffix(".json"), sidecar)
    return RegionTable(case, path, table)


def _of_template(
    case: Case, relevance: Scan, atlas: Atlas | str, cache: Path, *, symmetric: bool = False
) -> Parcellation:
    if isinstance(atlas, Atlas):
        return atlas.volume(relevance.data.shape, relevance.affine, symmetric=symmetric)
    if atlas != HCPMMP:
        reason = (
            f"the subject must have regions of {atlas}, it has none; run 'hemitwin atlas' with "
            f"that atlas or annotation"
        )
        raise CaseError(case.name, "parcellate", reason)
    return hcpmmp_volume(
        relevance.data.shape, relevance.affine, cache_dir=cache, symmetric=symmetric
    )
