import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hemitwin.atlases import (
    Parcellation,
    Region,
    asymmetry_by_pair,
    load_template,
    relevance_by_region,
)


def make_case(seed):
    """A random map on a random grid over a random parcellation."""
    rng = np.random.default_rng(seed)
    regions = (
        Region(3, "L_a", "L", "R_a", "A", "#ff0000"),
        Region(5, "R_a", "R", "L_a", "A", "#00ff00"),
        Region(8, "stem", "midline", None, None, "#0000ff"),
    )
    labels = rng.choice([0, 3, 5, 8], size=(5, 6, 4)).astype(np.int32)
    parcels = np.diag([2.0, 2, 2, 1])
    parcels[:3, :3] += rng.uniform(-0.3, 0.3, (3, 3))
    parcellation = Parcellation(labels, parcels, regions, "T1w")
    affine = np.eye(4)
    affine[:3, :3] = np.diag(rng.choice([-1, 1], 3) * rng.uniform(0.8, 2.5, 3))
    affine[:3, :3] += rng.uniform(-0.2, 0.2, (3, 3))
    affine[:3, 3] = rng.uniform(-3, 10, 3)
    return rng.normal(size=(6, 5, 7)), affine, parcellation


def rows_by(table, key="name") -> dict[Any, dict[str, Any]]:
    return table.set_index(key).to_dict("index")


def slow_rows(volume, affine, parcellation):
    """Visit every voxel, one after the other."""
    world_to_label = np.linalg.inv(parcellation.affine) @ affine
    voxels = {region.index: [] for region in parcellation.regions} | {0: []}
    for voxel in np.ndindex(volume.shape):
        place = (world_to_label @ [*voxel, 1])[:3]
        nearest = np.floor(place + 0.5).astype(int)
        inside = (nearest >= 0).all() and (nearest < parcellation.labels.shape).all()
        voxels[int(parcellation.labels[tuple(nearest)]) if inside else 0].append(voxel)
    return voxels


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.floats(-2, 2), st.floats(-2, 2))
def test_rows_sum_to_the_explained_score_under_any_affine(seed, bias, stabiliser):
    volume, affine, parcellation = make_case(seed)
    table = relevance_by_region(volume, affine, parcellation, bias=bias, stabiliser=stabiliser)
    assert table["sum"].sum() == pytest.approx(volume.sum() + bias + stabiliser, abs=1e-10)
    assert table["n_voxels"].sum() == volume.size
    assert table["share"].sum() == pytest.approx(1)


@pytest.mark.parametrize("seed", range(5))
def test_table_equals_a_visit_to_every_voxel(seed):
    volume, affine, parcellation = make_case(seed)
    table = rows_by(relevance_by_region(volume, affine, parcellation), "index")
    for index, voxels in slow_rows(volume, affine, parcellation).items():
        row = table[index]
        values = np.array([volume[voxel] for voxel in voxels])
        assert row["n_voxels"] == len(values)
        assert row["sum"] == pytest.approx(values.sum())
        if not len(values):
            assert np.isnan(row["peak"])
            assert np.isnan(row["mean"])
            continue
        assert row["positive"] == pytest.approx(values[values > 0].sum())
        assert row["mean"] == pytest.approx(values.mean())
        assert row["volume_mm3"] == pytest.approx(len(values) * abs(np.linalg.det(affine)))
        largest = int(np.abs(values).argmax())
        assert row["peak"] == values[largest]
        place = (affine @ [*voxels[largest], 1])[:3]
        found = [row[f"peak_{axis}_mm"] for axis in "xyz"]
        np.testing.assert_allclose(found, place)


def test_flipping_the_array_with_its_affine_changes_nothing():
    volume, affine, parcellation = make_case(7)
    flip = np.diag([-1.0, 1, 1, 1])
    flip[0, 3] = volume.shape[0] - 1
    straight = relevance_by_region(volume, affine, parcellation)
    flipped = relevance_by_region(volume[::-1].copy(), affine @ flip, parcellation)
    numbers = straight.select_dtypes("number").columns
    np.testing.assert_allclose(
        flipped[numbers].to_numpy(dtype=float), straight[numbers].to_numpy(dtype=float)
    )


def test_painting_regions_and_averaging_them_is_identity(coarse_atlas):
    values = np.random.default_rng(0).normal(size=380)
    painted = values[coarse_atlas.labels]
    table = relevance_by_region(painted, coarse_atlas.affine, coarse_atlas).set_index("index")
    present = np.unique(coarse_atlas.labels)
    np.testing.assert_allclose(table.loc[present, "mean"], values[present], atol=1e-12)


def test_coverage_is_the_share_of_a_region_inside_the_map(small_parcellation):
    whole = np.zeros(small_parcellation.labels.shape)
    affine = small_parcellation.affine
    full = relevance_by_region(whole, affine, small_parcellation)
    left_half = relevance_by_region(whole[:4], affine, small_parcellation)
    assert full["coverage"].tolist()[:3] == [1, 1, 1]
    assert left_half["coverage"].tolist()[:3] == [1, 0, 0.5]
    assert rows_by(left_half)["R_a"]["n_voxels"] == 0


def test_half_a_hemisphere_keeps_its_side(small_parcellation):
    """The mirrored right half with its true affine reads right regions only."""
    ones = np.ones(small_parcellation.labels.shape)
    affine = small_parcellation.affine
    mirrored = affine @ np.diag([-1.0, 1, 1, 1])
    mirrored[0, 3] = affine[0, 3] + affine[0, 0] * (len(ones) - 1)
    table = rows_by(relevance_by_region(ones[:4], mirrored, small_parcellation))
    assert table["L_a"]["n_voxels"] == 0
    assert table["R_a"]["sum"] == (small_parcellation.labels == 5).sum()


def test_peak_outside_all_regions_names_the_nearest(small_parcellation):
    volume = np.zeros(small_parcellation.labels.shape)
    volume[0, 2, 1] = -4.0
    table = relevance_by_region(volume, small_parcellation.affine, small_parcellation)
    row = rows_by(table)["unassigned"]
    assert row["peak"] == -4
    assert row["peak_x_mm"] == small_parcellation.affine[0, 3]
    assert row["nearest_region"] == "L_a"
    assert row["nearest_mm"] == pytest.approx(2)


def test_order_is_regions_then_the_rest(small_parcellation):
    volume = np.zeros(small_parcellation.labels.shape)
    table = relevance_by_region(volume, np.eye(4), small_parcellation, bias=1.0)
    assert table["name"].tolist() == ["L_a", "R_a", "stem", "unassigned", "bias", "stabiliser"]
    assert table["index"].tolist() == [3, 5, 6, 0, -1, -2]
    assert rows_by(table)["bias"]["share"] == 1


def test_a_map_of_zeros_has_no_shares(small_parcellation):
    volume = np.zeros(small_parcellation.labels.shape)
    table = relevance_by_region(volume, np.eye(4), small_parcellation)
    assert table["share"].isna().all()


def test_a_parcellation_without_voxels_leaves_all_unassigned(small_parcellation):
    empty = dataclasses.replace(
        small_parcellation, labels=np.zeros_like(small_parcellation.labels)
    )
    table = rows_by(relevance_by_region(np.ones((3, 3, 3)), np.eye(4), empty))
    assert table["unassigned"]["sum"] == 27
    assert table["unassigned"]["nearest_region"] is None
    assert np.isnan(table["L_a"]["coverage"])


def test_pairs_compare_positive_parts_and_change_sign_with_the_side(small_parcellation):
    rng = np.random.default_rng(2)
    volume = rng.normal(size=small_parcellation.labels.shape)
    affine = small_parcellation.affine
    pairs = asymmetry_by_pair(relevance_by_region(volume, affine, small_parcellation))
    swapped = asymmetry_by_pair(
        relevance_by_region(volume[::-1].copy(), affine, small_parcellation)
    )
    left = volume[small_parcellation.labels == 3]
    assert pairs["left"].tolist() == ["L_a"]
    assert pairs["positive_left"].tolist() == [pytest.approx(left[left > 0].sum())]
    assert swapped["difference"].tolist() == [pytest.approx(-pairs["difference"].sum())]


def test_all_189_pairs_are_there_and_sorted(coarse_atlas):
    template = load_template(4.0)
    noise = np.random.default_rng(3).normal(size=template.data.shape)
    table = relevance_by_region(template.data * noise, template.affine, coarse_atlas)
    pairs = asymmetry_by_pair(table)
    assert len(pairs) == 189
    assert pairs["difference"].abs().is_monotonic_decreasing
    assert pairs["positive_left"].sum() == pytest.approx(
        table.loc[table["hemisphere"] == "L", "positive"].sum()
    )


def test_bad_maps_and_tables_are_refused(small_parcellation):
    with pytest.raises(ValueError, match="finite"):
        relevance_by_region(np.full((2, 2, 2), np.inf), np.eye(4), small_parcellation)
    table = relevance_by_region(np.ones((2, 2, 2)), np.eye(4), small_parcellation)
    with pytest.raises(ValueError, match=r"missing: \['positive'\]"):
        asymmetry_by_pair(table.drop(columns="positive"))
