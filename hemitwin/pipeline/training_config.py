"""How a network is trained and scored."""

from typing import Literal

from pydantic import Field, model_validator

from hemitwin._frozen import Frozen
from hemitwin.transforms import AugmentationConfig

__all__ = ["EvaluationConfig", "TrainingConfig"]


class TrainingConfig(Frozen):
    """How the network is trained."""

    epochs: int = Field(default=50, ge=1, description="Passes over the training subjects.")
    batch_subjects: int = Field(default=8, ge=1, description="Subjects in a batch.")
    lesions_per_side: int = Field(
        default=1, ge=1, description="Lesioned copies of each hemisphere in a batch."
    )
    learning_rate: float = Field(default=2e-3, gt=0, description="Peak of the one-cycle schedule.")
    warmup: float = Field(
        default=0.1, gt=0, lt=1, description="Share of the steps until the rate is at its peak."
    )
    weight_decay: float = Field(default=1e-2, ge=0, description="AdamW's weight decay.")
    gradient_clip: float = Field(default=1.0, gt=0, description="Largest norm of the gradient.")
    intensity_jitter: float = Field(
        default=0.1, ge=0, description="SD of the random log gamma that both halves share."
    )
    augmentation: AugmentationConfig = Field(
        default=AugmentationConfig(),
        description="Random changes that both halves share, but for noise.",
    )
    precision: Literal["auto", "bf16-mixed", "32-true"] = Field(
        default="auto", description="auto: bf16 where the device has units for it, else float32."
    )
    chunk: int | None = Field(
        default=None,
        ge=1,
        description="Images embedded at a time; a batch larger than memory keeps the gradients "
        "of the whole batch, for a second forward pass.",
    )
    ema_decay: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Validate and keep the exponential moving average of the weights.",
    )
    early_stopping: int | None = Field(
        default=None, ge=1, description="End after so many validations without a lower loss."
    )
    checkpoint_steps: int | None = Field(
        default=None, ge=1, description="Save the state after so many steps, beside every epoch."
    )
    validate_every: int | None = Field(
        default=None, ge=1, description="Epochs from validation to validation; default epochs/15."
    )
    deterministic: bool = Field(
        default=False, description="Refuse operations whose result may differ from run to run."
    )
    compiled: bool = Field(default=False, description="Compile the encoder with torch.compile.")
    workers: int = Field(default=0, ge=0, description="Processes that make batches ahead.")
    devices: int = Field(
        default=1, ge=1, description="Processes or GPUs that share each batch (DDP)."
    )

    @model_validator(mode="after")
    def _some_epoch_is_validated(self) -> "TrainingConfig":
        if (self.validate_every or 1) > self.epochs:
            msg = (
                f"training.validate_every must not exceed training.epochs ({self.epochs}), else "
                f"no weights are chosen, got {self.validate_every}; lower it"
            )
            raise ValueError(msg)
        return self


class EvaluationConfig(Frozen):
    """How pairs are scored."""

    lesions_per_subject: int = Field(
        default=4, ge=1, description="Lesioned pairs a subject, beside its healthy pair."
    )
    bootstrap: int = Field(default=2000, ge=100, description="Bootstrap draws over subjects.")
