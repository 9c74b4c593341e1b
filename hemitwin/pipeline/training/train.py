"""Train: folds, triplets, best checkpoint, threshold from validation."""

import logging
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import lightning as pl
import numpy as np
import torch
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.pytorch.callbacks import (
    Callback,
    EarlyStopping,
    EMAWeightAveraging,
    ModelCheckpoint,
)
from lightning.pytorch.loggers import TensorBoardLogger

from hemitwin._atomic import sweep_leftovers
from hemitwin.models import count_parameters, save_weights
from hemitwin.pipeline.cohort.config import DataConfig
from hemitwin.pipeline.cohort.split import Split, read_split, write_split
from hemitwin.pipeline.stage.dataset import provenance
from hemitwin.pipeline.stage.errors import UserError
from hemitwin.pipeline.stage.json_files import digest_file, write_json
from hemitwin.pipeline.stage.records import Record
from hemitwin.pipeline.statistics.detection_threshold import threshold_of_validation
from hemitwin.pipeline.statistics.metrics import rates_at
from hemitwin.pipeline.training.config import RunConfig, load_config
from hemitwin.pipeline.training.course import (
    EpochReport,
    MetricsTable,
    StateCheckpoint,
    kept_epoch,
    picture_of_training,
)
from hemitwin.pipeline.training.device import chosen_device
from hemitwin.pipeline.training.distributed import (
    process_environment,
    quiet_lightning,
    rank_and_world,
    wait_for_all,
)
from hemitwin.pipeline.training.plan import TrainingSetup
from hemitwin.pipeline.training.runs import (
    CONFIG,
    CURVES,
    METRICS,
    RECORD,
    SPLITS,
    SUMMARY,
    VALIDATION_DIGEST,
    WEIGHTS,
    Run,
    config_digest,
    load_run,
    write_config,
)
from hemitwin.pipeline.training.setup import plan_training, record_now
from hemitwin.pipeline.training.step_probe import probe_step
from hemitwin.pipeline.training.task import SiameseTask, memory_format, resolve_precision

__all__ = ["train"]

logger = logging.getLogger(__name__)

_CHECKPOINTS = "checkpoints"


@dataclass(frozen=True)
class _Machine:
    """What a process of a training runs on."""

    environment: ClusterEnvironment
    place: torch.device

    @classmethod
    def of(cls, config: RunConfig, device: torch.device | None) -> "_Machine":
        """Give each process of a machine its own GPU."""
        environment = process_environment(config.training.devices)
        place = chosen_device(device)
        if place.type == "cuda":
            place = torch.device("cuda", environment.local_rank())
        return cls(environment, place)


def train(
    config: RunConfig,
    out: Path,
    *,
    progress: Callable[[int, int, Mapping[str, float]], None] | None = None,
    device: torch.device | None = None,
) -> Run:
    """Train a Siamese network and write its run folder.

    Parameters
    ----------
    config : RunConfig
        The settings.
    out : Path
        The run folder. A finished run with the same settings is returned as it is; an
        interrupted one goes on from its last checkpoint.
    progress : callable, optional
        Called after each epoch with the epochs done, the epochs in all, and its values.
    device : device, optional
        The CPU or CUDA; by default as `chosen_device` says. Several processes take the first ones.

    Returns
    -------
    Run
        With the weights of the lowest validation loss and the threshold from validation.

    Raises
    ------
    UserError
        `out` holds a run with other settings, finished or not, or one that was cut off and whose
        folds would now be others, the data do not suffice, or Slurm started another number of
        processes than `training.devices`.
    """
    if _is_finished(config, out):
        logger.info("%s holds this run already", out)
        return load_run(out, device=device)
    machine = _Machine.of(config, device)
    plan = plan_training(config)
    record = plan.record
    for folder in (out, out / _CHECKPOINTS):
        sweep_leftovers(folder)
    begun = _latest_state(out / _CHECKPOINTS)
    if (out / CONFIG).is_file() and any((out / _CHECKPOINTS).glob("*.ckpt")):
        _require_same_start(config, plan.split, record, out)
    setup = plan.set_up(machine.place)
    logger.info("%s", plan.describe(setup.task(1).network))
    out.mkdir(parents=True, exist_ok=True)
    if begun is None:
        record.begin(out / RECORD)
        record.write(out / RECORD, {"Description": "What the run is trained on"}, [])
    write_config(out, config)
    write_split(out / SPLITS, plan.split)
    plan.write_guards(out)
    with quiet_lightning():
        task = _fit(config, setup, out, machine, begun, progress)
    if rank_and_world()[0] == 0:
        _finish(config, task.to(machine.place), setup, out)
    wait_for_all()
    return load_run(out, device=device)


def _is_finished(config: RunConfig, out: Path) -> bool:
    if not (out / SUMMARY).is_file():
        return False
    _require_same_settings(config, out)
    if (out / RECORD).is_file():
        record = record_now(config, read_split(out / SPLITS))
        if record is not None:
            _require_same_data(record, out)
    return True


def _require_same_start(config: RunConfig, split: Split, record: Record, out: Path) -> None:
    """Refuse to go on with a training that was begun otherwise: folds would mix."""
    _require_same_settings(config, out)
    if read_split(out / SPLITS).hash != split.hash:
        msg = (
            f"a training must go on with the folds that it began with, but those of {out} differ "
            f"from what is drawn now: subjects were prepared, taken away or related since; put "
            f"new ones into data.exclude, or choose another folder with -o"
        )
        raise UserError(msg)
    if (out / RECORD).is_file():
        _require_same_data(record, out)


def _require_same_settings(config: RunConfig, out: Path) -> None:
    # Read again rather than by its digest: a key that came later has its default there.
    if load_config(out / CONFIG) == config:
        return
    msg = (
        f"{out} must be empty or hold a run with these settings, but its {CONFIG} differs; "
        f"choose another folder with -o"
    )
    raise UserError(msg)


def _require_same_data(record: Record, out: Path) -> None:
    reason = record.difference(out / RECORD)
    if reason:
        msg = (
            f"{out} must be empty or hold a run on these data, but it was begun "
            f"with others ({reason}); choose another folder with -o"
        )
        raise UserError(msg)


def _fit(
    config: RunConfig,
    setup: TrainingSetup,
    out: Path,
    machine: _Machine,
    begun: str | None,
    progress: Callable[[int, int, Mapping[str, float]], None] | None,
) -> SiameseTask:
    pl.seed_everything(config.seed, verbose=False)
    training = config.training
    precision = resolve_precision(training.precision, machine.place)
    data = setup.data
    task = setup.task(training.epochs * len(data.train_dataloader()))
    # torch's own stubs do not know the overload with a memory format alone.
    task.network.to(memory_format=memory_format(config.encoder.spatial_dims))  # type: ignore[call-overload]
    folder = out / _CHECKPOINTS
    best = ModelCheckpoint(folder, "best", monitor="validation_loss", save_top_k=1)
    # Not `save_last`, which saves nothing where the best did not change.
    last = ModelCheckpoint(
        folder, "last", save_on_train_epoch_end=True, enable_version_counter=False
    )
    reports: list[Callback] = [EpochReport(progress)] if progress else []
    trainer = pl.Trainer(
        accelerator="gpu" if machine.place.type == "cuda" else "cpu",
        devices=training.devices,
        plugins=[machine.environment],
        strategy=_strategy(config),
        max_epochs=training.epochs,
        precision=precision,  # type: ignore[arg-type]
        gradient_clip_val=training.gradient_clip,
        check_val_every_n_epoch=training.validate_every or max(1, training.epochs // 15),
        num_sanity_val_steps=0,
        deterministic=training.deterministic,
        use_distributed_sampler=False,  # batches are shared by the sampler
        logger=_logger(out),
        callbacks=[
            best,
            last,
            MetricsTable(out / METRICS),
            *_optional_callbacks(config, out),
            *reports,
        ],
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    if begun is None:
        batch = next(iter(data.train_dataloader())).to(machine.place)
        task.to(machine.place).centre(batch)
        logger.info("%s", probe_step(task, batch, precision=precision))
    trainer.fit(task, data, ckpt_path=begun, weights_only=True)
    kept = best if training.keep == "best" else last
    state = torch.load(kept.best_model_path, map_location="cpu", weights_only=True)
    task.load_state_dict(state["state_dict"])
    return task.float().eval()


def _latest_state(folder: Path) -> str | None:
    """Find the state of most steps; one that was cut off while it was written is passed over."""
    steps: dict[int, Path] = {}
    for path in sorted(folder.glob("*.ckpt")):
        if path.stem not in {"last", "state"}:
            continue
        try:
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
            logger.warning("%s cannot be read and is passed over (%s)", path, error)
            continue
        steps[int(content["global_step"])] = path
    return str(steps[max(steps)]) if steps else None


def _optional_callbacks(config: RunConfig, out: Path) -> list[Callback]:
    training = config.training
    found: list[Callback] = []
    if training.ema_decay is not None:
        # The memory bank's buffers hold other batches' embeddings: no mean is to be had of them.
        found.append(EMAWeightAveraging(decay=training.ema_decay, use_buffers=False))
    if training.early_stopping is not None:
        found.append(EarlyStopping("validation_loss", patience=training.early_stopping))
    if training.checkpoint_steps is not None:
        found.append(StateCheckpoint(out / _CHECKPOINTS / "state.ckpt", training.checkpoint_steps))
    return found


def _strategy(config: RunConfig) -> str:
    if config.training.devices == 1:
        return "auto"
    # The map objective trains no embedding layer.
    return "ddp_find_unused_parameters_true" if config.loss.objective == "map" else "ddp"


def _logger(out: Path) -> TensorBoardLogger | bool:
    if find_spec("tensorboard") is None:
        return False
    return TensorBoardLogger(out, name="tensorboard", version="")


def _finish(config: RunConfig, task: SiameseTask, setup: TrainingSetup, out: Path) -> None:
    validation = setup.validation
    scores = validation.table(task.network)
    table = validation.write(out, scores)
    labels = validation.different(scores)
    values = scores["score" if task.network.head.gives_logit else "distance"].to_numpy(float)
    halves = isinstance(config.data, DataConfig) and config.pairs is None
    allowed = config.evaluation.false_alarms if halves else None
    threshold = threshold_of_validation(labels, values, allowed)
    metadata = {"config_sha256": config_digest(config)}
    save_weights(out / WEIGHTS, task.network, metadata, task.head_config)
    picture_of_training(out / METRICS, out / CURVES)
    write_json(
        out / SUMMARY,
        {
            "threshold": threshold.value,
            "threshold_rule": threshold.rule,
            "reference_score": float(scores["distance"].median()),
            "reference_logit": float(np.median(np.abs(values))),
            "validation": rates_at(threshold.value, labels, values),
            "parameters": count_parameters(task.network),
            "precision": resolve_precision(config.training.precision, task.network.device),
            "seed": config.seed,
            **({"classes": list(setup.classes)} if setup.classes else {}),
            **setup.told,
            "best_epoch": kept_epoch(out / METRICS, config.training.keep),
            "splits_sha256": digest_file(out / SPLITS),
            "weights_sha256": digest_file(out / WEIGHTS),
            "config_sha256": config_digest(config),
            **({VALIDATION_DIGEST: digest_file(table)} if table else {}),
            "GeneratedBy": provenance(),
        },
    )
