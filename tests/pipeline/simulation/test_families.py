import json
import stat

import numpy as np
import pandas as pd
import pytest

from hemitwin.atlases import hcpmmp_regions, hcpmmp_volume
from hemitwin.pipeline.cli.main import main
from hemitwin.pipeline.cohort.families import groups_of, read_kinship
from hemitwin.pipeline.simulation.config import FamilyCounts, read_counts
from hemitwin.pipeline.simulation.families import (
    FamilyCohortConfig,
    _named_regions,
    write_families_cohort,
)
from hemitwin.pipeline.simulation.pedigree import draw_pedigree, pedigree_table
from hemitwin.pipeline.simulation.people import CohortConfig, write_cohort
from hemitwin.pipeline.stage.errors import UserError
from hemitwin.transforms import LesionConfig, load_scan

COUNTS = FamilyCounts(mz=1, dz=1, siblings=1, unrelated=1)
CONFIG = FamilyCohortConfig(families=COUNTS, regions=("V1", "L_4"), resolution_mm=8.0, sites=2)


@pytest.fixture(scope="module")
def made(tmp_path_factory, cache):
    folder = tmp_path_factory.mktemp("people") / "bids"
    return write_families_cohort(folder, CONFIG, cache=cache)


def test_what_may_be_shared_names_no_relatives(made):
    bids = made.family_table.parent
    table = pd.read_csv(bids / "participants.tsv", sep="\t", dtype=str)
    assert list(table.columns) == ["participant_id", "sex", "site"]
    assert set(table["site"]) == {"site1", "site2"}
    private = pd.read_csv(made.family_table, dtype=str)
    secrets = {*private["Mother_ID"], *private["Father_ID"], *private["Family_ID"], "NotMZ"}
    shared = [path for path in bids.rglob("*.*") if path.suffix in {".tsv", ".json"}]
    assert len(shared) == 4
    assert not any(secret in path.read_text() for path in shared for secret in secrets)
    assert stat.S_IMODE(made.family_table.stat().st_mode) == 0o600
    assert made.family_table.name in (bids / ".bidsignore").read_text().split()


def test_the_private_table_gives_the_groups_back(made):
    names = [one.name for one in made.people]
    groups = groups_of(names, None, made.family_table)
    sizes = sorted(list(groups.values()).count(one) for one in set(groups.values()))
    assert sizes == [1, 2, 2, 2]
    twins = [
        name for name, kind in read_kinship(made.family_table).zygosity.items() if kind == "MZ"
    ]
    assert len(twins) == 2
    assert groups[twins[0]] == groups[twins[1]]


def test_the_truth_names_every_region_and_the_deformation_is_bounded(made):
    table = pd.read_csv(made.truth, sep="\t").set_index("region")
    assert len(table) == len(hcpmmp_regions())
    heritable = table.index[table["heritability"] > 0]
    assert list(heritable) == ["L_V1", "L_4", "R_V1"]
    np.testing.assert_allclose(table.loc[heritable, "mean_over_voxels"], 0.8, atol=1e-3)
    assert table["mean_over_voxels"].median() == 0
    assert made.least_jacobian >= 0.099
    sidecar = json.loads(made.truth.with_suffix(".json").read_text())
    assert sidecar["LeastJacobian"] == made.least_jacobian


def test_the_same_configuration_makes_the_same_people_anywhere(made, tmp_path, cache):
    table = tmp_path / "elsewhere" / "kin.csv"
    again = write_families_cohort(tmp_path / "bids", CONFIG, cache=cache, family_table=table)
    assert table.read_bytes() == made.family_table.read_bytes()
    assert not list((tmp_path / "bids").glob("*private*"))
    for one in again.people:
        first, second = (
            load_scan(root / one.name / "anat" / f"{one.name}_T1w.nii.gz").data
            for root in (made.family_table.parent, tmp_path / "bids")
        )
        np.testing.assert_array_equal(first, second)


def test_twins_share_what_siblings_share_in_part():
    people = draw_pedigree(FamilyCounts(mz=5, dz=5, siblings=5, unrelated=5), seed=0)
    assert len({one.name for one in people}) == 35
    for kind in ("mz", "dz", "siblings"):
        for family in {one.family for one in people if one.kind == kind}:
            first, second = (one for one in people if one.family == family)
            assert first.genes.family_seed == second.genes.family_seed
            same = first.genes.person_seed == second.genes.person_seed
            assert same == (kind == "mz")
            assert kind != "mz" or first.sex == second.sex
    seeds = {one.genes.family_seed for one in people}
    assert len(seeds) == 20
    # Twins are not neighbours by name more often than chance has it.
    order = pd.DataFrame([vars(one) for one in people])
    neighbours = (order["family"].diff() == 0).sum()
    assert neighbours < 4
    assert set(pedigree_table(people)["ZygosityGT"]) == {"MZ", "DZ", ""}


def test_cortex_stands_for_every_area(cache):
    affine = np.diag([8.0, 8, 8, 1])
    affine[:3, 3] = -96, -132, -78
    atlas = hcpmmp_volume((24, 28, 24), affine, cache_dir=cache)
    names = _named_regions(atlas, ("L_V1", "cortex"))
    present = {atlas.regions[index - 1].name for index in np.unique(atlas.labels) if index}
    assert set(names) == {name for name in present if name[:2] in {"L_", "R_"}}
    assert names[0] == "L_V1"


def test_wrong_families_and_regions_are_refused(tmp_path, cache):
    with pytest.raises(UserError, match="families must look like"):
        read_counts("triplets=3")
    with pytest.raises(UserError, match="at least one person"):
        read_counts("mz=0")
    config = CONFIG.model_copy(update={"regions": ("V99",)})
    with pytest.raises(UserError, match=r"HCP-MMP area such as V1 or L_V1.*V99"):
        write_families_cohort(tmp_path, config, cache=cache)


def test_a_folder_with_people_of_another_cohort_is_refused(tmp_path, cache):
    (tmp_path / "sub-99").mkdir()
    with pytest.raises(UserError, match=r"a folder of its own.*holds sub-99.*another folder"):
        write_families_cohort(tmp_path, CONFIG, cache=cache)
    with pytest.raises(UserError, match="holds sub-99"):
        write_cohort(tmp_path, CohortConfig(controls=1, patients=0, resolution_mm=8.0))
    assert [path.name for path in tmp_path.iterdir()] == ["sub-99"]


def test_the_command_says_where_the_private_table_lies(tmp_path, cache, capsys, monkeypatch):
    monkeypatch.setenv("HEMITWIN_CACHE", str(cache))
    words = ["--families", "mz=1", "--resolution-mm", "8", "--region", "V1"]
    with pytest.raises(SystemExit, match="0"):
        main(["simulate", "cohort", str(tmp_path / "bids"), *words])
    printed = capsys.readouterr().out
    assert str(tmp_path / "bids" / "families.private.csv") in printed
    assert "least Jacobian" in printed


@pytest.mark.parametrize(
    ("name", "total", "projection", "pose"),
    [
        pytest.param("sub-01", 3128.8076, 6.85297, -1732.31882, id="control"),
        pytest.param("sub-02", 2335.9447, -7.17656, -1664.611039, id="another"),
        pytest.param("sub-p01", 2743.5084, 1.38136, -1588.277382, id="patient"),
    ],
)
def test_the_demos_people_stay_who_they_were(demo_people, name, total, projection, pose):
    """Sums of version 0.1.0; bytes would hang on the processor's rounding."""
    scan = load_scan(demo_people / name / "anat" / f"{name}_T1w.nii.gz")
    values = scan.data.astype(float)
    wave = np.cos(0.37 * np.arange(values.size)).reshape(values.shape)
    assert values.sum() == pytest.approx(total, rel=1e-5)
    assert (values * wave).sum() == pytest.approx(projection, abs=1e-3)
    assert (scan.affine * np.arange(16).reshape(4, 4)).sum() == pytest.approx(pose, abs=1e-4)


@pytest.fixture(scope="module")
def demo_people(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    lesions = LesionConfig(volume_mm3=(12000.0, 50000.0), contrast=(-0.6, -0.35))
    write_cohort(folder, CohortConfig(controls=2, patients=1, resolution_mm=8.0, lesions=lesions))
    return folder
