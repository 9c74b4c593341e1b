import numpy as np
import pandas as pd
import pytest

from hemitwin.atlases import relevance_by_region, save_dseg_table, save_table


def test_region_table_survives_the_round_trip(tmp_path, small_parcellation):
    volume = np.random.default_rng(0).normal(size=small_parcellation.labels.shape)
    table = relevance_by_region(volume, small_parcellation.affine, small_parcellation, bias=0.1)
    save_table(tmp_path / "a.tsv", table)
    read = pd.read_csv(tmp_path / "a.tsv", sep="\t", na_values="n/a", keep_default_na=False)
    assert read.columns.tolist() == table.columns.tolist()
    np.testing.assert_allclose(read["sum"], table["sum"])
    assert "\tn/a\t" in (tmp_path / "a.tsv").read_text()


def test_dseg_table_has_the_columns_of_bids(tmp_path, small_regions):
    save_dseg_table(tmp_path / "atlas-x_dseg.tsv", small_regions)
    lines = (tmp_path / "atlas-x_dseg.tsv").read_text().splitlines()
    assert lines[0].split("\t")[:3] == ["index", "name", "color"]
    assert lines[1] == "3\tL_a\t#ff0000\tL\tR_a\tCortex A\tn/a"
    assert lines[3] == "6\tstem\t#0000ff\tmidline\tn/a\tn/a\tn/a"


def test_other_suffixes_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"end in \.tsv"):
        save_table(tmp_path / "a.csv", pd.DataFrame())
