"""Files that are either whole or not there, and what killed writers leave behind."""

import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

__all__ = ["atomic_path", "partial_name", "sweep_leftovers"]

_PREFIX = ".partial-"
_WRITER = re.compile(r"\.partial-(?P<pid>\d+)-(?P<birth>\d*)@(?P<host>[^@]*)@")
_SHARED_MODE = 0o666
_OTHER_HOST_SECONDS = 24 * 3600.0


@contextmanager
def atomic_path(path: Path, *, mode: int = _SHARED_MODE) -> Iterator[Path]:
    """Give a temporary name beside `path`; rename it to `path` when the block ends well.

    Parameters
    ----------
    path : Path
        The file to write. Its folder is made when it is missing. The temporary name keeps the
        full suffix (`.nii.gz`, `.dscalar.nii`), because savers choose the format by it.
    mode : int
        Permissions from the first byte on, less the user's umask; by default those of any new
        file, since results of a pipeline are shared in a group.

    Yields
    ------
    Path
        Where to write. It is removed when the block raises, so nothing half-written stays; what a
        killed process leaves is removed by `sweep_leftovers`.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with atomic_path(folder / "a.txt") as temporary:
    ...     _ = temporary.write_text("whole")
    >>> (folder / "a.txt").read_text(), len(list(folder.iterdir()))
    ('whole', 1)
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(partial_name(path.name))
    # Opened by the kernel under the umask: reading it would set it for every thread meanwhile.
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode))
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        if error.filename is None:  # a full disk names none
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def partial_name(name: str) -> str:
    """Name what is not whole yet: hidden, and with the process that writes it.

    Examples
    --------
    >>> partial_name("a.nii.gz").startswith(f".partial-{os.getpid()}-")
    True
    """
    return f"{_PREFIX}{_writer(os.getpid())}@{secrets.token_hex(4)}-{name}"


@lru_cache(maxsize=1)  # a forked process has another number
def _writer(pid: int) -> str:
    return f"{pid}-{_birth(pid)}@{_host()}"


def sweep_leftovers(folder: Path) -> None:
    """Remove what killed writers left in a folder; what a living process writes is left alone.

    A writer on another machine counts as dead after a day. A name that tells no writer is of
    version 0.1.0, which wrote such.

    Parameters
    ----------
    folder : Path
        Looked at itself, not below; it may be missing.
    """
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.name.startswith(_PREFIX)]
    except OSError:  # no such folder, or none that may be read: nothing of ours to be swept
        return
    for name in names:
        path = folder / name
        if not _is_alive(path):
            try:
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            except OSError:  # another process sweeps it, or the folder may only be read
                continue


def _is_alive(path: Path) -> bool:
    writer = _WRITER.match(path.name)
    if writer is None:
        return False
    if writer["host"] != _host():
        return _age_seconds(path) < _OTHER_HOST_SECONDS
    pid = int(writer["pid"])
    if writer["birth"]:  # numbers of processes come round again
        return writer["birth"] == _birth(pid)
    try:
        os.kill(pid, 0)
    except OSError as error:
        return not isinstance(error, ProcessLookupError)  # else it is another user's
    return True


def _age_seconds(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:  # its writer has just ended
        return 0.0


def _birth(pid: int) -> str:
    """Tell when a process began, in the kernel's ticks; nothing where the kernel does not say."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
    return fields.rpartition(")")[2].split()[19]


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9.-]", "", socket.gethostname())[:40]
