"""Options made from the fields of models: names, help, ranges, choices and defaults."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import wraps
from types import GenericAlias
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from hemitwin.pipeline.stage.settings import validated

__all__ = ["Offer", "arguments_of", "with_options"]


@dataclass(frozen=True)
class Offer:
    """How a command offers a model, where the model itself does not say it.

    Parameters
    ----------
    names : mapping of str to str
        What an option is called, with underscores, where it is not called as its field.
    without : tuple of str
        Fields that are no options: the command, or nobody, sets them.
    """

    names: Mapping[str, str] = field(default_factory=dict)
    without: tuple[str, ...] = ()


def with_options(command: Callable[..., None], verb: str) -> Callable[..., None]:
    """Let a command that takes models be called with an option for each of their fields.

    Parameters
    ----------
    command : callable
        A parameter whose annotation is a model, ``config: Slices``, stands for options; with
        ``config: Annotated[Slices, Offer(...)]`` some have other names, or are left out.
    verb : str
        The command's name, for messages.

    Returns
    -------
    callable
        With the signature that typer is to read.

    Examples
    --------
    >>> class Slices(BaseModel):
    ...     step_mm: float = 8.0
    >>> def cut(config: Slices) -> None:
    ...     print(config.step_mm)
    >>> with_options(cut, "cut")(step_mm=4)
    4.0
    """

    @wraps(command)
    def call(**values: object) -> None:
        command(**arguments_of(command, values, verb))

    parameters = tuple(_parameters(command))
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {one.name: one.annotation for one in parameters}
    return call


def arguments_of(
    command: Callable[..., None], values: Mapping[str, Any], verb: str
) -> dict[str, Any]:
    """Put the values of options together into the models that a command takes.

    Parameters
    ----------
    command : callable
        As for `with_options`.
    values : mapping of str to object
        Of all of its options and arguments, by name.
    verb : str
        The command's name, for messages.

    Returns
    -------
    dict
        The arguments of `command`, by name.

    Raises
    ------
    UserError
        A model refuses a value.
    """
    given = dict(values)
    for one in inspect.signature(command, eval_str=True).parameters.values():
        if (found := _model_of(one)) is not None:
            model, options = found
            content = {name: given.pop(option) for name, option in options.items()}
            given[one.name] = validated(model, content, verb)
    return given


def _parameters(command: Callable[..., None]) -> Iterator[inspect.Parameter]:
    for one in inspect.signature(command, eval_str=True).parameters.values():
        if (found := _model_of(one)) is None:
            yield one.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        else:
            model, options = found
            for name, option in options.items():
                yield _parameter(option, model.model_fields[name])


def _model_of(
    parameter: inspect.Parameter,
) -> tuple[type[BaseModel], Mapping[str, str]] | None:
    """Tell the model that a parameter takes, and its options' names by its fields'."""
    kind, offer = parameter.annotation, Offer()
    if get_origin(kind) is Annotated:
        kind, offer = get_args(kind)[:2]
    if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
        return None
    names = (name for name in kind.model_fields if name not in offer.without)
    return kind, {name: offer.names.get(name, name) for name in names}


def _parameter(name: str, one: FieldInfo) -> inspect.Parameter:
    kind: Any = one.annotation
    default, told = one.default, one.description
    if get_origin(kind) is tuple and get_args(kind)[-1] is Ellipsis:
        (item, _), default = get_args(kind), list(default)
        choices = get_args(item) if get_origin(item) is Literal else ()
        told = f"{told} Repeatable{': ' if choices else ''}{', '.join(choices)}."
        # Typer takes no list of choices: the model refuses what is none.
        kind = GenericAlias(list, (str if choices else item,))
    # `gt` and `lt` are left to the model: typer's ranges include their limits.
    option = typer.Option(
        default,
        f"--{name.replace('_', '-')}",
        help=told,
        min=_limit(one, "ge"),
        max=_limit(one, "le"),
    )
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=option, annotation=kind)


def _limit(one: FieldInfo, name: str) -> int | float | None:
    return next((getattr(rule, name) for rule in one.metadata if hasattr(rule, name)), None)
