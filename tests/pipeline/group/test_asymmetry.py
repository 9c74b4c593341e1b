"""Homotopic asymmetry against a reference group: what was planted is found, nothing else is."""

import json
import re

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from hemitwin.atlases import hcpmmp_regions, save_table, save_volume
from hemitwin.pipeline.cli.main import main
from hemitwin.pipeline.group.asymmetry import AsymmetryConfig, asymmetry
from hemitwin.pipeline.group.asymmetry_cohort import AsymmetryCohort, sides_of
from hemitwin.pipeline.stage.bids import sidecar_of
from hemitwin.pipeline.stage.errors import UserError
from hemitwin.pipeline.stage.json_files import digest_file, write_json
from hemitwin.pipeline.statistics.regression import deviations, tail_scale

PEOPLE = 16
PATIENT, PLANTED = "sub-15", "L_V1"
LEFT = [one for one in hcpmmp_regions() if one.hemisphere == "L"]
TAIL = "space-MNI152NLin2009aSym"


def pairs_of(rng, *, planted=False):
    """Pairs of alike sides; a patient's left V1 has more."""
    level = rng.uniform(5, 10, len(LEFT))
    sides = level[:, None] * rng.uniform(0.9, 1.1, (len(LEFT), 2))
    names = [one.name for one in LEFT]
    if planted:
        sides[names.index(PLANTED), 0] *= 3
    table = pd.DataFrame(
        {
            "left": names,
            "right": [one.partner for one in LEFT],
            "cortex": [one.cortex for one in LEFT],
            "positive_left": sides[:, 0],
            "positive_right": sides[:, 1],
        }
    )
    table["difference"] = sides[:, 0] - sides[:, 1]
    return table.sample(frac=1, random_state=int(rng.integers(1000)))


@pytest.fixture
def derivatives(tmp_path, record_tables):
    """As explain and parcellate leave them, without the scans behind."""
    rng = np.random.default_rng(0)
    for number in range(PEOPLE):
        name = f"sub-{number:02d}"
        anat = tmp_path / name / "anat"
        anat.mkdir(parents=True)
        for desc in ("desc-prepared_T1w", "desc-lrp_relevance"):
            scan = anat / f"{name}_{TAIL}_{desc}.nii.gz"
            save_volume(scan, np.ones((2, 2, 2), np.float32), np.eye(4), space=TAIL)
            write_json(sidecar_of(scan), {"Digest": digest_file(scan)})
        path = anat / f"{name}_{TAIL}_atlas-HCPMMP1_desc-lrppairs_relevance.tsv"
        save_table(path, pairs_of(rng, planted=name == PATIENT))
        record_tables(tmp_path, name)
    return tmp_path


@pytest.fixture
def participants(derivatives):
    """Ages, and groups: the last four are patients."""
    lines = [f"sub-{k:02d}\t{20 + 3 * k}\t{'ill' if k > 11 else 'control'}" for k in range(PEOPLE)]
    path = derivatives / "participants.tsv"
    path.write_text("\n".join(["participant_id\tage\tgroup", *lines]) + "\n")
    return path


def families_of(derivatives, of):
    path = derivatives / "families.csv"
    lines = [f"{number:02d},{of(number)}" for number in range(PEOPLE)]
    path.write_text("\n".join(["Subject,Family_ID", *lines]) + "\n")
    return path


def table_path(derivatives, subject, kind="asymmetry"):
    name = f"{subject}_{TAIL}_atlas-HCPMMP1_desc-lrp{kind}_relevance.tsv"
    return derivatives / subject / "anat" / name


def by_left(table, column):
    return dict(zip(table["left"].tolist(), table[column].tolist(), strict=True))


def sides_by_subject(derivatives):
    return {
        name: sides_of(pd.read_csv(table_path(derivatives, name, "pairs"), sep="\t")).sort_index()
        for name in (f"sub-{number:02d}" for number in range(PEOPLE))
    }


def sidecar(path):
    return json.loads(path.with_suffix(".json").read_text())


def test_sides_are_shares_of_all_pairs_and_the_index_is_bounded():
    table = pairs_of(np.random.default_rng(1))
    table.loc[table["left"] == "L_V2", ["positive_left", "positive_right"]] = 0.0
    table.loc[table["left"] == "L_V3", "positive_right"] = 0.0
    found = sides_of(table)
    total = table["positive_left"].sum() + table["positive_right"].sum()
    row = table.set_index("left").loc["L_V1"]
    assert found.loc["L_V1", "difference"] == pytest.approx(row["difference"] / total)
    both = row["positive_left"] + row["positive_right"]
    assert found.loc["L_V1", "index"] == pytest.approx(row["difference"] / both)
    assert found.loc["L_V3", "index"] == 1
    assert found["index"].isna().sum() == 1
    assert found["index"].isna()["L_V2"]
    doubled = table.assign(
        positive_left=2 * table["positive_left"], positive_right=2 * table["positive_right"]
    )
    np.testing.assert_allclose(sides_of(doubled)["difference"], found["difference"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.drop(columns="positive_left"), "no columns positive_left"),
        (
            lambda table: table.assign(positive_left=0.0, positive_right=0.0),
            "no positive relevance",
        ),
    ],
)
def test_a_table_without_sides_is_refused(change, message):
    with pytest.raises(UserError, match=message):
        sides_of(change(pairs_of(np.random.default_rng(1))))


def test_scans_of_one_person_count_as_their_mean():
    rng = np.random.default_rng(2)
    first, second, other = (sides_of(pairs_of(rng)).sort_index() for _ in range(3))
    tables = {"sub-1": [first, second], "sub-2": [other]}
    cohort = AsymmetryCohort.of(tables, AsymmetryConfig())
    expected = (first["difference"] + second["difference"]) / 2
    assert cohort.reference == ("sub-1", "sub-2")
    np.testing.assert_allclose(cohort.differences.loc["sub-1"], expected)


def test_a_planted_asymmetry_is_found_and_nobody_elses(derivatives):
    found = asymmetry(derivatives)
    assert not found.outcome.failures
    assert len(found.outcome.results) == PEOPLE
    for one in found.outcome.results:
        strong = one.table[one.table["q"] < 0.05]
        assert list(strong["left"]) == ([PLANTED] if one.case.subject == PATIENT else [])
        assert one.reference == PEOPLE - 1
    p_values = np.concatenate([one.table["p"].to_numpy() for one in found.outcome.results])
    assert np.mean(p_values < 0.05) == pytest.approx(0.05, abs=0.015)


def test_z_of_a_subject_is_that_of_all_others(derivatives, participants):
    config = AsymmetryConfig(participants=participants)
    found = asymmetry(derivatives, labels=("03",), config=config)
    sides = sides_by_subject(derivatives)
    others = [name for name in sides if name != "sub-03"]
    values = np.stack([sides[name]["difference"].to_numpy() for name in others])
    design = np.array([[1.0, 20 + 3 * int(name[4:])] for name in others])
    scale = tail_scale(values, design)
    own = sides["sub-03"]["difference"].to_numpy()
    row = np.array([1.0, 29.0])
    expected = deviations(np.arcsinh(values / scale), design, np.arcsinh(own / scale), row)
    table = found.outcome.results[0].table.set_index("left").sort_index()
    np.testing.assert_allclose(table["z"], expected.z)
    np.testing.assert_allclose(table["expected"], scale * np.sinh(expected.expected))
    np.testing.assert_allclose(table["q"], expected.q)
    content = sidecar(found.outcome.results[0].path)
    assert content["Covariates"] == ["age_years"]
    assert content["CovariatesLeftOut"] == {"sex": "known of nobody"}
    assert (content["ReferenceSubjects"], content["DegreesOfFreedom"]) == (15, 13)
    written = json.dumps(content)
    assert not re.search(r"\b(20|23|26|29|32|35)\.0\b|sub-0[^3]", written)


def test_mirrored_subjects_have_mirrored_signs(derivatives, record_tables):
    def z_of_patient():
        (one,) = asymmetry(derivatives, labels=(PATIENT,)).outcome.results
        return one.table.set_index("left")["z"]

    before = z_of_patient()
    for path in derivatives.glob("sub-*/anat/*pairs_relevance.tsv"):
        swap = {"positive_left": "positive_right", "positive_right": "positive_left"}
        save_table(path, pd.read_csv(path, sep="\t").rename(columns=swap))
        record_tables(derivatives, path.name[:6])
    after = z_of_patient()
    np.testing.assert_allclose(after, -before[after.index])


def test_workbench_shows_left_z_and_right_its_opposite(derivatives):
    (one,) = asymmetry(derivatives, labels=(PATIENT,)).outcome.results
    image = nib.Cifti2Image.from_filename(one.path.with_suffix(".pscalar.nii"))
    by_name = dict(zip(image.header.get_axis(1).name, image.get_fdata()[0], strict=True))
    z = by_left(one.table, "z")[PLANTED]
    assert by_name["L_V1"] == pytest.approx(z, rel=1e-5)
    assert by_name["R_V1"] == pytest.approx(-z, rel=1e-5)
    assert by_name["brainStem"] == 0


def test_relatives_are_not_in_the_reference_and_no_file_names_them(derivatives):
    families = families_of(derivatives, lambda number: number // 2)
    config = AsymmetryConfig(families=families)
    found = asymmetry(derivatives, labels=("00", "07", PATIENT), config=config)
    assert {one.reference for one in found.outcome.results} == {PEOPLE - 2}
    for one in found.outcome.results:
        text = one.path.with_suffix(".json").read_text()
        others = [f"sub-{k:02d}" for k in range(PEOPLE) if f"sub-{k:02d}" != one.case.subject]
        assert not any(name in text for name in others)
        assert families.name not in text
    content = sidecar(found.group_path)
    assert (content["Families"], content["DegreesOfFreedom"]) == (8, 7)
    assert content["StandardError"] == "over families (CR1)"


def test_a_named_reference_is_held_against_the_others(derivatives, participants):
    config = AsymmetryConfig(reference=participants, reference_group="group=control")
    found = asymmetry(derivatives, labels=("00", PATIENT), config=config)
    sizes = {one.case.subject: one.reference for one in found.outcome.results}
    assert (sizes["sub-00"], sizes[PATIENT]) == (11, 12)
    content = sidecar(found.group_path)
    assert (content["Subjects"], content["ReferenceSubjects"]) == (4, 12)
    assert content["ReferenceGroup"] == "group=control"
    sides = {name: one["difference"] for name, one in sides_by_subject(derivatives).items()}
    ill, well = (
        np.mean([sides[f"sub-{k:02d}"]["L_V2"] for k in numbers])
        for numbers in (range(12, 16), range(12))
    )
    assert found.group is not None
    assert by_left(found.group, "difference")["L_V2"] == pytest.approx(ill)
    assert by_left(found.group, "effect")["L_V2"] == pytest.approx(ill - well)
    config = AsymmetryConfig(reference=participants)
    only_controls = asymmetry(derivatives, labels=("00",), config=config)
    assert only_controls.group is None


def test_a_consistent_asymmetry_of_a_group_is_found(derivatives, record_tables):
    for path in derivatives.glob("sub-*/anat/*pairs_relevance.tsv"):
        table = pd.read_csv(path, sep="\t")
        table.loc[table["left"] == "L_V2", "positive_right"] *= 1.3
        save_table(path, table)
        record_tables(derivatives, path.name[:6])
    found = asymmetry(derivatives, labels=("00",))
    table = pd.read_csv(found.group_path, sep="\t")
    assert list(table.loc[table["q"] < 0.05, "left"]) == ["L_V2"]
    row = table.iloc[0].to_dict()
    assert row["effect_low"] <= row["effect"] <= row["effect_high"] < 0
    assert row["effect"] == pytest.approx(row["difference"])
    assert row["index"] < 0


def test_what_is_done_is_recognised_by_content(derivatives, record_tables):
    labels = ("02", "03")
    first = asymmetry(derivatives, labels=labels)
    path = table_path(derivatives, "sub-02")
    times = {one.path: one.path.stat().st_mtime_ns for one in first.outcome.results}
    again = asymmetry(derivatives, labels=labels)
    assert {one.path: one.path.stat().st_mtime_ns for one in again.outcome.results} == times
    pd.testing.assert_frame_equal(again.outcome.results[0].table, first.outcome.results[0].table)
    path.with_suffix(".pscalar.nii").unlink()
    before = path.with_suffix(".json").stat().st_mtime_ns
    asymmetry(derivatives, labels=("02",))
    assert path.with_suffix(".pscalar.nii").is_file()
    assert path.with_suffix(".json").stat().st_mtime_ns > before
    # Another subject's table changed: it is in everybody's reference.
    save_table(table_path(derivatives, "sub-05", "pairs"), pairs_of(np.random.default_rng(9)))
    record_tables(derivatives, "sub-05")
    asymmetry(derivatives, labels=labels)
    assert path.stat().st_mtime_ns > times[path]


def test_tables_of_another_map_are_in_no_reference(derivatives):
    name = f"sub-04_{TAIL}_desc-lrp_relevance.nii.gz"
    scan = derivatives / "sub-04" / "anat" / name
    save_volume(scan, np.full((2, 2, 2), 2, np.float32), np.eye(4), space=TAIL)
    write_json(sidecar_of(scan), {"Digest": digest_file(scan)})
    found = asymmetry(derivatives, labels=("04", "07"))
    (failure,) = found.outcome.failures
    assert failure.case == "sub-04"
    assert "of another map than is there now; run 'hemitwin parcellate" in failure.reason
    assert found.outcome.results[0].reference == PEOPLE - 2


def test_one_bad_subject_does_not_stop_the_others(derivatives, record_tables):
    table_path(derivatives, "sub-04", "pairs").unlink()
    path = table_path(derivatives, "sub-00", "pairs")
    save_table(path, pd.read_csv(path, sep="\t").iloc[:100])
    record_tables(derivatives, "sub-00")
    found = asymmetry(derivatives, labels=("00", "04", "07"))
    reasons = {failure.case: failure.reason for failure in found.outcome.failures}
    assert "hemitwin parcellate" in reasons["sub-04"]
    assert "the same pairs" in reasons["sub-00"]
    assert {one.reference for one in found.outcome.results} == {PEOPLE - 3}


def test_a_folder_without_tables_is_refused(derivatives, record_tables):
    for path in derivatives.glob("sub-*/anat/*pairs_relevance.tsv"):
        path.write_text("")
        record_tables(derivatives, path.name[:6])
    with pytest.raises(UserError, match="no table of homotopic pairs can be read"):
        asymmetry(derivatives)


def test_a_small_reference_is_refused(derivatives, participants):
    for config in (
        AsymmetryConfig(reference=participants, reference_group="group=ill"),
        AsymmetryConfig(participants=participants, reference_group="group=ill"),
    ):
        with pytest.raises(UserError, match=r"8 subjects or more|9 subjects or more"):
            asymmetry(derivatives, config=config)


@pytest.mark.parametrize(
    ("table", "group", "message"),
    [
        (False, "group=control", "must be in a table"),
        (True, "diagnosis=none", "must have the column diagnosis"),
        (True, "group=unknown", "there is none"),
    ],
)
def test_a_reference_that_is_nobody_is_refused(derivatives, participants, table, group, message):
    config = AsymmetryConfig(reference=participants if table else None, reference_group=group)
    with pytest.raises(UserError, match=message):
        asymmetry(derivatives, config=config)


def people_table(derivatives, change=lambda lines: lines, header="participant_id\tage\tgroup"):
    """Write the participants as the fixture does, changed by number of the line."""
    group = ["ill" if k > 11 else "control" for k in range(PEOPLE)]
    lines = [f"{k:02d}\t{20 + 3 * k}\t{group[k]}" for k in range(PEOPLE)]
    path = derivatives / "participants.tsv"
    path.write_text("\n".join([header, *change(lines)]) + "\n")
    return path


def z_of(derivatives, path, subject="15", **options):
    config = AsymmetryConfig(participants=path, draws=100, **options)
    (one,) = asymmetry(derivatives, labels=(subject,), config=config).outcome.results
    return one.table.set_index("left").sort_index()["z"], sidecar(one.path)


def into_session(derivatives, record_tables, subject, session):
    """Let a subject's only scan be one of a session."""
    (derivatives / subject / session).mkdir()
    (derivatives / subject / "anat").rename(derivatives / subject / session / "anat")
    for path in (derivatives / subject / session / "anat").iterdir():
        path.rename(path.with_name(path.name.replace(subject, f"{subject}_{session}")))
    record_tables(derivatives, subject)


def test_of_a_persons_ages_that_of_the_scans_session_counts(derivatives, record_tables):
    plain, _ = z_of(derivatives, people_table(derivatives))

    def sessions(lines):
        lines = [line.replace("\t", "\t2\t", 1) for line in lines]
        return [*lines, "03\t1\t90\tcontrol", "15\t1\t7\till"]

    header = "participant_id\tsession_id\tage\tgroup"
    for subject in ("sub-03", "sub-15"):
        into_session(derivatives, record_tables, subject, "ses-2")
    found, content = z_of(derivatives, people_table(derivatives, sessions, header))
    np.testing.assert_allclose(found, plain)
    assert content["ReferenceSubjects"] == PEOPLE - 1


def test_a_person_of_two_ages_without_a_session_is_refused_and_in_no_reference(
    derivatives, caplog
):
    path = people_table(derivatives, lambda lines: [*lines, "sub-03\t90\tcontrol"])
    config = AsymmetryConfig(participants=path, draws=100)
    found = asymmetry(derivatives, labels=("03", "15"), config=config)
    (failure,) = found.outcome.failures
    assert failure.case == "sub-03"
    assert "its lines give 29 and 90 years, and no session decides" in failure.reason
    assert {one.reference for one in found.outcome.results} == {PEOPLE - 2}
    assert "age is not known of sub-03 (its lines give 29 and 90" in caplog.text


def test_one_who_has_no_age_leaves_it_to_the_others(derivatives, caplog):
    path = people_table(derivatives, lambda lines: [*lines[:4], "04\tn/a\tcontrol", *lines[5:]])
    config = AsymmetryConfig(participants=path, draws=100)
    found = asymmetry(derivatives, labels=("04", "15"), config=config)
    assert [failure.case for failure in found.outcome.failures] == ["sub-04"]
    assert "complete the table" in found.outcome.failures[0].reason
    content = sidecar(found.outcome.results[0].path)
    assert content["Covariates"] == ["age_years"]
    assert content["ReferenceSubjects"] == PEOPLE - 2
    assert content["SubjectsWithoutCovariate"] == {"age": 1}
    assert "age is not known of sub-04: they are in no reference" in caplog.text
    # As if that one had never been explained.
    z = found.outcome.results[-1].table.set_index("left").sort_index()["z"]
    table_path(derivatives, "sub-04", "pairs").unlink()
    without, _ = z_of(derivatives, people_table(derivatives))
    np.testing.assert_allclose(z, without)


def test_a_column_that_few_have_is_refused_with_the_remedy(derivatives):
    def few(lines):
        return [line if k < 5 else f"{k:02d}\tn/a\tcontrol" for k, line in enumerate(lines)]

    path = people_table(derivatives, few)
    with pytest.raises(UserError, match=r"11 are left out for want of age .* take the column out"):
        asymmetry(derivatives, config=AsymmetryConfig(participants=path))


def test_a_table_of_other_names_is_refused(derivatives):
    path = people_table(derivatives, lambda lines: [line.lstrip("0") for line in lines[1:10]])
    with pytest.raises(UserError, match=r"there is none, for example sub-1, .* sub-00, sub-01"):
        asymmetry(derivatives, config=AsymmetryConfig(participants=path))


def test_the_group_of_a_persons_lines_is_that_of_the_scans_session(
    derivatives, record_tables, caplog
):
    header = "participant_id\tsession_id\tage\tgroup"

    def converted(lines):
        lines = [line.replace("\t", "\t1\t", 1) for line in lines]
        return [*lines, "02\t2\t26\till", "03\t2\t29\till"]

    path = people_table(derivatives, converted, header)
    into_session(derivatives, record_tables, "sub-02", "ses-2")
    config = AsymmetryConfig(reference=path, reference_group="group=control", draws=100)
    found = asymmetry(derivatives, labels=("15",), config=config)
    # Of twelve, sub-02 was scanned when it was ill, and of sub-03 nobody can tell.
    assert found.outcome.results[0].reference == 10
    assert sidecar(found.group_path)["Subjects"] == 5
    assert "sub-03 is and is not group=control" in caplog.text
    assert "sub-02" not in caplog.text


def test_those_of_the_reference_who_have_no_map_are_named(derivatives, caplog):
    path = people_table(derivatives, lambda lines: [*lines, "99\t30\tcontrol"])
    config = AsymmetryConfig(reference=path, reference_group="group=control", draws=100)
    asymmetry(derivatives, labels=("15",), config=config)
    assert "1 of the reference in participants.tsv have no map here: sub-99" in caplog.text


def test_the_command_names_the_pairs_and_what_to_rerun(derivatives, participants, capsys):
    table_path(derivatives, "sub-04", "pairs").unlink()
    words = ["asymmetry", str(derivatives), "--participants", str(participants)]
    with pytest.raises(SystemExit, match="1"):
        main([*words, "--participant-label", "04", "15"])
    out, err = capsys.readouterr()
    assert "L_V1 z +" in out
    assert "1 done, 1 failed" in out
    assert f"--participants {participants} --participant-label 04" in err
    with pytest.raises(SystemExit, match="2"):
        main([*words, "--reference-group", "control"])
    assert "reference_group" in capsys.readouterr().err


def test_maps_of_other_regions_are_in_no_reference(derivatives, record_tables):
    for number in range(PEOPLE):
        regions = "the subject's own" if number == 3 else "the template's, not deformed"
        record_tables(derivatives, f"sub-{number:02d}", regions=regions)
    found = asymmetry(derivatives)
    (failure,) = found.outcome.failures
    assert failure.case == "sub-03"
    assert "in the same way for all subjects, or for none" in failure.reason
    assert found.outcome.results[0].reference == PEOPLE - 2
