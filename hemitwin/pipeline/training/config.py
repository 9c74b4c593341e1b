"""One configuration for a run: composed of each concern's own, read from YAML, frozen."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Discriminator, Field, Tag, field_validator, model_validator

from hemitwin._frozen import Frozen
from hemitwin.atlases import TEMPLATE_SPACE
from hemitwin.interpret import LrpConfig
from hemitwin.models import (
    EncoderConfig,
    HeadConfig,
    InputConfig,
    Items,
    LocalEncoderConfig,
    LossConfig,
    Negatives,
    Relations,
    TransferConfig,
    relate_classes,
)
from hemitwin.pipeline.cohort.config import BrainPairsConfig, DataConfig, SplitConfig
from hemitwin.pipeline.images.config import ImagesConfig
from hemitwin.pipeline.images.slice_pairs import SlicePairsConfig
from hemitwin.pipeline.stage.errors import UserError
from hemitwin.pipeline.stage.settings import read_config
from hemitwin.pipeline.training.compared import BRAINS, HALVES, Compared
from hemitwin.transforms import AugmentationConfig, ImageAugmentationConfig, LesionConfig

__all__ = ["EvaluationConfig", "RunConfig", "TrainingConfig", "load_config"]


_HEADS: Mapping[str, tuple[str, ...]] = {
    "triplet": ("distance",),
    "contrastive": ("distance",),
    "ntxent": ("distance",),
    "bce": ("classifier", "joint", "single", "weighted_l1"),
    "joint": ("joint", "classifier"),
    "map": ("decoder",),
    "softmax": ("classes",),
}
"""Heads that an objective trains; the first is its default."""


class TrainingConfig(Frozen):
    """How the network is trained."""

    epochs: int = Field(default=50, ge=1, description="Passes over the training subjects.")
    batch_subjects: int = Field(
        default=8, ge=1, description="Subjects, or labelled images, in a batch."
    )
    lesions_per_side: int = Field(
        default=1, ge=1, description="Lesioned copies of each hemisphere in a batch."
    )
    lesions_per_pair: int = Field(
        default=1,
        ge=1,
        le=32,
        description="loss.objective=map: half of the lesioned pairs have from two to so many "
        "lesions, in either half.",
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
    image_augmentation: ImageAugmentationConfig = Field(
        default=ImageAugmentationConfig(), description="Random changes of 2D images."
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
    keep: Literal["best", "last"] = Field(
        default="best",
        description="Whose weights the run has: the epoch's of the lowest validation loss, or the "
        "last, where the rate has fallen to nothing; few validation brains choose by chance.",
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
        if self.keep == "last" and self.early_stopping is not None:
            msg = (
                f"training.early_stopping must be left out where training.keep is last, whose "
                f"weights come after the best ones; got {self.early_stopping}"
            )
            raise ValueError(msg)
        return self


class EvaluationConfig(Frozen):
    """How pairs are scored."""

    lesions_per_subject: int = Field(
        default=4, ge=1, description="Lesioned pairs a subject, beside its healthy pair."
    )
    bootstrap: int = Field(default=2000, ge=100, description="Bootstrap draws over subjects.")
    false_alarms: float | None = Field(
        default=0.05,
        gt=0,
        lt=1,
        description="Halves of brains: share of those without a lesion that may score above the "
        "threshold; null: the threshold has the largest sensitivity + specificity.",
    )
    criterion: Literal["accuracy", "balanced_accuracy"] | None = Field(
        default=None,
        description="Labelled images: choose an offset of each class by validation, so that this "
        "is highest; the nearest class by default.",
    )
    explained: int = Field(
        default=16, ge=1, description="Labelled images that are explained by maps."
    )
    region: tuple[float, float] | Path = Field(
        default=(0.6, 0.6),
        description="Labelled images: where relevance is counted: shares of height and width of "
        "the central box; or a folder of masks, each called as its image.",
    )

    @field_validator("region")
    @classmethod
    def _box_lies_inside(cls, region: tuple[float, float] | Path) -> tuple[float, float] | Path:
        if isinstance(region, tuple) and not all(0 < share <= 1 for share in region):
            msg = f"region must have shares above 0, at most 1, got {region}; correct it"
            raise ValueError(msg)
        return region


_DATA: Mapping[str, type[BaseModel]] = {"images": ImagesConfig, "slices": SlicePairsConfig}
"""By the key that only its kind of data has; without one of them they are volumes."""


def _kind_of_data(value: Any) -> str:  # noqa: ANN401 (raw input)
    if not isinstance(value, dict):
        return type(value).__name__
    return next((kind for key, kind in _DATA.items() if key in value), DataConfig).__name__


def _kind_of_encoder(value: Any) -> str:  # noqa: ANN401 (raw input)
    name = value.get("name") if isinstance(value, dict) else getattr(value, "name", None)
    return (LocalEncoderConfig if name == "local" else EncoderConfig).__name__


class RunConfig(Frozen):
    """Everything that decides a training run."""

    seed: int = Field(default=0, ge=0, description="The run's one seed.")
    data: Annotated[
        Annotated[DataConfig, Tag("DataConfig")]
        | Annotated[ImagesConfig, Tag("ImagesConfig")]
        | Annotated[SlicePairsConfig, Tag("SlicePairsConfig")],
        Discriminator(_kind_of_data),
    ] = Field(description="Prepared volumes, labelled images, or halves of slices.")
    pairs: BrainPairsConfig | None = Field(
        default=None,
        description="Compare brains, twins or rescans; without it the halves of each brain.",
    )
    split: SplitConfig = Field(default=SplitConfig(), description="Folds.")
    encoder: Annotated[
        Annotated[EncoderConfig, Tag("EncoderConfig")]
        | Annotated[LocalEncoderConfig, Tag("LocalEncoderConfig")],
        Discriminator(_kind_of_encoder),
    ] = Field(default=EncoderConfig(), description="The network.")
    input: InputConfig = Field(
        default=InputConfig(), description="What the encoder is given beside each image."
    )
    transfer: TransferConfig | None = Field(
        default=None, description="Weights that the encoder starts from; drawn by default."
    )
    head: HeadConfig = Field(
        default=HeadConfig(), description="What compares both sides; by default it suits the loss."
    )
    loss: LossConfig = Field(default=LossConfig(), description="The objective.")
    lesions: LesionConfig = Field(default=LesionConfig(), description="Injected lesions.")
    lesion_masks: Path | None = Field(
        default=None, description="Folder of real lesion masks, for lesions of kind 'mask'."
    )
    training: TrainingConfig = Field(default=TrainingConfig(), description="Training.")
    evaluation: EvaluationConfig = Field(default=EvaluationConfig(), description="Scoring.")
    lrp: LrpConfig = Field(default=LrpConfig(), description="Relevance.")

    @property
    def volumes(self) -> DataConfig:
        """The prepared volumes that the run is about.

        Raises
        ------
        UserError
            It is about images.
        """
        if isinstance(self.data, DataConfig):
            return self.data
        place = self.data.images if isinstance(self.data, ImagesConfig) else self.data.slices
        msg = (
            f"this must be asked of a run on prepared volumes, but the run learnt from images "
            f"({place}); name another run"
        )
        raise UserError(msg)

    @property
    def images(self) -> ImagesConfig | None:
        """The labelled images that the run is about, where it is about such."""
        return self.data if isinstance(self.data, ImagesConfig) else None

    @property
    def slice_pairs(self) -> SlicePairsConfig | None:
        """The halves of slices that the run is about, where it is about such."""
        return self.data if isinstance(self.data, SlicePairsConfig) else None

    @property
    def compared(self) -> Compared:
        """What a pair of volumes is made of: halves of one brain, or two brains.

        Raises
        ------
        UserError
            The run is about images.
        """
        of_halves = bool(self.volumes) and self.pairs is None
        return HALVES if of_halves else BRAINS

    @property
    def relate(self) -> Callable[[Items, Items, Negatives], Relations]:
        """Which of a batch's images belong together, and which apart."""
        if self.images is not None:
            return relate_classes
        return self.compared.relate if self.slice_pairs is None else HALVES.relate

    @property
    def evaluation_seed(self) -> int:
        """What decides the folds, and with 1 and 2 added the lesions of validation and test."""
        return self.seed if self.split.seed is None else self.split.seed

    @model_validator(mode="before")
    @classmethod
    def _defaults_follow(cls, content: Any) -> Any:  # noqa: ANN401 (raw input)
        """Choose the head that an objective needs, and a task's negatives, where none is named."""
        if not isinstance(content, dict):
            return content
        kind = _kind_of_data(content.get("data"))
        of_images = kind == ImagesConfig.__name__
        loss, head = content.get("loss", {}), content.get("head", {})
        encoder = content.get("encoder", {})
        if isinstance(loss, dict) and (of_images or content.get("pairs") is not None):
            loss = {"negatives": "subject", **loss}
            content = content | {"loss": loss}
        if isinstance(encoder, dict) and kind in {one.__name__ for one in _DATA.values()}:
            content = content | {"encoder": {"spatial_dims": 2, **encoder}}
        objective = loss.get("objective") if isinstance(loss, dict) else loss.objective
        if isinstance(head, dict) and isinstance(objective, str) and objective in _HEADS:
            content = content | {"head": {"name": _HEADS[objective][0], **head}}
        return content

    @model_validator(mode="after")
    def _parts_agree(self) -> "RunConfig":
        fitting = _HEADS[self.loss.objective]
        if self.head.name not in fitting:
            msg = (
                f"head.name must be {' or '.join(fitting)} for loss.objective="
                f"{self.loss.objective}, got {self.head.name}; leave head.name out"
            )
            raise ValueError(msg)
        if self.pairs is not None and self.loss.objective == "map":
            msg = "loss.objective=map needs lesions, which pairs of brains have none of"
            raise ValueError(msg)
        if self.pairs is not None and self.head.name == "single":
            msg = (
                "head.name must be one that compares where pairs of brains are the task; got "
                "single, which sees each brain by itself; take classifier"
            )
            raise ValueError(msg)
        if self.training.batch_subjects % self.training.devices:
            msg = (
                f"training.batch_subjects must be a multiple of training.devices "
                f"({self.training.devices}), which share each batch, got "
                f"{self.training.batch_subjects}"
            )
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _volumes_suit_the_rest(self) -> "RunConfig":
        if not isinstance(self.data, DataConfig):
            return self
        if self.pairs is not None and self.input.needs_pairs:
            msg = (
                "input.other and input.difference must be left out where pairs of brains are the "
                "task, whose embeddings are of each brain alone; got one of them set"
            )
            raise ValueError(msg)
        fit = ("lesion", "subject") if self.pairs is None else ("subject", "relative")
        if self.loss.negatives not in fit:
            msg = (
                f"loss.negatives must be {' or '.join(fit)} for pairs of "
                f"{self.compared.pairing}, got {self.loss.negatives}"
            )
            raise ValueError(msg)
        if self.pairs is None and self.volumes.space != TEMPLATE_SPACE:
            msg = (
                f"data.space must be {TEMPLATE_SPACE} for hemispheres, whose mirror image lies in "
                f"the same space, got {self.volumes.space}"
            )
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _images_suit_the_rest(self) -> "RunConfig":
        if isinstance(self.data, DataConfig):
            return self
        foreign = {
            "pairs": self.pairs is not None,
            "lesions": self.lesions != LesionConfig(),
            "lesion_masks": self.lesion_masks is not None,
            "input": self.input != InputConfig(),
        }
        if given := [name for name, there in foreign.items() if there]:
            msg = f"{', '.join(given)} must be left out where images are learnt from; got it set"
            raise ValueError(msg)
        if self.encoder.name == "local" or self.encoder.spatial_dims != 2:
            msg = (
                f"encoder must be one of two dimensions where images are learnt from; got "
                f"{self.encoder.name} with spatial_dims={self.encoder.spatial_dims}; leave "
                f"spatial_dims out"
            )
            raise ValueError(msg)
        negatives = "lesion" if self.images is None else "subject"
        if self.loss.negatives != negatives:
            msg = (
                f"loss.negatives must be left out where images are learnt from (it is "
                f"{negatives}: other classes, or the half with a shape); got {self.loss.negatives}"
            )
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _objective_suits_the_data(self) -> "RunConfig":
        of_classes = self.loss.objective == "softmax"
        of_lesions = self.loss.objective == "map" or self.head.name == "single"
        if of_classes and self.images is None:
            msg = (
                "loss.objective must be one that compares where halves or brains are; got "
                "softmax, which needs the classes of images; take bce with head.name=single"
            )
            raise ValueError(msg)
        if of_lesions and self.images is not None:
            msg = (
                f"loss.objective must be one of images' classes, got {self.loss.objective} with "
                f"head.name={self.head.name}, which knows lesions alone; take softmax for a plain "
                f"classifier"
            )
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _encoder_suits_the_rest(self) -> "RunConfig":
        if self.transfer is not None and isinstance(self.encoder, LocalEncoderConfig):
            msg = (
                "transfer must be left out where encoder.name=local, which is fitted and not "
                "trained; got it set"
            )
            raise ValueError(msg)
        if self.input != InputConfig() and isinstance(self.encoder, LocalEncoderConfig):
            msg = "input must be left out where encoder.name=local, which is fitted; got it set"
            raise ValueError(msg)
        if self.input.needs_pairs and (self.loss.objective == "ntxent" or self.loss.memory):
            msg = (
                "loss.objective must not be ntxent, nor loss.memory be set, with input.other or "
                "input.difference: what is said of a half that is seen beside its other one is "
                f"not to be held against halves of other pairs; got {self.loss.objective} with "
                f"memory {self.loss.memory}"
            )
            raise ValueError(msg)
        if self.head.name == "decoder" and isinstance(self.encoder, LocalEncoderConfig):
            msg = (
                "encoder.name must be one with feature maps where head.name=decoder; got local; "
                "choose another encoder or another objective"
            )
            raise ValueError(msg)
        if self.encoder.in_channels != 1:
            msg = (
                f"encoder.in_channels must be 1, what a volume has (data.reference adds its own), "
                f"got {self.encoder.in_channels}; leave it out"
            )
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _lesions_suit_training(self) -> "RunConfig":
        if self.training.lesions_per_pair > 1 and self.loss.objective != "map":
            msg = (
                "training.lesions_per_pair must be 1 where loss.objective is not map: which half "
                f"is the changed one must be known; got {self.training.lesions_per_pair}"
            )
            raise ValueError(msg)
        if not isinstance(self.data, DataConfig):
            return self
        if set(self.lesions.roles) != {"lesion"} and self.loss.objective != "map":
            msg = (
                "lesions.roles must be lesions alone where loss.objective is not map, since "
                f"training takes its negatives from them; got {self.lesions.roles}; controls and "
                "shams belong to a map or to an evaluation set ('hemitwin simulate lesions')"
            )
            raise ValueError(msg)
        if not self.lesions.roles.get("lesion"):
            msg = (
                f"lesions.roles must have a share of lesions, got {self.lesions.roles}; without "
                f"them there is nothing to learn"
            )
            raise ValueError(msg)
        if self.lesions.modality != self.volumes.modality:
            msg = (
                f"lesions.modality must be data.modality ({self.volumes.modality}), whose "
                f"contrasts the lesions take; got {self.lesions.modality}; set both"
            )
            raise ValueError(msg)
        return self


def load_config(path: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a run's configuration from YAML, then apply ``a.b=c`` overrides; see `read_config`."""
    return read_config(RunConfig, path, overrides)
