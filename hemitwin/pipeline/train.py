"""Train: folds, triplets, best checkpoint, threshold from validation."""

import logging
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import lightning as pl
import torch
from lightning.pytorch.callbacks import (
    Callback,
    EarlyStopping,
    EMAWeightAveraging,
    ModelCheckpoint,
)
from lightning.pytorch.loggers import TensorBoardLogger

from hemitwin.atlases import save_table
from hemitwin.models import count_parameters, save_weights
from hemitwin.pipeline.callbacks import EpochReport, MetricsTable, StateCheckpoint
from hemitwin.pipeline.cohort import Brain, load_brains
from hemitwin.pipeline.config import RunConfig
from hemitwin.pipeline.curves import best_epoch, picture_of_training
from hemitwin.pipeline.data import HemisphereData
from hemitwin.pipeline.errors import UserError
from hemitwin.pipeline.families import kinship_of
from hemitwin.pipeline.leakage import refuse_copies, write_guards
from hemitwin.pipeline.metrics import rates_at, youden_threshold
from hemitwin.pipeline.outputs import digest_file, provenance, read_json, write_json
from hemitwin.pipeline.runs import (
    CONFIG,
    SPLITS,
    SUMMARY,
    WEIGHTS,
    Run,
    config_digest,
    lesion_source,
    load_run,
    write_config,
)
from hemitwin.pipeline.scoring import score_pairs
from hemitwin.pipeline.split import Split, draw_split, read_split, write_split
from hemitwin.pipeline.task import SiameseTask, resolve_precision

__all__ = ["VALIDATION_PAIRS", "TrainingPlan", "plan_training", "train"]

logger = logging.getLogger(__name__)

METRICS = "metrics.csv"
VALIDATION_PAIRS = "validation_pairs.tsv"
_CHECKPOINTS = "checkpoints"


@dataclass(frozen=True, eq=False)
class TrainingPlan:
    """What training will work on, before it begins.

    Parameters
    ----------
    config : RunConfig
        The settings.
    split : Split
        Subjects by fold.
    brains : tuple of Brain
        All cases, loaded.
    """

    config: RunConfig
    split: Split
    brains: tuple[Brain, ...]

    def fold(self, name: str) -> tuple[Brain, ...]:
        """Return the cases of one fold."""
        return tuple(brain for brain in self.brains if self.split.folds[brain.subject] == name)

    @property
    def subjects(self) -> tuple[str, ...]:
        """Everybody who has a fold, sorted."""
        return tuple(sorted(self.split.folds))

    def describe(self) -> str:
        """Say in one line what will happen."""
        counts = [f"{len(self.fold(name))} {name}" for name in ("train", "validation", "test")]
        network = SiameseTask(self.config, steps=1).network
        half = [self.brains[0].volume.shape[1] // 2, *self.brains[0].volume.shape[2:]]
        return (
            f"{self.config.encoder.name} with {self.config.head.name} head and "
            f"{self.config.loss.objective} objective, {count_parameters(network):,} parameters, "
            f"halves of {' x '.join(str(size) for size in half)} voxels; cases: "
            f"{', '.join(counts)}; {self.config.training.epochs} epochs"
        )


def plan_training(config: RunConfig) -> TrainingPlan:
    """Load the cohort and draw its folds.

    Raises
    ------
    UserError
        There is no prepared volume, too few groups for the folds, or one volume has two names.
    """
    brains = load_brains(config.data)
    subjects = sorted({brain.subject for brain in brains})
    participants = config.data.participants
    split = draw_split(subjects, config.split, participants=participants, seed=config.seed)
    refuse_copies([brain.case for brain in brains], split)
    return TrainingPlan(config, split, brains)


def train(
    config: RunConfig,
    out: Path,
    *,
    progress: Callable[[int, int, Mapping[str, float]], None] | None = None,
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

    Returns
    -------
    Run
        With the weights of the lowest validation loss and the threshold from validation.

    Raises
    ------
    UserError
        `out` holds a run with other settings, or the data do not suffice.
    """
    if _is_finished(config, out):
        logger.info("%s holds this run already", out)
        return load_run(out)
    plan = plan_training(config)
    logger.info("%s", plan.describe())
    out.mkdir(parents=True, exist_ok=True)
    write_config(out, config)
    write_split(out / SPLITS, plan.split)
    kinship = kinship_of(plan.subjects, config.data.participants, config.split.families)
    cases = [brain.case for brain in plan.brains]
    write_guards(out, plan.split, cases, kinship.groups(plan.subjects))
    source = lesion_source(config)
    data = HemisphereData(config, plan.fold("train"), plan.fold("validation"), source)
    task = _fit(config, data, out, progress)
    _finish(config, task, data, out)
    return load_run(out)


def _is_finished(config: RunConfig, out: Path) -> bool:
    summary = out / SUMMARY
    if not summary.is_file():
        return False
    if read_json(summary).get("config_sha256") == config_digest(config):
        return True
    msg = (
        f"{out} must be empty or hold a run with these settings, but its {CONFIG} differs; "
        f"choose another folder with -o"
    )
    raise UserError(msg)


def _fit(
    config: RunConfig,
    data: HemisphereData,
    out: Path,
    progress: Callable[[int, int, Mapping[str, float]], None] | None,
) -> SiameseTask:
    pl.seed_everything(config.seed, verbose=False)
    training = config.training
    task = SiameseTask(config, steps=training.epochs * len(data.train_dataloader()))
    # torch's own stubs do not know the overload with a memory format alone.
    task.network.to(memory_format=_memory_format(config))  # type: ignore[call-overload]
    best = ModelCheckpoint(
        out / _CHECKPOINTS, "best", monitor="validation_loss", save_last=True, save_top_k=1
    )
    reports: list[Callback] = [EpochReport(progress)] if progress else []
    trainer = pl.Trainer(
        accelerator="auto",
        devices=training.devices,
        strategy=_strategy(config),
        max_epochs=training.epochs,
        precision=resolve_precision(training.precision),  # type: ignore[arg-type]
        gradient_clip_val=training.gradient_clip,
        check_val_every_n_epoch=training.validate_every or max(1, training.epochs // 15),
        num_sanity_val_steps=0,
        deterministic=training.deterministic,
        use_distributed_sampler=False,  # batches are shared by the sampler
        logger=_logger(out),
        callbacks=[best, MetricsTable(out / METRICS), *_optional_callbacks(config, out), *reports],
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    last = _latest_state(out / _CHECKPOINTS)
    if last is None:
        task.centre(next(iter(data.train_dataloader())))
    trainer.fit(task, data, ckpt_path=last, weights_only=True)
    state = torch.load(best.best_model_path, map_location="cpu", weights_only=True)
    task.load_state_dict(state["state_dict"])
    return task.cpu().float().eval()


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
        found.append(StateCheckpoint(out / _CHECKPOINTS, training.checkpoint_steps))
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


def _memory_format(config: RunConfig) -> torch.memory_format:
    return torch.channels_last_3d if config.encoder.spatial_dims == 3 else torch.channels_last


def _finish(config: RunConfig, task: SiameseTask, data: HemisphereData, out: Path) -> None:
    scores = score_pairs(
        task.network, data.validation_pairs, split=read_split(out / SPLITS), fold="validation"
    )
    save_table(out / VALIDATION_PAIRS, scores)
    labels = scores["lesioned"].to_numpy(bool)
    values = scores["score" if task.network.head.gives_logit else "distance"].to_numpy(float)
    threshold = youden_threshold(labels, values)
    metadata = {"config_sha256": config_digest(config)}
    save_weights(out / WEIGHTS, task.network, metadata, config.head)
    picture_of_training(out / METRICS, out / "curves.png")
    write_json(
        out / SUMMARY,
        {
            "threshold": threshold,
            "reference_score": float(scores["distance"].median()),
            "validation": rates_at(threshold, labels, values),
            "parameters": count_parameters(task.network),
            "precision": resolve_precision(config.training.precision),
            "seed": config.seed,
            "best_epoch": best_epoch(out / METRICS),
            "splits_sha256": digest_file(out / SPLITS),
            "weights_sha256": digest_file(out / WEIGHTS),
            "config_sha256": config_digest(config),
            "GeneratedBy": provenance(),
        },
    )
