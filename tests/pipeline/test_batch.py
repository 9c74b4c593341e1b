from pathlib import Path

import pytest

from hemitwin.pipeline.batch import SlurmConfig, read_stage_call, sbatch_text, write_batch
from hemitwin.pipeline.errors import UserError

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture
def bids(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number in range(1, 11):
        (tmp_path / "bids" / f"sub-{number:02d}").mkdir(parents=True)
    return Path("bids")


def test_the_prepare_array_is_the_golden_file(bids):
    call = read_stage_call("prepare", [str(bids), "my out", "participant", "--nprocs", "2"])
    setup = "source .venv/bin/activate"
    text = sbatch_text(call, SlurmConfig(partition="cpu", setup=setup))
    assert text == (GOLDEN / "prepare.sbatch").read_text()


def test_the_explain_array_is_the_golden_file(bids):
    labels = ["--participant-label", "01", "--participant-label", "sub-02", "--lesion-seed", "3"]
    call = read_stage_call("explain", ["run", str(bids), *labels])
    text = sbatch_text(call, SlurmConfig(subjects_per_task=1, memory_gb=4))
    assert text == (GOLDEN / "explain.sbatch").read_text()


def test_every_subject_is_in_exactly_one_task(bids):
    call = read_stage_call("prepare", [str(bids), "out", "participant"])
    text = sbatch_text(call, SlurmConfig(subjects_per_task=3))
    assert "#SBATCH --array=0-3%20" in text
    block = text[text.index("subjects=(") : text.index("\n)\n")].splitlines()[1:]
    assert " ".join(block).split() == [f"{number:02d}" for number in range(1, 11)]


def test_a_stage_that_cannot_be_spread_is_refused(bids):
    with pytest.raises(UserError, match="prepare or explain or atlas, got 'train'"):
        read_stage_call("train", [str(bids)])


def test_a_stage_without_its_paths_is_refused(bids):
    with pytest.raises(UserError, match="BIDS_DIR OUT participant, got bids"):
        read_stage_call("prepare", [str(bids)])


def test_a_subject_that_is_not_in_the_data_is_refused(bids):
    with pytest.raises(UserError, match="sub-99"):
        read_stage_call("prepare", [str(bids), "out", "participant", "--participant-label=99"])


def test_another_file_is_not_overwritten(bids, tmp_path):
    call = read_stage_call("prepare", [str(bids), "out", "participant"])
    foreign = tmp_path / "notes.txt"
    foreign.write_text("mine")
    with pytest.raises(UserError, match="another file"):
        write_batch(foreign, call, SlurmConfig())
    assert foreign.read_text() == "mine"
    own = write_batch(tmp_path / "job.sbatch", call, SlurmConfig())
    assert write_batch(own, call, SlurmConfig(cpus=4)).read_text().count("--cpus-per-task=4") == 1
