import json
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from hemitwin.pipeline.cohort.config import SplitConfig
from hemitwin.pipeline.cohort.split import (
    Split,
    _strata_of,
    draw_split,
    make_split,
    read_split,
    write_split,
)
from hemitwin.pipeline.stage.errors import UserError

FOLDS = ("train", "validation", "test")


@given(
    members=st.lists(st.integers(min_value=0, max_value=9), min_size=10, max_size=60),
    seed=st.integers(min_value=0, max_value=10**6),
)
def test_a_family_never_crosses_folds(members, seed):
    groups = {f"sub-{k}": f"family-{family}" for k, family in enumerate(members)}
    groups |= {f"sub-x{k}": f"family-{k}" for k in range(10)}
    split = make_split(groups, SplitConfig(), seed=seed)
    for family in set(groups.values()):
        relatives = [name for name, own in groups.items() if own == family]
        assert len({split.folds[name] for name in relatives}) == 1
    assert sorted(name for fold in FOLDS for name in split.subjects(fold)) == sorted(groups)


def test_counts_and_shares_say_how_many_groups():
    groups = {f"sub-{k}": f"sub-{k}" for k in range(48)}
    split = make_split(groups, SplitConfig(validation=8, test=8), seed=0)
    assert [len(split.subjects(fold)) for fold in FOLDS] == [32, 8, 8]
    shares = make_split(groups, SplitConfig(validation=0.25, test=0.25), seed=0)
    assert [len(shares.subjects(fold)) for fold in FOLDS] == [24, 12, 12]


def test_the_seed_decides_the_split_and_the_hash_tells_splits_apart():
    groups = {f"sub-{k}": f"sub-{k}" for k in range(20)}
    first, again, other = (make_split(groups, SplitConfig(), seed=s) for s in (1, 1, 2))
    assert first.hash == again.hash != other.hash


def test_too_few_groups_are_refused():
    with pytest.raises(UserError, match="at least one group"):
        make_split({"sub-1": "a", "sub-2": "a"}, SplitConfig(validation=1, test=1), seed=0)


def test_a_written_split_comes_back_and_names_no_family(tmp_path):
    split = make_split({f"sub-{k}": f"smith-{k // 2}" for k in range(20)}, SplitConfig(), seed=0)
    write_split(tmp_path / "splits.json", split)
    assert read_split(tmp_path / "splits.json") == split
    assert "smith" not in (tmp_path / "splits.json").read_text()


def test_an_edited_split_is_refused(tmp_path):
    path = tmp_path / "splits.json"
    write_split(path, Split({"sub-1": "train", "sub-2": "test"}, seed=0))
    content = json.loads(path.read_text())
    content["folds"]["sub-2"] = "train"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="must not be edited"):
        read_split(path)


def test_a_missing_or_foreign_split_is_refused(tmp_path):
    with pytest.raises(UserError, match="is not there"):
        read_split(tmp_path / "splits.json")
    (tmp_path / "splits.json").write_text('{"folds": {"sub-1": "tset"}}')
    with pytest.raises(UserError, match="one of train, validation, test"):
        read_split(tmp_path / "splits.json")


def test_scoring_a_training_subject_is_refused():
    split = Split({"sub-1": "train", "sub-2": "test"}, seed=0)
    split.require(["sub-2"], "test")
    with pytest.raises(UserError, match=r"sub-1 \(train\)"):
        split.require(["sub-1", "sub-2"], "test")
    with pytest.raises(UserError, match=r"sub-9 \(no fold\)"):
        split.require(["sub-9"], "test")


def test_a_subject_without_a_fold_is_refused():
    split = Split({"sub-1": "train"}, seed=0)
    with pytest.raises(UserError, match="sub-9"):
        split.require_known(["sub-1", "sub-9"])


DEMO = {f"sub-{k + 1:02d}": f"sub-{k + 1:02d}" for k in range(37)}
TRIPLES = {f"sub-{k:02d}": f"family-{k // 3}" for k in range(40)}


@pytest.mark.parametrize(
    ("groups", "config", "seed", "digest"),
    [
        pytest.param(DEMO, SplitConfig(validation=5, test=8), 0, "42c94376ea32bfa2", id="demo"),
        pytest.param(TRIPLES, SplitConfig(), 0, "624b10a8727b9fd9", id="families"),
        pytest.param(TRIPLES, SplitConfig(), 7, "5b573965bbd7b11f", id="another-seed"),
    ],
)
def test_the_default_draw_stays_what_it_was(groups, config, seed, digest):
    """Hashes of version 0.1.0: runs that were trained then must keep their folds."""
    assert make_split(groups, config, seed=seed).hash.startswith(digest)


@settings(max_examples=25)
@given(
    members=st.lists(st.integers(0, 14), min_size=12, max_size=50),
    folds=st.integers(2, 5),
    repeat=st.integers(0, 3),
    sexes=st.randoms(use_true_random=False),
)
def test_every_group_is_tested_once_in_a_cross_validation(members, folds, repeat, sexes):
    groups = {f"sub-{k}": f"family-{family}" for k, family in enumerate(members)}
    groups |= {f"sub-x{k}": f"sub-x{k}" for k in range(9)}
    strata = {name: sexes.choice("FM") for name in groups}
    tested = Counter()
    for fold in range(folds):
        config = SplitConfig(folds=folds, fold=fold, repeat=repeat, validation=1)
        split = make_split(groups, config, seed=3, strata=strata)
        tested.update(split.subjects("test"))
        assert set(split.folds) == set(groups)
        for family in set(groups.values()):
            assert len({split.folds[name] for name, own in groups.items() if own == family}) == 1
    assert tested == dict.fromkeys(groups, 1)


def test_repeats_differ_and_repeat_themselves():
    first, again, other = (
        make_split(DEMO, SplitConfig(folds=5, repeat=repeat), seed=0) for repeat in (1, 1, 2)
    )
    assert first.hash == again.hash != other.hash
    assert first.hash != make_split(DEMO, SplitConfig(folds=5), seed=0).hash


@pytest.mark.parametrize("seed", range(5))
def test_every_fold_gets_each_stratum_in_proportion(seed):
    """60 families of two with 12 patients' among them: a tenth of them is one or two of 12."""
    groups = {f"sub-{k:03d}": f"family-{k // 2:02d}" for k in range(120)}
    strata = {name: "patient" if k < 24 else "control" for k, name in enumerate(groups)}
    for fold in range(10):
        config = SplitConfig(folds=10, fold=fold, validation=0.1)
        split = make_split(groups, config, seed=seed, strata=strata)
        for part in ("test", "validation"):
            found = {groups[one] for one in split.subjects(part) if strata[one] == "patient"}
            assert len(split.subjects(part)) == 12
            assert abs(len(found) - 1.2) <= 1


@settings(max_examples=25)
@given(
    members=st.lists(st.integers(0, 14), min_size=12, max_size=50),
    shares=st.lists(st.floats(0.001, 1.0), min_size=2, max_size=2).map(sorted),
    folds=st.sampled_from([None, 3]),
    sexes=st.randoms(use_true_random=False),
)
def test_smaller_shares_of_training_lie_within_larger_ones(members, shares, folds, sexes):
    groups = {f"sub-{k}": f"family-{family}" for k, family in enumerate(members)}
    groups |= {f"sub-x{k}": f"sub-x{k}" for k in range(9)}
    strata = {name: sexes.choice("FM") for name in groups}
    whole, small, large = (
        make_split(groups, SplitConfig(folds=folds, train_share=one), seed=3, strata=strata)
        for one in (1.0, *shares)
    )
    learnt = [set(split.subjects("train")) for split in (small, large, whole)]
    assert set() < learnt[0] <= learnt[1] <= learnt[2]
    assert not whole.subjects("unused")
    for split in (small, large):
        assert split.subjects("validation") == whole.subjects("validation")
        assert split.subjects("test") == whole.subjects("test")
        used, unused = ({groups[one] for one in split.subjects(f)} for f in ("train", "unused"))
        assert not used & unused
        assert learnt[2] == set(split.subjects("train")) | set(split.subjects("unused"))


@pytest.mark.parametrize(
    ("share", "kept"), [(1.0, 21), (0.5, 11), (0.3, 7), (1 / 21, 1), (1e-9, 1)]
)
def test_a_share_of_training_is_rounded_up_to_whole_groups(share, kept):
    split = make_split(DEMO, SplitConfig(validation=8, test=8, train_share=share), seed=0)
    assert [len(split.subjects(fold)) for fold in (*FOLDS, "unused")] == [kept, 8, 8, 21 - kept]


def test_a_share_that_is_a_whole_number_of_groups_is_not_rounded_up():
    groups = {f"sub-{k}": f"sub-{k}" for k in range(102)}
    config = SplitConfig(validation=1, test=1, train_share=0.07)
    assert len(make_split(groups, config, seed=0).subjects("train")) == 7


def test_unused_subjects_are_written_and_can_not_be_scored(tmp_path):
    splits = [make_split(DEMO, SplitConfig(train_share=share), seed=0) for share in (1.0, 0.5)]
    assert splits[0].hash != splits[1].hash
    write_split(tmp_path / "splits.json", splits[1])
    split = read_split(tmp_path / "splits.json")
    assert split == splits[1]
    unused = split.subjects("unused")
    for fold in FOLDS:
        with pytest.raises(UserError, match=rf"{unused[0]} \(unused\)"):
            split.require(unused, fold)


@pytest.mark.parametrize("share", [0.0, -0.5, 1.5])
def test_a_share_of_training_out_of_range_is_refused(share):
    with pytest.raises(ValidationError, match="train_share"):
        SplitConfig(train_share=share)


def test_a_cohorts_tables_give_groups_and_strata(tmp_path):
    participants, families = tmp_path / "participants.tsv", tmp_path / "restricted.csv"
    names = [f"sub-{k:02d}" for k in range(20)]
    rows = [f"{name}\t{'FM'[k % 2]}\t{k}" for k, name in enumerate(names)]
    participants.write_text("participant_id\tsex\tage\n" + "\n".join(rows) + "\n")
    lines = [f"{name.removeprefix('sub-')},{k // 4 + 1}" for k, name in enumerate(names)]
    families.write_text("Subject,Mother_ID\n" + "\n".join(lines) + "\n")
    config = SplitConfig(stratify="sex", families=families)
    split = draw_split(names, config, participants=participants, seed=0)
    assert all(len({split.folds[name] for name in names[k : k + 4]}) == 1 for k in range(0, 20, 4))
    for config, where, reason in [
        (SplitConfig(stratify="height"), participants, "must have the column height"),
        (SplitConfig(stratify="age"), participants, "few categories, got age with 20 values"),
        (SplitConfig(stratify="sex"), None, r"data.participants is not set"),
    ]:
        with pytest.raises(UserError, match=reason):
            draw_split(names, config, participants=where, seed=0)


def test_who_has_a_value_is_left_out_and_nobody_else_is_tested(tmp_path):
    participants = tmp_path / "participants.tsv"
    names = [f"sub-{k:02d}" for k in range(20)]
    rows = [f"{name}\t{'Trio' if k < 8 else 'Prisma'}" for k, name in enumerate(names)]
    participants.write_text("participant_id\tscanner\n" + "\n".join(rows) + "\n")
    config = SplitConfig(leave_out={"scanner": "Trio"}, validation=3)
    split = draw_split(names, config, participants=participants, seed=0)
    assert split.subjects("test") == tuple(names[:8])
    assert len(split.subjects("validation")) == 3
    assert set(split.subjects("validation") + split.subjects("train")) == set(names[8:])
    again = SplitConfig(leave_out={"scanner": "Trio"}, validation=3, repeat=1)
    other = draw_split(names, again, participants=participants, seed=0)
    assert other.subjects("test") == split.subjects("test")
    assert other.subjects("validation") != split.subjects("validation")


def test_leaving_nobody_out_or_a_family_torn_is_refused(tmp_path):
    participants = tmp_path / "participants.tsv"
    names = [f"sub-{k:02d}" for k in range(8)]
    rows = [f"{name}\t{'ab'[k // 4]}\tfamily{k // 2 % 3}" for k, name in enumerate(names)]
    participants.write_text("participant_id\tsite\tfamily_id\n" + "\n".join(rows) + "\n")
    for leave_out, where, reason in [
        ({"site": "c"}, participants, r"got site 'c', which none has; there are a, b"),
        ({"scanner": "c"}, participants, "must have the column scanner"),
        ({"site": "a"}, None, r"split.leave_out \(site\) needs a table"),
        ({"site": "a"}, participants, "must lie in one fold, but family-family0 lie in several"),
    ]:
        with pytest.raises(UserError, match=reason):
            draw_split(names, SplitConfig(leave_out=leave_out), participants=where, seed=0)
    with pytest.raises(ValidationError, match="folds must be left out"):
        SplitConfig(leave_out={"site": "a"}, folds=5)
    with pytest.raises(ValidationError, match="at most 1 item"):
        SplitConfig(leave_out={"site": "a", "scanner": "b"})


def test_a_subject_of_several_strata_is_one_of_its_own_kind(tmp_path, caplog):
    participants = tmp_path / "participants.tsv"
    names = [f"sub-{k:02d}" for k in range(12)]
    rows = [f"{name[4:]}\t{'FM'[k % 2]}" for k, name in enumerate(names[:10])]
    participants.write_text("\n".join(["participant_id\tsex", *rows, "01\tF", "02\tF"]) + "\n")
    found = _strata_of(names, participants, "sex")
    assert (found["sub-01"], found["sub-02"]) == ("F+M", "F")
    assert "has no sex of sub-10, sub-11" in caplog.text
    with pytest.raises(UserError, match="it does so of none of sub-1, sub-2"):
        _strata_of(["sub-1", "sub-2"], participants, "sex")


def test_a_fold_that_does_not_exist_is_refused():
    with pytest.raises(ValidationError, match="fold must be below folds"):
        SplitConfig(folds=5, fold=5)
