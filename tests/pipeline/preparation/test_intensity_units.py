"""A scan's unit and its background's value decide nothing: the same brain, prepared alike."""

import os
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from hemitwin.pipeline.preparation.prepare import PrepareConfig, prepare_case
from hemitwin.pipeline.stage.bids import Alignment, Case, sidecar_of
from hemitwin.pipeline.stage.json_files import read_json
from hemitwin.transforms import Scan, load_scan

pytestmark = pytest.mark.xdist_group("path")

CONFIG = PrepareConfig(resolution_mm=4.0)


def stored(scan: Scan) -> np.ndarray:
    return scan.data


def z_scored(scan: Scan) -> np.ndarray:
    values = scan.data[scan.data != 0]
    return (scan.data - values.mean()) / values.std()


def z_scored_on_zero(scan: Scan) -> np.ndarray:
    return np.where(scan.data != 0, z_scored(scan), 0)


def from_minus_one_to_one(scan: Scan) -> np.ndarray:
    return 2 * scan.data / scan.data.max() - 1


def far_below(scan: Scan) -> np.ndarray:
    return np.where(scan.data != 0, scan.data, -1000)


def far_above_zero(scan: Scan) -> np.ndarray:
    return np.where(scan.data != 0, scan.data + 5000, 0)


def on_noise(scan: Scan) -> np.ndarray:
    noise = np.random.default_rng(0).standard_normal(scan.data.shape)
    return np.where(scan.data != 0, scan.data, 1e-6 * noise)


UNITS = [z_scored_on_zero, from_minus_one_to_one, far_below, far_above_zero, on_noise]


def prepare_as(folder: Path, scan: Scan, unit, alignment: Alignment = "native"):
    """Write a scan in a unit, prepare it, and return volume, matrix and figures."""
    path = folder / f"{unit.__name__}.nii"
    nib.save(nib.Nifti1Image(unit(scan).astype(np.float32), scan.affine), path)
    case = Case(f"sub-{unit.__name__}", f"sub-{unit.__name__}", path, alignment=alignment)
    volume = prepare_case(case, folder, CONFIG).volume
    sidecar = read_json(sidecar_of(volume))
    return load_scan(volume).data, np.array(sidecar["NativeFromTemplate"]), sidecar["Quality"]


def assert_alike(one, other):
    """Allow for the few dark voxels at a phantom's edge that are nearly background's 0."""
    np.testing.assert_allclose(one[1], other[1], atol=0.02)
    both = (one[0] > 0) & (other[0] > 0)
    assert both.sum() > 0.99 * max((one[0] > 0).sum(), (other[0] > 0).sum())
    assert np.abs(one[0] - other[0])[both].mean() < 0.005
    for name, value in one[2].items():
        assert other[2][name] == pytest.approx(value, abs=0.01, rel=0.01), name


@pytest.fixture(scope="module")
def phantom(prepared) -> Scan:
    return load_scan(prepared.bids / "sub-01/anat/sub-01_T1w.nii.gz")


@pytest.fixture(scope="module")
def on_its_line(phantom, tmp_path_factory):
    """The phantom in its own unit, taken as it lies."""
    return prepare_as(tmp_path_factory.mktemp("line"), phantom, stored, "acpc")


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """A real scan, thinned out, and what it is prepared to in its own unit."""
    source = Path(os.environ["HEMITWIN_DATA"]) / "bids-ds002748/sub-01/anat/sub-01_T1w.nii.gz"
    scan = load_scan(source)
    thinned = np.diag([2.0, 2.0, 2.0, 1.0])
    scan = replace(scan, data=scan.data[::2, ::2, ::2], affine=scan.affine @ thinned)
    return scan, prepare_as(tmp_path_factory.mktemp("real"), scan, stored)


@pytest.mark.parametrize("unit", UNITS)
def test_a_scan_that_lies_on_its_ac_pc_line_is_scaled_alike_in_any_unit(
    phantom, on_its_line, tmp_path, unit
):
    assert_alike(on_its_line, prepare_as(tmp_path, phantom, unit, "acpc"))


def test_a_z_scored_scan_is_registered_as_the_scan_is(phantom, tmp_path):
    expected = prepare_as(tmp_path, phantom, stored)
    found = prepare_as(tmp_path, phantom, z_scored)
    assert_alike(expected, found)
    assert found[2]["skull_stripped_input"]


def test_a_mask_that_came_with_it_may_reach_into_the_background(phantom, tmp_path):
    mask = ndimage.binary_dilation(phantom.data != 0).astype(np.uint8)
    nib.save(nib.Nifti1Image(mask, phantom.affine), tmp_path / "mask.nii")
    results = []
    for unit in (stored, far_below):
        path = tmp_path / f"{unit.__name__}.nii"
        nib.save(nib.Nifti1Image(unit(phantom).astype(np.float32), phantom.affine), path)
        case = Case("sub-01", "sub-01", path, alignment="acpc", mask=tmp_path / "mask.nii")
        volume = prepare_case(case, tmp_path / unit.__name__, CONFIG).volume
        matrix = np.array(read_json(sidecar_of(volume))["NativeFromTemplate"])
        results.append((load_scan(volume).data, matrix, {}))
    assert_alike(*results)


@pytest.mark.data
@pytest.mark.skipif("HEMITWIN_DATA" not in os.environ, reason="HEMITWIN_DATA is not set")
@pytest.mark.parametrize("unit", [z_scored_on_zero, from_minus_one_to_one, far_below])
def test_a_real_scan_is_prepared_alike_in_any_unit(real, tmp_path, unit):
    scan, expected = real
    assert_alike(expected, prepare_as(tmp_path, scan, unit))
