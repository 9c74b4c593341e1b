"""What differs between training on hemispheres and on pairs of brains."""

from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool

from hemitwin._shapes import Volume
from hemitwin.atlases import save_table
from hemitwin.models import LocalEncoder, LocalEncoderConfig, Reference, SiameseNetwork
from hemitwin.pipeline.brain_data import BrainSetData, IndexedPairs, pairs_of_fold, standard_brain
from hemitwin.pipeline.brain_scoring import embed_brains, score_brain_pairs
from hemitwin.pipeline.brain_task import BrainTask
from hemitwin.pipeline.cohort.brain_pairs import write_brain_pairs
from hemitwin.pipeline.config import RunConfig
from hemitwin.pipeline.data import HemisphereData
from hemitwin.pipeline.device import chosen_device
from hemitwin.pipeline.pairs import split_brain
from hemitwin.pipeline.runs import lesion_source
from hemitwin.pipeline.scoring import score_pairs
from hemitwin.pipeline.task import SiameseTask
from hemitwin.pipeline.training_plan import TrainingPlan

__all__ = ["VALIDATION_DIGEST", "VALIDATION_PAIRS", "TrainingMaterial", "material_of"]

VALIDATION_PAIRS = "validation_pairs.tsv"
"""Scored pairs of validation in the run folder; for brains a private file, not this one."""

VALIDATION_DIGEST = "validation_pairs_sha256"
"""What a run's summary calls the digest of that table."""

_PRIVATE_PAIRS = "validation_pairs.private.tsv"


@dataclass(frozen=True, eq=False)
class TrainingMaterial:
    """Data, task and validation of one training.

    Parameters
    ----------
    data : HemisphereData or BrainSetData
        Training and validation batches.
    make_task : callable
        From the number of optimizer steps to the Lightning module.
    score_validation : callable
        From the trained network to the table of scored validation pairs.
    labels : callable
        From that table to the label of each pair: a lesion, or two that are not one set.
    write : callable
        Writes that table into a run folder.
    """

    data: HemisphereData | BrainSetData
    make_task: Callable[[int], SiameseTask]
    score_validation: Callable[[SiameseNetwork], pd.DataFrame]
    labels: Callable[[pd.DataFrame], Bool[np.ndarray, " n"]]
    write: Callable[[Path, pd.DataFrame], object]


def material_of(plan: TrainingPlan, device: torch.device | None = None) -> TrainingMaterial:
    """Return what the plan's task needs; the reference is taken on the device."""
    make = _halves if plan.config.pairs is None else _brains
    return make(plan, chosen_device(device))


def _halves(plan: TrainingPlan, device: torch.device) -> TrainingMaterial:
    config = plan.config
    data = HemisphereData(
        config, plan.fold("train"), plan.fold("validation"), lesion_source(config)
    )

    def score(network: SiameseNetwork) -> pd.DataFrame:
        return score_pairs(network, data.validation_pairs, split=plan.split, fold="validation")

    def images() -> Iterator[Volume]:
        for brain in plan.fold("train"):
            pair = split_brain(brain, brain.volume)
            yield from (pair.left, pair.right)

    reference = _reference(config, images(), device)
    local = _local_patterns(config, reference, images(), device)
    return TrainingMaterial(
        data,
        lambda steps: SiameseTask(config, steps=steps, reference=reference, local=deepcopy(local)),
        score,
        lambda table: table["lesioned"].to_numpy(bool),
        lambda folder, table: save_table(folder / VALIDATION_PAIRS, table),
    )


def _brains(plan: TrainingPlan, device: torch.device) -> TrainingMaterial:
    config = plan.config
    validation = plan.fold("validation")
    learnt, checked = (
        pairs_of_fold(config, plan.fold(fold), plan.people, plan.split, fold)
        for fold in ("train", "validation")
    )
    data = BrainSetData(
        config,
        plan.fold("train"),
        validation,
        pairs=learnt,
        families=plan.people.kinship.groups(plan.subjects),
    )
    pairs = IndexedPairs.of(checked, validation)

    def score(network: SiameseNetwork) -> pd.DataFrame:
        return score_brain_pairs(
            network,
            validation,
            embed_brains(network, validation),
            pairs=checked,
            demographics=plan.people.demographics,
        )

    reference = _reference(config, map(standard_brain, plan.fold("train")), device)
    local = _local_patterns(config, reference, map(standard_brain, plan.fold("train")), device)
    return TrainingMaterial(
        data,
        lambda steps: BrainTask(
            config, steps=steps, pairs=pairs, reference=reference, local=deepcopy(local)
        ),
        score,
        lambda table: (table["label"] == "different").to_numpy(),
        lambda folder, table: write_brain_pairs(folder / _PRIVATE_PAIRS, table),
    )


def _reference(
    config: RunConfig, images: Iterable[Volume], device: torch.device
) -> Reference | None:
    """Take the reference of the training fold alone, unchanged by augmentation."""
    if not config.data.reference:
        return None
    data = config.data
    seen = (image.to(device) for image in images)
    return Reference.fit(seen, smooth_voxels=data.reference_mm / data.resolution_mm)


def _local_patterns(
    config: RunConfig,
    reference: Reference | None,
    images: Iterable[Volume],
    device: torch.device,
) -> LocalEncoder | None:
    """Take the local patterns of the training fold alone, unchanged by augmentation."""
    if not isinstance(config.encoder, LocalEncoderConfig):
        return None
    if reference is not None:
        images = (reference(image[None].to(device))[0].cpu() for image in images)
    # On the CPU: all images at once are more than a GPU may hold.
    return LocalEncoder.fit(images, config.encoder)
