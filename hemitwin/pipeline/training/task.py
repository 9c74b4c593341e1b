"""Training of a Siamese network as a Lightning module."""

import logging
from typing import Any

import lightning as pl
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from hemitwin._shapes import Batch
from hemitwin.models import (
    BuiltEncoder,
    EncoderConfig,
    InputChannels,
    Items,
    LocalEncoder,
    MemoryBank,
    Objective,
    PairOutput,
    PooledEncoder,
    Relations,
    SiameseNetwork,
    build_encoder,
    build_head,
    embed_in_chunks,
    freeze,
    map_loss,
    pair_distance,
    relate_whole_pairs,
    transfer_weights,
)
from hemitwin.pipeline.stage.errors import UserError
from hemitwin.pipeline.statistics.metrics import auc
from hemitwin.pipeline.training.config import RunConfig
from hemitwin.pipeline.training.data import EpochScores
from hemitwin.pipeline.training.device import chosen_device
from hemitwin.pipeline.training.distributed import gather_batch
from hemitwin.pipeline.training.norms import NO_NORMS, TrainingNorms, training_channels
from hemitwin.pipeline.training.sources.pairs import TrainingBatch

__all__ = ["SiameseTask", "channels_last", "memory_format", "resolve_precision", "side_pairs"]

logger = logging.getLogger(__name__)

_LEAST_STEPS = 3


class SiameseTask(pl.LightningModule):
    """Each image is embedded once a step; pairs and triplets are made of the embeddings.

    Parameters
    ----------
    config : RunConfig
        Network, objective and schedule.
    steps : int
        Optimizer steps in the whole run, for the one-cycle schedule.
    norms : TrainingNorms, optional
        Of the training fold.
    local : LocalEncoder, optional
        The encoder, where the configuration asks for local patterns: they are of images.
    scores : EpochScores, optional
        Gathers what is said of the validation pairs; a task without it is not validated.
    classes : int
        Of labelled images; 0 where there are none.

    Attributes
    ----------
    head_config : HeadConfig
        What the head was built from.
    """

    def __init__(
        self,
        config: RunConfig,
        *,
        steps: int,
        norms: TrainingNorms = NO_NORMS,
        local: LocalEncoder | None = None,
        scores: EpochScores | None = None,
        classes: int = 0,
    ) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(config.seed)
        whole = norms.whole
        seen = InputChannels(config.input, whole.reference, whole.normative)
        encoder = _encoder(config, seen, local, generator)
        self.head_config = config.head
        if config.loss.objective == "softmax":
            self.head_config = config.head.model_copy(update={"classes": classes})
        head = build_head(self.head_config, encoder, generator)
        self.network = SiameseNetwork(
            encoder, head, whole.reference, whole.normative, config.input
        )
        self._norms = norms
        self._objective = Objective(config.loss, config.head.metric)
        self._memory = MemoryBank(config.loss.memory, encoder.config.embedding_dim)
        self._loss = config.loss
        self._training = config.training
        self._steps = steps
        self._relate = config.relate
        self._scores = scores
        # Not part of the state: what is compiled has the encoder's own parameters.
        compiled = torch.compile(encoder) if config.training.compiled else encoder
        self._embed = [compiled]

    def centre(self, batch: TrainingBatch) -> None:
        """Centre the untrained embeddings on a batch, so that training begins at once."""
        encoder = self.network.encoder
        if isinstance(encoder, PooledEncoder):
            encoder.centre(channels_last(self._channels(batch)))

    def training_step(self, batch: TrainingBatch, _: int) -> dict[str, Tensor]:
        """Return the loss, and beside it the distances of what belongs together and apart."""
        images = channels_last(self._channels(batch))
        if batch.paired and torch.is_autocast_enabled(images.device.type):
            # Every convolution would do it again, of each copy.
            images = images.to(torch.get_autocast_dtype(images.device.type))
        if self._loss.objective == "map":
            loss, embeddings = self._map_step(images, batch)
            relations = self._relations(batch.items, batch)
        else:
            own = embed_in_chunks(self._embed[0], images, self._training.chunk).float()
            embeddings, items = gather_batch(own, batch.items)
            relations = self._relations(items, batch)
            loss = (
                self._objective(embeddings, relations, self.network.head)
                if batch.paired
                else self._embedding_loss(embeddings, items)
            )
        positive, negative = _mean_distances(embeddings.detach(), relations, self.network)
        values = {"loss": loss, "positive_distance": positive, "negative_distance": negative}
        self.log_dict(values, on_step=False, on_epoch=True, batch_size=len(images))
        return values

    def validation_step(self, batch: Any, _: int) -> None:  # noqa: ANN401 (its validation's)
        """Keep what the network says of one batch until the epoch ends."""
        if self._scores is not None:
            self._scores.add(self.network, batch)

    def on_validation_epoch_end(self) -> None:
        """Log the AUC and the loss of the validation pairs."""
        if self._scores is None:
            return
        scores, different, hinge = self._scores.finish(self.network, self._loss.margin)
        # The AUC of a few subjects is a staircase and soon at its top; the best checkpoint is
        # chosen by what training lowers.
        logit = self.network.head.gives_logit
        loss = _balanced_cross_entropy(scores, different) if logit else hinge
        area = auc(different, scores)
        self.log_dict({"validation_auc": area, "validation_loss": loss}, prog_bar=True)

    def configure_optimizers(self) -> Any:  # noqa: ANN401 (Lightning's own union type)
        """AdamW under a one-cycle schedule."""
        optimizer = torch.optim.AdamW(
            self.parameters(),
            lr=self._training.learning_rate,
            weight_decay=self._training.weight_decay,
        )
        # Torch divides by the lengths of rise and fall less one: the rise needs two steps at
        # least, and the fall one. A shorter training ends before its schedule does.
        steps = max(self._steps, _LEAST_STEPS)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=self._training.learning_rate,
            total_steps=steps,
            pct_start=max(self._training.warmup, 2 / steps),
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def _channels(self, batch: TrainingBatch) -> Tensor:
        return training_channels(self.network, batch, self._norms)

    def _embedding_loss(self, embeddings: Tensor, items: Items) -> Tensor:
        older, old_items = self._memory.read()
        everyone = Items.join([items, old_items])
        others = torch.cat([embeddings, older.to(embeddings.dtype)])
        relations = self._relate(items, everyone, self._loss.negatives)
        loss: Tensor = self._objective(embeddings, relations, self.network.head, others)
        self._memory.push(embeddings, items)
        return loss

    def _relations(self, items: Items, batch: TrainingBatch) -> Relations:
        """Relate the items of all processes; the first half of each one's pairs is left."""
        if not batch.paired:
            return self._relate(items, items, self._loss.negatives)
        pairs = len(batch.images) // 2
        rows = torch.arange(len(items.item), device=items.item.device).reshape(-1, 2, pairs)
        left, right = rows.transpose(0, 1).flatten(1)
        return relate_whole_pairs(items, left, right, self._loss.negatives)

    def _map_step(self, images: Batch, batch: TrainingBatch) -> tuple[Tensor, Tensor]:
        """Decode every pair of the batch that one subject's halves make."""
        if batch.lesions is None:
            msg = "the map objective must have the lesions in its batches; got none"
            raise TypeError(msg)
        left, right = side_pairs(batch)
        size = tuple(batch.images.shape[2:])
        truth = torch.stack([batch.lesions[left], batch.lesions[right]], dim=1)
        if self._training.chunk is None and batch.paired:
            output = self.network.compare(images, size)
            maps, logits = _maps(output)
            embeddings = torch.cat([output.embedding_left, output.embedding_right])
            return self._map_loss(maps, truth, logits), embeddings.float()
        if self._training.chunk is None:
            sides = self.network.encode(images)
            output = self.network.decide(sides.select(left), sides.select(right), size)
            maps, logits = _maps(output)
            return self._map_loss(maps, truth, logits), sides.embedding.float()
        pairs = max(1, self._training.chunk // 2)
        decoded = [
            checkpoint(
                self._decode, images[left[some]], images[right[some]], size, use_reentrant=False
            )
            for some in torch.arange(len(left), device=left.device).split(pairs)
        ]
        maps, logits = (torch.cat(parts) for parts in zip(*decoded, strict=True))
        loss = self._map_loss(maps, truth, logits)
        with torch.no_grad():
            embeddings = embed_in_chunks(self._embed[0], images, self._training.chunk)
        return loss, embeddings.float()

    def _map_loss(self, maps: Tensor, truth: Tensor, logits: Tensor) -> Tensor:
        weights = {
            "lesion_weight": self._loss.lesion_weight,
            "pair_weight": self._loss.pair_weight,
        }
        return map_loss(maps, truth, logits, **weights)

    def _decode(self, left: Tensor, right: Tensor, size: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        return _maps(self.network.compare(torch.cat([left, right]), size))


def _encoder(
    config: RunConfig,
    seen: InputChannels,
    local: LocalEncoder | None,
    generator: torch.Generator,
) -> BuiltEncoder:
    if isinstance(config.encoder, EncoderConfig):
        own: int = 1 if config.images is None else config.images.channels
        channels = sum(seen.widths(own, config.encoder.spatial_dims).values())
        encoder = build_encoder(
            config.encoder.model_copy(update={"in_channels": channels}), generator
        )
        if config.transfer is not None:
            try:
                found = transfer_weights(encoder, config.transfer.weights)
                freeze(encoder, config.transfer.freeze_stages)
            except (OSError, ValueError) as error:
                msg = f"transfer: {error}"
                raise UserError(msg) from error
            logger.info("%s: %s", config.transfer.weights, found)
        return encoder
    if local is None:
        msg = "encoder.name=local needs the training images' patterns; give LocalEncoder.fit's"
        raise TypeError(msg)
    return local


def _maps(output: PairOutput) -> tuple[Tensor, Tensor]:
    if output.anomaly is None or output.logit is None:
        msg = "the map objective must have a head that gives maps; got none; take the decoder"
        raise TypeError(msg)
    return output.anomaly, output.logit


def side_pairs(batch: TrainingBatch) -> tuple[Tensor, Tensor]:
    """Return the rows of the left and right halves that make a pair.

    Those that are paired; else all halves of one subject, not both lesioned.
    """
    items = batch.items
    if batch.paired:
        left, right = torch.arange(len(batch.images), device=batch.images.device).chunk(2)
        return left, right
    same = items.group[:, None] == items.group[None]
    opposite = (items.item[:, None] == 0) & (items.item[None] == 1)
    one_healthy = ~(items.lesioned[:, None] & items.lesioned[None])
    left, right = torch.where(same & opposite & one_healthy)
    return left, right


def resolve_precision(setting: str, device: torch.device | None = None) -> str:
    """Turn ``auto`` into what the device has units for.

    Parameters
    ----------
    setting : str
        ``training.precision``.
    device : device, optional
        Where training runs; by default as `chosen_device` says.

    Returns
    -------
    str
        ``bf16-mixed`` on GPUs and CPUs with bf16 units, else ``32-true``. A CPU without them
        emulates bf16, which is slower than float32.
    """
    if setting != "auto":
        return setting
    if chosen_device(device).type == "cuda":
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "32-true"
    units = torch.cpu.get_capabilities()
    has_units = units.get("avx512_bf16") or units.get("amx_bf16") or units.get("bf16")
    return "bf16-mixed" if has_units else "32-true"


def channels_last(images: Batch) -> Batch:
    """Lay a batch out as convolutions like it best."""
    return images.contiguous(memory_format=memory_format(images.ndim - 2))


def memory_format(spatial_dims: int) -> torch.memory_format:
    """Return the layout that convolutions on CPUs and GPUs like best."""
    return torch.channels_last_3d if spatial_dims == 3 else torch.channels_last


def _mean_distances(
    embeddings: Tensor, relations: Relations, network: SiameseNetwork
) -> tuple[Tensor, Tensor]:
    means = []
    for pairs in (relations.positive, relations.negative):
        one, other = torch.where(pairs)
        distance = pair_distance(embeddings[one], embeddings[other], network.head.metric)
        means.append(distance.mean())
    return means[0], means[1]


def _balanced_cross_entropy(scores: np.ndarray, labels: np.ndarray) -> float:
    """Return the cross-entropy of logits, both classes with the same weight."""
    logits = torch.from_numpy(scores)
    terms = F.binary_cross_entropy_with_logits(
        logits, torch.from_numpy(labels).float(), reduction="none"
    ).numpy()
    return float((terms[labels].mean() + terms[~labels].mean()) / 2)
