import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hemitwin.pipeline.config import SplitConfig
from hemitwin.pipeline.errors import UserError
from hemitwin.pipeline.split import Split, make_split, read_split, write_split

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
