from pathlib import Path

import pytest

from hemitwin.pipeline.stage.bids import Case, find_scans, normalise_labels
from hemitwin.pipeline.stage.errors import UserError


def _touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_a_label_with_and_without_prefix_is_the_same():
    assert normalise_labels(["01", "sub-01", "sub-02"]) == ("sub-01", "sub-02")


@pytest.mark.parametrize("label", ["", "0 1", "../01", "sub-"])
def test_a_label_that_is_no_label_is_refused(label):
    with pytest.raises(UserError, match="letters and digits"):
        normalise_labels([label])


def test_sessions_and_runs_are_cases_of_one_subject(tmp_path):
    _touch(
        tmp_path,
        "sub-01/ses-a/anat/sub-01_ses-a_T1w.nii.gz",
        "sub-01/ses-b/anat/sub-01_ses-b_run-1_T1w.nii",
        "sub-01/ses-b/anat/sub-01_ses-b_run-1_T1w.json",
        "sub-01/ses-b/anat/sub-01_ses-b_T2w.nii.gz",
    )
    cases = find_scans(tmp_path)
    assert [case.name for case in cases] == ["sub-01_ses-a", "sub-01_ses-b_run-1"]
    assert {case.subject for case in cases} == {"sub-01"}
    assert cases[1].folder(Path("out")) == Path("out/sub-01/ses-b/anat")


def test_resampled_scans_are_not_taken_for_raw_ones(tmp_path):
    _touch(tmp_path, "sub-01/anat/sub-01_space-MNI_T1w.nii.gz", "sub-01/anat/sub-01_T1w.nii.gz")
    assert [case.scan.name for case in find_scans(tmp_path)] == ["sub-01_T1w.nii.gz"]
    resampled = find_scans(tmp_path, tail="space-MNI_T1w")
    assert [case.name for case in resampled] == ["sub-01"]


@pytest.mark.parametrize("name", ["._sub-01_T1w.nii.gz", ".partial-x8_1k2z9-sub-01_T1w.nii.gz"])
def test_a_name_with_a_leading_dot_is_no_scan(tmp_path, name):
    _touch(tmp_path, "sub-01/anat/sub-01_T1w.nii.gz", f"sub-01/anat/{name}")
    (case,) = find_scans(tmp_path)
    assert (case.scan.name, case.problem) == ("sub-01_T1w.nii.gz", None)


def test_a_subject_without_a_scan_is_a_case_with_a_missing_file(tmp_path):
    _touch(tmp_path, "sub-01/anat/sub-01_T1w.nii.gz", "sub-02/anat/sub-02_T2w.nii.gz")
    cases = find_scans(tmp_path)
    assert [case.scan.is_file() for case in cases] == [True, False]


def test_a_subject_that_is_not_there_is_named(tmp_path):
    _touch(tmp_path, "sub-01/anat/sub-01_T1w.nii.gz")
    with pytest.raises(UserError, match="sub-99"):
        find_scans(tmp_path, labels=["99"])


def test_a_folder_without_subjects_is_refused(tmp_path):
    with pytest.raises(UserError, match="sub-<label>"):
        find_scans(tmp_path)
    with pytest.raises(UserError, match="not there"):
        find_scans(tmp_path / "missing")


def test_a_case_without_session_lies_in_its_anat_folder():
    case = Case("sub-01", "sub-01", Path("x.nii.gz"))
    assert case.session is None
    assert case.path(Path("out"), "T1w.nii.gz") == Path("out/sub-01/anat/sub-01_T1w.nii.gz")
