"""Surrogate maps: as smooth as the map, else unlike it; and tests of groups that rest on them."""

import numpy as np
import pytest

from hemitwin.atlases import Parcellation, Region, region_centres
from hemitwin.pipeline.group.region_groups import contrast_groups, partner_rows
from hemitwin.pipeline.statistics.spatial_nulls import (
    Variogram,
    homotopic_surrogates,
    surrogate_maps,
)

SIDE, BLOCK, REACH_MM = 9, 4, 25.0
DRAWS, MAPS = 99, 60


def centres_of(rng):
    """Places of a grid on the right, jittered, and their mirror images on the left."""
    grid = np.stack(np.meshgrid(*2 * [np.arange(SIDE)], indexing="ij"), axis=-1).reshape(-1, 2)
    right = np.column_stack([5 + grid[:, 0], grid[:, 1], 0 * grid[:, 0]]) * 8.0
    right += rng.uniform(-2, 2, right.shape)
    return np.concatenate([right * (-1, 1, 1), right])


def smooth_maps(rng, centres, count):
    distance = np.linalg.norm(centres[:, None] - centres, axis=-1)
    factor = np.linalg.cholesky(np.exp(-distance / REACH_MM) + 1e-9 * np.eye(len(centres)))
    return rng.standard_normal((count, len(centres))) @ factor.T


def regions_of(count, cortex=lambda _: "rest"):
    """Left regions, then their partners."""

    def one(number, side, other):
        name, partner = f"{side}_{number}", f"{other}_{number}"
        index = number + 1 + (count if side == "R" else 0)
        network = "one" if number % 2 else "other"
        return Region(index, name, side, partner, cortex(number), "#000000", network)

    left, right = ([one(k, *sides) for k in range(count)] for sides in ("LR", "RL"))
    return (*left, *right)


def in_block(number):
    return number // SIDE < BLOCK and number % SIDE < BLOCK


REGIONS = regions_of(SIDE**2, lambda k: "block" if in_block(k) else "rest")
PARTNERS = partner_rows(REGIONS)


def p_of_block(values, surrogates):
    table = contrast_groups(REGIONS, values, np.empty((0, len(values))), surrogates)
    return table.set_index("group").loc["block", "p_spatial"]


def test_surrogates_keep_the_variogram_and_nothing_else():
    rng = np.random.default_rng(0)
    centres = centres_of(rng)[SIDE**2 :]
    distance = np.linalg.norm(centres[:, None] - centres, axis=-1)
    variogram = Variogram(distance)
    errors, permuted, likeness = [], [], []
    for values in smooth_maps(rng, centres, 10):
        surrogates = surrogate_maps(values, centres, draws=200, seed=0)
        own = variogram.of(values[None])[0]
        errors.append(np.abs(variogram.of(surrogates).mean(axis=0) / own - 1).mean())
        shuffled = rng.permuted(np.tile(values, (200, 1)), axis=1)
        permuted.append(np.abs(variogram.of(shuffled).mean(axis=0) / own - 1).mean())
        likeness += [abs(np.corrcoef(values, one)[0, 1]) for one in surrogates]
    assert np.mean(errors) < 0.1
    assert np.mean(permuted) > 0.3
    assert np.mean(likeness) < 0.25


def test_the_variogram_is_the_kernel_mean_of_half_squared_differences():
    rng = np.random.default_rng(1)
    centres, values = rng.uniform(0, 50, (20, 3)), rng.standard_normal(20)
    distance = np.linalg.norm(centres[:, None] - centres, axis=-1)
    pairs = [(i, j) for i in range(20) for j in range(i)]
    limit = np.percentile([distance[pair] for pair in pairs], 25)
    near = [pair for pair in pairs if distance[pair] <= limit]
    bins = np.linspace(min(distance[p] for p in near), max(distance[p] for p in near), 25)
    expected = []
    for middle in bins:
        total = weight = 0.0
        for i, j in near:
            w = np.exp(-((2.68 * (distance[i, j] - middle) / (3 * (bins[1] - bins[0]))) ** 2) / 2)
            total += w * (values[i] - values[j]) ** 2 / 2
            weight += w
        expected.append(total / weight)
    np.testing.assert_allclose(Variogram(distance).of(values[None])[0], expected)


def test_smooth_maps_are_called_a_finding_as_seldom_as_promised():
    rng = np.random.default_rng(2)
    centres = centres_of(rng)
    found, plain = [], []
    for seed, values in enumerate(smooth_maps(rng, centres, MAPS)):
        surrogates = homotopic_surrogates(values, centres, PARTNERS, draws=DRAWS, seed=seed)
        found.append(p_of_block(values, surrogates))
        shuffled = rng.permuted(np.tile(values, (DRAWS, 1)), axis=1)
        plain.append(p_of_block(values, shuffled))
    assert np.mean(np.array(found) <= 0.05) <= 0.1
    assert np.mean(np.array(plain) <= 0.05) >= 0.3


def test_sides_that_are_alike_are_not_taken_for_twice_the_evidence():
    rng = np.random.default_rng(3)
    centres = centres_of(rng)
    maps = smooth_maps(rng, centres, MAPS // 2)
    maps += maps[:, PARTNERS] + 0.1 * rng.standard_normal(maps.shape)
    found, one_sided = [], []
    for seed, values in enumerate(maps):
        surrogates = homotopic_surrogates(values, centres, PARTNERS, draws=DRAWS, seed=seed)
        found.append(p_of_block(values, surrogates))
        distances_only = surrogate_maps(values, centres, draws=DRAWS, seed=seed)
        one_sided.append(p_of_block(values, distances_only))
    assert np.mean(np.array(found) <= 0.05) <= 0.1
    assert np.mean(np.array(one_sided) <= 0.05) > 0.1


def test_surrogates_have_the_maps_own_values_and_its_likeness_of_sides():
    rng = np.random.default_rng(4)
    centres = centres_of(rng)
    half = smooth_maps(rng, centres, 1)[0]
    values = half + half[PARTNERS]
    surrogates = homotopic_surrogates(values, centres, PARTNERS, draws=50, seed=0)
    np.testing.assert_allclose(
        np.sort(surrogates, axis=1), np.tile(np.sort(values), (50, 1)), rtol=1e-12
    )
    likeness = [np.corrcoef(one, one[PARTNERS])[0, 1] for one in surrogates]
    assert np.mean(likeness) > 0.99


def test_a_planted_group_is_found_and_q_is_within_its_grouping():
    rng = np.random.default_rng(5)
    centres = centres_of(rng)
    values = smooth_maps(rng, centres, 1)[0]
    values[[region.cortex == "block" for region in REGIONS]] += 6.0
    surrogates = homotopic_surrogates(values, centres, PARTNERS, draws=199, seed=0)
    drawn = values + 0.1 * rng.standard_normal((400, len(values)))
    table = contrast_groups(REGIONS, values, drawn, surrogates).set_index("group")
    assert table.loc["block", "p_spatial"] == pytest.approx(1 / 200)
    assert table.loc["block", "q_spatial"] == pytest.approx(1 / 200)
    assert table.loc["block", "n_regions"] == 2 * BLOCK**2
    others = ~np.array([region.cortex == "block" for region in REGIONS])
    assert table.loc["block", "difference"] == pytest.approx(
        values[~others].mean() - values[others].mean()
    )
    assert table.loc["block", "enrichment_low"] < values[~others].mean()
    assert table.loc["block", "enrichment_high"] > values[~others].mean()
    assert (table.loc[["one", "other"], "q_spatial"] > 0.05).all()
    assert "subcortical" not in table.index


def test_the_same_seed_gives_the_same_surrogates():
    rng = np.random.default_rng(6)
    centres = centres_of(rng)
    values = smooth_maps(rng, centres, 1)[0]
    one, again, other = (
        homotopic_surrogates(values, centres, PARTNERS, draws=5, seed=seed) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, again)
    assert not np.allclose(one, other)


def test_a_map_without_differences_is_its_own_surrogate():
    centres = centres_of(np.random.default_rng(7))
    found = homotopic_surrogates(np.full(len(centres), 2.0), centres, PARTNERS, draws=3, seed=0)
    np.testing.assert_array_equal(found, 2.0)


@pytest.mark.parametrize("count", [7, 20])
def test_maps_that_cannot_have_surrogates_are_refused(count):
    values = np.arange(count, dtype=float)
    values[-1] = np.nan if count > 7 else 1.0
    with pytest.raises(ValueError, match="eight or more finite values"):
        surrogate_maps(values, np.arange(3.0 * count).reshape(-1, 3), draws=2, seed=0)


def test_centres_are_the_mean_of_voxels_in_mm():
    labels = np.zeros((4, 4, 4), np.int32)
    labels[0, 0, :2], labels[3, 1, 1] = 1, 2
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = -10, 0, 5
    regions = regions_of(1)
    found = region_centres(Parcellation(labels, affine, regions, "T1w"))
    np.testing.assert_allclose(found, [[-10, 0, 6], [-4, 2, 7]])
    labels[3, 1, 1] = 0
    with pytest.raises(ValueError, match=r"R_0 has none; take a finer grid"):
        region_centres(Parcellation(labels, affine, regions, "T1w"))
