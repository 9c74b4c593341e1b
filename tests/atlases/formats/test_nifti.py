import numpy as np
import pytest
from nibabel.nifti1 import Nifti1Image

from hemitwin.atlases import relevance_palette, save_labels_volume, save_volume

OBLIQUE = np.array([[-1.9, 0.2, 0.1, 30], [0.2, 1.9, 0, -40], [0.1, 0, 2, -20], [0, 0, 0, 1.0]])
SHEARED = np.array([[2, 0.7, 0, 1], [0, 2, 0, 2], [0, 0, 3, 3], [0, 0, 0, 1.0]])


@pytest.mark.parametrize("affine", [OBLIQUE, SHEARED, np.diag([-1.0, 1, 1, 1])])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_volume_and_affine_survive_the_round_trip(tmp_path, affine, name):
    data = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    save_volume(tmp_path / "new" / name, data, affine, palette=relevance_palette(data))
    image = Nifti1Image.from_filename(tmp_path / "new" / name)
    np.testing.assert_array_equal(image.get_fdata(dtype=np.float32), data)
    np.testing.assert_allclose(np.asarray(image.affine), affine, atol=1e-5)
    assert image.header.get_data_dtype() == np.float32
    assert [path.name for path in (tmp_path / "new").iterdir()] == [name]


@pytest.mark.parametrize(
    ("data", "dtype"),
    [
        (np.array([True, False]), np.uint8),
        (np.array([0, 255]), np.uint8),
        (np.array([-1, 379]), np.int16),
        (np.array([0, 40_000]), np.int32),
        (np.array([0.5, 1e-9], dtype=np.float64), np.float32),
    ],
)
def test_types_are_kept_without_scaling(tmp_path, data, dtype):
    save_volume(tmp_path / "a.nii", data.reshape(2, 1, 1), np.eye(4))
    image = Nifti1Image.from_filename(tmp_path / "a.nii")
    assert image.header.get_data_dtype() == dtype
    assert image.header.get_slope_inter() in {(None, None), (1, 0)}
    np.testing.assert_allclose(np.asarray(image.dataobj).ravel(), data, rtol=1e-6)


@pytest.mark.parametrize(("space", "code"), [("T1w", 1), ("MNI152NLin2009aSym", 4), ("fsLR", 2)])
def test_header_says_which_space(tmp_path, space, code):
    save_volume(tmp_path / "a.nii", np.zeros((2, 2, 2)), np.eye(4), space=space)
    header = Nifti1Image.from_filename(tmp_path / "a.nii").header
    assert int(header["sform_code"]) == int(header["qform_code"]) == code
    assert header.get_xyzt_units()[0] == "mm"


def test_sheared_grids_have_no_quaternion(tmp_path):
    save_volume(tmp_path / "a.nii", np.zeros((2, 2, 2)), SHEARED)
    assert int(Nifti1Image.from_filename(tmp_path / "a.nii").header["qform_code"]) == 0


def test_same_values_give_the_same_bytes(tmp_path):
    data = np.random.default_rng(0).normal(size=(3, 4, 5))
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        save_volume(tmp_path / name / "x.nii.gz", data, OBLIQUE, description="x" * 200)
    assert (tmp_path / "a/x.nii.gz").read_bytes() == (tmp_path / "b/x.nii.gz").read_bytes()


def test_label_volume_carries_its_names(tmp_path, small_parcellation):
    path = tmp_path / "dseg.nii.gz"
    save_labels_volume(path, small_parcellation)
    image = Nifti1Image.from_filename(path)
    np.testing.assert_array_equal(np.asarray(image.dataobj), small_parcellation.labels)
    assert image.header.get_data_dtype() == np.uint8
    (extension,) = image.header.extensions
    assert extension.get_code() == 30
    assert 'Key="5"' in extension.text
    assert ">R_a</Label>" in extension.text


def test_nothing_half_written_stays(tmp_path):
    with pytest.raises(ValueError, match="32 bits"):
        save_volume(tmp_path / "a.nii", np.full((2, 2, 2), 2**40), np.eye(4))
    with pytest.raises(ValueError, match=r"end in \.nii"):
        save_volume(tmp_path / "a.mgz", np.zeros((2, 2, 2)), np.eye(4))
    with pytest.raises(ValueError, match="invertible"):
        save_volume(tmp_path / "a.nii", np.zeros((2, 2, 2)), np.diag([0.0, 1, 1, 1]))
    assert not list(tmp_path.iterdir())
