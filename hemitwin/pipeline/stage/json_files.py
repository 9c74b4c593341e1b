"""JSON and text files: written whole, read with their name in every error, known by digest."""

import hashlib
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from hemitwin._atomic import atomic_path
from hemitwin._error_text import error_text
from hemitwin.pipeline.stage.errors import UserError

__all__ = [
    "digest_file",
    "digest_json",
    "read_json",
    "require_unchanged",
    "write_json",
    "write_private",
    "write_text",
]


_OWNER_ALONE = 0o600


def write_text(path: Path, text: str) -> Path:
    """Write a text file atomically and return its path."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def write_json(path: Path, content: Mapping[str, Any]) -> Path:
    """Write a JSON file atomically, two spaces deep, keys in the order given."""
    return write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


class _Content(dict[str, Any]):
    """What a JSON file holds; where a key is missing, the error names the file."""

    def __init__(self, path: Path, remedy: str, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        self._path, self._remedy = path, remedy

    def __missing__(self, key: str) -> NoReturn:
        msg = f"{self._path} must have the key {key}, but it has not; {self._remedy}"
        raise UserError(msg)


def read_json(path: Path, *, remedy: str = "write it again") -> dict[str, Any]:
    """Read a JSON object.

    Parameters
    ----------
    path : Path
        The file.
    remedy : str
        What to do where it is damaged.

    Returns
    -------
    dict
        To ask it, or an object in it, for a key that is missing is a `UserError` with the file's
        name.

    Raises
    ------
    UserError
        The file is not JSON, or not an object.
    """
    hook = partial(_Content, path, remedy)
    try:
        content = json.loads(path.read_text(encoding="utf-8"), object_hook=hook)
    except (ValueError, RecursionError) as error:
        msg = f"{path} must be a JSON file, but cannot be read ({error_text(error)}); {remedy}"
        raise UserError(msg) from error
    if not isinstance(content, dict):
        msg = f"{path} must hold a JSON object, got {type(content).__name__}; {remedy}"
        raise UserError(msg)
    return content


def require_unchanged(path: Path, digest: str) -> None:
    """Refuse a file that is another one than was written: a table may have lost its last lines.

    Raises
    ------
    ValueError
        Its digest is another one.
    """
    if digest_file(path) != digest:
        msg = "it was changed since it was written"
        raise ValueError(msg)


def digest_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, as hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest_json(content: object) -> str:
    """Return the SHA-256 of a JSON value in canonical form (sorted keys, no blanks).

    Examples
    --------
    >>> digest_json({"a": 1, "b": 2}) == digest_json({"b": 2, "a": 1})
    True
    """
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def write_private(path: Path, text: str) -> Path:
    """Write a text file whole or not at all, readable by its owner alone from the first byte."""
    with atomic_path(path, mode=_OWNER_ALONE) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path
