import shutil
from pathlib import Path

import pytest

from hemitwin.pipeline.batches.batch import SlurmConfig, StageCall, sbatch_text, write_batch
from hemitwin.pipeline.cli.main import main
from hemitwin.pipeline.stage.errors import UserError

GOLDEN = Path(__file__).parent / "golden"

pytestmark = pytest.mark.xdist_group("path")


def _subjects(count):
    return tuple(f"sub-{number:02d}" for number in range(1, count + 1))


@pytest.fixture
def bids(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in _subjects(10):
        (tmp_path / "bids" / name).mkdir(parents=True)
    return Path("bids")


def _write(*words):
    with pytest.raises(SystemExit) as ended:
        main(["batch", "write", *map(str, words), "-o", "job.sbatch"])
    return ended.value.code


def _written():
    text = Path("job.sbatch").read_text()
    block = text[text.index("subjects=(") : text.index("\n)\n")].splitlines()[1:]
    return " ".join(block).split()


def test_the_prepare_array_is_the_golden_file(bids):
    words = ("prepare", bids, "my out", "participant", "--nprocs", "2")
    assert _write(*words, "--partition", "cpu", "--setup", "source .venv/bin/activate") == 0
    assert Path("job.sbatch").read_text() == (GOLDEN / "prepare.sbatch").read_text()


def test_the_explain_array_is_the_golden_file():
    call = StageCall("explain", ("run", "bids", "--lesion-seed", "3"), _subjects(2))
    text = sbatch_text(call, SlurmConfig(subjects_per_task=1, memory_gb=4))
    assert text == (GOLDEN / "explain.sbatch").read_text()


def test_every_subject_is_in_exactly_one_task(bids):
    options = ("--subjects-per-task", "3", "--at-once", "2")
    assert _write("prepare", bids, "out", "participant", *options) == 0
    assert "#SBATCH --array=0-3%2" in Path("job.sbatch").read_text()
    assert _written() == [f"{number:02d}" for number in range(1, 11)]


def test_labels_limit_the_subjects_and_are_given_by_the_tasks(bids):
    labels = ("--participant-label=03", "--participant-label", "01", "sub-02", "--nprocs", "2")
    assert _write("prepare", bids, "out", "participant", *labels) == 0
    assert _written() == ["03", "01", "02"]
    (line,) = [
        one for one in Path("job.sbatch").read_text().splitlines() if "hemitwin prep" in one
    ]
    assert line == 'hemitwin prepare bids out participant --nprocs 2 "${labels[@]}"'


def test_a_stage_that_cannot_be_spread_is_refused(bids, capfd):
    assert _write("train", bids) == 2
    assert "'train' is not one of 'prepare', 'explain', 'atlas'" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("prepare", "bids"), "Missing argument 'out'"),
        (("prepare", "bids", "out", "group"), "'group' is not"),
        (("prepare", "bids", "out", "participant", "--nproc", "2"), "No such option: --nproc"),
        (("prepare", "bids", "out", "participant", "--nprocs", "0"), "--nprocs"),
        (("prepare", "bids", "out", "participant", "--participant-label=99"), "sub-99"),
        (("prepare", "bids", "out", "participant", "--space", "MNI"), "--space chooses"),
        (("explain", "run", "bids"), "finish training"),
        (("explain", "run", "bids", "--pair", "01", "02"), "--pair is one task"),
        (("explain", "run", "bids", "--components", "2", "--check"), "stand without --check"),
        (("atlas", "bids"), "prepared T1w"),
        (("atlas", "bids", "--annotation", "aparc"), "add --surfaces"),
        (("atlas", "bids", "--atlas-name", "A"), "must stand beside the files"),
    ],
)
def test_what_a_task_would_refuse_is_refused_when_the_batch_is_written(
    bids, capfd, words, message
):
    assert bids.is_dir()
    assert _write(*words) == 2
    assert message in " ".join(capfd.readouterr().err.split())
    assert not Path("job.sbatch").exists()


def test_subjects_are_found_as_the_stage_finds_them(prepared, run, tmp_path, monkeypatch):
    """In the folder that the verb reads, by its own options: not in the first that is named."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.tsv").write_text("subject\tscan\nx1\ta.nii\nx2\tb.nii\n")
    listed = ("list.tsv", "out", "participant", "--input-type", "list")
    assert _write("prepare", *listed) == 0
    assert _written() == ["x1", "x2"]
    for name in ("sub-01", "sub-02"):
        shutil.copytree(prepared.derivatives / name, tmp_path / "derivatives" / name)
    (tmp_path / "subjects" / "sub-77").mkdir(parents=True)
    assert _write("atlas", "--surfaces", "subjects", "derivatives") == 0
    assert _written() == ["01", "02"]
    assert _write("explain", "--target", "distance", run.folder, "derivatives") == 0
    assert _written() == ["01", "02"]
    assert "--target distance" in Path("job.sbatch").read_text()


def test_an_account_is_charged(bids):
    assert _write("prepare", bids, "out", "participant", "--account", "lab") == 0
    assert "#SBATCH --account=lab" in Path("job.sbatch").read_text().splitlines()


def test_another_file_is_not_overwritten(tmp_path):
    call = StageCall("prepare", ("bids", "out", "participant"), _subjects(1))
    foreign = tmp_path / "notes.txt"
    foreign.write_bytes(b"mine \xe9")
    with pytest.raises(UserError, match="another file"):
        write_batch(foreign, call, SlurmConfig())
    assert foreign.read_bytes() == b"mine \xe9"
    own = write_batch(tmp_path / "job.sbatch", call, SlurmConfig())
    assert write_batch(own, call, SlurmConfig(cpus=4)).read_text().count("--cpus-per-task=4") == 1
