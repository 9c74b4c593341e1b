"""The card of a folder of slices: what it holds, of whom, and how it was made."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import pandas as pd

from hemitwin.pipeline.cohort.brains import find_prepared
from hemitwin.pipeline.cohort.split import Fold, Split
from hemitwin.pipeline.preparation.native_space import NativeSpace
from hemitwin.pipeline.slices.config import SliceConfig
from hemitwin.pipeline.stage.bids import Case
from hemitwin.pipeline.stage.dataset import provenance
from hemitwin.pipeline.stage.errors import CaseError
from hemitwin.pipeline.stage.json_files import read_json

__all__ = ["card_of"]

_DESCRIPTION = "dataset_description.json"
_ABOVE_A_SCAN = 4  # dataset/sub-01/ses-1/anat/scan

_COLUMNS = {
    "subject": "whose; `group` is its own number, and names no relatives",
    "slice": "the prepared volume's nearest plane, from 0",
    "position_mm": "template mm along the plane's normal; of a sagittal pair the left one's",
    "pair": "one name for two pictures that are each other's mirror",
    "midline_px": "column of the mid-sagittal plane; whole numbers are centres of pixels",
    "label": "of what is abnormal: none, left, right or both",
    "abnormal": "0 or 1, the label of a pair",
    "mask_file_name": "where it is abnormal; empty for pictures as they are",
    "asymmetry_mm2": "area of the drawn shape, counted in its mask",
    "asymmetry_shape": "circle, square, textured or none",
    "asymmetry_grey": "of circles and squares, white being 255",
    "lesion_mm2": "area of the lesion in the slice",
}


def card_of(
    prepared: Path,
    table: pd.DataFrame,
    config: SliceConfig,
    split: Split,
    settings: Mapping[str, object],
) -> str:
    """Write the card.

    Parameters
    ----------
    prepared : Path
        Folder of prepared volumes.
    table : DataFrame
        All rows of the folder.
    config : SliceConfig
        Which slices.
    split : Split
        The folder's.
    settings : mapping
        What decides the pictures, as the folder keeps it.

    Returns
    -------
    str
        Markdown.
    """
    halves = config.part == "hemisphere"
    what = "halves of slices, the right one mirrored" if halves else "slices"
    columns = _columns(table, config)
    source = _described(prepared, config)
    return f"""# Brain {what}

{_pictures(config, what, settings)}

- Scans: {source["scans"]}
- Licence: {source["licence"]}
- Made by: HemiTwin {provenance()["packages"]["hemitwin"]}, `hemitwin slice`
- Split: hash {split.hash}, seed {split.seed}. Folds are drawn over groups of relatives:
  no subject, and no two relatives that the tables know of, lie in two of them (`splits.json`).

## Counts

{_lines(_counts(table, "pairs" if halves else "pictures"))}

## Columns

`metadata.csv` of each fold has a row a {"pair" if halves else "picture"}.

{_lines(columns)}

## Settings

{_lines(f"- {name}: {value}" for name, value in settings.items() if value is not None)}
"""


def _pictures(config: SliceConfig, what: str, settings: Mapping[str, object]) -> str:
    native = config.source == "native"
    mm = "of the subject's own" if native else "of the template"
    cut = "scans, sampled once," if native else "prepared volumes"
    low, high = config.window
    return f"""{", ".join(config.planes)} {what}, of {config.modality} {cut} at fixed positions of
MNI152NLin2009aSym. {config.bits} bit, pixels of {settings["pixel_mm"]} mm {mm}. Left is on the
left. The darkest and the brightest grey are the percentiles {low:g} and {high:g} of each volume's
brain; outside the brain pictures are 0, and inside nothing is."""


def _lines(lines: Iterable[str]) -> str:
    return "\n".join(lines)


def _counts(table: pd.DataFrame, called: str) -> Iterator[str]:
    labels = sorted(map(str, table["label"].dropna().unique())) if "label" in table else []
    yield "| " + " | ".join(["split", "subjects", called, *labels]) + " |"
    yield "|---" * (3 + len(labels)) + "|"
    for fold in get_args(Fold):
        rows = table[table["split"] == fold]
        if rows.empty:
            continue
        counts = [int((rows["label"].astype(str) == label).sum()) for label in labels]
        cells = [fold, rows["subject"].nunique(), len(rows), *counts]
        yield "| " + " | ".join(map(str, cells)) + " |"


def _columns(table: pd.DataFrame, config: SliceConfig) -> Iterator[str]:
    for name, told in _COLUMNS.items():
        if name in table:
            of_table = name == "label" and config.label_column is not None
            yield f"- `{name}`: {f'{config.label_column} of the subject' if of_table else told}"


def _described(prepared: Path, config: SliceConfig) -> Mapping[str, str]:
    """Read where the scans come from, from the prepared folder's description and the dataset's."""
    derived = _read(prepared / _DESCRIPTION)
    case = find_prepared(prepared, modality=config.modality, quiet=True)[0]
    raw = _dataset_of(case)
    sources = derived.get("SourceDatasets") or [{}]
    doi = raw.get("DatasetDOI") or sources[0].get("DatasetDOI")
    name = raw.get("Name") or sources[0].get("URL") or "not stated"
    licence = derived.get("License") or raw.get("License")
    return {
        "scans": f"{name}, doi:{str(doi).removeprefix('doi:')}" if doi else str(name),
        "licence": str(licence or "not stated: that of the scans holds"),
    }


def _dataset_of(case: Case) -> dict[str, Any]:
    """Read the description of the dataset that a prepared volume's scan lies in."""
    try:
        scan = NativeSpace.of(case, "slice").scan
    except (CaseError, ValueError):  # without its sidecar nothing is known
        return {}
    above = list(scan.parents)[:_ABOVE_A_SCAN]
    found = (folder / _DESCRIPTION for folder in above if (folder / _DESCRIPTION).is_file())
    return _read(next(found, scan / _DESCRIPTION))


def _read(path: Path) -> dict[str, Any]:
    # Plain: a key that is missing is no error here.
    return dict(read_json(path)) if path.is_file() else {}
