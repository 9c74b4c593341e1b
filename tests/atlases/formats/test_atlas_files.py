"""Atlases from files: names decide, whatever the numbers and the format."""

import lzma
import re
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from hemitwin import atlases
from hemitwin.atlases import (
    TEMPLATE_SPACE,
    Atlas,
    Parcellation,
    hcpmmp_atlas,
    read_dseg_table,
    regions_of_table,
    save_dense_labels,
    save_dense_scalar,
    save_dseg_table,
    save_labels_volume,
    save_surface_labels,
    save_volume,
    template_grid,
)
from hemitwin.atlases.volume_offset import template_from_fslr_volume
from hemitwin.transforms import load_labels

load_atlas = partial(atlases.load_atlas, read_labels=load_labels)

GOLDEN = Path(__file__).parent / "golden"


def names_on(atlas, side):
    """The name at each vertex, however the atlas numbers and spells it."""
    name = {region.index: region.name.removesuffix("_ROI") for region in atlas.regions}
    return np.array([name.get(index, "") for index in atlas.cortex[side].tolist()])


@pytest.fixture
def golden(tmp_path):
    """Unpack a file that others wrote."""

    def unpack(name):
        path = tmp_path / name
        path.write_bytes(lzma.decompress((GOLDEN / f"{name}.xz").read_bytes()))
        return path

    return unpack


@pytest.fixture
def volume_file(tmp_path):
    """The HCP-MMP at 4 mm as a NIfTI file with its table."""
    shape, affine = template_grid(4.0)
    atlas = hcpmmp_atlas()
    path = tmp_path / f"tpl-{TEMPLATE_SPACE}_atlas-Own_dseg.nii.gz"
    save_labels_volume(path, atlas.volume(shape, affine))
    save_dseg_table(tmp_path / f"tpl-{TEMPLATE_SPACE}_atlas-Own_dseg.tsv", atlas.regions)
    return path


def test_the_official_file_numbers_the_sides_otherwise_and_names_the_same_areas(golden):
    path = golden("Q1-Q6_RelatedValidation210.dlabel.nii")
    official, own = load_atlas([path], name="Glasser"), hcpmmp_atlas()
    assert len(official.regions) == 360
    assert official.regions[0].name == "R_V1_ROI"
    for side in "LR":
        np.testing.assert_array_equal(names_on(official, side), names_on(own, side))
    partners = {region.name: region.partner for region in official.regions}
    assert partners["R_V1_ROI"] == "L_V1_ROI"


def test_an_atlas_of_another_source_labels_the_template(volume_file, golden):
    aparc = load_atlas([golden("cvs_avg35_inMNI152.aparc.dlabel.nii")], name="aparc")
    shape, affine = template_grid(4.0)
    found = aparc.volume(shape, affine)
    own = load_atlas([volume_file]).volume(shape, affine)
    calcarine = found.labels == found.region("L_pericalcarine").index
    v1 = own.labels == own.region("L_V1").index
    assert (calcarine & v1).sum() > 0.5 * calcarine.sum()


def test_dense_labels_come_back_with_their_structures(tmp_path):
    path = tmp_path / "atlas-Again_dseg.dlabel.nii"
    save_dense_labels(path)
    again, own = load_atlas([path]), hcpmmp_atlas()
    assert again.name == "Again"
    assert [region.name for region in again.regions] == [one.name for one in own.regions]
    assert again.voxels is not None
    assert own.voxels is not None
    np.testing.assert_array_equal(again.voxels.labels, own.voxels.labels)
    shape, affine = template_grid(4.0)
    np.testing.assert_array_equal(
        again.volume(shape, affine).labels, own.volume(shape, affine).labels
    )


def test_gifti_files_of_both_sides_keep_sides_apart(tmp_path):
    own = hcpmmp_atlas()
    for side in "LR":
        regions = [region for region in own.regions if region.hemisphere == side]
        number = np.zeros(380, dtype=np.int32)
        bare = []
        for key, region in enumerate(regions, start=1):
            number[region.index] = key  # both sides are numbered from 1, without the side's name
            bare.append((key, region.name.removeprefix(f"{side}_"), region.color))
        table = regions_of_table(pd.DataFrame(bare, columns=["index", "name", "color"]))
        labels = number[own.cortex[side]]
        path = tmp_path / f"{side}.mine.label.gii"
        save_surface_labels(path, labels, side, regions=table)
    found = load_atlas([tmp_path / "R.mine.label.gii", tmp_path / "L.mine.label.gii"], name="A")
    for side in "LR":
        np.testing.assert_array_equal(names_on(found, side), names_on(own, side))
    assert len({region.index for region in found.regions}) == len(found.regions) == 360


def test_a_volume_keeps_its_table_and_its_voxels(volume_file):
    atlas = load_atlas([volume_file])
    shape, affine = template_grid(4.0)
    assert atlas.name == "Own"
    assert atlas.regions == hcpmmp_atlas().regions
    np.testing.assert_array_equal(
        atlas.volume(shape, affine).labels, hcpmmp_atlas().volume(shape, affine).labels
    )


def test_a_volume_of_the_connectomes_space_is_moved_to_the_template(tmp_path):
    labels = np.zeros((40, 40, 40), dtype=np.int16)
    labels[8, 28, 24] = 7
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    affine[:3, 3] = -80, -100, -60
    path = tmp_path / "tpl-MNI152NLin6Asym_atlas-One_dseg.nii.gz"
    save_volume(path, labels, affine, space="MNI152NLin6Asym")
    (tmp_path / "tpl-MNI152NLin6Asym_atlas-One_dseg.tsv").write_text("index\tname\n7\tL_x\n")
    centre = affine[:3, :3] @ (8, 28, 24) + affine[:3, 3]
    moved = template_from_fslr_volume(centre[None])
    assert np.linalg.norm(moved - centre) > 0.5
    assert load_atlas([path]).label_points(moved).tolist() == [7]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name\nL_a\n", "index and name"),
        ("index\tname\nx\tL_a\n", "index and name"),
        ("index\tname\n1\tL_a\n2\tL_a\n", "one name of its own"),
        ("index\tname\n1\tL_a\n1\tR_a\n", "one name of its own"),
        ("index\tname\n1\t\n", "one name of its own"),
    ],
)
def test_a_table_that_names_nothing_is_refused(tmp_path, text, told):
    path = tmp_path / "a_dseg.tsv"
    path.write_text(text)
    with pytest.raises(ValueError, match=told):
        read_dseg_table(path)


def test_background_in_a_table_is_no_region(tmp_path):
    path = tmp_path / "a_dseg.tsv"
    path.write_text("index\tname\tcolor\n0\tbackground\tn/a\n1\tLeft-X\t#010203\n2\tRight-X\t\n")
    left, right = read_dseg_table(path)
    assert (left.color, left.hemisphere, left.partner) == ("#010203", "L", "Right-X")
    assert re.fullmatch("#[0-9a-f]{6}", right.color)


def test_files_that_are_no_atlas_say_what_must_hold(tmp_path, volume_file):
    with pytest.raises(ValueError, match=r"one NIfTI file, one \.dlabel\.nii or two"):
        load_atlas([tmp_path / "a.png"])
    lonely = tmp_path / f"tpl-{TEMPLATE_SPACE}_atlas-B_dseg.nii.gz"
    volume_file.rename(lonely)
    with pytest.raises(ValueError, match="--atlas-table"):
        load_atlas([lonely])
    table = tmp_path / f"tpl-{TEMPLATE_SPACE}_atlas-Own_dseg.tsv"
    nameless = lonely.rename(tmp_path / "b.nii.gz")
    with pytest.raises(ValueError, match="--atlas-space"):
        load_atlas([nameless], table=table)
    with pytest.raises(ValueError, match="millimetres"):
        load_atlas([nameless], table=table, space="MNI152NLin2009cAsym")
    shares = tmp_path / f"tpl-{TEMPLATE_SPACE}_c.nii.gz"
    save_volume(shares, np.full((4, 4, 4), 0.5, np.float32), np.eye(4))
    with pytest.raises(ValueError, match="not probabilities"):
        load_atlas([shares], table=table)
    dense = tmp_path / "d.dscalar.nii"
    save_dense_scalar(dense, np.zeros(91282), name="a")
    scalar = dense.rename(tmp_path / "d.dlabel.nii")
    with pytest.raises(ValueError, match="labels over grayordinates"):
        load_atlas([scalar])
    broken = tmp_path / "e.dlabel.nii"
    broken.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="readable CIFTI"):
        load_atlas([broken])


def test_a_label_without_a_region_and_another_mesh_are_refused():
    regions = hcpmmp_atlas().regions
    labels = {side: np.full(32492, 999, np.int32) for side in "LR"}
    with pytest.raises(ValueError, match="must have a region"):
        Atlas("A", regions, labels)
    with pytest.raises(ValueError, match="32k mesh"):
        Atlas("A", regions, {side: np.zeros(10, np.int32) for side in "LR"})
    with pytest.raises(ValueError, match="letters and digits"):
        Atlas("A_b", regions, labels)
    with pytest.raises(ValueError, match="both sides or voxels"):
        Atlas("A", regions, {"L": labels["L"]})
    voxels = Parcellation(np.zeros((2, 2, 2), np.int32), np.eye(4), regions, "T1w")
    with pytest.raises(ValueError, match="resample it"):
        Atlas("A", regions, voxels=voxels)


def test_label_files_are_what_nibabel_reads(volume_file):
    image = nib.Nifti1Image.from_filename(volume_file)
    assert np.unique(np.asarray(image.dataobj)).max() == 379
