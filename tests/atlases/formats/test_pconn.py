"""Matrices of regions by regions, read back by nibabel and by Workbench."""

import nibabel as nib
import numpy as np
import pytest
from nibabel.cifti2.cifti2 import Cifti2Image

from hemitwin.atlases import (
    Palette,
    hcpmmp_regions,
    parcellate_dense,
    save_parcel_connectivity,
    save_parcel_scalar,
)


def matrix():
    """Not symmetric: rows and columns must not be exchanged on the way."""
    return np.random.default_rng(0).normal(size=(379, 379))


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "a.pconn.nii"
    save_parcel_connectivity(path, matrix(), palette=Palette(3.0, 0.5))
    return path


def test_parcel_connectivity_survives_the_round_trip(written):
    image = Cifti2Image.from_filename(written)
    # A row runs along the first axis of nibabel's array.
    found = image.get_fdata(dtype=np.float32).T
    np.testing.assert_array_equal(found, matrix().astype(np.float32))
    rows, columns = (image.header.get_axis(axis) for axis in (0, 1))
    assert rows == columns
    assert rows.name.tolist() == [region.name for region in hcpmmp_regions()]
    assert image.nifti_header["intent_code"] == 3003
    assert image.nifti_header["intent_name"].item() == b"ConnParcels"
    metadata = image.header.matrix.metadata
    assert metadata is not None
    assert "-3 -0.5 0.5 3" in metadata["PaletteColorMapping"]


def test_its_bytes_are_those_that_nibabel_writes(written, tmp_path):
    path = tmp_path / "a.pscalar.nii"
    metadata = {"ProgramProvenance": "ours <1 & 2>"}
    save_parcel_scalar(path, np.arange(379.0), name="x", palette=Palette(3.0), metadata=metadata)
    for own in (written, path):
        again = tmp_path / f"again{own.name}"
        nib.save(Cifti2Image.from_filename(own), again)
        assert own.read_bytes() == again.read_bytes()


def test_its_regions_lie_where_those_of_a_scalar_file_do(written, tmp_path):
    save_parcel_scalar(tmp_path / "a.pscalar.nii", parcellate_dense(np.zeros(91282)), name="x")
    axes = [
        Cifti2Image.from_filename(path).header.get_axis(1)
        for path in (written, tmp_path / "a.pscalar.nii")
    ]
    assert axes[0] == axes[1]


def test_without_a_palette_the_file_names_none(tmp_path):
    save_parcel_connectivity(tmp_path / "a.pconn.nii", matrix())
    assert not Cifti2Image.from_filename(tmp_path / "a.pconn.nii").header.matrix.metadata


def test_wrong_shapes_values_and_names_are_refused(tmp_path):
    hole = matrix()
    hole[3, 4] = np.nan
    for wrong in (np.zeros((190, 190)), hole):
        with pytest.raises(ValueError, match=r"\.pconn\.nii needs 379 x 379 finite values"):
            save_parcel_connectivity(tmp_path / "a.pconn.nii", wrong)
    with pytest.raises(ValueError, match=r"end in \.pconn\.nii"):
        save_parcel_connectivity(tmp_path / "a.pscalar.nii", matrix())
    assert not list(tmp_path.iterdir())


@pytest.mark.workbench
def test_workbench_reads_type_regions_and_values(written, wb_command, tmp_path):
    output = wb_command("-file-information", written)
    facts = dict(line.split(":", 1) for line in output.splitlines() if ":" in line)
    assert facts["Type"].strip() == "CIFTI - Parcel"
    assert facts["Number of Rows"].strip() == facts["Number of Columns"].strip() == "379"
    assert facts["Structure"].split() == ["CortexLeft", "CortexRight"]
    text = tmp_path / "a.txt"
    wb_command("-cifti-convert", "-to-text", written, text)
    np.testing.assert_allclose(np.loadtxt(text), matrix(), rtol=1e-4, atol=1e-5)
