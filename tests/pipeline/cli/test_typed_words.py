"""The words that were typed: heeded or refused, and given back to be run again."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup

from hemitwin.pipeline.cli.main import app, main
from hemitwin.pipeline.stage.errors import CaseFailure
from hemitwin.pipeline.stage.runner import Outcome

pytestmark = pytest.mark.xdist_group("path")


def _run(*words):
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return ended.value.code


def _again(text):
    """Take the line to be run again apart, as a shell does."""
    (line,) = re.findall(r"^run again: (.*)$", text, re.MULTILINE)
    program, *words = shlex.split(line)
    assert program == "hemitwin"
    return words


TYPED = {
    "-v prepare bids 'my out' participant --session-id 1 2 --space A --participant-label 1 2": (
        "preparation.prepare.prepare",
        "-v prepare bids 'my out' participant --session-id 1 --session-id 2 --space A LABELS",
    ),
    "atlas --participant-label=01 --participant-label sub-02 --nprocs=1 -- derivatives": (
        "regions.atlas.build_atlases",
        "atlas --nprocs=1 LABELS -- derivatives",
    ),
    "explain run derivatives --participant-label 02 --lesion-seed 0 --method lrp --check": (
        "explanation.explain.explain",
        "explain run derivatives --lesion-seed 0 --method lrp --check LABELS",
    ),
    "explain run derivatives --components 0": (
        "explanation.embedding_maps.explain_embedding_of",
        "explain run derivatives --components 0 LABELS",
    ),
    "relate run derivatives --directions 3": (
        "explanation.relate.relate",
        "relate run derivatives --directions 3 LABELS",
    ),
    "parcellate derivatives --desc lrp --atlas Mine": (
        "regions.parcellate.parcellate",
        "parcellate derivatives --desc lrp --atlas Mine LABELS",
    ),
    "export --smooth-mm 0 --mapping ribbon derivatives --render": (
        "exports.export.export",
        "export --smooth-mm 0 --mapping ribbon derivatives --render LABELS",
    ),
    "asymmetry derivatives --seed 0 --draws 2000 --reference-group 'group=a b'": (
        "group.asymmetry.asymmetry",
        "asymmetry derivatives --seed 0 --draws 2000 --reference-group 'group=a b' LABELS",
    ),
    "slice derivatives out --plane axial --plane coronal --step-mm 20 --seed 0": (
        "slices.slices.slice_dataset",
        "slice derivatives out --plane axial --plane coronal --step-mm 20 --seed 0 LABELS",
    ),
    "simulate lesions derivatives out --set 'lesions.volume_mm3=[1, 2]' --nprocs 1": (
        "simulation.lesion_set.simulate_lesions",
        "simulate lesions derivatives out --set 'lesions.volume_mm3=[1, 2]' --nprocs 1 LABELS",
    ),
}
"""By what was typed: the stage that failed, and the line to be run again."""


@pytest.mark.parametrize("typed", TYPED)
def test_the_line_to_run_again_has_the_words_that_were_typed(typed, monkeypatch, capfd):
    """Every option as it was typed, defaults too, and the labels of those that failed."""
    stage, again = TYPED[typed]
    failures = tuple(CaseFailure(one, "x", "y") for one in ("sub-02_ses-2", "sub-02", "sub-11"))
    outcome = Outcome((), failures)
    found = type("Found", (), {"outcome": outcome, "group": None})
    result = found if stage == "group.asymmetry.asymmetry" else outcome
    monkeypatch.setattr("hemitwin.pipeline.training.runs.load_run", lambda _: None)
    monkeypatch.setattr(f"hemitwin.pipeline.{stage}", lambda *_, **__: result)
    assert _run(*shlex.split(typed)) == 1
    wanted = again.replace("LABELS", "--participant-label 02 11")
    assert _again(capfd.readouterr().err) == shlex.split(wanted)


def test_every_verb_with_cases_has_a_line_to_run_again():
    stages = {one.split()[0] for one in (line.removeprefix("-v ") for line in TYPED)}
    verbs = typer.main.get_group(app).commands
    simulate = verbs["simulate"]
    assert isinstance(simulate, TyperGroup)
    labelled = {
        name
        for name, verb in (*verbs.items(), *simulate.commands.items())
        if any("--participant-label" in one.opts for one in verb.params)
    }
    assert labelled - {"lesions", "rank"} <= stages  # `simulate lesions`; rank has no cases


@pytest.mark.parametrize("verb", ["explain", "relate"])
def test_a_pair_is_run_again_without_labels(verb, monkeypatch, capfd):
    failed = Outcome((), (CaseFailure("sub-01", verb, "y"), CaseFailure("sub-02", verb, "y")))
    monkeypatch.setattr("hemitwin.pipeline.training.runs.load_run", lambda _: None)
    monkeypatch.setattr(
        f"hemitwin.pipeline.explanation.{verb}.{verb}_two", lambda *_, **__: failed
    )
    words = [verb, "run", "derivatives", "--pair", "01", "02"]
    assert _run(*words) == 1
    assert _again(capfd.readouterr().err) == words


def test_what_is_run_again_is_what_failed(prepared, tmp_path, monkeypatch, capfd):
    """A scan that was cut off and is whole again: the line does it alone, as it was asked for."""
    monkeypatch.chdir(tmp_path)
    for name in ("sub-01", "sub-02"):
        shutil.copytree(prepared.derivatives / name, tmp_path / "derivatives" / name)
    bad = next(Path("derivatives/sub-02/anat").glob("*_desc-prepared_T1w.nii.gz"))
    whole = bad.read_bytes()
    bad.write_bytes(whole[:2000])
    counts = ("lesions", "controls", "shams")
    options = [word for name in counts for word in ("--set", f"{name}_per_subject=0")]
    words = ["simulate", "lesions", "derivatives", "my set", *options]
    assert _run(*words) == 1
    told = capfd.readouterr()
    assert "1 done, 1 volumes, 1 failed" in told.out
    again = _again(told.err)
    assert again == [*words, "--participant-label", "02"]
    bad.write_bytes(whole)
    assert _run(*again) == 0
    assert "1 done, 1 volumes, 0 failed" in capfd.readouterr().out
    assert len(list(Path("my set").rglob("sub-*_desc-healthy_T1w.nii.gz"))) == 2


REFUSED = {
    "explain run d --pair A B --participant-label 01": "--pair must stand without --part",
    "explain run d --pair A B --lesion-seed 0": "--pair must stand without --lesion-seed",
    "explain run d --components 0 --pair A B": "must stand without --pair",
    "explain run d --components 2 --lesion-seed 0": "must stand without --lesion-seed",
    "explain run d --components 2 --method lrp": "must stand without --method",
    "explain run d --components -1": "--components",
    "explain run d --lesion-seed -1": "--lesion-seed",
    "relate run d --pair A B --participant-label 01": "--pair must stand without --part",
    "slice d out --splits s.json --seed 0": "--splits must stand without --seed",
    "rank d --atlas Mine --render": "--atlas Mine must stand without --render",
    "tabulate a.nii -o a.tsv --dseg d.nii --space MNI152NLin6Asym": "--dseg must stand",
    "tabulate a.dscalar.nii -o a.tsv --space MNI152NLin6Asym": ".dscalar.nii file must stand",
    "tabulate a.nii -o a.tsv --atlas a.dlabel.nii --atlas-table a.tsv": "without --atlas-table",
    "parcellate d --atlas l.label.gii --atlas r.gii --atlas-space X": "without --atlas-space",
    "atlas d --surfaces . --annotation aparc --lesion-masks .": "leave --lesion-masks",
    "prepare list.tsv out participant --bids-filter-file f.json": "--bids-filter-file chooses by",
    "prepare list.tsv out participant --space X": "--space chooses among",
}


@pytest.mark.parametrize("line", REFUSED)
def test_an_option_that_is_not_heeded_is_refused(line, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    Path("list.tsv").write_text("subject\tscan\n1\ta.nii\n")
    Path("f.json").write_text("{}")
    monkeypatch.setattr(
        "hemitwin.pipeline.training.runs.load_run", lambda _: pytest.fail("too late")
    )
    assert _run(*line.split()) == 2
    told = " ".join(capfd.readouterr().err.split())
    assert REFUSED[line] in told
    assert "Traceback" not in told


def test_beside_directions_every_other_option_is_refused(monkeypatch, capfd):
    """Options of tomorrow, too: the list is the command's own."""
    monkeypatch.setattr(
        "hemitwin.pipeline.training.runs.load_run", lambda _: pytest.fail("too late")
    )
    command = typer.main.get_group(app).commands["explain"]
    values = {"--pair": "01 02", "--target": "logit", "--method": "lrp", "--lesion-seed": "0"}
    options = [one.opts[0] for one in command.params if one.param_type_name == "option"]
    heeded = {"--components", "--participant-label"}
    for option in (one for one in options if one not in heeded):
        typed = [option, *values.get(option, "").split()]
        assert _run("--verbose", "explain", "run", "d", "--components", "2", *typed) == 2
        assert f"must stand without {option}," in capfd.readouterr().err


def test_options_of_batches_and_of_their_stages_have_names_of_their_own():
    """Else a stage's option would be the batch's, without a word."""
    verbs = typer.main.get_group(app).commands
    batch = verbs["batch"]
    assert isinstance(batch, TyperGroup)
    own = {name for one in batch.commands["write"].params for name in one.opts}
    for stage in ("prepare", "explain", "atlas"):
        assert not own & {
            name
            for one in verbs[stage].params
            if one.param_type_name == "option"
            for name in one.opts
        }
