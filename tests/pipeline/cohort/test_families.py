import json
import stat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hemitwin.pipeline.cohort.families import (
    groups_of,
    kinship_of,
    read_families,
    read_kinship,
    write_families,
)
from hemitwin.pipeline.cohort.kinship import Kinship, Relative
from hemitwin.pipeline.stage.errors import UserError

HCP = """\
Subject,Age_in_Yrs,Family_ID,Mother_ID,Father_ID,ZygositySR,ZygosityGT
100001,27,51_81,51,81,MZ,MZ
100002,27,51_81,51,81,NotMZ,MZ
100003,30,51_82,51,82,NotTwin,
100004,31,60_90,60,90,MZ,
100005,31,60_90,60,90,MZ,DZ
100006,35,70_82,70,82,NotTwin,
100007,22,75_95,75,95,NotTwin,
"""


def _table(folder, text, name="participants.tsv"):
    path = folder / name
    path.write_text(text.replace(" | ", "\t"))
    return path


def _partition(groups):
    return sorted(sorted(k for k in groups if groups[k] == one) for one in set(groups.values()))


def test_half_siblings_share_one_parent_and_chain_families(tmp_path):
    """1, 2 and 3 share a mother; 3 and 6 share a father: the four are one group."""
    subjects = [f"sub-10000{k}" for k in range(1, 8)]
    groups = groups_of(subjects, None, _table(tmp_path, HCP, "restricted.csv"))
    assert _partition(groups) == [
        ["sub-100001", "sub-100002", "sub-100003", "sub-100006"],
        ["sub-100004", "sub-100005"],
        ["sub-100007"],
    ]


def test_genotype_wins_and_a_reported_zygosity_is_announced(tmp_path, caplog):
    kinship = read_kinship(_table(tmp_path, HCP, "restricted.csv"))
    assert kinship.zygosity["sub-100002"] == "MZ"
    assert kinship.zygosity["sub-100005"] == "DZ"
    assert kinship.zygosity["sub-100004"] == "MZ"
    assert "4 of 7 zygosities are self-reported" in caplog.text
    assert "100004" not in caplog.text


def test_a_parent_who_is_a_subject_links_generations(tmp_path):
    text = "participant_id | mother_id | father_id\nsub-1 | n/a | n/a\nsub-2 | 1 | n/a\n"
    text += "sub-3 | sub-1 | x\nsub-4 | y | x\nsub-5 | n/a | \nsub-6 | n/a | \nsub-7 | x | n/a\n"
    groups = groups_of([f"sub-{k}" for k in range(1, 8)], _table(tmp_path, text))
    assert _partition(groups) == [["sub-1", "sub-2", "sub-3", "sub-4"]] + [
        [f"sub-{k}"] for k in (5, 6, 7)
    ]


def test_a_relative_who_was_not_scanned_still_links(tmp_path):
    text = (
        "participant_id | family_id | mother_id\nsub-1 | a | n/a\nsub-2 | b | m\nsub-9 | a | m\n"
    )
    groups = groups_of(["sub-1", "sub-2"], _table(tmp_path, text))
    assert groups["sub-1"] == groups["sub-2"]
    assert set(groups) == {"sub-1", "sub-2"}


def test_two_tables_are_taken_together_and_numbers_with_gaps_are_mended(tmp_path):
    first = _table(
        tmp_path, "participant_id | sex | mother_id\nsub-1 | F | 5.0\nsub-2 | M | n/a\n"
    )
    second = _table(tmp_path, "Subject,Mother_ID\n2,5\n", "private.csv")
    groups = groups_of(["sub-1", "sub-2"], first, second)
    assert groups["sub-1"] == groups["sub-2"]


@settings(max_examples=30)
@given(
    rows=st.lists(
        st.tuples(*[st.none() | st.integers(0, 8).map(str)] * 3), min_size=1, max_size=14
    ),
    data=st.data(),
)
def test_groups_are_what_spreading_along_links_finds(rows, data):
    """Oracle: repeat "share an identifier, share a group" until nothing changes, in any order."""
    lines = [(f"sub-p{k}", Relative(*row)) for k, row in enumerate(rows)]
    shuffled = data.draw(st.permutations(lines))
    number = {name: k for k, (name, _) in enumerate(lines)}
    for _ in lines:
        for one, mine in lines:
            for other, theirs in lines:
                shared = any(
                    getattr(mine, kind) is not None
                    and getattr(mine, kind) == getattr(theirs, kind)
                    for kind in ("family", "mother", "father")
                )
                if shared:
                    number[one] = number[other] = min(number[one], number[other])
    groups = Kinship(tuple(shuffled)).groups([])
    assert _partition(groups) == _partition(number)
    assert groups == Kinship(tuple(lines)).groups([])


def test_a_table_without_families_relates_nobody(tmp_path):
    path = _table(tmp_path, "participant_id | sex\nsub-1 | F\n")
    assert groups_of(["sub-1", "sub-2"], path) == {"sub-1": "sub-1", "sub-2": "sub-2"}
    assert groups_of(["sub-1"], None) == {"sub-1": "sub-1"}


def test_a_subject_without_a_line_and_a_foreign_table_are_refused(tmp_path):
    path = _table(tmp_path, "participant_id | family_id\nsub-1 | a\n")
    with pytest.raises(UserError, match=r"sub-2 has none; add it \(n/a"):
        kinship_of(["sub-1", "sub-2"], path)
    with pytest.raises(UserError, match="participant_id"):
        groups_of(["sub-1"], _table(tmp_path, "name | family_id\nsub-1 | a\n"))
    with pytest.raises(UserError, match="sub-1 has 0; write n/a"):
        groups_of(["sub-1"], _table(tmp_path, "participant_id | father_id\nsub-1 | 0\n"))
    with pytest.raises(UserError, match="is not there"):
        groups_of(["sub-1"], tmp_path / "none.tsv")


def test_a_table_of_families_that_tells_none_is_refused(tmp_path):
    wrong = _table(tmp_path, "Subject,Age\n1,30\n", "unrestricted.csv")
    with pytest.raises(UserError, match="must have a column that tells relatives"):
        kinship_of(["sub-1"], None, wrong)
    assert not kinship_of(["sub-1"], _table(tmp_path, "participant_id | sex\n1 | F\n")).lines


def test_the_private_file_is_its_owners_alone_and_holds_relatives_only(tmp_path):
    path = tmp_path / "families.private.json"
    groups = {"sub-1": "family-a", "sub-2": "family-a", "sub-3": "family-b"}
    write_families(path, groups)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_families(path) == {"sub-1": "family-a", "sub-2": "family-a"}
    assert list(tmp_path.iterdir()) == [path]
    assert write_families(path, {"sub-1": "sub-1"}) is None
    assert read_families(path) == {}
    path.write_text(json.dumps({"groups": []}))
    with pytest.raises(UserError, match="must hold 'groups'"):
        read_families(path)
