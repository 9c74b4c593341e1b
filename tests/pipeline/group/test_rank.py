"""A group's ranking of regions: what was planted comes out, with honest intervals."""

import json

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from hemitwin.atlases import TEMPLATE_SPACE, hcpmmp_regions, save_table, save_volume
from hemitwin.pipeline.cli.main import main
from hemitwin.pipeline.exports.group_scene import GroupScene
from hemitwin.pipeline.group.rank import RankConfig, rank
from hemitwin.pipeline.group.ranking import rank_regions, shares_of
from hemitwin.pipeline.stage.bids import sidecar_of
from hemitwin.pipeline.stage.errors import UserError
from hemitwin.pipeline.stage.json_files import digest_file, read_json, write_json
from hemitwin.pipeline.statistics.bootstrap import Clusters

REGIONS = hcpmmp_regions()
PEOPLE = 12
LARGEST = ("L_V1", "thalamus_right")


def table_of(rng):
    """A map whose relevance is as each region's volume says, but for two that have more."""
    names = [region.name for region in REGIONS]
    volume = np.linspace(100.0, 3000.0, len(names))
    positive = volume * rng.uniform(0.8, 1.2, len(names))
    for name in LARGEST:
        positive[names.index(name)] = 40 * volume[names.index(name)]
    negative = 0.5 * volume * rng.uniform(0.9, 1.1, len(names))
    table = pd.DataFrame(
        {
            "index": [region.index for region in REGIONS],
            "name": names,
            "hemisphere": [region.hemisphere for region in REGIONS],
            "cortex": [region.cortex for region in REGIONS],
            "volume_mm3": volume,
            "positive": positive,
            "sum": positive - negative,
        }
    )
    rest = {"index": [0, -1, -2], "name": ["unassigned", "bias", "stabiliser"]}
    rest |= {"volume_mm3": [1e5, np.nan, np.nan], "positive": [1e4, np.nan, np.nan]}
    return pd.concat([table, pd.DataFrame({**rest, "sum": [1e4, 3.0, 0.0]})], ignore_index=True)


@pytest.fixture
def tables():
    rng = np.random.default_rng(0)
    return [table_of(rng) for _ in range(PEOPLE)]


@pytest.fixture
def regions(tables):
    return tables[0][tables[0]["index"] > 0]


@pytest.fixture
def derivatives(tables, tmp_path, record_tables):
    """As explain and parcellate leave them, without the scans behind."""
    tail = "space-MNI152NLin2009aSym"
    for number, table in enumerate(tables):
        anat = tmp_path / f"sub-{number:02d}" / "anat"
        anat.mkdir(parents=True)
        for desc in ("desc-prepared_T1w", "desc-lrp_relevance"):
            scan = anat / f"sub-{number:02d}_{tail}_{desc}.nii.gz"
            save_volume(scan, np.ones((2, 2, 2), np.float32), np.eye(4), space=tail)
            write_json(sidecar_of(scan), {"Digest": digest_file(scan)})
        save_table(anat / f"sub-{number:02d}_{tail}_atlas-HCPMMP1_desc-lrp_relevance.tsv", table)
        record_tables(tmp_path, f"{number:02d}")
    return tmp_path


def families_of(tmp_path, of):
    path = tmp_path / "families.csv"
    lines = [f"{number:02d},{of(number)}" for number in range(PEOPLE)]
    path.write_text("\n".join(["Subject,Family_ID", *lines]) + "\n")
    return path


def test_shares_are_of_all_relevance_and_all_volume(tables):
    table = tables[0]
    found = shares_of(table, "positive")
    assert len(found) == len(REGIONS)
    counted = table[table["index"] >= 0]
    assert found["share"].sum() == pytest.approx(1 - 1e4 / counted["positive"].sum())
    assert found["volume"].sum() == pytest.approx(1)
    assert found["within"].sum() == pytest.approx(1)
    magnitude = 2 * counted["positive"] - counted["sum"]
    signed = shares_of(table, "signed")
    assert signed["share"]["L_V1"] == pytest.approx(table["sum"].iloc[0] / magnitude.sum())
    negative = shares_of(table, "negative")
    assert negative["share"].sum() == pytest.approx(1)


def test_a_map_without_the_part_is_refused(tables):
    table = tables[0].assign(positive=0.0, sum=-1.0)
    with pytest.raises(UserError, match="positive relevance"):
        shares_of(table, "positive")


def test_planted_regions_come_first_and_matched_volumes_say_so(tables, regions):
    maps = [shares_of(one, "positive") for one in tables]
    found = rank_regions(maps, regions, [str(k) for k in range(PEOPLE)], draws=200)
    table = found.table.set_index("name")
    assert set(table.nsmallest(2, "rank_by_enrichment").index) == set(LARGEST)
    assert (table.loc[list(LARGEST), "top_10_by_enrichment"] == 1).all()
    np.testing.assert_allclose(table.loc[list(LARGEST), "volume_matched_p"], 1 / 41)
    others = table.drop(list(LARGEST))
    assert abs(others["volume_matched_p"].mean() - 0.5) < 0.05
    assert (table["share_low"] <= table["share"]).all()
    assert (table["share"] <= table["share_high"]).all()
    assert list(found.table["rank_by_share"]) == sorted(found.table["rank_by_share"])
    # Size decides a ranking by sums: the largest regions lead it.
    assert spearmanr(others["share"], others["volume_share"]).statistic > 0.95
    assert found.stability.value > 0.95


def test_cohens_d_has_families_as_units(tables, regions):
    maps = [shares_of(one, "positive") for one in tables]
    apart = rank_regions(maps, regions, [str(k) for k in range(PEOPLE)], draws=400)
    cortical = regions["cortex"].notna().to_numpy()
    gaps = np.array(
        [
            one["within"][~cortical].sum() / one["volume"][~cortical].sum()
            - one["within"][cortical].sum() / one["volume"][cortical].sum()
            for one in maps
        ]
    )
    assert apart.subcortical.value == pytest.approx(gaps.mean())
    assert apart.subcortical_d.value == pytest.approx(gaps.mean() / gaps.std(ddof=1))
    in_order = gaps[sorted(range(PEOPLE), key=str)]  # families are numbered by their names
    times = Clusters.of([str(k) for k in range(PEOPLE)]).draw(400, 0)
    drawn = [np.repeat(in_order, row) for row in times]
    effects = [one.mean() / one.std(ddof=1) for one in drawn]
    low, high = np.quantile(effects, [0.025, 0.975])
    interval = (apart.subcortical_d.low, apart.subcortical_d.high)
    assert interval == pytest.approx((low, high))
    # Copies of one person are one family: the interval must not become narrower.
    twice = rank_regions(maps * 2, regions, [str(k) for k in range(PEOPLE)] * 2, draws=400)
    assert twice.subcortical.low == pytest.approx(apart.subcortical.low)
    assert (twice.cases, twice.families) == (2 * PEOPLE, PEOPLE)


def test_one_family_has_no_intervals(tables, regions):
    maps = [shares_of(one, "positive") for one in tables]
    found = rank_regions(maps, regions, ["a"] * PEOPLE, draws=100)
    assert str(found.subcortical_d) == "n/a (it needs two families)"


def test_files_hold_the_same_numbers(derivatives):
    relatives = families_of(derivatives, lambda number: number // 2)
    found = rank(derivatives, families=relatives, config=RankConfig(draws=100, null_draws=0))
    table = pd.read_csv(found.path, sep="\t")
    np.testing.assert_allclose(table["share"], found.ranking.table["share"], rtol=1e-6)
    sidecar = json.loads(found.path.with_suffix(".json").read_text())
    assert (sidecar["Cases"], sidecar["Families"], sidecar["RelativesKnown"]) == (12, 6, True)
    assert len(sidecar["Sources"]) == PEOPLE
    assert relatives.name not in found.path.with_suffix(".json").read_text()
    for name in ("share", "enrichment"):
        file = derivatives / f"group_atlas-HCPMMP1_desc-lrpranking{name}_relevance.pscalar.nii"
        image = nib.Cifti2Image.from_filename(file)
        by_name = dict(zip(image.header.get_axis(1).name, image.get_fdata()[0], strict=True))
        row = table.set_index("name")[name]
        assert by_name["L_V1"] == pytest.approx(row["L_V1"], rel=1e-5)
    assert found.picture.read_bytes()[:4] == b"\x89PNG"


def test_groups_of_regions_stand_in_a_second_table(derivatives):
    config = RankConfig(draws=100, null_draws=50)
    found = rank(derivatives, config=config)
    table = pd.read_csv(found.groups_path, sep="\t")
    assert found.groups_path.name == "group_atlas-HCPMMP1_desc-lrprankinggroups_relevance.tsv"
    assert table["grouping"].value_counts().to_dict() == {
        "cortex": 22,
        "network": 12,
        "subcortex": 1,
    }
    assert table["n_regions"].sum() == 360 + 360 + 19
    by_name = found.ranking.table.set_index("name")["enrichment"]
    below = [region.cortex is None for region in REGIONS]
    values = by_name[[region.name for region in REGIONS]].to_numpy()
    row = table[table["group"] == "subcortical"].iloc[0].to_dict()
    assert row["enrichment"] == pytest.approx(values[below].mean())
    assert row["difference"] == pytest.approx(
        values[below].mean() - values[~np.array(below)].mean()
    )
    assert table["enrichment_low"].le(table["enrichment"]).all()
    assert table["p_spatial"].ge(1 / 51).all()
    assert table["q_spatial"].ge(table["p_spatial"]).all()
    # One of the two planted regions is half of the smallest cortex.
    assert table.nlargest(1, "enrichment")["group"].item() == "Primary Visual Cortex (V1)"
    for path in (found.path, found.groups_path):
        sidecar = json.loads(path.with_suffix(".json").read_text())
        assert sidecar["NullDraws"] == 50
        assert sidecar["SpatialNullP"] == pytest.approx(row["p_spatial"])
    again = rank(derivatives, config=config)
    pd.testing.assert_frame_equal(again.groups, found.groups)


def test_without_surrogates_there_is_no_spatial_p(derivatives):
    found = rank(derivatives, config=RankConfig(draws=100, null_draws=0))
    assert found.groups["p_spatial"].isna().all()
    assert found.groups["enrichment"].notna().all()
    sidecar = json.loads(found.path.with_suffix(".json").read_text())
    assert (sidecar["SpatialNullP"], sidecar["NullDraws"]) == (None, 0)


def test_a_map_without_its_table_is_named(derivatives):
    next(derivatives.glob("sub-03/anat/*relevance.tsv")).unlink()
    with pytest.raises(UserError, match=r"sub-03.*hemitwin parcellate"):
        rank(derivatives)


@pytest.mark.parametrize("changed", ["map", "table", "regions"])
def test_tables_of_another_map_or_of_other_regions_are_not_ranked(derivatives, changed):
    anat = derivatives / "sub-03" / "anat"
    if changed == "map":
        _save(anat / f"sub-03_space-{TEMPLATE_SPACE}_desc-lrp_relevance.nii.gz", 2.0)
    elif changed == "table":
        (path,) = anat.glob("*_relevance.tsv")
        save_table(path, pd.read_csv(path, sep="\t").assign(sum=0.0))
    else:
        stem = f"sub-03_space-{TEMPLATE_SPACE}"
        path = anat / f"{stem}_atlas-HCPMMP1_dseg.nii.gz"
        _save(path, 1.0)
        prepared = digest_file(anat / f"{stem}_desc-prepared_T1w.nii.gz")
        content = read_json(sidecar_of(path)) | {"PreparedSHA256": prepared, "Regions": "own"}
        write_json(sidecar_of(path), content)
    with pytest.raises(UserError, match=r"sub-03.*hemitwin parcellate"):
        rank(derivatives, config=RankConfig(draws=100, null_draws=0))


def _save(path, value):
    save_volume(path, np.full((2, 2, 2), value, np.float32), np.eye(4), space=TEMPLATE_SPACE)
    write_json(sidecar_of(path), {"Digest": digest_file(path)})


def test_a_ranking_of_fewer_maps_says_that_it_takes_the_place_of_one_of_more(derivatives, caplog):
    config = RankConfig(draws=100, null_draws=0)
    rank(derivatives, config=config)
    rank(derivatives, config=config)
    assert "maps now" not in caplog.text
    rank(derivatives, labels=("01", "02", "03"), config=config)
    assert f"is of 3 maps now, and was of {PEOPLE}" in caplog.text


def test_regions_that_were_found_in_two_ways_are_not_ranked_together(derivatives, record_tables):
    record_tables(derivatives, "03", regions="the subject's own")
    match = r"sub-03: .*those the subject's own, .* for all subjects, or for none"
    with pytest.raises(UserError, match=match):
        rank(derivatives, config=RankConfig(draws=100, null_draws=0))
    others = tuple(f"{k:02d}" for k in range(PEOPLE) if k != 3)
    found = rank(derivatives, labels=others, config=RankConfig(draws=100, null_draws=0))
    assert found.ranking.cases == PEOPLE - 1


@pytest.mark.parametrize(("families", "told"), [(7, True), (8, False)])
def test_few_families_are_a_caution_in_both_sidecars(derivatives, families, told):
    relatives = families_of(derivatives, lambda number: number % families)
    found = rank(derivatives, families=relatives, config=RankConfig(draws=100, null_draws=20))
    for path in (found.path, found.groups_path):
        caution = read_json(path.with_suffix(".json"))["Caution"]
        assert (caution is not None) == told
        assert caution is None or f"of {families} families" in caution
        assert caution is None or "places as units" in caution


@pytest.fixture
def no_scene(monkeypatch):
    """Write no scene, which takes seconds; the group scene has tests of its own."""
    monkeypatch.setattr(
        "hemitwin.pipeline.exports.group_scene.write_group_scene",
        lambda *_, cache, **__: GroupScene(cache, cache, (), ()),
    )


@pytest.mark.usefixtures("no_scene")
def test_the_command_is_cautious_about_four_brains(derivatives, capsys):
    labels = ["--participant-label", "00", "01", "02", "03"]
    with pytest.raises(SystemExit, match="0"):
        main(["rank", str(derivatives), "--draws", "100", "--null-draws", "20", *labels])
    out = capsys.readouterr().out
    assert "CAUTION" in out
    assert "trust none of fewer than 8" in out
    assert "spatial p has places as units and says nothing about people" in out


@pytest.mark.usefixtures("no_scene")
def test_the_command_prints_the_first_regions(derivatives, capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["rank", str(derivatives), "--draws", "100", "--null-draws", "20"])
    out = capsys.readouterr().out
    assert "12 maps, 12 families" in out
    assert "thalamus_right" in out
    assert "Cohen's d over families" in out
    assert "Primary Visual" in out
    assert "spatial p" in out
    assert "CAUTION" not in out


@pytest.mark.parametrize("wanted", [True, False])
def test_the_command_draws_the_scene_when_asked(derivatives, monkeypatch, wanted):
    asked = []

    def write(_, desc, *, cache, render):
        asked.append((desc, render))
        return GroupScene(cache, cache, (), ())

    monkeypatch.setattr("hemitwin.pipeline.exports.group_scene.write_group_scene", write)
    words = ["rank", str(derivatives), "--draws", "100", "--null-draws", "0"]
    with pytest.raises(SystemExit, match="0"):
        main([*words, "--render"] if wanted else words)
    assert asked == [("lrp", wanted)]


def test_what_another_atlas_does_not_have_is_not_asked_for(derivatives, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["rank", str(derivatives), "--atlas", "Mine", "--render", "--null-draws", "0"])
    assert "--atlas Mine must stand without --null-draws, --render" in capsys.readouterr().err


def test_another_atlas_is_ranked_without_what_only_the_areas_know(derivatives, record_tables):
    for path in derivatives.glob("sub-*/anat/*_atlas-HCPMMP1_desc-lrp_relevance.tsv"):
        table = pd.read_csv(path, sep="\t").assign(cortex=None)
        save_table(path.with_name(path.name.replace("HCPMMP1", "Mine")), table)
        record_tables(derivatives, path.name[:6], atlas="Mine")
    found = rank(derivatives, config=RankConfig(draws=100, atlas="Mine"))
    assert found.path.name == "group_atlas-Mine_desc-lrpranking_relevance.tsv"
    assert set(found.ranking.table.nsmallest(2, "rank_by_enrichment")["name"]) == set(LARGEST)
    assert "does not tell cortex" in str(found.ranking.subcortical_d)
    assert not found.groups_path.exists()
    assert not list(derivatives.glob("*Mine*.pscalar.nii"))
