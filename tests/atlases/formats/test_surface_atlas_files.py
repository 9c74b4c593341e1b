"""Atlases on surfaces, from GIFTI and CIFTI: what is refused, and what is no area."""

from functools import partial

import nibabel as nib
import numpy as np
import pytest
from nibabel.cifti2.cifti2_axes import BrainModelAxis, LabelAxis, ScalarAxis
from nibabel.gifti.gifti import (
    GiftiDataArray,
    GiftiImage,
    GiftiLabel,
    GiftiLabelTable,
    GiftiMetaData,
)

from hemitwin import atlases
from hemitwin.atlases import Atlas, hcpmmp_atlas, save_metric
from hemitwin.transforms import load_labels

load_atlas = partial(atlases.load_atlas, read_labels=load_labels)

VERTICES = 32_492
STRUCTURES = {"L": "CortexLeft", "R": "CortexRight"}


def label_array(side=None, key=1):
    values = np.zeros(VERTICES, dtype=np.int32)
    values[:100], values[100:200] = key, 2
    meta = GiftiMetaData({"AnatomicalStructurePrimary": STRUCTURES[side]} if side else {})
    return GiftiDataArray(values, intent="NIFTI_INTENT_LABEL", datatype=8, meta=meta)


def save_gifti(path, names, arrays):
    table = GiftiLabelTable()
    for key, name in names.items():
        label = GiftiLabel(key, 1, 0, 0, 1)
        vars(label)["label"] = name
        table.labels.append(label)
    nib.save(GiftiImage(labeltable=table, darrays=arrays), path)
    return path


@pytest.fixture
def right(tmp_path):
    names = {0: "???", 1: "a", 2: "medial wall"}
    return save_gifti(tmp_path / "y.label.gii", names, [label_array("R")])


def left(tmp_path, names, **options):
    return save_gifti(tmp_path / "x.label.gii", names, [label_array("L", **options)])


def test_a_side_may_be_told_by_the_data_array_and_no_area_is_no_region(tmp_path, right):
    names = {0: "???", 1: "a", 2: "Background+FreeSurfer_Defined_Medial_Wall"}
    atlas = load_atlas([right, left(tmp_path, names)])
    assert [(one.name, one.partner) for one in atlas.regions] == [("L_a", "R_a"), ("R_a", "L_a")]
    for side, index in (("L", 1), ("R", 2)):
        np.testing.assert_array_equal(atlas.cortex[side][:100], index)
        assert not atlas.cortex[side][100:].any()


def test_names_with_a_side_keep_it(tmp_path, right):
    atlas = load_atlas([left(tmp_path, {1: "7Networks_LH_Vis_1", 2: "???"}), right])
    assert [one.name for one in atlas.regions] == ["7Networks_LH_Vis_1", "R_a"]


def test_a_label_that_the_table_lacks_is_refused(tmp_path, right):
    path = left(tmp_path, {1: "a", 2: "b"}, key=9)
    with pytest.raises(ValueError, match=r"x\.label\.gii has 9 without"):
        load_atlas([path, right])


def test_names_of_the_other_side_are_refused(tmp_path, right):
    path = left(tmp_path, {1: "R_a", 2: "L_b"})
    with pytest.raises(ValueError, match=r"x\.label\.gii must be of side L, got 'R_a'"):
        load_atlas([path, right])


def test_two_files_of_one_side_are_refused(tmp_path, right):
    with pytest.raises(ValueError, match="of left and right"):
        load_atlas([right, right])
    both = [label_array("L"), label_array("R")]
    path = save_gifti(tmp_path / "x.label.gii", {1: "a", 2: "b"}, both)
    with pytest.raises(ValueError, match="of one side, it says left and right"):
        load_atlas([path, right])


def test_files_without_one_array_of_labels_are_named(tmp_path, right):
    empty = save_gifti(tmp_path / "lh.empty.label.gii", {1: "a"}, [])
    with pytest.raises(ValueError, match=r"lh\.empty\.label\.gii must hold one array"):
        load_atlas([empty, right])
    two = save_gifti(tmp_path / "two.label.gii", {1: "a"}, [label_array("L"), label_array("L")])
    with pytest.raises(ValueError, match="one array of labels, got 2"):
        load_atlas([two, right])
    save_metric(tmp_path / "m.shape.gii", np.zeros(VERTICES), "L", name="m")
    metric = (tmp_path / "m.shape.gii").rename(tmp_path / "m.label.gii")
    with pytest.raises(ValueError, match=r"m\.label\.gii must hold one array of labels, got 0"):
        load_atlas([metric, right])


@pytest.mark.parametrize("content", [b"", b"nothing", b"<GIFTI>"])
def test_files_that_are_no_gifti_are_named(tmp_path, right, content):
    path = tmp_path / "lh.x.label.gii"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"lh\.x\.label\.gii must be a readable GIFTI"):
        load_atlas([path, right])


@pytest.mark.parametrize(
    "names", [("none.nii.gz",), ("none.dlabel.nii",), ("L.none.label.gii", "R.none.label.gii")]
)
def test_files_that_are_missing_are_named(tmp_path, names):
    with pytest.raises(FileNotFoundError, match=r"missing: .*none.*; check the paths"):
        load_atlas([tmp_path / name for name in names])


def save_cifti(path, tables, sides="LR"):
    """Two labels a side, from the first vertices on, in every map."""
    structures = {"L": "CORTEX_LEFT", "R": "CORTEX_RIGHT"}
    models = [
        BrainModelAxis.from_surface(np.arange(4), VERTICES, structures[side]) for side in sides
    ]
    places = sum(models[1:], start=models[0])
    values = np.tile(np.array([0, 1, 2, 3]), len(models))
    labels = LabelAxis([f"map {number}" for number in range(len(tables))], tables)
    data = np.tile(values, (len(tables), 1)).astype(np.float32)
    nib.Cifti2Image(data, (labels, places)).to_filename(path)
    return path


def cifti_table(*names):
    return {0: ("???", (0, 0, 0, 0))} | {
        key: (name, (1, 0, 0, 1)) for key, name in enumerate(names, start=1)
    }


def test_what_is_no_area_is_no_region_in_cifti_either(tmp_path):
    table = cifti_table("a", "MEDIAL_WALL", "b")
    atlas = load_atlas([save_cifti(tmp_path / "x.dlabel.nii", [table])])
    assert [one.name for one in atlas.regions] == ["a", "b"]
    assert atlas.cortex["L"][:4].tolist() == [0, 1, 0, 3]


def test_several_maps_are_refused_by_name(tmp_path):
    path = save_cifti(tmp_path / "x.dlabel.nii", [cifti_table("a", "b", "c")] * 2)
    with pytest.raises(ValueError, match=r"got 2: map 0, map 1; take one out .*-cifti-merge"):
        load_atlas([path])


def test_one_name_for_two_keys_is_refused(tmp_path):
    path = save_cifti(tmp_path / "x.dlabel.nii", [cifti_table("a", "a", "b")])
    with pytest.raises(ValueError, match="must be unique, got the name 'a' 2 times"):
        load_atlas([path])


def test_one_side_of_the_cortex_is_refused_even_beside_voxels(tmp_path):
    path = save_cifti(tmp_path / "x.dlabel.nii", [cifti_table("a", "b", "c")], sides="L")
    with pytest.raises(ValueError, match="both sides or voxels, got cortex of L"):
        load_atlas([path])
    own = hcpmmp_atlas()
    with pytest.raises(ValueError, match="both sides or voxels, got cortex of L"):
        Atlas("A", own.regions, {"L": own.cortex["L"]}, own.voxels)
    with pytest.raises(ValueError, match="both sides or voxels, got none"):
        Atlas("A", own.regions)


def test_scalars_are_no_labels(tmp_path):
    places = BrainModelAxis.from_surface(np.arange(4), VERTICES, "CORTEX_LEFT")
    image = nib.Cifti2Image(np.zeros((1, 4), np.float32), (ScalarAxis(["a"]), places))
    image.to_filename(tmp_path / "x.dlabel.nii")
    with pytest.raises(ValueError, match="labels over grayordinates"):
        load_atlas([tmp_path / "x.dlabel.nii"])
