import stat
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hemitwin.pipeline.cohort.brain_pairs import (
    People,
    all_pairs,
    brain_pairs,
    read_brain_pairs,
    shareable_pairs,
    write_brain_pairs,
    write_shareable_pairs,
)
from hemitwin.pipeline.cohort.config import BrainPairsConfig
from hemitwin.pipeline.cohort.demographics import Demographics, read_demographics
from hemitwin.pipeline.cohort.families import read_kinship
from hemitwin.pipeline.cohort.kinship import Kinship, Relative
from hemitwin.pipeline.cohort.split import Split
from hemitwin.pipeline.stage.bids import Case
from hemitwin.pipeline.stage.errors import UserError

CONFIG = BrainPairsConfig(negatives=2)


def _people(twins=6, singles=30, seed=0):
    """Identical twins, a fraternal pair, two siblings and people on their own."""
    rng = np.random.default_rng(seed)
    lines, age, sex = [], {}, {}
    kinds = ["MZ"] * twins + ["DZ", "NotTwin"] + [""] * singles
    for number, kind in enumerate(kinds):
        years, own = float(rng.integers(22, 30)), "FM"[number % 2]
        for copy in range(2 if kind else 1):
            name = f"sub-{number:02d}{'ab'[copy]}"
            parents = (f"family{number}", f"m{number}", f"f{number}")
            lines.append((name, Relative(*parents, kind or "NotTwin")))
            age[name], sex[name] = years, own
    return People(Kinship(tuple(lines)), Demographics(age, sex))


def _cases(people, sessions=("",)):
    names = sorted(people.kinship.subjects)
    return [
        Case(name, f"{name}{session}", Path(f"{name}{session}.nii.gz"))
        for name in names
        for session in sessions
    ]


def _test_fold(people, seed=0, train=()):
    names = people.kinship.subjects
    return Split({name: "train" if name in train else "test" for name in names}, seed)


def _made(people, config=CONFIG, cases=None, seed=0):
    cases = _cases(people) if cases is None else cases
    return brain_pairs(cases, people, config, split=_test_fold(people, seed), fold="test")


def _pairs(table):
    return set(zip(table["case"], table["partner_case"], strict=True))


def test_each_twin_pair_meets_strangers_of_its_sex_and_age():
    people = _people()
    table = _made(people)
    same = table[table["label"] == "same"]
    assert _pairs(same) == {(f"sub-{k:02d}a", f"sub-{k:02d}b") for k in range(6)}
    assert (same["relation"] == "mz").all()
    assert (same["group"] == same["partner_group"]).all()
    others = table[table["label"] == "different"]
    assert len(others) == 12
    assert len(_pairs(table)) == len(table)
    age, sex = people.demographics.age_years, people.demographics.sex
    twins = {*same["subject"], *same["partner"]}
    for _, row in others.iterrows():
        assert row.relation == "unrelated"
        assert row.matched == "sex age"
        assert row.group != row.partner_group
        assert sex[row.subject] == sex[row.partner]
        assert abs(age[row.subject] - age[row.partner]) <= 2
        assert {row.subject, row.partner} & twins
    # Both partners stay in turn, so that neither twin is in all negatives.
    stay = [
        {f"sub-{k:02d}a", f"sub-{k:02d}b"} & {*others["subject"], *others["partner"]}
        for k in range(6)
    ]
    assert all(len(one) == 2 for one in stay)


def test_the_draw_is_the_seeds_and_a_new_subject_changes_little():
    people = _people()
    table = _made(people)
    pd.testing.assert_frame_equal(table, _made(people, cases=_cases(people)[::-1]))
    assert _pairs(table) != _pairs(_made(people, seed=1))
    assert _pairs(table) != _pairs(_made(people, CONFIG.model_copy(update={"redraw": 1})))
    without = [case for case in _cases(people) if case.subject != "sub-15a"]
    kept = _pairs(_made(people, cases=without))
    entered = {pair for pair in _pairs(table) if "sub-15a" in pair}
    lost = _pairs(table) - kept
    assert entered <= lost
    assert len(lost) <= 2 * len(entered) + 1


def test_relatives_are_hard_negatives_when_asked_and_never_strangers():
    people = _people(twins=3, singles=20)
    plain = _made(people)
    assert set(plain["relation"]) == {"mz", "unrelated"}
    hard = _made(people, CONFIG.model_copy(update={"hard_negatives": ("dz", "sibling")}))
    added = hard[hard["relation"].isin(["dz", "sibling"])]
    assert _pairs(added) == {("sub-03a", "sub-03b"), ("sub-04a", "sub-04b")}
    assert (added["label"] == "different").all()
    assert _pairs(hard) - _pairs(added) == _pairs(plain)


def test_rescans_are_paired_within_and_strangers_taken_from_the_same_session():
    people = _people(twins=0, singles=8)
    cases = _cases(people, ("_ses-1", "_ses-2"))
    config = BrainPairsConfig(positive="same", negatives=2, match=())
    table = _made(people, config, cases)
    same = table[table["label"] == "same"]
    assert set(same["subject"]) == people.kinship.subjects
    assert (same["relation"] == "same").all()
    others = table[table["label"] == "different"]
    assert len(others) == 2 * len(same)
    # A pair of one session would tell strangers from rescans by the session alone.
    assert (others["case"].str[-1] != others["partner_case"].str[-1]).all()
    assert (others["matched"] == "n/a").all()
    everything = all_pairs(cases, people, "same", split=_test_fold(people), fold="test")
    assert len(everything) == 24 * 23 // 2
    assert (everything["label"] == "same").sum() == 12


def test_all_pairs_of_first_scans_serve_identification():
    people = _people(twins=2, singles=3)
    table = all_pairs(
        _cases(people, ("_ses-1", "_ses-2")), people, "mz", split=_test_fold(people), fold="test"
    )
    assert len(table) == 11 * 10 // 2
    assert table["relation"].value_counts().to_dict() == {
        "unrelated": 51,
        "mz": 2,
        "dz": 1,
        "sibling": 1,
    }
    assert table["case"].str.endswith("_ses-1").all()


def test_what_crosses_a_fold_is_refused_by_name():
    people = _people(twins=2, singles=20)
    cases = _cases(people)
    split = _test_fold(people, train={"sub-10a"})
    with pytest.raises(UserError, match=r"sub-10a \(train\)"):
        brain_pairs(cases, people, CONFIG, split=split, fold="test")
    split = _test_fold(people, train={"sub-00b"})
    own = [case for case in cases if case.subject != "sub-00b"]
    with pytest.raises(UserError, match=r"sub-00a \(relative in train\)") as caught:
        brain_pairs(own, people, CONFIG, split=split, fold="test")
    assert "sub-00b" not in str(caught.value)


def test_without_zygosity_twins_or_ages_the_request_is_refused():
    people = _people(twins=1, singles=10)
    lines = tuple((name, Relative(line.family)) for name, line in people.kinship.lines)
    with pytest.raises(UserError, match="ZygosityGT or ZygositySR"):
        _made(People(Kinship(lines), people.demographics))
    with pytest.raises(UserError, match="'test' must hold at least one pair of identical twins"):
        _made(_people(twins=0))
    with pytest.raises(UserError, match="at least one pair of scans of one person"):
        _made(people, BrainPairsConfig(positive="same"))
    nobody = People(people.kinship, Demographics({}, people.demographics.sex))
    with pytest.raises(UserError, match=r"matched on age .* sub-00a.* leave age out"):
        _made(nobody)
    wrong = {**people.demographics.sex, "sub-00b": "M"}
    with pytest.raises(UserError, match="one sex, but sub-00a and the twin have two"):
        _made(People(people.kinship, Demographics(people.demographics.age_years, wrong)))


def test_a_stranger_is_as_old_as_the_scan_that_it_stands_for():
    """Sessions ten years apart: who is alike at the one is not at the other."""
    people = _people(twins=1, singles=10)
    ages = {}
    for number, name in enumerate(sorted(people.kinship.subjects)):
        young = name.startswith("sub-00") or number % 2 == 0
        ages |= {(name, "ses-1"): 30.0 if young else 40.0, (name, "ses-2"): 40.0}
    known = Demographics({}, people.demographics.sex, ages)
    cases = _cases(people, sessions=("_ses-1", "_ses-2"))
    config = CONFIG.model_copy(update={"caliper_years": 1.0, "match": ("age",)})
    table = _made(People(people.kinship, known), config, cases)
    others = table[table["label"] == "different"]
    both = [(row.subject, row.partner) for row in others.itertuples()]
    assert both
    assert all(ages[one, "ses-1"] == 30 for pair in both for one in pair)
    ages["sub-00a", "ses-1"] = None
    unknown = Demographics({}, people.demographics.sex, ages, {("age", "sub-00a"): "two ages"})
    with pytest.raises(UserError, match=r"sub-00a \(two ages\) has none"):
        _made(People(people.kinship, unknown), config, cases)


def test_an_empty_caliper_is_refused_or_relaxed_and_said(caplog):
    people = _people(twins=1, singles=10)
    old = dict.fromkeys(people.demographics.age_years, 50.0) | {"sub-00a": 22.0, "sub-00b": 22.0}
    old |= {"sub-04a": 40.0, "sub-06a": 35.0}
    people = People(people.kinship, Demographics(old, people.demographics.sex))
    with pytest.raises(UserError, match=r"sub-00a has none.*raise caliper_years"):
        _made(people)
    table = _made(people, CONFIG.model_copy(update={"relax_age": True}))
    others = table[table["label"] == "different"]
    assert (others["matched"] == "sex").all()
    # The nearest in age comes first; the second is the next nearest, not the same again.
    strangers = {*others["subject"], *others["partner"]} - {"sub-00a", "sub-00b"}
    assert strangers == {"sub-04a", "sub-06a"}
    assert "2 of 2 negative pairs are not matched on age" in caplog.text


def test_too_few_strangers_are_said_and_none_is_drawn_twice(caplog):
    people = _people(twins=1, singles=4)
    table = _made(people, CONFIG.model_copy(update={"negatives": 50, "match": ("sex",)}))
    others = table[table["label"] == "different"]
    assert len(_pairs(others)) == len(others) < 50
    assert f"{50 - len(others)} of the 50 negative pairs asked for are missing" in caplog.text


def test_the_scored_table_is_private_and_the_shared_one_names_nobody(tmp_path):
    people = _people()
    table = _made(people).assign(distance=lambda t: np.linspace(0, 1, len(t)), age_difference=1.0)
    path = write_brain_pairs(tmp_path / "pairs.private.tsv", table)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    pd.testing.assert_frame_equal(read_brain_pairs(path), table)
    with pytest.raises(UserError, match="must be named private"):
        write_brain_pairs(tmp_path / "pairs.tsv", table)
    shared = write_shareable_pairs(tmp_path / "pairs.tsv", table, ["distance"])
    assert "sub-" not in shared.read_text()
    again = pd.read_csv(shared, sep="\t")
    assert list(again) == ["group", "partner_group", "relation", "label", "distance"]
    assert sorted(again["distance"]) == pytest.approx(sorted(table["distance"]))
    # Numbers and order tell nothing of the names: another order of the rows gives the same file.
    shuffled = table.sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(
        shareable_pairs(shuffled, ["distance"]), shareable_pairs(table, ["distance"])
    )
    with pytest.raises(UserError, match="lacks case"):
        read_brain_pairs(shared)
    write_brain_pairs(path, table.replace({"label": {"same": "twins"}}))
    with pytest.raises(UserError, match="same and different, got twins"):
        read_brain_pairs(path)


def test_numbers_of_families_are_not_in_the_order_of_names():
    table = _made(_people(twins=12))
    same = table[table["label"] == "same"]
    assert list(same["group"]) != sorted(same["group"])


HCP = """\
Subject,Age_in_Yrs,Gender,Family_ID,Mother_ID,Father_ID,ZygositySR,ZygosityGT
1,27,F,51_81,51,81,MZ,MZ
2,28,F,51_81,51,81,NotMZ,MZ
3,30,M,51_81,51,81,NotTwin,
4,31,M,60_90,60,90,NotMZ,
5,31,F,60_90,60,90,NotMZ,DZ
6,35,M,51_82,51,82,NotTwin,
7,22,F,70_95,70,95,MZ,
8,22,F,70_95,70,95,NotMZ,
"""


def test_the_connectome_projects_table_gives_relations_age_and_sex(tmp_path):
    path = tmp_path / "restricted.csv"
    path.write_text(HCP)
    relations = read_kinship(path).relations([f"sub-{k}" for k in range(1, 9)])
    assert relations == {
        frozenset({"sub-1", "sub-2"}): "mz",
        frozenset({"sub-1", "sub-3"}): "sibling",
        frozenset({"sub-2", "sub-3"}): "sibling",
        frozenset({"sub-4", "sub-5"}): "dz",
        frozenset({"sub-1", "sub-6"}): "related",
        frozenset({"sub-2", "sub-6"}): "related",
        frozenset({"sub-3", "sub-6"}): "related",
        frozenset({"sub-7", "sub-8"}): "unclear",
    }
    people = read_demographics(path)
    assert people.age_years["sub-2"] == 28
    assert people.sex == dict(zip([f"sub-{k}" for k in range(1, 9)], "FFMMFMFF", strict=True))
    path.write_text(HCP.replace("MZ,MZ", "MZ,identical"))
    with pytest.raises(UserError, match="sub-1 has identical; write one of these"):
        read_kinship(path)


def test_twins_who_fit_several_others_are_nobodys_twin():
    twin = Relative("a", "m", "f", "MZ")
    four = Kinship(tuple((f"sub-{k}", twin) for k in range(4)))
    assert set(four.relations(f"sub-{k}" for k in range(4)).values()) == {"unclear"}
    # Not even where the others were not scanned.
    assert set(four.relations(["sub-0", "sub-1"]).values()) == {"unclear"}
    unclear = People(Kinship((*four.lines, *_people(twins=1).kinship.lines)), Demographics())
    split = _test_fold(unclear)
    table = all_pairs(_cases(unclear), unclear, "mz", split=split, fold="test")
    lot = table[table["subject"].isin(four.subjects) & table["partner"].isin(four.subjects)]
    assert lot.empty


def test_a_range_is_no_age_and_the_exact_column_wins(tmp_path):
    path = tmp_path / "open.csv"
    path.write_text("Subject,Age,Gender\n1,26-30,F\n2,89+,male\n")
    people = read_demographics(path)
    assert people.age_years == {"sub-2": 89.0}
    assert people.sex == {"sub-1": "F", "sub-2": "M"}
    exact = tmp_path / "restricted.csv"
    exact.write_text("Subject,Age,Age_in_Yrs\n1,31-35,31\n")
    assert read_demographics(path, exact).age_years == {"sub-1": 31.0, "sub-2": 89.0}
