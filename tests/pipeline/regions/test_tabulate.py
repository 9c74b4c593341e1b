"""Any map by regions: the numbers are nilearn's and Workbench's, and left is left."""

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from nilearn.maskers import NiftiLabelsMasker

from hemitwin.atlases import (
    TEMPLATE_SPACE,
    dense_by_region,
    grayordinates_from_volume,
    hcpmmp_regions,
    hcpmmp_volume,
    load_dense_scalars,
    parcellate_dense,
    save_dense_labels,
    save_dense_scalar,
    save_dseg_table,
    save_labels_volume,
    save_volume,
    save_volumes,
    template_grid,
)
from hemitwin.atlases.grayordinates import load_grayordinates
from hemitwin.pipeline.cli.main import main
from hemitwin.pipeline.regions.tabulate import tabulate
from hemitwin.pipeline.stage.errors import UserError
from hemitwin.transforms import load_series

SHAPE, AFFINE = template_grid(4.0)


@pytest.fixture(scope="module")
def atlas():
    return hcpmmp_volume(SHAPE, AFFINE, cache_dir=None)


@pytest.fixture
def series(tmp_path):
    """Two maps of noise as a 4D file."""
    maps = np.random.default_rng(0).normal(size=(*SHAPE, 2)).astype(np.float32)
    path = tmp_path / "series.nii.gz"
    save_volumes(path, maps, AFFINE, space=TEMPLATE_SPACE)
    return path


def test_means_of_volumes_are_nilearns(series, atlas, tmp_path):
    found = tabulate([series], tmp_path / "a.tsv")
    labels = nib.Nifti1Image(atlas.labels, atlas.affine)
    masker = NiftiLabelsMasker(labels, standardize=None, resampling_target=None)
    theirs = masker.fit_transform(str(series))
    for number, row in enumerate(theirs):
        one = found[found["map"] == f"series.nii.gz:{number}"].set_index("index")["mean"]
        there = masker.region_ids_
        indices = [int(there[key]) for key in sorted(k for k in there if k != "background")]
        np.testing.assert_allclose(one.reindex(indices), row, rtol=1e-5)


def test_what_lies_in_no_region_is_counted(series, tmp_path):
    found = tabulate([series], tmp_path / "a.tsv")
    volumes, _ = load_series(series)
    total = found.groupby("map")["sum"].sum()
    np.testing.assert_allclose(total, volumes.sum(axis=(1, 2, 3), dtype=float), rtol=1e-4)
    assert "unassigned" in set(found["name"])


def test_the_written_table_is_the_one_returned(series, tmp_path):
    found = tabulate([series], tmp_path / "a.tsv")
    written = pd.read_csv(tmp_path / "a.tsv", sep="\t")
    np.testing.assert_allclose(written["sum"], found["sum"], rtol=1e-6)
    assert (tmp_path / "a.json").is_file()


def test_another_space_is_moved_before_it_is_looked_up(tmp_path):
    """A map that is 1 in left V1 of the one space has most of it there in the other."""
    atlas = hcpmmp_volume(SHAPE, AFFINE, cache_dir=None)
    path = tmp_path / "v1.nii.gz"
    save_volume(path, (atlas.labels == atlas.region("L_V1").index).astype(np.float32), AFFINE)
    there = tabulate([path], tmp_path / "a.tsv").set_index("name")
    moved = tabulate([path], tmp_path / "b.tsv", space="MNI152NLin6Asym").set_index("name")
    assert there["share"]["L_V1"] == pytest.approx(1)
    assert 0.4 < moved["share"]["L_V1"] < 1
    assert moved["share"]["R_V1"] < 0.02


def test_a_label_volume_of_the_maps_own_space_needs_no_template(tmp_path):
    moved = AFFINE.copy()
    moved[:3, 3] += 500
    atlas = hcpmmp_volume(SHAPE, AFFINE, cache_dir=None)
    native = atlas.moved(moved @ np.linalg.inv(AFFINE), space="T1w")
    dseg = tmp_path / "sub-01_space-T1w_atlas-HCPMMP1_dseg.nii.gz"
    save_labels_volume(dseg, native)
    path = tmp_path / "v1.nii.gz"
    save_volume(path, (atlas.labels == 1).astype(np.float32), moved)
    found = tabulate([path], tmp_path / "a.tsv", dseg=dseg).set_index("name")
    assert found["share"]["L_V1"] == pytest.approx(1)
    table = tmp_path / "names.tsv"
    save_dseg_table(table, hcpmmp_regions())
    again = tabulate([path], tmp_path / "a.tsv", dseg=dseg, dseg_table=table).set_index("name")
    assert again["sum"]["L_V1"] == found["sum"]["L_V1"]


def test_grayordinates_are_averaged_and_their_peaks_are_found(tmp_path):
    dense = np.random.default_rng(0).normal(size=91282).astype(np.float32)
    path = tmp_path / "a.dscalar.nii"
    save_dense_scalar(path, dense, name="noise")
    np.testing.assert_array_equal(load_dense_scalars(path), dense[None])
    table = tabulate([path], tmp_path / "a.tsv")
    np.testing.assert_allclose(table["mean"], parcellate_dense(dense), rtol=1e-6)
    for place, peak in zip(table["peak_grayordinate"][::50], table["peak"][::50], strict=True):
        assert dense[int(place)] == pytest.approx(peak)
    assert (table["coverage"] == 1).all()
    both = parcellate_dense(np.stack([dense, 2 * dense]))
    np.testing.assert_allclose(both[1], 2 * both[0])


def test_a_grayordinate_without_a_value_is_not_counted():
    dense = np.ones(91282)
    dense[: 91282 // 2] = np.nan
    table = dense_by_region(dense)
    assert 0 < table["coverage"].mean() < 1
    known = table[table["coverage"] > 0]
    np.testing.assert_allclose(known["mean"], 1)
    assert table[table["coverage"] == 0]["mean"].isna().all()
    assert table["n_grayordinates"].sum() == 91282 - 91282 // 2


@pytest.mark.workbench
def test_means_of_grayordinates_are_workbenchs(tmp_path, atlas, wb_command):
    values = np.random.default_rng(1).normal(size=SHAPE).astype(np.float32)
    dense = grayordinates_from_volume(values, AFFINE)
    scalar, labels = tmp_path / "a.dscalar.nii", tmp_path / "a.dlabel.nii"
    save_dense_scalar(scalar, dense, name="noise")
    save_dense_labels(labels)
    wb_command("-cifti-parcellate", scalar, labels, "COLUMN", tmp_path / "a.pscalar.nii")
    image = nib.Cifti2Image.from_filename(tmp_path / "a.pscalar.nii")
    theirs = dict(zip(image.header.get_axis(1).name, image.get_fdata()[0], strict=True))
    found = tabulate([scalar], tmp_path / "a.tsv").set_index("name")["mean"]
    assert len(found) == len(atlas.regions) == 379
    np.testing.assert_allclose([theirs[name] for name in found.index], found, atol=1e-5)


def test_bad_input_is_refused(series, tmp_path):
    out = tmp_path / "a.tsv"
    with pytest.raises(UserError, match="space must be"):
        tabulate([series], out, space="MNI152NLin2009cAsym")
    with pytest.raises(UserError, match=r"missing: .*none"):
        tabulate([tmp_path / "none.nii.gz"], out)
    table = tmp_path / "names.tsv"
    save_dseg_table(table, hcpmmp_regions())
    with pytest.raises(UserError, match="one 3D volume"):
        tabulate([series], out, dseg=series, dseg_table=table)
    other = tmp_path / "b.dscalar.nii"
    other.write_bytes(b"damaged")
    with pytest.raises(UserError, match="readable CIFTI"):
        tabulate([other], tmp_path / "a.tsv")


def test_the_verb_says_how_much_it_wrote(series, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["tabulate", str(series), "-o", str(tmp_path / "a.tsv")])
    assert stop.value.code == 0
    assert "2 maps, 379 regions" in capsys.readouterr().out


def test_deep_structures_lie_where_the_connectome_has_them(tmp_path):
    """On the grayordinates' own grid and in their own space, every structure is found whole."""
    places = load_grayordinates()
    names, chosen = dict(places.structures), ("caudate_left", "thalamus_right")
    values = np.zeros(places.shape, dtype=np.float32)
    for name in chosen:
        values[tuple(places.voxels[names[name]].T)] = 1.0
    path = tmp_path / "deep.nii.gz"
    save_volume(path, values, places.affine, space="MNI152NLin6Asym")
    found = tabulate([path], tmp_path / "a.tsv", space="MNI152NLin6Asym").set_index("name")
    assert sum(found["share"][name] for name in chosen) > 0.95
    assert min(found["mean"][name] for name in chosen) > 0.95
