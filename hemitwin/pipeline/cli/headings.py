"""Verbs under headings in the help of a command line."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol, runtime_checkable

from typer.core import TyperGroup

__all__ = ["HeadedGroup"]


@runtime_checkable
class _Formatter(Protocol):
    """What writes help: typer has no public name for it."""

    def section(self, name: str) -> AbstractContextManager[None]: ...

    def write_dl(self, rows: Sequence[tuple[str, str]]) -> None: ...


class HeadedGroup(TyperGroup):
    """Lists each verb under its `rich_help_panel`: typer does so in coloured help alone."""

    def format_commands(self, ctx: object, formatter: _Formatter) -> None:
        """Write the headings, with columns as wide under one as under another."""
        del ctx
        width = max(map(len, self.commands))
        rows: dict[str, list[tuple[str, str]]] = {}
        for name, verb in self.commands.items():
            heading = str(getattr(verb, "rich_help_panel", ""))
            rows.setdefault(heading, []).append((name.ljust(width), verb.get_short_help_str(80)))
        for heading, below in rows.items():
            with formatter.section(heading):
                formatter.write_dl(below)
