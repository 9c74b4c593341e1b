import numpy as np
import pytest
from nibabel.cifti2.cifti2 import Cifti2Image

from hemitwin.atlases import (
    Palette,
    hcpmmp_regions,
    parcellate_dense,
    save_dense_labels,
    save_dense_scalar,
    save_parcel_scalar,
)
from hemitwin.atlases.grayordinates import grayordinate_labels, load_grayordinates


def dense():
    return np.random.default_rng(0).normal(size=91282).astype(np.float32)


def test_dense_scalar_survives_the_round_trip(tmp_path):
    save_dense_scalar(tmp_path / "a.dscalar.nii", dense(), name="lrp", palette=Palette(3.0))
    image = Cifti2Image.from_filename(tmp_path / "a.dscalar.nii")
    np.testing.assert_array_equal(image.get_fdata(dtype=np.float32)[0], dense())
    scalars, models = (image.header.get_axis(axis) for axis in (0, 1))
    assert scalars.name.tolist() == ["lrp"]
    assert "ROY-BIG-BL" in scalars.meta[0]["PaletteColorMapping"]
    names = [name for name, *_ in models.iter_structures()]
    assert names[:3] == [
        "CIFTI_STRUCTURE_CORTEX_LEFT",
        "CIFTI_STRUCTURE_CORTEX_RIGHT",
        "CIFTI_STRUCTURE_ACCUMBENS_LEFT",
    ]
    assert len(names) == 21
    assert image.nifti_header["intent_name"].item() == b"ConnDenseScalar"


def test_dense_axis_places_every_value(tmp_path):
    save_dense_scalar(tmp_path / "a.dscalar.nii", dense(), name="lrp")
    models = Cifti2Image.from_filename(tmp_path / "a.dscalar.nii").header.get_axis(1)
    places = load_grayordinates()
    np.testing.assert_array_equal(models.vertex[places.cortex("R")], places.right)
    np.testing.assert_array_equal(models.voxel[places.subcortex], places.voxels)
    np.testing.assert_array_equal(models.affine, places.affine)


def test_dense_labels_survive_with_names(tmp_path):
    save_dense_labels(tmp_path / "a.dlabel.nii")
    image = Cifti2Image.from_filename(tmp_path / "a.dlabel.nii")
    np.testing.assert_array_equal(image.get_fdata()[0], grayordinate_labels())
    table = image.header.get_axis(0).label[0]
    assert table[1][0] == "L_V1"
    assert table[0][1][3] == 0
    assert len(table) == 380


def test_parcel_scalar_survives_with_the_places_of_each_region(tmp_path):
    save_parcel_scalar(tmp_path / "a.pscalar.nii", parcellate_dense(dense()), name="lrp")
    image = Cifti2Image.from_filename(tmp_path / "a.pscalar.nii")
    np.testing.assert_allclose(image.get_fdata()[0], parcellate_dense(dense()), atol=1e-6)
    parcels = image.header.get_axis(1)
    assert parcels.name.tolist() == [region.name for region in hcpmmp_regions()]
    counts = [sum(map(len, own.values())) for own in parcels.vertices]
    counts = [n + len(own) for n, own in zip(counts, parcels.voxels, strict=True)]
    assert counts == np.bincount(grayordinate_labels())[1:].tolist()


def test_wrong_lengths_and_names_are_refused(tmp_path):
    with pytest.raises(ValueError, match="91282 finite values"):
        save_dense_scalar(tmp_path / "a.dscalar.nii", np.zeros(379), name="x")
    with pytest.raises(ValueError, match="379 finite values"):
        save_parcel_scalar(tmp_path / "a.pscalar.nii", np.full(379, np.nan), name="x")
    with pytest.raises(ValueError, match=r"end in \.dlabel\.nii"):
        save_dense_labels(tmp_path / "a.nii")
    assert not list(tmp_path.iterdir())
