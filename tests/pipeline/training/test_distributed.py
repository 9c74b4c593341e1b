"""Slurm starts a training's processes under srun alone, and Lightning keeps its talk to itself."""

import logging
import os
import warnings

import lightning as pl
import pytest
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.utilities.warnings import PossibleUserWarning

from hemitwin.pipeline.stage.errors import UserError
from hemitwin.pipeline.stage.settings import validated
from hemitwin.pipeline.training.config import RunConfig
from hemitwin.pipeline.training.distributed import process_environment, quiet_lightning
from hemitwin.pipeline.training.train import train

pytestmark = pytest.mark.xdist_group("path")

JOB = {"SLURM_JOB_ID": "71", "SLURM_NODELIST": "node1"}
PLACE = {"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0"}
STEP = {**JOB, **PLACE, "SLURM_STEP_ID": "0", "SLURM_NTASKS": "1", "SLURM_STEP_NUM_TASKS": "1"}
TWO = STEP | dict.fromkeys(("SLURM_NTASKS", "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS_PER_NODE"), "2")

ALONE = {
    "a login node": {},
    "sbatch": {**JOB, **PLACE},
    "sbatch with tasks": {**JOB, **PLACE, "SLURM_NTASKS": "2", "SLURM_NPROCS": "2"},
    "salloc": {**JOB, "SLURM_NTASKS": "4", "SLURM_JOB_NAME": "interactive"},
    "a shell of srun": {**STEP, "SLURM_JOB_NAME": "bash"},
    "srun": STEP,
}


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A machine with srun on its path; gives what sets the variables of a process."""
    srun = tmp_path / "bin" / "srun"
    srun.parent.mkdir()
    srun.write_text("#!/bin/sh\nexit 1\n")
    srun.chmod(0o755)
    monkeypatch.setenv("PATH", f"{srun.parent}{os.pathsep}{os.environ['PATH']}")
    for name in [one for one in os.environ if one.startswith("SLURM_")]:
        monkeypatch.delenv(name)

    def become(variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return become


@pytest.mark.parametrize("variables", ALONE.values(), ids=ALONE)
def test_a_process_alone_has_lightnings_own_environment_and_no_warning(cluster, variables):
    cluster(variables)
    for devices in (1, 2):  # the second is started by Lightning
        assert type(process_environment(devices)) is LightningEnvironment
    with quiet_lightning():
        trainer = pl.Trainer(
            accelerator="cpu",
            devices=1,
            plugins=[process_environment(1)],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
        )
    assert (trainer.world_size, trainer.global_rank) == (1, 0)


def test_what_srun_starts_together_is_slurms(cluster):
    cluster(TWO)
    environment = process_environment(2)
    assert isinstance(environment, SLURMEnvironment)
    assert environment.world_size() == 2
    # Lightning's would write its state where the command was typed, and read another run's there.
    assert not environment.auto_requeue


@pytest.mark.parametrize(
    ("variables", "devices"),
    [(TWO, 1), (TWO, 4), (TWO | {"SLURM_NTASKS_PER_NODE": "1"}, 2)],
    ids=["one device", "four devices", "two nodes"],
)
def test_another_number_of_tasks_than_of_devices_is_refused(cluster, variables, devices):
    cluster(variables)
    with pytest.raises(UserError, match=rf"training\.devices \({devices}\).*got 2 tasks; leave"):
        process_environment(devices)


@pytest.fixture
def talk():
    """What Lightning logs, whoever listens."""
    heard = []
    handler = logging.Handler()
    handler.emit = lambda record: heard.append(record.getMessage())
    loggers = [logging.getLogger(f"lightning.{name}") for name in ("pytorch", "fabric")]
    for logger in loggers:
        logger.addHandler(handler)
    yield heard
    for logger in loggers:
        logger.removeHandler(handler)


def test_lightning_is_quiet_within_and_as_it_was_after(talk):
    logger = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    before = logger.getEffectiveLevel()
    with quiet_lightning():
        logger.info("an advertisement")
        warnings.warn("a hint", PossibleUserWarning, stacklevel=1)
        logger.warning("what is wrong")
        with pytest.raises(UserWarning, match="of weight"):
            warnings.warn("of weight", stacklevel=1)
    assert talk == ["what is wrong"]
    assert logger.getEffectiveLevel() == before
    with pytest.raises(PossibleUserWarning, match="a hint"):
        warnings.warn("a hint", PossibleUserWarning, stacklevel=1)


def test_lightning_speaks_where_more_is_asked_for(caplog):
    logger = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    with caplog.at_level(logging.DEBUG, logger="hemitwin"), quiet_lightning():
        assert logger.isEnabledFor(logging.INFO)


def test_a_training_on_a_cluster_says_nothing_of_lightnings(
    prepared, cluster, talk, tmp_path, capfd
):
    cluster(ALONE["sbatch with tasks"])
    content = prepared.config.model_dump()
    content["training"] |= {"checkpoint_steps": 1, "ema_decay": 0.9, "early_stopping": 5}
    config = validated(RunConfig, content, "test")
    train(config, tmp_path / "run")
    (tmp_path / "run" / "run.json").unlink()
    train(config, tmp_path / "run")  # resumed: a checkpoint folder that is not empty
    assert talk == []
    assert "ightning" not in "".join(capfd.readouterr())
