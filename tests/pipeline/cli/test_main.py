import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError

import pytest

from hemitwin import __version__
from hemitwin.pipeline.cli.doctor import examine
from hemitwin.pipeline.cli.main import main, spread_labels

pytestmark = pytest.mark.xdist_group("path")


def _call(*words):
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return ended.value.code


def test_the_version_is_the_packages(capfd):
    assert _call("--version") == 0
    assert capfd.readouterr().out == f"hemitwin {__version__}\n"


HEADINGS = {
    "Start": ["demo", "doctor"],
    "Data": ["prepare", "slice", "simulate"],
    "Learning": ["train", "evaluate", "compare"],
    "Maps": ["explain", "relate"],
    "Regions": ["atlas", "parcellate", "tabulate"],
    "Groups": ["rank", "asymmetry"],
    "Files and clusters": ["export", "batch"],
}


def test_help_has_every_verb_under_a_heading_on_one_line(capfd):
    assert _call("--help") == 0
    printed = capfd.readouterr().out
    assert "..." not in printed.replace("COMMAND [ARGS]...", "")
    headings = {}
    for block in printed[printed.index("Start:") :].split("\n\n"):
        heading, *verbs = block.splitlines()
        assert max(map(len, verbs)) <= 80
        headings[heading.removesuffix(":")] = [verb.split()[0] for verb in verbs]
    assert headings == HEADINGS


HELP_OF_ALL = """
import sys
from contextlib import suppress
from hemitwin.pipeline.cli.main import main
for verb in sys.argv[1:]:
    with suppress(SystemExit):
        main([*verb.split(), "--help"])
print("imported", {one.split(".")[0] for one in sys.modules})
"""


def test_help_waits_for_nothing_heavy():
    """A second of torch is nothing beside a training, and much where one has mistyped."""
    verbs = ["", "simulate cohort", "simulate lesions", "batch write"]
    verbs += [verb for below in HEADINGS.values() for verb in below]
    told = subprocess.run(  # noqa: S603
        [sys.executable, "-c", HELP_OF_ALL, *verbs], capture_output=True, text=True, check=True
    ).stdout
    assert told.count("Usage: hemitwin") == len(verbs)
    heavy = ("torch", "nibabel", "SimpleITK", "pandas", "numpy", "scipy", "lightning", "monai")
    assert "'pydantic'" in told.splitlines()[-1]
    assert [name for name in heavy if f"'{name}'" in told.splitlines()[-1]] == []


@pytest.mark.parametrize(
    ("words", "spread"),
    [
        ("a --participant-label 1 2", "a --participant-label 1 --participant-label 2"),
        ("--participant-label 1 -v b", "--participant-label 1 -v b"),
        ("--participant-label=1 b", "--participant-label=1 b"),
        ("a b", "a b"),
    ],
)
def test_labels_are_spread(words, spread):
    assert spread_labels(words.split()) == spread.split()


def test_doctor_says_what_is_missing_and_what_that_costs(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    found = {finding.name: finding for finding in examine(tmp_path)}
    assert found["torch"].ok is True
    assert found["wb_command"].ok is None
    assert "cannot be checked or rendered" in found["wb_command"].detail
    assert found["Slurm"].ok is None
    monkeypatch.setenv("HEMITWIN_CACHE", str(tmp_path))
    assert _call("doctor") == 0
    assert "apt-get install connectome-workbench" in " ".join(capfd.readouterr().out.split())


@pytest.mark.parametrize(
    ("package", "extra", "cost"),
    [
        ("datasets", "datasets", "slices are not written as parquet"),
        ("umap-learn", "umap", "embeddings of images are drawn by PCA alone"),
    ],
)
def test_doctor_says_what_an_absent_extra_costs_and_finds_a_present_one(
    tmp_path, monkeypatch, package, extra, cost
):
    def absent(name):
        raise PackageNotFoundError(name)

    for version, ok in ((lambda _: "1.2", True), (absent, None)):
        monkeypatch.setattr("hemitwin.pipeline.cli.doctor.version", version)
        found = {finding.name: finding for finding in examine(tmp_path)}[package]
        assert found.ok is ok
        if ok:
            assert found.detail == "1.2"
        else:
            install = f"pip install -c constraints.txt 'hemitwin[{extra}]'"
            assert found.detail == f"missing: {cost}; {install}"


@pytest.mark.parametrize(("program", "name"), [("sbatch", "Slurm"), ("wb_command", "wb_command")])
def test_doctor_does_not_call_a_program_fine_that_does_not_run(
    tmp_path, monkeypatch, program, name
):
    broken = tmp_path / program
    broken.write_text("#!/bin/sh\necho 'error: no configuration' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = {finding.name: finding for finding in examine(tmp_path)}[name]
    assert found.ok is None
    assert found.detail == f"{broken} does not run: error: no configuration"


def test_doctor_fails_when_something_needed_is_missing(monkeypatch, capfd):
    monkeypatch.setattr("hemitwin.pipeline.cli.doctor.find_spec", lambda _: None)
    assert _call("doctor") == 1
    assert "MISSING" in capfd.readouterr().out


def test_the_verbs_walk_the_whole_way(prepared, run, cache, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("HEMITWIN_CACHE", str(cache))
    derivatives = tmp_path / "derivatives"
    shutil.copytree(prepared.derivatives / "sub-01", derivatives / "sub-01")
    config, again = run.folder / "config.yaml", run.folder
    assert _call("train", config, "-o", again) == 0
    assert _call("evaluate", run.folder) == 0
    label = ("--participant-label", "01")
    assert _call("explain", run.folder, derivatives, *label) == 0
    assert _call("parcellate", derivatives, *label) == 0
    assert _call("export", derivatives, *label) == 0
    printed = capfd.readouterr().out
    for told in ("AUC, distance", "mirror_peak", "largest regions", "wb_view", "1 done"):
        assert told in printed, told


def test_batch_write_takes_the_stages_own_arguments(prepared, tmp_path, capfd):
    job = tmp_path / "job.sbatch"
    words = ("prepare", prepared.bids, tmp_path / "out", "participant", "--nprocs", "2")
    labels = ("--participant-label", "01", "sub-02")
    assert _call("batch", "write", *words, *labels, "-o", job, "--cpus", "4") == 0
    text = job.read_text()
    assert "--cpus-per-task=4" in text
    assert "participant --nprocs 2" in text
    assert "\n  01 02\n" in text
    assert f"sbatch {job}" in capfd.readouterr().out
    assert _call("batch", "write", *words, "-o", job, "--time", "soon") == 2
