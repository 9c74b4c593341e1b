"""Age and sex by session: lines that agree are one, of others the scan's session decides."""

import pytest

from hemitwin.pipeline.cohort.demographics import read_demographics
from hemitwin.pipeline.group.covariates import Covariates
from hemitwin.pipeline.stage.errors import UserError
from hemitwin.pipeline.stage.tables import read_table, sessions_of


@pytest.fixture
def write(tmp_path):
    def make(text, name="participants.tsv"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace(" | ", "\t"))
        return path

    return make


def test_lines_that_agree_are_one(write):
    people = read_demographics(
        write("participant_id | age | sex\n01 | 30 | F\nsub-01 | 30.0 | f\n")
    )
    assert people.age_years == {"sub-01": 30.0}
    assert people.sex == {"sub-01": "F"}
    assert people.age_of("sub-01", "ses-9") == 30


@pytest.mark.parametrize("column", ["session_id", "Session", "ses"])
@pytest.mark.parametrize("prefix", ["ses-", "SES-", ""])
def test_a_scan_has_the_age_of_its_session(write, column, prefix):
    text = f"participant_id | {column} | age\n01 | {prefix}1 | 30\n01 | {prefix}2 | 35\n"
    people = read_demographics(write(text))
    assert (people.age_of("sub-01", "ses-1"), people.age_of("sub-01", "ses-2")) == (30, 35)
    for session in (None, "ses-3", "ses-01"):
        assert people.age_of("sub-01", session) is None
    assert people.why("age", "sub-01") == "its lines give 30 and 35 years, and no session decides"


def test_names_that_hold_a_session_are_taken_apart(write):
    path = write("participant_id | age\nsub-01_ses-1 | 30\n01_ses-2 | 35\nHCA12_V1_MR | 40\n")
    people = read_demographics(path)
    assert people.age_of("sub-01", "ses-2") == 35
    assert people.age_of("sub-HCA12", "ses-V1") == 40
    assert sessions_of(read_table(path)) == ["ses-1", "ses-2", "ses-V1"]


def test_tables_of_single_subjects_sessions_are_read_beside_the_participants(write):
    path = write("participant_id | age | sex\n01 | 30 | F\n02 | 50 | M\n")
    write("session_id | age\nses-1 | 30\nses-2 | 36\n", "sub-01/sub-01_sessions.tsv")
    people = read_demographics(path)
    assert people.age_of("sub-01", "ses-2") == 36
    assert people.age_of("sub-01", "ses-3") is None
    assert people.age_of("sub-02", "ses-3") == 50
    assert people.sex == {"sub-01": "F", "sub-02": "M"}


def test_several_lines_of_one_session_decide_nothing(write):
    text = "participant_id | session_id | age\n01 | 1 | 30\n01 | 1 | 31\n01 | 2 | 35\n"
    people = read_demographics(write(text))
    assert people.age_of("sub-01", "ses-1") is None
    assert people.age_of("sub-01", "ses-2") == 35


def test_a_session_whose_line_has_no_age_has_none(write):
    people = read_demographics(write("participant_id | ses | age\n1 | 1 | 30\n1 | 2 | n/a\n"))
    assert people.age_of("sub-1", "ses-1") == 30
    assert people.age_of("sub-1", "ses-2") is None
    assert people.age_of("sub-1") == 30


def test_a_sex_that_changes_between_lines_is_not_known(write):
    people = read_demographics(write("participant_id | ses | sex\n1 | 1 | F\n1 | 2 | M\n"))
    assert people.sex == {}
    assert people.why("sex", "sub-1") == "its lines give F and M"
    with pytest.raises(UserError, match=r"sub-1 \(its lines give F and M\) has none"):
        people.require([("sub-1", None)], sex=True)


@pytest.mark.parametrize("age", ["-1", "0", "121", "inf", "nan?", "forty", "27,5", "26-30"])
def test_what_can_be_no_age_is_none_and_named(write, caplog, age):
    people = read_demographics(write(f"participant_id | age\n01 | {age}\n02 | 30\n03 | n/a\n"))
    assert people.age_years == {"sub-02": 30}
    assert f"participants.tsv has no ages of sub-01 ({age})" in caplog.text
    assert "sub-03" not in caplog.text


@pytest.mark.parametrize("age", ["0.3", "120", "89+"])
def test_what_can_be_an_age_is_one(write, caplog, age):
    people = read_demographics(write(f"participant_id | age\n01 | {age}\n"))
    assert people.age_years == {"sub-01": float(age.removesuffix("+"))}
    assert not caplog.text


def test_zeros_are_part_of_a_name(write):
    people = read_demographics(write("participant_id | age\n1 | 30\n01 | 40\nSUB-02 | 50\n"))
    assert people.age_years == {"sub-1": 30, "sub-01": 40, "sub-02": 50}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("participant_id\tname\n01\tRené\n".encode("latin-1"), r"0xe9.*iconv -f LATIN1 -t UTF-8"),
        ("participant_id\tage\n01\t3\n".encode("utf-16"), "text in UTF-8"),
        (b"participant_id\tage\n01\t3\n01\t3\t4\t5\n", "tabs between its columns"),
        (b"", "tabs between its columns"),
    ],
)
def test_a_file_that_is_no_table_in_utf8_is_named_with_the_remedy(tmp_path, content, message):
    path = tmp_path / "participants.tsv"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        read_demographics(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_subjects_age_is_the_mean_over_its_scans_and_a_scans_its_own(write):
    text = "participant_id | session_id | age\n1 | 1 | 30\n1 | 2 | 40\n2 | 1 | 50\n3 | 1 | 60\n"
    scans = {"sub-1": ["sub-1_ses-1", "sub-1_ses-2"], "sub-2": ["sub-2_ses-1"], "sub-3": ["sub-3"]}
    found = Covariates.of(list(scans), read_demographics(write(text)), scans)
    assert found.table["age_years"].tolist() == [35, 50, 60]
    design = found.design(list(scans))
    assert found.row("sub-1_ses-2", design).tolist() == [1, 40]


def test_whose_age_is_not_known_is_named_and_the_others_keep_theirs(write):
    people = read_demographics(write("participant_id | age\n1 | 30\n1 | 31\n2 | 50\n3 | 60\n"))
    found = Covariates.of(["sub-1", "sub-2", "sub-3", "sub-4"], people)
    assert found.left_out == {"sex": "known of nobody"}
    assert set(found.lacking["age"]) == {"sub-1", "sub-4"}
    assert found.known == {"sub-2", "sub-3"}
    design = found.design(["sub-2", "sub-3"])
    assert design.used == ("age_years",)
    with pytest.raises(UserError, match=r"sub-1 age \(its lines give 30 and 31 years"):
        found.row("sub-1", design)
    with pytest.raises(UserError, match=r"sub-4 age \(no table says it\)"):
        found.row("sub-4", design)
