"""Real scans that come as a list and as an HCP subject."""

import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from hemitwin.pipeline.preparation.prepare import PrepareConfig, prepare
from hemitwin.pipeline.preparation.sources import find_sources
from hemitwin.pipeline.stage.bids import sidecar_of
from hemitwin.pipeline.stage.json_files import read_json
from hemitwin.transforms import load_scan

pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(
        "HEMITWIN_DATA" not in os.environ, reason="HEMITWIN_DATA does not name a data folder"
    ),
]

CONFIG = PrepareConfig(resolution_mm=4.0)


def test_a_real_brain_gives_the_same_listed_and_nearly_the_same_on_its_acpc_line(tmp_path):
    bids = Path(os.environ["HEMITWIN_DATA"]) / "bids-ds002748"
    assert len(find_sources(bids)) == 48
    path = bids / "sub-29/anat/sub-29_T1w.nii.gz"
    (tmp_path / "list.csv").write_text(f"subject,scan\n29,{path}\n")
    (whole,) = prepare(bids, tmp_path / "a", labels=("29",), config=CONFIG).results
    (listed,) = prepare(tmp_path / "list.csv", tmp_path / "b", config=CONFIG).results
    assert listed.volume.read_bytes() == whole.volume.read_bytes()
    sidecar = read_json(sidecar_of(whole.volume))
    # Its sform was moved, its qform was not.
    assert sidecar["HeaderNotes"] == [
        "sform and qform differ by up to 19.9 mm in this volume: sform used"
    ]
    matrix = np.array(sidecar["NativeFromTemplate"])
    scale = float(np.cbrt(np.linalg.det(matrix)))
    scan = load_scan(path)
    acpc = tmp_path / "hcp/100307/T1w/T1w_acpc_dc_restore_brain.nii.gz"
    acpc.parent.mkdir(parents=True)
    affine = np.diag([scale, scale, scale, 1.0]) @ np.linalg.inv(matrix) @ scan.affine
    nib.save(nib.Nifti1Image(scan.data, affine), acpc)
    (taken,) = prepare(tmp_path / "hcp", tmp_path / "c", config=CONFIG).results
    one, other = (load_scan(made.volume).data.ravel() for made in (whole, taken))
    assert np.corrcoef(one, other)[0, 1] > 0.97
