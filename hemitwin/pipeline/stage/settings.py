"""Configurations: read from YAML, changed from the command line, and refused in words."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from hemitwin._error_text import error_text
from hemitwin.pipeline.stage.errors import UserError

__all__ = [
    "read_config",
    "validated",
]


M = TypeVar("M", bound=BaseModel)


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
    >>> class Slices(BaseModel):
    ...     step_mm: float
    >>> validated(Slices, {"step_mm": 4}, "example").step_mm
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
        keys, inner = _place_of(model, detail["loc"])
        key = ".".join(keys)
        if detail["type"] == "extra_forbidden":
            lines.append(f"  unknown key {key!r}; {_suggest(inner, keys[-1])}")
        elif not keys:  # of several together: the text says which, and not all of them
            lines.append(f"  {detail['msg'].removeprefix('Value error, ')}")
        else:
            lines.append(f"  {key}: {detail['msg']}, got {detail['input']!r}")
    return "\n".join(lines)


def _place_of(
    model: type[BaseModel], location: tuple[int | str, ...]
) -> tuple[list[str], type[BaseModel]]:
    """Tell the keys of a place, and the model that has the last of them.

    Where a key may hold one of several models, pydantic puts the chosen one's tag, its name,
    between the keys.
    """
    keys: list[str] = []
    below: tuple[type[BaseModel], ...] = (model,)
    for part in map(str, location):
        tagged = tuple(one for one in below if one.__name__ == part)
        if keys and tagged:
            below = tagged
            continue
        model = below[0] if below else model
        keys.append(part)
        field = model.model_fields.get(part)
        below = _models_in(field.annotation) if field is not None else ()
    return keys, model


def _models_in(annotation: object) -> tuple[type[BaseModel], ...]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return (annotation,)
    return tuple(one for part in get_args(annotation) for one in _models_in(part))


def _suggest(model: type[BaseModel], key: str) -> str:
    names = list(model.model_fields)
    near = get_close_matches(key, names, n=1, cutoff=0.0)
    return f"did you mean {near[0]!r}? valid: {', '.join(names)}"
