"""What makes a folder a BIDS derivative: who made it, and what its words mean."""

import json
import platform
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from hemitwin._atomic import sweep_leftovers
from hemitwin.pipeline.stage.json_files import read_json, write_text

__all__ = [
    "describe_dataset",
    "provenance",
]


_PACKAGES = ("hemitwin", "torch", "monai", "nibabel", "SimpleITK", "nilearn", "captum", "numpy")

_DESCRIPTIONS = {
    "prepared": "Reoriented to RAS, aligned by a similarity to the symmetric template, mid-plane "
    "refined, resampled once, scaled to robust units inside the brain",
    "lrp": "Layer-wise relevance propagation of what the network ranks pairs by; signed",
    "bilrp": "Second-order relevance propagation of the similarity of two images, by regions",
    "scan": "The scan in RAS order, not resampled, for scenes over it",
    "anomaly": "Where a run's decoder sees an anomaly, for the atlas to be kept out of",
    "fit": "How well the regions of an atlas are covered by the scan",
    "injected": "A synthetic lesion was injected before the step that the file's name tells",
}

_BIDS_IGNORE = (
    "*_relevance.*",
    "*_relmat.*",
    "*_xfm.*",
    "*_quality.tsv",
    "*_surfaces.json",
    "descriptions.tsv",
    "workbench/",
    "atlas/",
    "hcp/",
    "group_*",
    "*.png",
    "*.log",
)


@cache
def provenance() -> dict[str, Any]:
    """Return the versions and the git commit (or ``None``) that made a result."""
    folder = Path(__file__).resolve().parent
    # A tool outside the repository's control may be missing or refuse: the commit is then unknown.
    try:
        commit = subprocess.run(  # noqa: S603 (a fixed command; the path is this file's own)
            ["git", "-C", str(folder), "rev-parse", "HEAD"],  # noqa: S607
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        commit = ""
    return {
        "python": platform.python_version(),
        "packages": {name: version(name) for name in _PACKAGES},
        "git_commit": commit or None,
    }


def describe_dataset(folder: Path, *, source: Path | None = None) -> None:
    """Write what makes a folder a BIDS derivative; a description by another program is kept.

    Parameters
    ----------
    folder : Path
        The derivatives' folder.
    source : Path, optional
        The raw BIDS dataset; only its `dataset_description.json` is read.
    """
    sweep_leftovers(folder)
    description: dict[str, Any] = {
        "Name": "HemiTwin: aligned volumes, relevance maps and region tables",
        "BIDSVersion": "1.11.0",
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "HemiTwin", "Version": version("hemitwin")}],
    }
    if source is not None and (source / "dataset_description.json").is_file():
        raw = read_json(source / "dataset_description.json")
        known = {key: raw[key] for key in ("DatasetDOI",) if key in raw}
        description["SourceDatasets"] = [{"URL": raw.get("Name", source.name), **known}]
    path = folder / "dataset_description.json"
    if _is_ours(path):
        _write_if_other(path, json.dumps(description, indent=2, ensure_ascii=False) + "\n")
    rows = [{"desc_id": key, "description": text} for key, text in _DESCRIPTIONS.items()]
    table = pd.DataFrame(rows).to_csv(sep="\t", index=False, lineterminator="\n")
    _write_if_other(folder / "descriptions.tsv", table)
    if not (folder / ".bidsignore").exists():
        write_text(folder / ".bidsignore", "\n".join(_BIDS_IGNORE) + "\n")


def _is_ours(path: Path) -> bool:
    """Tell whether a description may be written: it is not there, damaged, or by this program."""
    if not path.is_file():
        return True
    try:
        made_by = read_json(path).get("GeneratedBy", [])
    except ValueError:
        return True
    return any(isinstance(one, dict) and one.get("Name") == "HemiTwin" for one in made_by)


def _write_if_other(path: Path, text: str) -> None:
    # Most often it is there, and may not be written: a stage with nothing to do writes nothing.
    if not path.is_file() or path.read_bytes() != text.encode():
        write_text(path, text)
