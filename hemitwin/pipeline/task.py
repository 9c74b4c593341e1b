"""Triplet training of a Siamese network as a Lightning module."""

from typing import Any

import lightning as pl
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from hemitwin._shapes import Batch
from hemitwin.models import PooledEncoder, SiameseNetwork, TripletLoss, build_encoder
from hemitwin.pipeline.config import RunConfig
from hemitwin.pipeline.data import PairBatch
from hemitwin.pipeline.metrics import auc_with_interval
from hemitwin.pipeline.pairs import Halves

__all__ = ["SiameseTask", "resolve_precision"]


class SiameseTask(pl.LightningModule):
    """Each half is embedded once a step; triplets are mined among the embeddings.

    Parameters
    ----------
    config : RunConfig
        Network, loss and schedule.
    steps : int
        Optimizer steps in the whole run, for the one-cycle schedule.
    """

    def __init__(self, config: RunConfig, *, steps: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(config.seed)
        self.network = SiameseNetwork(build_encoder(config.encoder, generator))
        self._loss = TripletLoss(config.loss)
        self._margin = config.loss.margin
        self._training = config.training
        self._steps = steps
        self._scores: list[tuple[Tensor, PairBatch]] = []

    def centre(self, batch: Halves) -> None:
        """Centre the untrained embeddings on a batch, so that training begins at once."""
        encoder = self.network.encoder
        if isinstance(encoder, PooledEncoder):
            encoder.centre(_channels_last(batch.images))

    def training_step(self, batch: Halves, _: int) -> Tensor:
        """Return the triplet loss and log it with the distances it works on."""
        embeddings = self.network.encoder(_channels_last(batch.images)).float()
        loss: Tensor = self._loss(
            embeddings, batch.subjects, lesioned=batch.lesioned, sides=batch.sides
        )
        positive, negative = _distances(embeddings.detach(), batch)
        values = {"loss": loss, "positive_distance": positive, "negative_distance": negative}
        self.log_dict(values, on_step=False, on_epoch=True, batch_size=len(batch.images))
        return loss

    def validation_step(self, batch: PairBatch, _: int) -> None:
        """Keep the distances of one subject's pairs until the epoch ends."""
        output = self.network(_channels_last(batch.left), _channels_last(batch.right))
        self._scores.append((output.distance.float().cpu(), batch))

    def on_validation_epoch_end(self) -> None:
        """Log the AUC and the triplet hinge of the validation pairs."""
        scores = torch.cat([score for score, _ in self._scores]).numpy()
        labels = torch.cat([batch.lesioned.cpu() for _, batch in self._scores]).numpy()
        subjects = [name for _, batch in self._scores for name in batch.subjects]
        self._scores.clear()
        area = auc_with_interval(labels, scores, subjects, draws=100).value
        # The AUC of a few subjects is a staircase and soon at its top; the best checkpoint is
        # chosen by the hinge that training lowers, each lesioned pair against its own healthy one.
        own = {name: scores[k] for k, name in enumerate(subjects) if not labels[k]}
        gaps = np.array([scores[k] - own[name] for k, name in enumerate(subjects) if labels[k]])
        hinge = float(np.maximum(0.0, self._margin - gaps).mean())
        self.log_dict({"validation_auc": area, "validation_loss": hinge}, prog_bar=True)

    def configure_optimizers(self) -> Any:  # noqa: ANN401 (Lightning's own union type)
        """AdamW under a one-cycle schedule."""
        optimizer = torch.optim.AdamW(
            self.parameters(),
            lr=self._training.learning_rate,
            weight_decay=self._training.weight_decay,
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=self._training.learning_rate,
            total_steps=self._steps,
            pct_start=self._training.warmup,
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


def resolve_precision(setting: str) -> str:
    """Turn ``auto`` into what the device has units for.

    Returns
    -------
    str
        ``bf16-mixed`` on GPUs and CPUs with bf16 units, else ``32-true``. A CPU without them
        emulates bf16, which is slower than float32.
    """
    if setting != "auto":
        return setting
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "32-true"
    units = torch.cpu.get_capabilities()
    has_units = units.get("avx512_bf16") or units.get("amx_bf16") or units.get("bf16")
    return "bf16-mixed" if has_units else "32-true"


def _channels_last(images: Batch) -> Batch:
    return images.contiguous(memory_format=torch.channels_last_3d)


def _distances(embeddings: Tensor, batch: Halves) -> tuple[Tensor, Tensor]:
    """Mean distance of the healthy halves, and of healthy from lesioned ones, within subjects."""
    unit = F.normalize(embeddings)
    distance = torch.cdist(unit, unit)
    pair = (batch.subjects[:, None] == batch.subjects[None]) & (
        batch.sides[:, None] < batch.sides[None]
    )
    healthy = pair & ~batch.lesioned[:, None] & ~batch.lesioned[None]
    one_lesioned = pair & (batch.lesioned[:, None] ^ batch.lesioned[None])
    return distance[healthy].mean(), distance[one_lesioned].mean()
