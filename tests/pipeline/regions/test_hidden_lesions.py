"""What a run draws is kept out of the registration, where the brain is called anomalous."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from hemitwin.models import PairOutput, SiameseNetwork
from hemitwin.pipeline.cohort.brains import find_prepared, load_brain
from hemitwin.pipeline.preparation.native_space import NativeSpace
from hemitwin.pipeline.regions import hidden_lesions
from hemitwin.pipeline.regions.hidden_lesions import MaskSource, find_lesion, tell_of_unclaimed
from hemitwin.pipeline.stage.errors import UserError
from hemitwin.transforms import load_scan

pytestmark = [pytest.mark.xdist_group("path"), pytest.mark.slow]


class Drawing(SiameseNetwork):
    """A network that marks a block of one half, and little of the other."""

    def __init__(self):
        torch.nn.Module.__init__(self)

    def forward(self, left, right):
        assert left.shape == right.shape
        anomaly = torch.full((1, 2, *left.shape[2:]), -5.0)
        anomaly[0, 1, 2:4, 3:6, 3:5] = 4.0
        anomaly[0, 1, 4, 3, 3] = 1.5
        anomaly[0, 1, 5, 3, 3] = 0.5
        anomaly[0, 0, 2, 3, 3] = 1.0
        one = torch.zeros(1, 2)
        score = torch.ones(1)
        return PairOutput(one, one, score, score, anomaly)


@pytest.fixture
def drawing(run, monkeypatch):
    """The run with that network in it; what it draws is known."""
    made = replace(run, network=Drawing(), threshold=0.5)
    monkeypatch.setattr(hidden_lesions, "_drawing_run", lambda _: made)
    return made


def found(prepared, drawing):
    (case,) = find_prepared(prepared.derivatives, labels=("01",))
    native = NativeSpace.of(case, "atlas")
    source = MaskSource(run=drawing.folder)
    return case, find_lesion(case, prepared.derivatives, native, source)


def test_the_region_about_the_peak_is_masked_on_its_side(prepared, drawing):
    case, mask = found(prepared, drawing)
    assert mask is not None
    brain = load_brain(case, drawing.config.data.resolution_mm)
    assert mask.scan.data.shape == brain.mask.shape
    marked = np.argwhere(mask.scan.data > 0)
    x = brain.affine[0, 0] * marked[:, 0] + brain.affine[0, 3]
    assert (x > 0).all()  # the second map is that of the right half
    # The block and its rim above a quarter of the peak; not what is fainter, nor the left half.
    assert len(marked) == 2 * 3 * 2 + 1
    written = case.path(prepared.derivatives, "space-MNI152NLin2009aSym_desc-anomaly_mask.nii.gz")
    np.testing.assert_array_equal(load_scan(written).data > 0, mask.scan.data > 0)


@pytest.mark.parametrize("name", ["sub-01", "01"])
def test_a_mask_is_found_by_the_subjects_name_with_or_without_sub(
    prepared, tmp_path, name, caplog
):
    (case,) = find_prepared(prepared.derivatives, labels=("01",))
    native = NativeSpace.of(case, "atlas")
    for file in (f"{name}_label-lesion_mask.nii.gz", "sub-1_mask.nii.gz"):
        (tmp_path / file).write_bytes(case.scan.read_bytes())
    source = MaskSource(tmp_path)
    mask = find_lesion(case, prepared.derivatives, native, source)
    assert mask is not None
    assert mask.path.name.startswith(name)
    tell_of_unclaimed(source, [case])
    assert "but sub-1_mask.nii.gz fits none of sub-01" in caplog.text


def test_a_brain_below_the_threshold_has_no_mask(prepared, run, monkeypatch):
    made = replace(run, network=Drawing(), threshold=2.0)
    monkeypatch.setattr(hidden_lesions, "_drawing_run", lambda _: made)
    assert found(prepared, made)[1] is None


def test_a_run_that_draws_nothing_is_refused(run):
    with pytest.raises(UserError, match=r"head\.name: decoder"):
        MaskSource(run=run.folder).check()
