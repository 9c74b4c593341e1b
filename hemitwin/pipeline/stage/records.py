"""Records: what a product was made from, by content, and whether it would still be made so."""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field, ValidationError

from hemitwin._atomic import sweep_leftovers
from hemitwin._frozen import Frozen
from hemitwin.pipeline.stage.bids import sidecar_of
from hemitwin.pipeline.stage.dataset import provenance
from hemitwin.pipeline.stage.json_files import digest_file, digest_json, read_json, write_json
from hemitwin.transforms import Scan, volume_members

__all__ = [
    "VOXELS",
    "FileState",
    "Record",
    "content_digest",
    "digest_voxels",
    "read_product",
    "recorded_inputs",
]

logger = logging.getLogger(__name__)


VOXELS = "VoxelsSHA256"
"""What a prepared volume's sidecar calls `digest_voxels` of it."""

_RECORD = "MadeFrom"
_BY_EARLIER_VERSION = "an earlier version made it, which did not write down from what"
_COMPUTED_OTHERWISE = "it is computed in another way now"


class FileState(Frozen):
    """A file's content, and what is looked at before it is read again.

    The times and the number of the file are this machine's: where they differ, as they do in a
    copy, the content decides.
    """

    sha256: str = Field(description="Of the bytes.")
    size: int = Field(description="In bytes.")
    mtime_ns: int = Field(description="When the content was last written.")
    ctime_ns: int = Field(description="When the file was last changed: no program sets it.")
    inode: int = Field(description="The file's number.")

    @classmethod
    def of(cls, path: Path, known: "FileState | None" = None) -> "FileState":
        """Look at a file; read it where it is not plainly the one that is known.

        Raises
        ------
        OSError
            It is not there, or may not be read.
        """
        found = path.stat()
        seen = {
            "size": found.st_size,
            "mtime_ns": found.st_mtime_ns,
            "ctime_ns": found.st_ctime_ns,
            "inode": found.st_ino,
        }
        if known is not None and known.model_dump(exclude={"sha256"}) == seen:
            return known
        return cls(sha256=digest_file(path), **seen)


class _MadeOtherwise(Exception):  # noqa: N818 (no error: why a product is made again)
    """Why a product is not what would be made now."""


class _Written(Frozen):
    """A record as its sidecar holds it."""

    stage: str
    computation: int
    settings: dict[str, Any]
    inputs: dict[str, FileState]
    files: dict[str, FileState]


@dataclass(frozen=True, eq=False)
class Record:
    """What decides a product: a stage's computation, its input files, and its settings.

    `ensure` is all that most stages need. One that may find, while it computes, that nothing is to
    be written asks `find` whether the product is there and true, and else calls `begin`, writes
    the files, and ends with `write`. The sidecar goes first and comes last: while it is away, the
    product is not done, whenever the stage was cut off.

    Parameters
    ----------
    stage : str
        The verb, for messages and for whoever reads the sidecar.
    computation : int
        Raise it whenever the same inputs and settings give another product.
    inputs : mapping of str to Path
        Files that are read, by what they are. Of a volume with a header of its own (``.hdr`` and
        ``.img``) every member counts.
    settings : mapping
        All else that decides it, as JSON can hold it: configuration, and digests of what is no
        file.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> source, product = folder / "a.txt", folder / "b.txt"
    >>> _ = source.write_text("1")
    >>> record = Record("copy", computation=1, inputs={"source": source}, settings={})
    >>> def make():
    ...     _ = product.write_text(source.read_text())
    ...     return {"Description": "A copy"}, [product]
    >>> record.ensure(folder / "b.json", make)["Description"]
    'A copy'
    >>> again = Record("copy", computation=1, inputs={"source": source}, settings={})
    >>> again.find(folder / "b.json") is None
    False
    """

    stage: str
    computation: int
    inputs: Mapping[str, Path]
    settings: Mapping[str, Any]
    _states: dict[str, FileState] = field(default_factory=dict, init=False, repr=False)

    @property
    def digest(self) -> str:
        """SHA-256 of all that decides the product: equal for equal content, wherever it lies."""
        inputs = {name: state.sha256 for name, state in self._look({}).items()}
        return digest_json([self.stage, self.computation, self._settings(), inputs])

    def ensure(
        self,
        sidecar: Path,
        make: Callable[[], tuple[Mapping[str, Any], Iterable[Path]]],
    ) -> dict[str, Any]:
        """Return what the product's sidecar says; make the product first unless it is there, true.

        Parameters
        ----------
        sidecar : Path
            As for `write`.
        make : callable
            Writes the product's files; gives what is to be said of it, and all of them.
        """
        content = self.find(sidecar)
        if content is None:
            self.begin(sidecar)
            said, files = make()
            content = self.write(sidecar, said, files)
        return content

    def find(self, sidecar: Path) -> dict[str, Any] | None:
        """Return what the product's sidecar says, if it is whole and made from just this.

        Files are read only where size, times or number differ from what was seen when the product
        was written; where the content turns out to be the same, the sidecar is brought up to
        date. What killed writers left in the product's folder is removed.

        Parameters
        ----------
        sidecar : Path
            As it was given to `write`.

        Returns
        -------
        dict or None
            `None` where there is no such product, and where it must be made again; the log then
            says in one line why.
        """
        sweep_leftovers(sidecar.parent)
        content = _content_of(sidecar)
        if content is None:
            self._look({})
            return None
        if reason := self._compare(sidecar, content):
            logger.info("%s is made again: %s", sidecar.name, reason)
            return None
        return content

    def difference(self, sidecar: Path) -> str:
        """Say why a product would be made otherwise now; nothing where it would be the same.

        Raises
        ------
        FileNotFoundError
            There is no sidecar, or a damaged one.
        """
        content = _content_of(sidecar)
        if content is None:
            msg = f"a product must have its sidecar, {sidecar} is not there; make it again"
            raise FileNotFoundError(msg)
        return self._compare(sidecar, content)

    def begin(self, sidecar: Path) -> None:
        """Take the sidecar away: from now on the product is not done."""
        self._look({})
        sidecar.parent.mkdir(parents=True, exist_ok=True)
        sidecar.unlink(missing_ok=True)

    def write(
        self, sidecar: Path, content: Mapping[str, Any], files: Iterable[Path]
    ) -> dict[str, Any]:
        """Write the sidecar: the product is done.

        Parameters
        ----------
        sidecar : Path
            A JSON file beside or above the product's files.
        content : mapping
            What it says of the product.
        files : iterable of Path
            All that was made; a product that lacks one, or has another in its place, is made
            again.

        Returns
        -------
        dict
            As `find` will return it.
        """
        written = _Written(
            stage=self.stage,
            computation=self.computation,
            settings=self._settings(),
            # As they were before they were read: what changed meanwhile is seen by the next run.
            inputs=self._look({}),
            files={_name_from(sidecar, path): FileState.of(path) for path in files},
        )
        record = written.model_dump(mode="json")
        whole = {**content, "GeneratedBy": provenance(), _RECORD: record}
        write_json(sidecar, whole)
        return whole

    def _settings(self) -> dict[str, Any]:
        # As JSON gives it back: a tuple is a list there.
        return dict(json.loads(json.dumps(dict(self.settings))))

    def _look(self, known: Mapping[str, FileState]) -> dict[str, FileState]:
        """Look at the inputs, once."""
        if not self._states:
            for name, path in self.inputs.items():
                for number, member in enumerate(volume_members(path)):
                    called = name if number == 0 else f"{name}, member {number}"
                    self._states[called] = FileState.of(member, known.get(called))
        return self._states

    def _compare(self, sidecar: Path, content: dict[str, Any]) -> str:
        """Say why a product must be made again, or see to it that its sidecar is up to date."""
        written = _written_in(content)
        inputs = self._look({} if written is None else written.inputs)
        try:
            files = self._held_against(sidecar, written)
        except _MadeOtherwise as reason:
            return str(reason)
        if written is not None and (inputs != written.inputs or files != written.files):
            _bring_up_to_date(sidecar, content, inputs, files)
        return ""

    def _held_against(self, sidecar: Path, written: _Written | None) -> dict[str, FileState]:
        """Return how the product's files are now, if it would be made just so again."""
        if written is None:
            raise _MadeOtherwise(_BY_EARLIER_VERSION)
        if (written.stage, written.computation) != (self.stage, self.computation):
            raise _MadeOtherwise(_COMPUTED_OTHERWISE)
        settings = self._settings()
        if digest_json(written.settings) != digest_json(settings):
            raise _MadeOtherwise("other settings: " + _differing(written.settings, settings))
        now = {name: state.sha256 for name, state in self._states.items()}
        then = {name: state.sha256 for name, state in written.inputs.items()}
        if now != then:
            raise _MadeOtherwise("made from another " + _differing(then, now))
        return {name: _unchanged(sidecar, name, known) for name, known in written.files.items()}


def read_product(path: Path, sidecar: Path | None = None) -> dict[str, Any] | None:
    """Read what a product's sidecar says, if the file is the one that was written.

    Parameters
    ----------
    path : Path
        One of the product's files.
    sidecar : Path, optional
        By default the JSON file of the same name.

    Returns
    -------
    dict or None
        `None` where file or sidecar is missing or damaged, or they do not belong together. What
        version 0.1.0 wrote is taken if its digest is right.
    """
    beside = sidecar or sidecar_of(path)
    content = _content_of(beside)
    if content is None or not path.is_file():
        return None
    known = _state_in(content, _name_from(beside, path))
    if known is not None:
        return content if FileState.of(path, known).sha256 == known.sha256 else None
    # How version 0.1.0 told a product from what was put in its place: one file's, or a set's.
    earlier = content.get("Digest") or content.get("Digests", {}).get(path.name)
    return content if earlier == digest_file(path) else None


def content_digest(path: Path) -> str:
    """Return the SHA-256 of a file's bytes; read only where no sidecar tells it."""
    known = _state_in(_content_of(sidecar_of(path)) or {}, path.name)
    return FileState.of(path, known).sha256


def digest_voxels(scan: Scan) -> str:
    """Return the SHA-256 of a volume's voxels and affine, whatever its name and compression."""
    digest = hashlib.sha256(repr(scan.data.shape).encode())
    digest.update(np.round(scan.affine, 4).tobytes())
    digest.update(np.ascontiguousarray(scan.data, dtype="<f4").tobytes())
    return digest.hexdigest()


def recorded_inputs(content: Mapping[str, Any]) -> dict[str, str]:
    """Return the digests of what a product was made from, by what it is.

    Empty for a product of version 0.1.0.
    """
    written = _written_in(content)
    return {} if written is None else {n: state.sha256 for n, state in written.inputs.items()}


def _content_of(sidecar: Path) -> dict[str, Any] | None:
    if not sidecar.is_file():
        return None
    try:
        return read_json(sidecar)
    except ValueError as error:
        logger.warning("%s is taken as missing: %s", sidecar.name, error)
        return None


def _written_in(content: Mapping[str, Any]) -> _Written | None:
    try:
        return _Written.model_validate(content.get(_RECORD))
    except ValidationError:
        return None


def _state_in(content: Mapping[str, Any], name: str) -> FileState | None:
    written = _written_in(content)
    return None if written is None else written.files.get(name)


def _unchanged(sidecar: Path, name: str, known: FileState) -> FileState:
    try:
        state = FileState.of(sidecar.parent / name, known)
    except OSError as error:
        msg = f"{name} is not there"
        raise _MadeOtherwise(msg) from error
    if state.sha256 != known.sha256:
        msg = f"{name} is not the file that was written"
        raise _MadeOtherwise(msg)
    return state


def _name_from(sidecar: Path, path: Path) -> str:
    return Path(os.path.relpath(path, sidecar.parent)).as_posix()


def _bring_up_to_date(
    sidecar: Path,
    content: dict[str, Any],
    inputs: Mapping[str, FileState],
    files: Mapping[str, FileState],
) -> None:
    """Remember how the files are now, so that they need not be read by the next run."""
    record = content[_RECORD]
    record["inputs"] = {name: state.model_dump() for name, state in inputs.items()}
    record["files"] = {name: state.model_dump() for name, state in files.items()}
    try:
        write_json(sidecar, content)
    except OSError as error:  # a folder that may only be read: it is true all the same
        logger.debug("%s is not brought up to date: %s", sidecar, error)


def _differing(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    names = [name for name in {**then, **now} if then.get(name) != now.get(name)]
    return ", ".join(names) or "input"
