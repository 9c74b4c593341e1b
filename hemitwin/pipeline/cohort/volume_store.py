"""Volumes at the network's grid: computed once, then memory-mapped by every process."""

import errno
import logging
import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from hemitwin._atomic import partial_name, sweep_leftovers
from hemitwin._frozen import Frozen
from hemitwin._shapes import Affine, Mask, Volume
from hemitwin.pipeline.stage.json_files import digest_file, digest_json

__all__ = ["GridVolume", "VolumeStore"]

logger = logging.getLogger(__name__)

_VOLUME, _MASK, _HEADER = "volume.npy", "mask.npy", "entry.json"
_TAKEN = {errno.ENOTEMPTY, errno.EEXIST}


@dataclass(frozen=True, eq=False)
class GridVolume:
    """One volume at the network's grid.

    Parameters
    ----------
    volume : (1, X, Y, Z) float32
        RAS+ axes, not mirrored.
    mask : (X, Y, Z) bool
        Where the brain is.
    affine : (4, 4)
        Voxel index to template RAS+ millimetres.
    factor : int
        How many prepared voxels make one voxel, along each axis.
    native_mm3_per_mm3 : float
        Native cubic millimetres in one of template space: most brains are smaller than it.
    """

    volume: Volume
    mask: Mask
    affine: Affine
    factor: int
    native_mm3_per_mm3: float


class _Header(Frozen):
    """What an entry's JSON says."""

    key: str
    specification: dict[str, object]
    shape: tuple[int, int, int, int]
    affine: tuple[tuple[float, float, float, float], ...]
    factor: int
    native_mm3_per_mm3: float
    axes: Literal["RAS"] = "RAS"
    mirrored: Literal[False] = False
    digests: dict[str, str]


class VolumeStore:
    """A folder of computed volumes that several processes may read and fill at once.

    An entry is a folder, named by the SHA-256 of the specification that decides its content. It
    is written beside and renamed when it is whole: a writer that is killed leaves nothing that is
    read (the next one sweeps it), and of two writers the later finds it done. Its files are held
    against their digests when they are opened; a damaged entry is made again. Entries are never
    removed: the folder may be deleted at any time.

    Parameters
    ----------
    folder : Path
        Made when the first volume is stored. Where it cannot be written, volumes are kept in
        memory and a warning says so.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writable = True
        sweep_leftovers(folder)

    def get(
        self, specification: Mapping[str, object], make: Callable[[], GridVolume]
    ) -> GridVolume:
        """Return the volume that a specification describes; make and store it where it is missing.

        Parameters
        ----------
        specification : mapping
            All that decides the volume, as JSON: digests of inputs, settings, versions.
        make : callable
            Computes it.

        Returns
        -------
        GridVolume
            Volume and mask are private memory maps: they take memory as they are read, share it
            with other processes and give it back under pressure, and hold no file open. Writing
            to them would never reach the file.
        """
        key = digest_json(specification)
        found = _read(self._folder / key, key)
        if found is not None:
            return found
        made = make()
        if self._writable:
            self._store(key, specification, made)
        return _read(self._folder / key, key) or made

    def _store(self, key: str, specification: Mapping[str, object], made: GridVolume) -> None:
        fresh = self._folder / partial_name(key)
        try:
            fresh.mkdir(parents=True)
            _write(fresh, key, specification, made)
            _publish(fresh, self._folder / key)
        except OSError as error:
            self._writable = False
            logger.warning(
                "%s must be writable to keep computed volumes (%s): they stay in memory, and are "
                "computed again by the next run",
                self._folder,
                error,
            )
        finally:
            shutil.rmtree(fresh, ignore_errors=True)


def _write(folder: Path, key: str, specification: Mapping[str, object], made: GridVolume) -> None:
    np.save(folder / _VOLUME, made.volume.numpy())
    np.save(folder / _MASK, made.mask)
    header = _Header.model_validate(
        {
            "key": key,
            "specification": specification,
            "shape": made.volume.shape,
            "affine": made.affine.tolist(),
            "factor": made.factor,
            "native_mm3_per_mm3": made.native_mm3_per_mm3,
            "digests": {name: digest_file(folder / name) for name in (_VOLUME, _MASK)},
        }
    )
    (folder / _HEADER).write_text(header.model_dump_json(indent=2) + "\n", encoding="utf-8")


def _publish(fresh: Path, entry: Path) -> None:
    """Give a whole entry its name; one that has the name already is as good, if it is whole."""
    if entry.exists() and _read(entry, entry.name) is None:
        # Readers see the damaged entry, none, or a whole one: the first two are made again.
        entry.rename(fresh / "damaged")
    try:
        fresh.rename(entry)
    except OSError as error:
        if error.errno not in _TAKEN:
            raise


def _read(entry: Path, key: str) -> GridVolume | None:
    """Open an entry, or say with `None` that it is missing, foreign or damaged."""
    try:
        header = _Header.model_validate_json((entry / _HEADER).read_bytes())
        found = {name: digest_file(entry / name) for name in (_VOLUME, _MASK)}
    except (OSError, ValueError):
        return None
    if header.key != key or header.digests != found:
        return None
    return GridVolume(
        _map(entry / _VOLUME, header.shape, torch.float32),
        _map(entry / _MASK, header.shape[1:], torch.bool).numpy(),
        np.array(header.affine),
        header.factor,
        header.native_mm3_per_mm3,
    )


def _map(path: Path, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    # `np.load(mmap_mode="r")` would keep a file open for each volume, of which a process may have
    # a thousand or so, and torch warns of arrays that are read-only.
    count = math.prod(shape)
    start = path.stat().st_size // dtype.itemsize - count
    values = torch.from_file(str(path), shared=False, size=start + count, dtype=dtype)
    return values[start:].reshape(shape)
