"""One configuration for a run: composed of each concern's own, read from YAML, frozen."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import (
    BaseModel,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    model_validator,
)

from hemitwin._error_text import error_text
from hemitwin._frozen import Frozen
from hemitwin.atlases import TEMPLATE_SPACE
from hemitwin.interpret import LrpConfig
from hemitwin.models import EncoderConfig, HeadConfig, LocalEncoderConfig, LossConfig
from hemitwin.pipeline.brain_pairs_config import BrainPairsConfig
from hemitwin.pipeline.data_config import DataConfig, SplitConfig
from hemitwin.pipeline.stage.errors import UserError
from hemitwin.pipeline.training_config import EvaluationConfig, TrainingConfig
from hemitwin.transforms import LesionConfig

__all__ = [
    "RunConfig",
    "load_config",
    "read_config",
    "validated",
]

M = TypeVar("M", bound=BaseModel)


_HEADS: Mapping[str, tuple[str, ...]] = {
    "triplet": ("distance",),
    "contrastive": ("distance",),
    "ntxent": ("distance",),
    "bce": ("classifier", "joint", "single"),
    "joint": ("joint", "classifier"),
    "map": ("decoder",),
}
"""Heads that an objective trains; the first is its default."""


_ENCODERS: Mapping[str, type[BaseModel]] = MappingProxyType(
    {one.__name__: one for one in (EncoderConfig, LocalEncoderConfig)}
)
"""Tag of a kind of encoder, which errors name where it stands, to its settings."""


def _kind_of_encoder(value: Any) -> str:  # noqa: ANN401 (raw input)
    name = value.get("name") if isinstance(value, dict) else getattr(value, "name", None)
    return (LocalEncoderConfig if name == "local" else EncoderConfig).__name__


class RunConfig(Frozen):
    """Everything that decides a training run."""

    seed: int = Field(default=0, ge=0, description="The run's one seed.")
    data: DataConfig = Field(description="Volumes.")
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
    def evaluation_seed(self) -> int:
        """What decides the folds, and with 1 and 2 added the lesions of validation and test."""
        return self.seed if self.split.seed is None else self.split.seed

    @model_validator(mode="before")
    @classmethod
    def _defaults_follow(cls, content: Any) -> Any:  # noqa: ANN401 (raw input)
        """Choose the head that an objective needs, and a task's negatives, where none is named."""
        if not isinstance(content, dict):
            return content
        loss, head = content.get("loss", {}), content.get("head", {})
        if isinstance(loss, dict) and content.get("pairs") is not None:
            loss = {"negatives": "subject", **loss}
            content = content | {"loss": loss}
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
        fit = ("lesion", "subject") if self.pairs is None else ("subject", "relative")
        if self.loss.negatives not in fit:
            msg = (
                f"loss.negatives must be {' or '.join(fit)} for pairs of "
                f"{'hemispheres' if self.pairs is None else 'brains'}, got {self.loss.negatives}"
            )
            raise ValueError(msg)
        if self.pairs is None and self.data.space != TEMPLATE_SPACE:
            msg = (
                f"data.space must be {TEMPLATE_SPACE} for hemispheres, whose mirror image lies in "
                f"the same space, got {self.data.space}"
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
    def _encoder_suits_the_rest(self) -> "RunConfig":
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
        if set(self.lesions.roles) != {"lesion"}:
            msg = (
                "lesions.roles must be lesions alone, since training takes its negatives from "
                f"them; got {self.lesions.roles}; controls and shams belong to an evaluation "
                "set ('hemitwin simulate lesions')"
            )
            raise ValueError(msg)
        if self.lesions.modality != self.data.modality:
            msg = (
                f"lesions.modality must be data.modality ({self.data.modality}), whose contrasts "
                f"the lesions take; got {self.lesions.modality}; set both"
            )
            raise ValueError(msg)
        return self


def load_config(path: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a run's configuration from YAML, then apply ``a.b=c`` overrides; see `read_config`."""
    return read_config(RunConfig, path, overrides)


def read_config(model: type[M], path: Path | None, overrides: Sequence[str] = ()) -> M:
    """Read a configuration from YAML, then apply ``a.b=c`` overrides.

    Parameters
    ----------
    model : type
        The configuration's class.
    path : Path, optional
        The YAML file; without one, defaults and overrides alone.
    overrides : sequence of str
        Each ``a.b=c``; the value is read as YAML, so ``[1, 2]`` and ``true`` work.

    Raises
    ------
    UserError
        The file is missing or no mapping, an override has no ``=``, a key is unknown (the
        message names the nearest valid one) or a value is out of its range.
    """
    content = _read_yaml(path) if path is not None else {}
    for override in overrides:
        _apply(content, override)
    return validated(model, content, "--set" if path is None else str(path))


def _read_yaml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        msg = f"the configuration must be a YAML file, got {path}, which is not there; name it"
        raise UserError(msg)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        msg = f"{path} must be valid YAML in UTF-8 ({error_text(error)}); correct it"
        raise UserError(msg) from error
    if content is not None and not isinstance(content, dict):
        msg = f"{path} must hold 'key: value' lines, got {type(content).__name__}; correct it"
        raise UserError(msg)
    return {str(key): value for key, value in (content or {}).items()}


def validated(model: type[M], values: Mapping[str, Any], where: str) -> M:
    """Build a configuration; say in words what is wrong with it.

    Parameters
    ----------
    model : type
        The configuration's class.
    values : mapping
        Its keys and values.
    where : str
        The file or command that gave them, for the message.

    Raises
    ------
    UserError
        A key is unknown (the message names the nearest valid one) or a value is out of range.

    Examples
    --------
    >>> validated(SplitConfig, {"test": 4}, "example").test
    4.0
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise UserError(_explain(error, model, where)) from error


def _apply(content: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        msg = f"--set must look like a.b=c, got {override!r}; for example training.epochs=20"
        raise UserError(msg)
    branch = content
    for part in parts[:-1]:
        branch = branch.setdefault(part, {})
        if not isinstance(branch, dict):
            msg = f"--set {override!r}: {part!r} is a value and has no keys below it"
            raise UserError(msg)
    try:
        branch[parts[-1]] = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        msg = f"--set {override!r} must have a value in YAML ({error_text(error)}); correct it"
        raise UserError(msg) from error


def _explain(error: ValidationError, model: type[BaseModel], where: str) -> str:
    lines = [f"{where}: {len(error.errors())} problem(s) in the configuration; correct it"]
    for detail in error.errors():
        key = ".".join(str(part) for part in detail["loc"] if part not in _ENCODERS)
        if detail["type"] == "extra_forbidden":
            lines.append(f"  unknown key {key!r}; {_suggest(model, detail['loc'])}")
        else:
            lines.append(f"  {key}: {detail['msg']}, got {detail['input']!r}")
    return "\n".join(lines)


def _suggest(model: type[BaseModel], location: tuple[int | str, ...]) -> str:
    for part in location[:-1]:
        field = model.model_fields.get(str(part))
        kind = _ENCODERS.get(str(part)) or (field.annotation if field else None)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            model = kind
    names = list(model.model_fields)
    near = get_close_matches(str(location[-1]), names, n=1, cutoff=0.0)
    return f"did you mean {near[0]!r}? valid: {', '.join(names)}"
