"""Where scans come from; files are empty here: names and places decide."""

import json
import logging
import re
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813  # the name its own documentation uses

from hemitwin.pipeline.preparation.alignment import (
    SYMMETRIC_SPACES,
    alignment_of_matrix,
    reason_against,
)
from hemitwin.pipeline.preparation.sources import SourceConfig, find_sources
from hemitwin.pipeline.stage.bids import Case
from hemitwin.pipeline.stage.errors import UserError
from hemitwin.transforms import write_itk_affine


def _touch(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def _found(source: Path, labels: tuple[str, ...] | None = None, **config: object) -> tuple:
    return find_sources(source, labels=labels, config=SourceConfig.model_validate(config))


def _names(cases: tuple[Case, ...]) -> list[str]:
    return [case.name for case in cases]


def _derivatives(tmp_path: Path, *names: str) -> Path:
    description = {"Name": "fMRIPrep", "DatasetType": "derivative"}
    (tmp_path / "dataset_description.json").write_text(json.dumps(description))
    return _touch(tmp_path, *names)


def test_a_raw_dataset_gives_the_image_type_and_the_sessions_asked_for(tmp_path):
    for session in ("1", "2"):
        for tail in ("run-1_T1w", "run-2_T1w", "T2w", "FLAIR"):
            _touch(tmp_path, f"sub-01/ses-{session}/anat/sub-01_ses-{session}_{tail}.nii.gz")
    assert len(_found(tmp_path)) == 4
    (flair,) = _found(tmp_path, modality="FLAIR", sessions=("ses-2",))
    assert (flair.name, flair.modality, flair.alignment) == ("sub-01_ses-2", "FLAIR", "native")
    with pytest.raises(UserError, match=r"leave none; there are: ses-1, ses-2"):
        _found(tmp_path, sessions=("3",))


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ({"acquisition": "mprage"}, ["sub-01_acq-mprage_run-01"]),
        ({"acquisition": None}, ["sub-01_run-1", "sub-01_run-2"]),
        ({"acq": "*", "suffix": "T1w", "datatype": "anat"}, ["sub-01_acq-mprage_run-01"]),
        ({"run": 1}, ["sub-01_acq-mprage_run-01", "sub-01_run-1"]),
        ({"run": ["02", "3"]}, ["sub-01_run-2"]),
    ],
    ids=["value", "absent", "present", "number", "list"],
)
def test_a_filter_file_chooses_by_entities(tmp_path, query, names):
    _touch(tmp_path, *(f"sub-01/anat/sub-01_{n}_T1w.nii.gz" for n in ("run-1", "run-2")))
    _touch(tmp_path, "sub-01/anat/sub-01_acq-mprage_run-01_T1w.nii.gz")
    path = tmp_path / "filter.json"
    path.write_text(json.dumps({"t1w": query, "bold": {"task": "rest"}}))
    assert _names(_found(tmp_path, filter_file=path)) == names


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"t1w": {"session": "../../etc"}}', r"values of session must be letters and digits"),
        ('{"t1w": {"path": "x"}}', r"entities must be among .*acquisition.* got 'path'"),
        ('{"t1": {}}', r"must hold queries named .* got t1"),
        ('{"t1w": {"suffix": "bold"}}', r"suffix must be T1w here, got 'bold'"),
        ("no json", r"must be a JSON file"),
    ],
    ids=["traversal", "entity", "query", "suffix", "json"],
)
def test_a_filter_that_asks_for_the_unknown_is_refused(tmp_path, content, reason):
    _touch(tmp_path, "sub-01/anat/sub-01_T1w.nii.gz")
    (tmp_path / "filter.json").write_text(content)
    with pytest.raises(UserError, match=reason):
        _found(tmp_path, filter_file=tmp_path / "filter.json")


def test_subjects_that_only_table_or_folders_know_are_named(tmp_path, caplog):
    _touch(tmp_path, "sub-01/anat/sub-01_T1w.nii.gz", "sub-02/anat/sub-02_T1w.nii.gz")
    table = "participant_id\tage\nsub-01\t30\nsub-03\t40\nsub-03\t41\n../../x\t1\n"
    (tmp_path / "participants.tsv").write_text(table)
    with caplog.at_level(logging.WARNING):
        assert _names(_found(tmp_path)) == ["sub-01", "sub-02"]
    for told in ("sub-02 not in", "sub-03 twice in", "sub-03 without a folder but in"):
        assert told in caplog.text


def test_lines_of_several_sessions_are_no_repetition(tmp_path, caplog):
    _touch(tmp_path, "sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz")
    table = "participant_id\tsession_id\tage\n01\tses-1\t30\n01\tses-2\t31\n"
    (tmp_path / "participants.tsv").write_text(table)
    with caplog.at_level(logging.WARNING):
        assert _names(_found(tmp_path)) == ["sub-01_ses-1"]
    assert not caplog.text


def test_a_table_in_another_encoding_is_named_with_the_remedy(tmp_path, caplog):
    _touch(tmp_path, "sub-01/anat/sub-01_T1w.nii.gz")
    (tmp_path / "participants.tsv").write_bytes("participant_id\n01\nJosé\n".encode("latin-1"))
    assert _names(_found(tmp_path)) == ["sub-01"]
    (record,) = caplog.records
    assert "iconv -f LATIN1 -t UTF-8" in record.getMessage()


def test_a_session_that_no_scan_has_is_named(tmp_path, caplog):
    _touch(tmp_path, "sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz")
    assert _names(_found(tmp_path, sessions=("1", "9"))) == ["sub-01_ses-1"]
    assert "no scan has the session ses-9" in caplog.text


def test_mixed_sessions_are_all_taken_and_said(tmp_path, caplog):
    _touch(tmp_path, "sub-01/anat/sub-01_T1w.nii.gz", "sub-02/anat/sub-02_T1w.nii.gz")
    _touch(tmp_path, "sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz")
    with caplog.at_level(logging.WARNING):
        assert _names(_found(tmp_path)) == ["sub-01", "sub-01_ses-1", "sub-02"]
    assert "with and without session in sub-01: all taken" in caplog.text


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("sub-01/anat/sub-01_T1w.nii", "one file must be the scan sub-01, got .*nii and .*nii.gz"),
        (
            "sub-01/ses-1/anat/sub-01_run-1_T1w.nii.gz",
            "must begin as its folders do, with sub-01_",
        ),
        ("sub-01/anat/sub-02_T1w.nii.gz", "must begin as its folders do, with sub-01, got"),
        ("sub-01/anat/sub-01_acq-a.b_T1w.nii.gz", "must be made of entities"),
    ],
    ids=["twice", "session", "subject", "entities"],
)
def test_names_that_would_mix_scans_up_are_problems_of_their_case(tmp_path, name, reason):
    _touch(tmp_path, "sub-01/anat/sub-01_T1w.nii.gz", name)
    (problem,) = [case.problem for case in _found(tmp_path) if case.problem]
    assert re.search(reason, problem)


def test_derivatives_give_the_preprocessed_scan_and_its_mask(tmp_path):
    anat = "sub-01/anat/sub-01"
    folder = _derivatives(
        tmp_path,
        *(f"{anat}_{tail}.nii.gz" for tail in ("desc-preproc_T1w", "desc-brain_mask", "T1w")),
        f"{anat}_space-MNI152NLin2009cAsym_desc-preproc_T1w.nii.gz",
        f"{anat}_space-MNI152NLin2009cAsym_desc-brain_mask.nii.gz",
    )
    (native,) = _found(folder)
    assert native.name == "sub-01"
    assert native.scan.name == "sub-01_desc-preproc_T1w.nii.gz"
    assert native.mask == tmp_path / f"{anat}_desc-brain_mask.nii.gz"
    assert (native.alignment, native.space) == ("native", None)
    (warped,) = _found(folder, space="MNI152NLin2009cAsym")
    assert (warped.alignment, warped.space) == ("nonlinear", "MNI152NLin2009cAsym")
    assert warped.mask is not None
    assert "space-MNI152NLin2009cAsym" in warped.mask.name
    with pytest.raises(UserError, match="in MNI152NLin2009cAsym, none only; see --space"):
        _found(folder, space="MNI152NLin6Asym")
    _touch(tmp_path, "sub-02/anat/sub-02_desc-preproc_T1w.nii.gz")
    _, lacking = _found(folder, space="MNI152NLin2009cAsym")
    assert lacking.problem is not None  # not its native scan in another's place
    assert not lacking.scan.is_file()


def test_an_affine_beside_a_derivative_tells_how_it_was_aligned(tmp_path):
    anat = "sub-01/anat/sub-01"
    space = "MNI152NLin2009cSym"
    _derivatives(tmp_path, f"{anat}_space-{space}_desc-preproc_T1w.nii.gz")
    assert _found(tmp_path, space=space)[0].alignment == "nonlinear"
    matrix = np.diag([1.1, 1.0, 0.9, 1.0])
    path = tmp_path / f"{anat}_from-T1w_to-{space}_mode-image_xfm.txt"
    for shear, alignment in ((0.0, "similarity"), (0.1, "affine")):
        matrix[0, 1] = shear
        write_itk_affine(path, matrix)
        (case,) = _found(tmp_path, space=space)
        assert case.alignment == alignment_of_matrix(matrix) == alignment
    sitk.WriteTransform(sitk.ReadTransform(path), path.with_suffix(".mat"))
    path.unlink()
    assert _found(tmp_path, space=space)[0].alignment == "affine"


HCP = ("T1w_acpc_dc_restore.nii.gz", "brainmask_fs.nii.gz", "T2w_acpc_dc_restore_brain.nii.gz")


def test_an_hcp_tree_gives_acpc_scans_under_bids_names(tmp_path):
    _touch(tmp_path, "100307/T1w/T1w_acpc_dc_restore_brain.nii.gz", "100307/unprocessed/x")
    _touch(tmp_path, *(f"100307/T1w/{name}" for name in HCP), "zip/readme")
    _touch(tmp_path, *(f"HCA6002236_V1_MR/T1w/{name}" for name in HCP))
    _touch(tmp_path, "101107/MNINonLinear/T1w_restore_brain.nii.gz")
    _touch(tmp_path, "100307/MNINonLinear/T1w_restore_brain.nii.gz")
    first, second, third = _found(tmp_path)
    assert _names((first, second, third)) == ["sub-100307", "sub-101107", "sub-HCA6002236_ses-V1"]
    assert (first.scan.name, first.mask) == ("T1w_acpc_dc_restore_brain.nii.gz", None)
    assert (second.alignment, second.space) == ("nonlinear", "MNI152NLin6Asym")
    assert (third.alignment, third.scan.name) == ("acpc", "T1w_acpc_dc_restore.nii.gz")
    assert third.mask is not None
    assert third.mask.name == "brainmask_fs.nii.gz"
    (t2w,) = _found(tmp_path, labels=("HCA6002236",), modality="T2w")
    assert t2w.scan.name == "T2w_acpc_dc_restore_brain.nii.gz"
    (one,) = _found(tmp_path / "100307", space="MNI152NLin6Asym")
    assert one.scan.parent.name == "MNINonLinear"


def test_a_table_of_scans_is_read_with_what_it_says_of_each(tmp_path):
    lines = (
        "\ufeffSubject,session,scan,mask,alignment,space,Family_ID",
        "01,1,a/one.nii.gz,a/mask.nii.gz,acpc,,51",
        "sub-01,ses-2,a/two.nii.gz,,,,51",
        "02,,b/sub-02_space-MNI152NLin6Asym_T1w.nii,,,,52",
        "",
    )
    (tmp_path / "list.csv").write_text("\n".join(lines), encoding="utf-8")
    one, two, three = _found(tmp_path / "list.csv")
    assert _names((one, two, three)) == ["sub-01_ses-1", "sub-01_ses-2", "sub-02"]
    assert (one.alignment, one.mask) == ("acpc", tmp_path / "a/mask.nii.gz")
    assert (two.alignment, two.mask) == ("native", None)
    assert (three.alignment, three.space) == ("nonlinear", "MNI152NLin6Asym")


def test_a_plain_list_names_subjects_after_its_files(tmp_path):
    text = "# scans\n/data/IXI002-Guys-T1.nii.gz\n\nx/sub-07_ses-2_T1w.nii  # the second\n"
    (tmp_path / "list.txt").write_text(text)
    first, second = _found(tmp_path / "list.txt")
    assert (first.name, first.scan) == ("sub-IXI002GuysT1", Path("/data/IXI002-Guys-T1.nii.gz"))
    assert (second.name, second.session) == ("sub-07_ses-2", "ses-2")
    assert _names(_found(tmp_path / "list.txt", labels=("07",))) == ["sub-07_ses-2"]


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ("subject,scan\n01,a.nii\n01,b.nii", r"once, but sub-01 stands in lines 2 and 3"),
        ("subject,scan\n01,a.nii\n02,./a.nii", r"once, but the file .*a\.nii stands in lines 2"),
        ("subject,scan\n../../x,a.nii", r"line 2: a participant label must be letters"),
        ("subject,scan\n/etc/x,a.nii", r"line 2: a participant label must be letters"),
        ("subject,session,scan\n1,../2,a.nii", r"line 2: a session label must be letters"),
        ("subject,scan,space\n1,a.nii,../x", r"line 2: alignment must be one of"),
        ("subject,scan,alignment\n1,a.nii,rigid", r"one of native, acpc.* got 'rigid'"),
        ("subject,scan\n1,", r"line 2: a row must name a scan"),
        ("subject,path\n1,a.nii", r"must have columns subject and scan, got subject, path"),
        ("subject,scan", r"but every row is missing"),
    ],
    ids=[
        "subject",
        "file",
        "up",
        "absolute",
        "session",
        "space",
        "word",
        "no scan",
        "column",
        "0",
    ],
)
def test_a_table_that_would_mix_scans_up_is_refused(tmp_path, rows, reason):
    (tmp_path / "list.csv").write_text(rows + "\n")
    with pytest.raises(UserError, match=reason):
        _found(tmp_path / "list.csv")


def test_a_scan_handed_in_as_a_list_is_refused(tmp_path):
    (tmp_path / "a.nii").write_bytes(b"\x5c\x01\0\0" * 100)
    with pytest.raises(UserError, match="must be a text file"):
        _found(tmp_path / "a.nii")


@pytest.mark.parametrize("space", SYMMETRIC_SPACES)
def test_hemispheres_are_compared_in_symmetric_spaces_only(space):
    case = Case("sub-01", "sub-01", Path("x"), alignment="similarity", space=space)
    refused = reason_against(case, "hemispheres")
    assert (refused is None) == (space.endswith("Sym") and not space.endswith("Asym"))
    assert refused is None or "asymmetric template" in refused
    assert reason_against(case, "brains") is None


@pytest.mark.parametrize("alignment", ["affine", "nonlinear"])
def test_what_removes_asymmetry_is_refused_for_hemispheres_alone(alignment):
    case = Case("sub-01", "sub-01", Path("x"), alignment=alignment, space="MNI152NLin2009cSym")
    refused = reason_against(case, "hemispheres")
    assert refused is not None
    assert "asymmetry that is to be found" in refused
    assert reason_against(case, "brains") is None
