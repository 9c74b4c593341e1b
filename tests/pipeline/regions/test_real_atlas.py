"""Regions on a real brain: nothing folds, the cortex lies in grey matter, left is left."""

import os
from pathlib import Path

import numpy as np
import pytest

from hemitwin.atlases import hcpmmp_regions
from hemitwin.pipeline.preparation.prepare import PrepareConfig, prepare
from hemitwin.pipeline.regions.atlas import build_atlases
from hemitwin.pipeline.regions.surface_set import native_surfaces
from hemitwin.transforms import load_scan

pytestmark = [
    pytest.mark.data,
    pytest.mark.xdist_group("real atlas"),  # built once
    pytest.mark.skipif("HEMITWIN_DATA" not in os.environ, reason="HEMITWIN_DATA is not set"),
]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    derivatives = tmp_path_factory.mktemp("real") / "derivatives"
    source = Path(os.environ["HEMITWIN_DATA"]) / "bids-ds002748"
    config = PrepareConfig(resolution_mm=2.0)
    assert not prepare(source, derivatives, labels=("04",), config=config).failures
    outcome = build_atlases(derivatives)
    assert not outcome.failures
    return outcome.results[0], derivatives


def test_the_regions_fit_the_brain(built):
    fit = built[0].quality
    assert fit.folded_share == 0
    assert fit.overlap_before is not None
    assert fit.grey_matter_overlap > fit.overlap_before + 0.05
    assert fit.correlation_of_sides is not None
    assert fit.correlation_of_sides > 0.98
    assert fit.small == ()


def test_left_really_is_left_and_behind_is_behind(built):
    labels = load_scan(built[0].native)
    index = {region.name: region.index for region in hcpmmp_regions()}

    def centre(name):
        voxels = np.argwhere(labels.data == index[name])
        return labels.affine[:3, :3] @ voxels.mean(axis=0) + labels.affine[:3, 3]

    for name in ("V1", "4", "TGd", "10pp"):
        assert centre(f"L_{name}")[0] < centre(f"R_{name}")[0] - 5
    assert centre("L_V1")[1] < centre("L_4")[1] < centre("L_10pp")[1]
    assert centre("thalamus_left")[2] > centre("cerebellum_left")[2]


def test_the_groups_surfaces_lie_in_the_brain(built):
    result, derivatives = built
    assert len(native_surfaces(result.case, derivatives)) == 6
