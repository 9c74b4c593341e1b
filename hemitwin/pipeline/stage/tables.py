"""Tables of people, as BIDS and the Human Connectome Project keep them: subjects and sessions."""

import re
from pathlib import Path

import pandas as pd

from hemitwin.pipeline.stage.errors import UserError

__all__ = ["plain_identifier", "read_sessions", "read_table", "sessions_of", "subject_name"]


_SUBJECT = ("participant_id", "subject")
_SESSIONS = ("session_id", "session", "ses")
# With its session: sub-01_ses-2 as scans are named, HCA6002236_V1_MR as the Connectome Project
# names folders.
_OF_SESSION = (
    re.compile(r"(?P<subject>[^_]+)_ses-(?P<session>[^_]+)"),
    re.compile(r"(?P<subject>[a-zA-Z0-9]+)_(?P<session>[a-zA-Z0-9]+)_MR"),
)


def read_table(path: Path) -> pd.DataFrame:
    """Read a table of subjects as text, missing values as NaN.

    Parameters
    ----------
    path : Path
        A BIDS ``participants.tsv``, or a CSV of the Human Connectome Project.

    Returns
    -------
    DataFrame
        Its first column is ``subject``, with ``sub-``; the others keep their names. A subject may
        have several lines: see `sessions_of`. Names that hold a session (``sub-01_ses-2``,
        ``HCA6002236_V1_MR``) are taken apart, and where the table has no column of sessions it
        gets ``session_id``. Zeros are kept: ``1`` and ``01`` are two people.

    Raises
    ------
    UserError
        It is not there, is no table in UTF-8, or has neither ``participant_id`` nor ``Subject``.
    """
    if not path.is_file():
        msg = f"a table of subjects must be a file, got {path}, which is not there"
        raise UserError(msg)
    table = _read_text(path)
    named = [name for name in table.columns if name.lower() in _SUBJECT]
    if not named:
        msg = (
            f"{path} must have a column participant_id (or Subject, in a CSV of the Human "
            f"Connectome Project), got {', '.join(table.columns)}"
        )
        raise UserError(msg)
    table = table.dropna(subset=[named[0]])
    names = [_of_session(text) for text in table.pop(named[0])]
    table.insert(0, "subject", [subject for subject, _ in names])
    if any(session for _, session in names) and _session_column(table) is None:
        table.insert(1, _SESSIONS[0], [session for _, session in names])
    return table


def sessions_of(table: pd.DataFrame) -> list[str | None]:
    """Return the session of each line of a table, with ``ses-``; `None` where it has none."""
    column = _session_column(table)
    if column is None:
        return [None] * len(table)
    found = (text.strip() if isinstance(text, str) else "" for text in table[column])
    return [_session_name(text) if text else None for text in found]


def read_sessions(participants: Path) -> pd.DataFrame:
    """Read the tables of single subjects' sessions that BIDS keeps beside ``participants.tsv``.

    Parameters
    ----------
    participants : Path
        ``sub-01/sub-01_sessions.tsv`` and the like are looked for beside it; another table than
        ``participants.tsv`` has none.

    Returns
    -------
    DataFrame
        As `read_table` gives it; empty where there are none.

    Raises
    ------
    UserError
        One is no table in UTF-8.
    """
    found = [pd.DataFrame({"subject": []}, dtype=str)]
    if participants.name == "participants.tsv":
        for path in sorted(participants.parent.glob("sub-*/sub-*_sessions.tsv")):
            table = _read_text(path).drop(columns="subject", errors="ignore")
            table.insert(0, "subject", path.parent.name)
            found.append(table)
    return pd.concat(found, ignore_index=True)


def _read_text(path: Path) -> pd.DataFrame:
    separator = "," if path.suffix.lower() == ".csv" else "\t"
    try:
        return pd.read_csv(path, sep=separator, dtype=str, encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        msg = (
            f"{path} must be text in UTF-8, but it holds the byte "
            f"0x{error.object[error.start]:02x} of another encoding; save it as UTF-8, or convert "
            f"it: iconv -f LATIN1 -t UTF-8"
        )
        raise UserError(msg) from error
    except ValueError as error:  # what pandas raises of a file that is no table
        kind, why = "commas" if separator == "," else "tabs", str(error).strip()
        msg = f"{path} must be a table with {kind} between its columns ({why}); save it so"
        raise UserError(msg) from error


def _of_session(text: str) -> tuple[str, str | None]:
    """Take a line's name apart into the subject and the session, where it has one."""
    name = subject_name(plain_identifier(text))
    bare = name.removeprefix("sub-")
    found = next((one for kind in _OF_SESSION if (one := kind.fullmatch(bare))), None)
    if found is None:
        return name, None
    return f"sub-{found['subject']}", _session_name(found["session"])


def _session_name(text: str) -> str:
    return f"ses-{re.sub('^ses-', '', plain_identifier(text), flags=re.IGNORECASE)}"


def _session_column(table: pd.DataFrame) -> str | None:
    spelled = {str(name).lower(): str(name) for name in table.columns}
    return next((spelled[name] for name in _SESSIONS if name in spelled), None)


def subject_name(identifier: str) -> str:
    """Return an identifier in the form ``sub-01``, with or without the prefix given.

    Examples
    --------
    >>> subject_name("01"), subject_name("SUB-01")
    ('sub-01', 'sub-01')
    """
    return f"sub-{re.sub('^sub-', '', identifier, flags=re.IGNORECASE)}"


def plain_identifier(text: str) -> str:
    """Return what a cell names, as text.

    Examples
    --------
    >>> plain_identifier(" 51000.0 ")
    '51000'
    """
    # A column of numbers with a gap comes back from many a program as 51000.0.
    return text.strip().removesuffix(".0")
