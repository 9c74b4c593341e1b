"""Parcellate: a relevance map becomes a table of named regions that sums to the score."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from hemitwin.atlases import (
    COLUMN_NOTES,
    HCPMMP,
    Atlas,
    Parcellation,
    asymmetry_by_pair,
    hcpmmp_atlas,
    hcpmmp_volume,
    relevance_by_region,
    save_table,
)
from hemitwin.pipeline.explanation.map_files import find_explained, read_audit, read_relevance
from hemitwin.pipeline.regions.atlas_files import (
    own_atlas,
    own_atlas_volume,
    own_regions_from,
    regions_of_atlas,
    write_regions,
)
from hemitwin.pipeline.stage.bids import Case, Modality
from hemitwin.pipeline.stage.dataset import provenance
from hemitwin.pipeline.stage.errors import CaseError
from hemitwin.pipeline.stage.json_files import write_json
from hemitwin.pipeline.stage.names import (
    map_desc,
    pair_table_path,
    region_table_path,
    relevance_path,
)
from hemitwin.pipeline.stage.records import Record, content_digest, read_product, recorded_inputs
from hemitwin.pipeline.stage.runner import Outcome, run_cases
from hemitwin.pipeline.stage.sides import side_is_guess
from hemitwin.transforms import Scan

__all__ = ["RegionTable", "parcellate", "parcellate_case", "read_region_sidecar", "unlike_most"]

_NOTE = "Rows unassigned, bias and stabiliser complete the sum to the score."
_TEMPLATES = "the template's, not deformed"
_MAP, _REGIONS = "map", "subject's own regions"
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
    return run_cases(work, cases, stage="parcellate", out=derivatives)


def parcellate_case(
    case: Case, derivatives: Path, cache: Path, desc: str, atlas: Atlas | str = HCPMMP
) -> RegionTable:
    """Sum one relevance map over the regions; write the table, the homotopic pairs, a sidecar.

    Raises
    ------
    CaseError
        The map is missing its audit, or the subject has no regions of an atlas without files.
    """
    audit = read_audit(case, derivatives, desc)
    name = atlas if isinstance(atlas, str) else atlas.name
    path = region_table_path(case, derivatives, desc, name)
    own = own_atlas_volume(case, derivatives, name)
    record = _record(case, derivatives, desc, audit, own, None if own else atlas)
    sidecar = path.with_suffix(".json")
    if record.find(sidecar) is not None:
        return RegionTable(case, path, pd.read_csv(path, sep="\t"))
    record.begin(sidecar)
    relevance = read_relevance(case, derivatives, desc)
    ledger = audit["Ledger"]
    regions = own_atlas(case, derivatives, name)
    table = relevance_by_region(
        relevance.data,
        relevance.affine,
        regions or _of_template(case, relevance, atlas, cache),
        bias=float(ledger["bias"]) + float(ledger["constant"]),
        stabiliser=float(ledger["stabiliser"]),
    )
    save_table(path, table)
    files = [path]
    sides = table
    if regions is None:  # what the atlas has larger on one side is no asymmetry of the brain
        mirrored = _of_template(case, relevance, atlas, cache, symmetric=True)
        sides = relevance_by_region(relevance.data, relevance.affine, mirrored)
    kind = own_regions_from(case, derivatives, name) if own else _TEMPLATES
    volume = relevance_path(case, derivatives, map_desc(case, desc)).name
    guess = side_is_guess(case)
    common = {"Regions": kind, "SideIsGuess": guess, "Sources": [f"bids::{volume}"]}
    if sides["partner"].notna().any():
        files.append(pair_table_path(case, derivatives, desc, name))
        save_table(files[-1], asymmetry_by_pair(sides))
        words = (
            "Positive relevance of homotopic regions; of the template's, left and mirrored ones"
        )
        content = {"Description": words, **common, "GeneratedBy": provenance()}
        write_json(files[-1].with_suffix(".json"), content)
    said = {
        "Description": "Relevance by region",
        "Note": (_NOTE_HCPMMP if name == HCPMMP else "") + _NOTE,
        **common,
        "ExplainedScore": audit["ExplainedScore"],
        "Sum": float(table["sum"].sum()),
        **COLUMN_NOTES,
    }
    record.write(sidecar, said, files)
    return RegionTable(case, path, table)


def read_region_sidecar(
    case: Case, derivatives: Path, desc: str, table: Path, atlas: str = HCPMMP
) -> dict[str, Any]:
    """Read what is said of a map's table, if it is of the map and the regions that are there.

    Parameters
    ----------
    case : Case
        Whose map it is.
    derivatives : Path
        The folder with the maps.
    desc : str
        Which map.
    table : Path
        `region_table_path` or `pair_table_path`.
    atlas : str
        Of the table.

    Raises
    ------
    CaseError
        There is none, it was changed since, or map or regions have been made anew since: the table
        would be of what is no longer there.
    """
    sidecar = region_table_path(case, derivatives, desc, atlas).with_suffix(".json")
    content = read_product(table, sidecar)
    found = {} if content is None else recorded_inputs(content)
    wanted = {_MAP: relevance_path(case, derivatives, map_desc(case, desc))}
    own = own_atlas_volume(case, derivatives, atlas)
    if own is not None:
        wanted[_REGIONS] = own
    now = {name: content_digest(one) for name, one in wanted.items() if one.is_file()}
    if content is not None and found == now:
        return content
    if not table.is_file():
        problem = "is not there"
    elif content is None:
        problem = (
            "was changed since, or is of version 0.1.0, which did not say what it is made from"
        )
    else:
        changed = [name for name in {**found, **now} if found.get(name) != now.get(name)]
        problem = f"is of another {' and '.join(changed)} than is there now"
    reason = (
        f"every map must have its table of regions, but {table.name} {problem}; run "
        f"'hemitwin parcellate {derivatives}' again, with the options that made it"
    )
    raise CaseError(case.name, "parcellate", reason)


def unlike_most(kinds: Mapping[str, tuple[str, str]]) -> dict[str, str]:
    """Find the maps whose regions were found in another way than those of most.

    The template's regions are alike on both sides and in all subjects, a subject's own are not:
    what is taken together from both differs by the atlas.

    Parameters
    ----------
    kinds : mapping of str to (str, str)
        By case, its table's name, and how its regions were found (`Regions` of the sidecar).

    Returns
    -------
    dict of str to str
        By case, why it cannot be taken with the others.
    """
    counted = Counter(kind for _, kind in kinds.values())
    most = counted.most_common(1)[0][0] if counted else ""
    return {
        name: f"all tables must be of regions that were found in the same way, {file} has those "
        f"{kind or 'of an older version'}, most have those {most or 'of an older version'}; run "
        f"'hemitwin atlas' in the same way for all subjects, or for none, and then 'hemitwin "
        f"parcellate'"
        for name, (file, kind) in kinds.items()
        if kind != most
    }


def _record(
    case: Case,
    derivatives: Path,
    desc: str,
    audit: dict[str, Any],
    own: Path | None,
    atlas: Atlas | str | None,
) -> Record:
    inputs = {_MAP: relevance_path(case, derivatives, map_desc(case, desc))}
    if own is not None:
        inputs[_REGIONS] = own
    settings = {name: audit[name] for name in ("Ledger", "ExplainedScore")}
    settings["side_is_guess"] = side_is_guess(case)
    if isinstance(atlas, Atlas):
        settings["atlas"] = atlas.digest
    elif atlas == HCPMMP:
        settings["atlas"] = hcpmmp_atlas().digest
    return Record("parcellate", computation=2, inputs=inputs, settings=settings)


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
