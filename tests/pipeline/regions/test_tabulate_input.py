"""What maps, names and label volumes `tabulate` takes, and what it refuses."""

import numpy as np
import pandas as pd
import pytest
from nibabel.nifti1 import Nifti1Image

from hemitwin.atlases import (
    TEMPLATE_SPACE,
    Atlas,
    hcpmmp_atlas,
    hcpmmp_volume,
    save_dseg_table,
    save_labels_volume,
    save_volume,
    template_grid,
)
from hemitwin.pipeline.regions.tabulate import tabulate
from hemitwin.pipeline.stage.errors import UserError

SHAPE, AFFINE = template_grid(4.0)


@pytest.fixture(scope="module")
def atlas():
    return hcpmmp_volume(SHAPE, AFFINE, cache_dir=None)


@pytest.fixture
def noise(tmp_path):
    path = tmp_path / "noise.nii.gz"
    values = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    save_volume(path, values, AFFINE, space=TEMPLATE_SPACE)
    return path


def holed(path, noise, holes):
    """Write a map with no value in the holes, as SPM does outside of its mask."""
    image = Nifti1Image.from_filename(noise)
    values = np.where(holes, np.nan, image.get_fdata()).astype(np.float32)
    Nifti1Image(values, image.affine).to_filename(path)
    return values


@pytest.mark.parametrize("own", [False, True])
def test_nan_is_no_value(noise, atlas, tmp_path, own):
    holes = np.indices(SHAPE)[1] % 2 == 0
    holes |= atlas.labels == atlas.region("L_V1").index
    path, dseg = tmp_path / "t.nii", tmp_path / "atlas-x_dseg.nii.gz"
    values = holed(path, noise, holes)
    save_labels_volume(dseg, atlas)
    save_dseg_table(tmp_path / "atlas-x_dseg.tsv", atlas.regions)
    table = tabulate([path], tmp_path / "a.tsv", dseg=dseg if own else None).set_index("name")
    for name in ("R_V1", "thalamus_left"):
        there = atlas.labels == atlas.region(name).index
        known = values[there & ~holes]
        row = table.loc[name].to_dict()
        assert row["n_voxels"] == len(known)
        assert row["coverage"] == pytest.approx(len(known) / there.sum())
        assert row["sum"] == pytest.approx(known.sum(dtype=float))
        assert row["mean"] == pytest.approx(known.mean(dtype=float))
        assert row["peak"] == known[np.abs(known).argmax()]
    empty = table.loc["L_V1"].to_dict()
    assert (empty["n_voxels"], empty["sum"], empty["coverage"]) == (0, 0, 0)
    assert np.isnan(empty["peak"])
    assert np.isnan(empty["mean"])
    assert table["n_voxels"].sum() == (~holes).sum()
    assert table["sum"].sum() == pytest.approx(np.nansum(values, dtype=float))


def test_infinity_is_refused(noise, tmp_path):
    image = Nifti1Image.from_filename(noise)
    values = image.get_fdata(dtype=np.float32).copy()
    values[0, 0, 0] = np.inf
    Nifti1Image(values, image.affine).to_filename(tmp_path / "i.nii")
    with pytest.raises(UserError, match="finite"):
        tabulate([tmp_path / "i.nii"], tmp_path / "a.tsv")


def test_maps_of_one_name_are_told_apart_by_their_paths(noise, tmp_path):
    paths = [tmp_path / folder / "con.nii.gz" for folder in ("a", "b")]
    for factor, path in enumerate(paths, start=1):
        values = factor * Nifti1Image.from_filename(noise).get_fdata()
        save_volume(path, values, AFFINE, space=TEMPLATE_SPACE)
    table = tabulate([*paths, noise], tmp_path / "a.tsv")
    assert table["map"].unique().tolist() == [*map(str, paths), "noise.nii.gz"]
    sums = table.groupby("map")["sum"].sum()
    assert sums[str(paths[1])] == pytest.approx(2 * sums[str(paths[0])], rel=1e-5)


def test_labels_of_one_grid_are_built_once(noise, tmp_path, monkeypatch):
    calls = []
    volume = Atlas.volume

    def counting(self, shape, affine, **options):
        calls.append(shape)
        return volume(self, shape, affine, **options)

    monkeypatch.setattr(Atlas, "volume", counting)
    other, coarse = tmp_path / "other.nii.gz", tmp_path / "coarse.nii.gz"
    other.write_bytes(noise.read_bytes())
    shape, affine = template_grid(8.0)
    save_volume(coarse, np.ones(shape), affine, space=TEMPLATE_SPACE)
    tabulate([noise, other, coarse], tmp_path / "a.tsv")
    assert calls == [SHAPE, shape]


def test_the_table_of_all_resolutions_names_a_label_volume(noise, atlas, tmp_path):
    save_labels_volume(tmp_path / "tpl-X_res-01_atlas-Y_dseg.nii.gz", atlas)
    save_dseg_table(tmp_path / "tpl-X_atlas-Y_dseg.tsv", atlas.regions)
    dseg = tmp_path / "tpl-X_res-01_atlas-Y_dseg.nii.gz"
    own = tabulate([noise], tmp_path / "a.tsv", dseg=dseg)
    pd.testing.assert_frame_equal(own, tabulate([noise], tmp_path / "b.tsv"))


def test_a_label_volume_of_another_place_is_refused(noise, atlas, tmp_path):
    far = np.eye(4)
    far[:3, 3] = 500
    dseg = tmp_path / "far_atlas-HCPMMP1_dseg.nii.gz"
    save_labels_volume(dseg, atlas.moved(far, space="T1w"))
    with pytest.raises(UserError, match=r"noise\.nii\.gz must lie where the regions of .*far_"):
        tabulate([noise], tmp_path / "a.tsv", dseg=dseg)
    moved = tmp_path / "moved.nii.gz"
    save_volume(moved, np.ones(SHAPE), far @ AFFINE)
    with pytest.raises(UserError, match="HCPMMP1 in MNI152NLin2009aSym are, it reaches none"):
        tabulate([moved], tmp_path / "a.tsv")
    assert not (tmp_path / "a.tsv").exists()


def test_the_tables_name_is_looked_at_before_the_maps(tmp_path):
    with pytest.raises(UserError, match=r"must end in \.tsv, got a\.csv"):
        tabulate([tmp_path / "none.nii.gz"], tmp_path / "a.csv")


def test_requests_that_contradict_themselves_are_refused(noise, tmp_path):
    out = tmp_path / "a.tsv"
    with pytest.raises(UserError, match=r"given once, got several times: .*noise"):
        tabulate([noise, noise], out)
    with pytest.raises(UserError, match="from one source"):
        tabulate([noise], out, atlas=hcpmmp_atlas(), dseg=noise)
    with pytest.raises(UserError, match="add --dseg"):
        tabulate([noise], out, dseg_table=noise)
    with pytest.raises(UserError, match=r"missing: .*none\.tsv"):
        tabulate([noise], out, dseg=noise, dseg_table=tmp_path / "none.tsv")
