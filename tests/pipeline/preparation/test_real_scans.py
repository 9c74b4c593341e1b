"""Real scans of the folder that HEMITWIN_DATA names."""

import os
from pathlib import Path

import numpy as np
import pytest

from hemitwin.pipeline.preparation.prepare import prepare
from hemitwin.pipeline.stage.json_files import read_json
from hemitwin.transforms import load_scan

pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(
        "HEMITWIN_DATA" not in os.environ, reason="HEMITWIN_DATA does not name a data folder"
    ),
]


def test_real_scans_are_aligned_and_covered(tmp_path):
    bids = Path(os.environ["HEMITWIN_DATA"]) / "bids-ds002748"
    # sub-29 has another sform code, sub-40 a qform only.
    outcome = prepare(bids, tmp_path, labels=("29", "40"))
    assert not outcome.failures
    for one in outcome.results:
        quality = read_json(one.volume.with_name(one.volume.name[:-7] + ".json"))["Quality"]
        assert quality["brain_coverage"] > 0.995
        assert quality["template_similarity"] > 0.3
        assert quality["mirror_similarity"] > 0.65
        data = load_scan(one.volume).data
        assert 0.2 < np.median(data[data > 0]) < 0.9
