"""Errors that users can mend: of a request, of one case, of a file; each in one line."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hemitwin._error_text import error_text

__all__ = ["CaseError", "CaseFailure", "UserError", "reading", "reason_of"]

_PARTIAL = re.compile(r"\.partial-[^/]*@\w+-")
"""What a file's name begins with while it is written."""


class UserError(ValueError):
    """A request that cannot be met: the message says what must hold, what came and what to do."""


class CaseError(RuntimeError):
    """One case could not pass one stage.

    Parameters
    ----------
    case : str
        The case's name, for example ``sub-01`` or ``sub-01_ses-2``.
    stage : str
        The stage's verb, for example ``prepare``.
    reason : str
        What must hold, what came, what to do.
    """

    def __init__(self, case: str, stage: str, reason: str) -> None:
        super().__init__(f"{case}: {stage} failed: {reason}")
        self.case = case
        self.stage = stage
        self.reason = reason


@dataclass(frozen=True)
class CaseFailure:
    """A failed case, as it travels between processes and into reports."""

    case: str
    stage: str
    reason: str


@contextmanager
def reading(path: Path, remedy: str) -> Iterator[str]:
    """Name the file, and what to do, in whatever is raised while its content is taken apart.

    Parameters
    ----------
    path : Path
        A file that somebody may have changed since it was written: each of its bytes may be wrong.
    remedy : str
        What to do: ``train again``.

    Yields
    ------
    str
        The remedy.

    Raises
    ------
    UserError
        The file is missing, or its content is not what the block expects.

    Examples
    --------
    >>> with reading(Path("run.json"), "train again"):
    ...     float("high")
    Traceback (most recent call last):
    ...
    hemitwin.pipeline.stage.errors.UserError: run.json must be as it was written, but cannot be \
used (could not convert string to float: 'high'); train again
    """
    try:
        yield remedy
    except (UserError, CaseError):
        raise
    except FileNotFoundError as error:
        msg = f"{path} must be there, but it is not; {remedy}"
        raise UserError(msg) from error
    except OSError:
        raise  # says itself which file, and why
    except Exception as error:
        msg = (
            f"{path} must be as it was written, but cannot be used ({error_text(error)}); {remedy}"
        )
        raise UserError(msg) from error


def reason_of(error: BaseException) -> str:
    """Say in one line why a request, or a case, failed.

    Parameters
    ----------
    error : BaseException
        Of this package, whose texts say what to do; of the operating system, which names a file;
        or one that nobody expected.

    Examples
    --------
    >>> reason_of(PermissionError(13, "Permission denied", "derivatives/sub-01"))
    'derivatives/sub-01: Permission denied; check the path, who may read and write there, and the \
space that is left'
    """
    if isinstance(error, CaseError):
        return error.reason
    if isinstance(error, OSError) and error.strerror:
        named = error.filename2 or error.filename  # of a copy or a new name, where it goes
        where = "a file" if named is None else _PARTIAL.sub("", str(named))
        return (
            f"{where}: {error.strerror}; check the path, who may read and write there, and the "
            f"space that is left"
        )
    return str(error) if isinstance(error, ValueError) and str(error) else error_text(error)
