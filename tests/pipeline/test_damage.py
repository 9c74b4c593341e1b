"""Files that another program, or a full disk, has changed: one line says which and what to do."""

import logging
import os
import re
import shutil
import stat
from pathlib import Path

import pytest

from hemitwin.pipeline.cli.main import main
from hemitwin.pipeline.simulation.lesion_set import EvaluationSetConfig, simulate_lesions
from hemitwin.pipeline.stage.dataset import describe_dataset
from hemitwin.pipeline.stage.errors import CaseFailure
from hemitwin.pipeline.stage.json_files import digest_file, read_json, write_json
from hemitwin.pipeline.stage.runner import Outcome

pytestmark = pytest.mark.xdist_group("path")

VOLUME = "derivatives/sub-02/anat/sub-02_space-MNI152NLin2009aSym_desc-prepared_T1w.nii.gz"
SIDECAR = VOLUME.replace(".nii.gz", ".json")

DAMAGE = {
    "cut": lambda content: content[: len(content) // 2],
    "shortened": lambda content: b"".join(content.splitlines(keepends=True)[:-1]),
    "empty": lambda _: b"",
    "latin": lambda _: "key: Z\u00fcrich\tN\u00fc\n".encode("latin-1"),
    "bytes": lambda _: bytes(range(256)) * 8,
    "list": lambda _: b"[1, 2]\n",
    "nothing in it": lambda _: b"{}\n",
    "gone": None,
}
TEXT = ("cut", "latin", "list")

READ = {
    "run/run.json": (
        ("cut", "empty", "latin", "bytes", "list", "nothing in it", "gone"),
        ("evaluate run", "explain run derivatives", "relate run derivatives"),
    ),
    "run/config.yaml": (("empty", "latin", "bytes", "list", "gone"), ("evaluate run",)),
    "run/splits.json": (
        ("list", "cut", "nothing in it", "gone"),
        ("slice derivatives out --splits run/splits.json", "evaluate run"),
    ),
    "run/model.safetensors": (
        ("cut", "empty", "bytes", "gone"),
        ("explain run derivatives", "evaluate run", "atlas derivatives --anomaly-run run"),
    ),
    "run/fingerprints.json": ((*TEXT, "nothing in it"), ("evaluate run",)),
    "run/validation_pairs.tsv": ((*TEXT, "shortened", "empty"), ("evaluate run",)),
    "run/families.private.json": ((*TEXT, "nothing in it"), ("evaluate run",)),
    "scored/run.json": ((*TEXT, "nothing in it"), ("compare scored other",)),
    "scored/evaluation.json": (TEXT, ("compare scored other",)),
    "scored/evaluation_pairs.tsv": ((*TEXT, "shortened", "empty"), ("compare scored other",)),
    "set/manifest.tsv": ((*TEXT, "shortened", "empty"), ("evaluate run --simulated set",)),
    "train.yaml": (("empty", "latin", "bytes", "list", "gone"), ("train train.yaml -o out",)),
    "set.yaml": (
        ("latin", "list", "gone"),
        ("simulate lesions derivatives out --config set.yaml",),
    ),
    "filter.json": (
        (*TEXT, "empty", "gone"),
        ("prepare bids out participant --bids-filter-file filter.json",),
    ),
    "scans.csv": (
        ("empty", "latin", "bytes", "list", "gone"),
        ("prepare scans.csv out participant --input-type list",),
    ),
    "bids/dataset_description.json": (("latin", "list"), ("prepare bids out participant",)),
    SIDECAR: (
        (*TEXT, "nothing in it"),
        ("train train.yaml -o out", "evaluate run --prepared derivatives"),
    ),
    VOLUME: (("cut", "empty", "bytes"), ("train train.yaml -o out",)),
    "regions/sub-02/anat/sub-02_space-MNI152NLin2009aSym_atlas-HCPMMP1_desc-lrp_relevance.tsv": (
        ("cut", "empty", "latin", "bytes"),
        ("rank regions --draws 100 --null-draws 0",),
    ),
    "regions/atlas-Mine_dseg.tsv": (
        ("empty", "latin", "list"),
        ("parcellate regions --atlas Mine",),
    ),
}
"""By file: what happens to it, and verbs that read it for all cases: they end with 2."""

REQUESTS = [
    (path, damage, line)
    for path, (damages, lines) in READ.items()
    for damage in damages
    for line in (lines if damage == damages[0] else lines[:1])
]

FAILING = [
    (SIDECAR, "cut", "explain run derivatives --participant-label 01 02 --target embedding"),
    (SIDECAR, "nothing in it", "simulate lesions derivatives out --config none.yaml"),
    (VOLUME, "cut", "explain run derivatives --participant-label 01 02 --target embedding"),
    (VOLUME, "bytes", "slice derivatives out --splits run/splits.json --step-mm 60"),
]
"""Where one case alone is damaged: it fails, the others are done, and the verb ends with 1."""


def _damage(path, kind):
    change = DAMAGE[kind]
    content = path.read_bytes()
    path.unlink()
    if change is not None:
        path.write_bytes(change(content))


def _run(line):
    with pytest.raises(SystemExit) as ended:
        main(line.split())
    return ended.value.code


@pytest.fixture(scope="module")
def whole(prepared, run, record_tables, tmp_path_factory):
    """A folder with one of each kind of file, in which every line above would do."""
    root = tmp_path_factory.mktemp("whole")
    shutil.copytree(run.folder, root / "run", ignore=shutil.ignore_patterns("checkpoints"))
    shutil.copytree(prepared.bids / "sub-01", root / "bids" / "sub-01")
    shutil.copy(prepared.bids / "dataset_description.json", root / "bids")
    write_json(root / "run" / "families.private.json", {"groups": {}})
    for name in {"sub-01", "sub-02", *run.split.subjects("test")}:
        shutil.copytree(prepared.derivatives / name, root / "derivatives" / name)
    simulate_lesions(
        prepared.derivatives,
        root / "set",
        config=EvaluationSetConfig(
            lesions_per_subject=0, controls_per_subject=0, shams_per_subject=0
        ),
        labels=run.split.subjects("test"),
    )
    scored = shutil.copytree(root / "run", root / "scored")
    rows = ("subject\tlesioned\tdistance", *(f"sub-{k:02d}\t{k % 2}\t0.5" for k in range(1, 9)))
    (scored / "evaluation_pairs.tsv").write_text("\n".join(rows) + "\n")
    digests = {"splits_hash": run.split.hash, "weights_sha256": run.weights_digest}
    digests |= {"pairs_sha256": digest_file(scored / "evaluation_pairs.tsv")}
    write_json(scored / "evaluation.json", digests)
    config = (root / "run" / "config.yaml").read_text()
    other = shutil.copytree(scored, root / "other")
    other_epochs = re.sub(r"^(\s+epochs:) .*$", r"\1 99", config, flags=re.MULTILINE)
    (other / "config.yaml").write_text(other_epochs)
    prepared_at = re.compile(r"^(\s+prepared:) .*$", re.MULTILINE)
    config = prepared_at.sub(r"\1 derivatives", config).replace("  - p01\n", "")
    (root / "train.yaml").write_text(config.replace("exclude:", "exclude: []"))
    (root / "set.yaml").write_text("lesions_per_subject: 1\n")
    none = "".join(f"{one}_per_subject: 0\n" for one in ("lesions", "controls", "shams"))
    (root / "none.yaml").write_text(none)
    (root / "filter.json").write_text('{"t1w": {"run": "1"}}')
    (root / "scans.csv").write_text("subject,scan\n01,bids/sub-01/anat/sub-01_T1w.nii.gz\n")
    _write_regions(root / "regions")
    for subject in ("01", "02"):
        record_tables(root / "regions", subject)
    return root


def _write_regions(folder):
    """Region tables and stand-ins of the maps that they would be of."""
    for number in (1, 2):
        stem = f"sub-{number:02d}/anat/sub-{number:02d}_space-MNI152NLin2009aSym"
        for end in ("desc-prepared_T1w.nii.gz", "desc-lrp_relevance.nii.gz"):
            (folder / stem).parent.mkdir(parents=True, exist_ok=True)
            folder.joinpath(f"{stem}_{end}").write_bytes(b"")
        rows = ["index\tname\themisphere\tcortex\tvolume_mm3\tpositive\tsum"]
        rows += [f"{k}\tR{k}\tL\tn/a\t{k * 10}\t{k}\t{k}" for k in range(1, 12)]
        rows += ["0\tunassigned\tn/a\tn/a\t9\t1\t1"]
        path = folder / f"{stem}_atlas-HCPMMP1_desc-lrp_relevance.tsv"
        path.write_text("\n".join(rows) + "\n")
    (folder / "atlas-Mine_dseg.tsv").write_text("index\tname\n1\tL_A\n2\tR_A\n")


@pytest.fixture
def folder(whole, cache, tmp_path, monkeypatch):
    copied = shutil.copytree(whole, tmp_path / "work")
    monkeypatch.chdir(copied)
    monkeypatch.setenv("HEMITWIN_CACHE", str(cache))
    return copied


def _files():
    """List what is there, but for logs and the store of volumes."""
    return {
        path
        for path in Path().rglob("*")
        if path.is_file() and not {"logs", ".cache"} & set(path.parts)
    }


def _one_line(text, path):
    """Hold what was told against what must be told: one line with the file and a remedy."""
    assert "Traceback" not in text
    assert "this should not happen" not in text
    assert not re.search(r"b['\"]|\\x[0-9a-f]{2}|\[\[", text), text
    (line,) = [one for one in text.splitlines() if path.split("/")[-1] in one]
    assert ";" in line, line
    return line


@pytest.mark.parametrize(("path", "damage", "line"), REQUESTS)
@pytest.mark.usefixtures("folder")
def test_a_damaged_file_is_told_in_one_line_and_nothing_is_written(path, damage, line, capfd):
    before = _files()
    _damage(Path(path), damage)
    assert _run(line) == 2
    assert _one_line(capfd.readouterr().err, path).startswith("error: ")
    assert _files() <= before


@pytest.mark.parametrize(("path", "damage", "line"), FAILING)
@pytest.mark.usefixtures("folder")
def test_a_damaged_case_fails_alone(path, damage, line, capfd, caplog):
    _damage(Path(path), damage)
    assert _run(line) == 1
    told = capfd.readouterr()
    (failed,) = [one.getMessage() for one in caplog.records if " failed: " in one.getMessage()]
    assert Path(path).name in failed or "sub-02" in failed
    assert "Traceback" not in told.err
    assert "1 failed" in told.out
    assert "0 done" not in told.out
    assert told.err.count("run again: hemitwin") == 1
    assert told.err.rstrip().endswith("--participant-label 02")
    assert not list(Path().rglob(".partial-*"))


def test_missing_keys_are_named_wherever_they_are_asked_for(tmp_path):
    write_json(tmp_path / "a.json", {"Quality": {"coverage": 1}})
    content = read_json(tmp_path / "a.json")
    for found, key in ((content, "Ledger"), (content["Quality"], "determinant")):
        with pytest.raises(ValueError, match=rf"a\.json must have the key {key}.*write it ag"):
            found[key]
        assert found.get(key) is None
    assert content == {"Quality": {"coverage": 1}}


def test_a_folder_that_cannot_be_read_at_all_is_named(folder, monkeypatch, capfd):
    """As root nothing is forbidden: the system's answer is put in its place."""
    whole = Path.read_text

    def read_text(self, *args, **kwargs):
        if self.name == "run.json":
            raise PermissionError(13, os.strerror(13), str(self))
        return whole(self, *args, **kwargs)

    monkeypatch.setattr(Path, "read_text", read_text)
    assert _run(f"evaluate {folder / 'run'}") == 2
    assert "run.json: Permission denied; check the path" in capfd.readouterr().err


WRITTEN = {
    "prepare bids sealed participant": 2,
    "train train.yaml -o sealed/run --set split.validation=1 --set split.test=1": 2,
    "slice derivatives sealed --splits run/splits.json --step-mm 60": 2,
    "simulate cohort sealed --families unrelated=1 --resolution-mm 8": 1,
    "simulate lesions derivatives sealed --participant-label 01": 2,
    "compare scored again -o sealed/comparison": 2,
    "batch write prepare bids out participant -o sealed/job.sbatch": 2,
    "explain run derivatives --participant-label 01": 1,
    "rank regions --draws 100 --null-draws 0": 2,
}
"""Into a folder that cannot be written to, and how that ends."""


@pytest.mark.parametrize("line", WRITTEN)
def test_a_folder_that_cannot_be_written_is_named(folder, line, monkeypatch, capfd, caplog):
    again = Path(shutil.copytree("scored", "again")) / "config.yaml"
    again.write_text(again.read_text().replace("epochs: 2", "epochs: 3"))
    sealed = {"explain": "derivatives", "rank": "regions"}.get(line.split()[0], "sealed")
    describe_dataset(folder / "derivatives")
    _seal(monkeypatch, folder / sealed)
    before = _files()
    assert _run(line) == WRITTEN[line]
    told = capfd.readouterr().err + caplog.text
    assert "Traceback" not in told
    (reason, *_) = [one for one in told.splitlines() if "Read-only file system" in one]
    assert sealed in reason
    assert "; check the path, who may read and write there, and the space that is left" in reason
    assert _files() <= before


def _seal(monkeypatch, folder):
    """Answer as a file system that is mounted read-only does, also to root."""

    def guard(name):
        whole = getattr(os, name)

        def call(path, *args, **kwargs):
            place = Path(os.path.abspath(os.fspath(path)))  # noqa: PTH100 (links are none of it)
            writes = name != "open" or (args and args[0] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
            if writes and place.is_relative_to(folder) and (name != "mkdir" or not place.exists()):
                raise OSError(30, "Read-only file system", str(path))
            return whole(path, *args, **kwargs)

        return call

    for name in ("open", "mkdir"):
        monkeypatch.setattr(os, name, guard(name))


def test_what_is_all_done_may_lie_in_a_folder_that_cannot_be_written(folder, monkeypatch, capfd):
    line = "explain run derivatives --participant-label 01"
    assert _run(line) == 0
    _seal(monkeypatch, folder / "derivatives")
    assert _run(line) == 0
    assert "1 done, 0 failed" in capfd.readouterr().out


def test_what_nobody_expected_is_one_line(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("HEMITWIN_CACHE", str(tmp_path))

    name = "nothing"

    def fail(*_, **__):
        raise KeyError(name)

    monkeypatch.setattr("hemitwin.pipeline.cli.demo.run_demo", fail)
    assert _run("demo out") == 1
    told = capfd.readouterr().err
    assert told.startswith("error: KeyError: 'nothing'; this should not happen: please report it")
    assert told.count("\n") == 1
    (log,) = tmp_path.glob("logs/*.log")
    assert str(log) in told
    assert "Traceback" in log.read_text()
    before = logging.getLogger("hemitwin").level
    with pytest.raises(KeyError):
        main(["--verbose", "demo", "out"])
    logging.getLogger("hemitwin").setLevel(before)


def test_a_failed_step_of_the_demo_names_the_case_and_what_to_do(tmp_path, monkeypatch, capfd):
    failed = Outcome((), (CaseFailure("sub-07", "prepare", "no room"),))
    monkeypatch.setattr("hemitwin.pipeline.cli.demo.write_cohort", lambda *_, **__: ())
    monkeypatch.setattr("hemitwin.pipeline.cli.demo.prepare", lambda *_, **__: failed)
    assert _run(f"demo {tmp_path}") == 1
    told = "error: sub-07: prepare failed: no room; run the demo again: what is done is kept"
    assert told in capfd.readouterr().err


def test_private_files_stay_private_when_they_are_damaged(folder):
    path = folder / "run" / "families.private.json"
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:3])
    assert _run("evaluate run") == 2
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
