"""What a training works on, before it begins, and what is made of it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from hemitwin.models import LocalEncoder, SiameseNetwork, count_parameters
from hemitwin.pipeline.cohort.split import Fold, Split
from hemitwin.pipeline.stage.records import Record
from hemitwin.pipeline.training.config import RunConfig
from hemitwin.pipeline.training.data import TrainingData, Validation
from hemitwin.pipeline.training.norms import NO_NORMS, TrainingNorms
from hemitwin.pipeline.training.task import SiameseTask

__all__ = ["SHOWN", "TrainingPlan", "TrainingSetup", "described", "transferred"]

SHOWN: tuple[Fold, ...] = ("train", "validation", "test")
"""Folds whose sizes are told."""


class TrainingPlan(ABC):
    """What training will work on, before it begins."""

    config: RunConfig
    split: Split

    @property
    @abstractmethod
    def record(self) -> Record:
        """What the run is trained on; its settings are in its configuration."""

    @abstractmethod
    def describe(self, network: SiameseNetwork) -> str:
        """Say in one line what will happen."""

    @abstractmethod
    def write_guards(self, folder: Path) -> None:
        """Write into a run folder what a later stage needs to recognise what the run has seen."""

    @abstractmethod
    def set_up(self, device: torch.device | None = None) -> "TrainingSetup":
        """Make what the training needs; what is computed of images is computed on the device."""


@dataclass(frozen=True, eq=False)
class TrainingSetup:
    """What a training needs, made of its plan.

    Parameters
    ----------
    config : RunConfig
        The settings.
    data : TrainingData
        Training and validation batches.
    validation : Validation
        What the training is checked on.
    norms : TrainingNorms
        Of the training fold.
    local : LocalEncoder or None
        Patterns of the training fold, where the configuration asks for them.
    classes : tuple of str
        Of labelled images.
    told : mapping
        What else the run's summary says of its data, as JSON.
    """

    config: RunConfig
    data: TrainingData
    validation: Validation
    norms: TrainingNorms = NO_NORMS
    local: LocalEncoder | None = None
    classes: tuple[str, ...] = ()
    told: Mapping[str, Any] = field(default_factory=dict)

    def task(self, steps: int) -> SiameseTask:
        """Return the Lightning module of a training of so many optimizer steps."""
        return SiameseTask(
            self.config,
            steps=steps,
            norms=self.norms,
            local=deepcopy(self.local),
            scores=self.validation.epoch_scores(),
            classes=len(self.classes),
        )


def transferred(config: RunConfig) -> dict[str, Path]:
    """Name the file that the encoder starts from, where there is one."""
    return {} if config.transfer is None else {"transfer": config.transfer.weights}


def described(config: RunConfig, network: SiameseNetwork) -> str:
    """Name network and objective."""
    return (
        f"{config.encoder.name} with {config.head.name} head and {config.loss.objective} "
        f"objective, {count_parameters(network):,} parameters"
    )
