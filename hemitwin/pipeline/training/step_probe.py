"""What a training step costs, measured before training begins."""

import copy
import time
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from hemitwin.pipeline.training.sources.pairs import TrainingBatch
from hemitwin.pipeline.training.task import SiameseTask

__all__ = ["StepCost", "probe_step"]


@dataclass(frozen=True)
class StepCost:
    """Time and memory of one step.

    Parameters
    ----------
    seconds : float
        Of a forward and a backward pass, the batch at hand.
    activation_bytes : int
        What the forward pass keeps for the backward pass, weights left out.
    """

    seconds: float
    activation_bytes: int

    def __str__(self) -> str:
        """Write it as ``2.1 s a step, 1.3 GB of activations``."""
        return f"{self.seconds:.1f} s a step, {self.activation_bytes / 1e9:.1f} GB of activations"


def probe_step(task: SiameseTask, batch: TrainingBatch, *, precision: str) -> StepCost:
    """Run one step on a copy of the task: weights, memory and gradients stay as they are.

    Parameters
    ----------
    task : SiameseTask
        On the device that it will be trained on; not changed.
    batch : TrainingBatch
        Of training, on the same device.
    precision : str
        ``bf16-mixed`` or ``32-true``.
    """
    trial = copy.deepcopy(task)
    trial.log_dict = lambda *_, **__: None  # type: ignore[method-assign]  # there is no trainer
    weights = {p.untyped_storage().data_ptr() for p in trial.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    device = batch.images.device
    enabled = precision == "bf16-mixed"
    _finish_work(device)
    started = time.perf_counter()
    with (
        saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled),
    ):
        loss = trial.training_step(batch, 0)["loss"]
    loss.backward()
    _finish_work(device)
    return StepCost(time.perf_counter() - started, sum(kept.values()))


def _finish_work(device: torch.device) -> None:
    """Wait for a GPU, which works on while Python goes ahead."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
