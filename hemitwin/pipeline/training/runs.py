"""A run folder: what training leaves behind and every later stage begins with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from hemitwin.models import SiameseNetwork, load_weights
from hemitwin.pipeline.cohort.brains import COMPUTATION as GRID_COMPUTATION
from hemitwin.pipeline.cohort.brains import Brain
from hemitwin.pipeline.cohort.split import Split, read_split
from hemitwin.pipeline.stage.bids import Case
from hemitwin.pipeline.stage.errors import UserError, reading
from hemitwin.pipeline.stage.json_files import digest_file, digest_json, read_json, write_text
from hemitwin.pipeline.stage.records import Record
from hemitwin.pipeline.stage.sides import side_is_guess
from hemitwin.pipeline.training.config import RunConfig, load_config
from hemitwin.pipeline.training.device import chosen_device
from hemitwin.pipeline.training.sources.pairs import LesionSource
from hemitwin.transforms import LesionMaskLibrary

__all__ = [
    "CONFIG",
    "CURVES",
    "METRICS",
    "PAIRS_DIGEST",
    "RECORD",
    "SPLITS",
    "SUMMARY",
    "VALIDATION_DIGEST",
    "WEIGHTS",
    "Run",
    "config_digest",
    "lesion_source",
    "load_run",
    "masks_digest",
    "result_record",
    "write_config",
]

WEIGHTS = "model.safetensors"
SUMMARY = "run.json"
CONFIG = "config.yaml"
SPLITS = "splits.json"
METRICS = "metrics.csv"
RECORD = "record.json"
"""What the run was begun with, so that it never goes on with other data."""
CURVES = "curves.png"
PAIRS_DIGEST = "pairs_sha256"
"""What an evaluation of halves calls the digest of its table of pairs."""
VALIDATION_DIGEST = "validation_pairs_sha256"
"""What a run's summary calls the digest of its table of validation pairs of halves."""
_AGAIN = "restore it or train again"

_PATHS = (
    ("data", "prepared"),
    ("data", "participants"),
    ("data", "images"),
    ("data", "folder"),
    ("data", "slices"),
    ("transfer", "weights"),
    ("split", "families"),
    ("", "lesion_masks"),
)


@dataclass(frozen=True, eq=False)
class Run:
    """A trained network with all that a score needs.

    Parameters
    ----------
    folder : Path
        Where it lies.
    config : RunConfig
        As resolved when it was trained.
    split : Split
        Checked against its hash.
    network : SiameseNetwork
        Best weights, evaluation mode, float32, on the run's device: what it is to see goes there.
    threshold : float
        Distances above it are called asymmetric; from validation.
    reference_score : float
        Median distance of the validation pairs: the ledger's scale.
    reference_logit : float
        Median |score| of the validation pairs where the head gives a logit, else the same.
    weights_digest : str
        SHA-256 of the weights' file.
    """

    folder: Path
    config: RunConfig
    split: Split
    network: SiameseNetwork
    threshold: float
    reference_score: float
    weights_digest: str
    reference_logit: float = 0.0

    def load_brain(self, case: Case) -> Brain:
        """Load a prepared volume at the network's grid, for what the run compares."""
        return self.config.compared.load(case, self.config.volumes.resolution_mm)

    def reference_of(self, target: str) -> float:
        """Return the typical size of an explained score: what a ledger is judged against."""
        return self.reference_score if target == "distance" else self.reference_logit

    @property
    def decides(self) -> dict[str, object]:
        """What of the run decides a result, as JSON: no path, so that the run may be moved."""
        config = self.config.model_dump(mode="json")
        for section, key in _PATHS:
            ((config[section] or {}) if section else config).pop(key, None)
        return {
            "weights": self.weights_digest,
            "folds": self.split.hash,
            "threshold": self.threshold,
            "reference": [self.reference_score, self.reference_logit],
            "config": config,
        }

    def summary_rows(self) -> dict[str, str]:
        """Return what training ended with, as the lines of a short table."""
        path = self.folder / SUMMARY
        with reading(path, _AGAIN) as remedy:
            summary = read_json(path, remedy=remedy)
            rates = {
                f"{name.replace('_', ' ')} (validation)": f"{value:.3f}"
                for name, value in summary["validation"].items()
            }
            return {
                "best epoch": str(summary["best_epoch"]),
                "parameters": f"{summary['parameters']:,}",
                "precision": summary["precision"],
                "threshold (validation)": f"{self.threshold:.4f}",
                **rates,
            }


def write_config(folder: Path, config: RunConfig) -> None:
    """Write the resolved configuration as YAML."""
    content = config.model_dump(mode="json")
    write_text(folder / CONFIG, yaml.safe_dump(content, sort_keys=False))


def config_digest(config: RunConfig) -> str:
    """Return what tells two configurations apart."""
    return digest_json(config.model_dump(mode="json"))


def result_record(
    stage: str,
    run: Run,
    cases: Sequence[Case],
    *,
    computation: int,
    settings: Mapping[str, object],
) -> Record:
    """Return what decides a result: volumes, network, and what else is given.

    Parameters
    ----------
    stage : str
        The verb.
    run : Run
        A trained network.
    cases : sequence of Case
        The prepared volumes that it is asked about, in their order.
    computation : int
        Of the stage, as for `Record`.
    settings : mapping
        By name, as JSON can hold it.
    """
    names = ("volume", "other volume")
    return Record(
        stage,
        computation=computation,
        inputs=dict(zip(names, (case.scan for case in cases), strict=False)),
        settings={
            **run.decides,
            "grid": GRID_COMPUTATION,
            "side_is_guess": side_is_guess(*cases),
            **settings,
        },
    )


def masks_digest(config: RunConfig) -> str | None:
    """Return what lesions that are drawn from masks depend on; `None` where there are no masks."""
    return LesionMaskLibrary(config.lesion_masks).digest if config.lesion_masks else None


def lesion_source(config: RunConfig) -> LesionSource:
    """Build the lesions' source that a configuration describes."""
    library = LesionMaskLibrary(config.lesion_masks) if config.lesion_masks else None
    return LesionSource(config.lesions, library)


def load_run(folder: Path, *, device: torch.device | None = None) -> Run:
    """Load a finished run.

    Parameters
    ----------
    folder : Path
        The run folder.
    device : device, optional
        Where its network scores and is explained; by default as `chosen_device` says.

    Raises
    ------
    UserError
        The folder holds no finished run, its split was edited, its weights were replaced, or a
        file is missing or damaged.
    """
    summary_path = folder / SUMMARY
    if not summary_path.is_file():
        msg = (
            f"a run folder must hold {SUMMARY}, but {summary_path} is not there; "
            f"finish training with 'hemitwin train CONFIG -o {folder}'"
        )
        raise UserError(msg)
    with reading(summary_path, _AGAIN) as remedy:
        summary: dict[str, Any] = read_json(summary_path, remedy=remedy)
        trained = str(summary["weights_sha256"])
        threshold = float(summary["threshold"])
        reference_score = float(summary["reference_score"])
        # Runs of before it was written down: the threshold is of the logits' size.
        reference_logit = float(summary.get("reference_logit", abs(threshold)))
    weights = folder / WEIGHTS
    with reading(weights, _AGAIN):
        digest = digest_file(weights)
        if digest != trained:
            msg = f"{weights} must be the file that training wrote; {_AGAIN}"
            raise UserError(msg)
        network, _ = load_weights(weights)
    return Run(
        folder=folder,
        config=load_config(folder / CONFIG),
        split=read_split(folder / SPLITS),
        network=network.float().eval().to(chosen_device(device)),
        threshold=threshold,
        reference_score=reference_score,
        reference_logit=reference_logit,
        weights_digest=digest,
    )
