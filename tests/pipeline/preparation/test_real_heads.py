"""Real whole heads are masked, refused or flagged, whatever they are called; brains are not."""

import csv
import os
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from hemitwin.pipeline.preparation.brain_masks import brain_of
from hemitwin.pipeline.preparation.prepare import PrepareConfig, prepare_case
from hemitwin.pipeline.preparation.quality import flags_of
from hemitwin.pipeline.stage.bids import Case, Modality, sidecar_of
from hemitwin.pipeline.stage.errors import CaseError
from hemitwin.pipeline.stage.json_files import read_json
from hemitwin.transforms import Scan, is_skull_stripped, load_scan

pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(
        "HEMITWIN_DATA" not in os.environ, reason="HEMITWIN_DATA does not name a data folder"
    ),
]

CONFIG = PrepareConfig(resolution_mm=4.0)
HEADS = ("IXI012", "IXI160")  # a large one, and one whose head is no larger than some brains
NEW = ("template_overlap", "beyond_template", "dark_layer", "native_brain_ml")


def head(subject: str, modality: Modality = "T1w") -> Case:
    """Return a whole head with its brain's mask."""
    folder = Path(os.environ["HEMITWIN_DATA"]) / "bids-ixi-hh"
    with (folder / "scans.csv").open(encoding="utf-8") as file:
        row = next(row for row in csv.DictReader(file) if row["subject"] == subject)
    name = f"sub-{subject}"
    return Case(name, name, folder / row["scan"], modality=modality, mask=folder / row["mask"])


def brightness(case: Case) -> np.ndarray:
    scan, mask = load_scan(case.scan), brain_of(case, load_scan(case.scan))
    return scan.data / np.percentile(scan.data[mask], 90)


def without_air(case: Case) -> np.ndarray:
    """Set to 0 what is darker than most of the skull."""
    bright = brightness(case)
    return np.where(bright > 0.2, bright, 0)


def brain_level_only(case: Case) -> np.ndarray:
    """Keep the head above the cerebellum's middle, its air zeroed: a head of 1.5 to 2.5 litres."""
    bright, mask = brightness(case), brain_of(case, load_scan(case.scan))
    closed = ndimage.binary_closing(np.pad(bright > 0.12, 12), iterations=5)[
        12:-12, 12:-12, 12:-12
    ]
    inside = np.stack([ndimage.binary_fill_holes(one) for one in np.moveaxis(closed, 2, 0)], 2)
    inside[:, :, : np.flatnonzero(mask.any(axis=(0, 1)))[0] + 8] = False
    return np.where(inside, bright, 0)


def inverted(case: Case) -> np.ndarray:
    """Make fluid bright and fat dark, air zeroed."""
    bright = brightness(case)
    return np.where(bright > 0.15, np.clip(1.4 - bright, 0, None), 0)


def fate(case: Case, folder: Path) -> str:
    """Say what becomes of a head whose brain is known."""
    hidden = replace(case, mask=None)
    try:
        volume = prepare_case(hidden, folder, CONFIG).volume
    except CaseError:
        return "refused"
    scan = load_scan(case.scan)
    true, found = brain_of(case, scan), brain_of(hidden, scan)
    if 2 * (true & found).sum() / (true.sum() + found.sum()) >= 0.9:
        return "masked"
    return "flagged" if read_json(sidecar_of(volume))["Flags"] else "missed"


@pytest.mark.parametrize(("subject", "modality"), [("IXI012", "T2w"), ("IXI160", "FLAIR")])
def test_a_whole_head_is_masked_whatever_it_is_called(tmp_path, subject, modality):
    assert fate(head(subject, modality), tmp_path) == "masked"


@pytest.mark.parametrize(
    ("subject", "change"),
    [("IXI012", without_air), ("IXI160", brain_level_only), ("IXI012", inverted)],
)
def test_a_changed_head_is_never_taken_for_a_brain_in_silence(tmp_path, subject, change):
    case = head(subject, "T2w")
    scan = load_scan(case.scan)
    path = tmp_path / "head.nii.gz"
    nib.save(nib.Nifti1Image(change(case).astype(np.float32), scan.affine), path)
    changed = replace(case, scan=path)
    assert not is_skull_stripped(load_scan(path))
    assert fate(changed, tmp_path) in {"masked", "refused", "flagged"}


def test_a_head_that_is_taken_whole_is_flagged_without_a_look_at_its_contrast(tmp_path):
    case = head("IXI160", "FLAIR")
    values = brain_level_only(case)
    scan = Scan(values.astype(np.float32), load_scan(case.scan).affine)
    for name, data in {"head": scan.data, "mask": scan.data > 0}.items():
        nib.save(nib.Nifti1Image(data.astype(np.float32), scan.affine), tmp_path / f"{name}.nii")
    whole = replace(case, scan=tmp_path / "head.nii", mask=tmp_path / "mask.nii")
    flags = read_json(sidecar_of(prepare_case(whole, tmp_path, CONFIG).volume))["Flags"]
    assert {flag.split()[0] for flag in flags} & set(NEW), flags


@pytest.mark.parametrize("subject", [*HEADS, "IXI059", "sub-07"])  # the two with least overlap
def test_a_brain_passes_the_gates_under_each_name(tmp_path, subject):
    if subject.startswith("sub-"):
        folder = Path(os.environ["HEMITWIN_DATA"]) / "bids-ds002748"
        case = Case(subject, subject, folder / subject / "anat" / f"{subject}_T1w.nii.gz")
    else:
        case = head(subject)
    sidecar = read_json(sidecar_of(prepare_case(case, tmp_path, CONFIG).volume))
    for modality in ("T1w", "T2w", "FLAIR"):
        assert flags_of(sidecar["Quality"], modality=modality) == []
