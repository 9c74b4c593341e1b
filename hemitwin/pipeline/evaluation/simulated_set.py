"""Read what `simulate lesions` wrote, as pairs and as the truth about them."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch
from jaxtyping import Bool
from torch import Tensor

from hemitwin.pipeline.cohort.brains import Brain, load_brain
from hemitwin.pipeline.simulation.manifest import MANIFEST, items_in, specification_of
from hemitwin.pipeline.stage.bids import sidecar_of
from hemitwin.pipeline.stage.errors import UserError, reading
from hemitwin.pipeline.stage.json_files import digest_file
from hemitwin.pipeline.stage.records import content_digest, read_product
from hemitwin.pipeline.training.compared import split_brain
from hemitwin.pipeline.training.sources.pairs import ScoredPair, in_either_half
from hemitwin.transforms import coarsen, load_mask

__all__ = ["pairs_of_set", "truths_of_set"]

Truth = Bool[Tensor, " h y z"]

_AGAIN = "simulate the set again"
_INSIDE = 0.5
"""Share of a voxel of the network's grid that must have been changed."""


def pairs_of_set(folder: Path, brain: Brain, resolution_mm: float) -> tuple[ScoredPair, ...]:
    """Read a subject's pairs from a set, at the network's grid.

    Parameters
    ----------
    folder : Path
        What `simulate_lesions` wrote.
    brain : Brain
        The prepared volume that the set was made from.
    resolution_mm : float
        The network's voxel size.

    Returns
    -------
    tuple of ScoredPair
        In the manifest's order.

    Raises
    ------
    UserError
        There is no manifest, the subject is not in it, a volume is not the one it names, or a
        mask is missing or another one.
    """
    return tuple(
        _pair_of(path, digest, brain, resolution_mm) for path, digest in _files(folder, brain)
    )


def truths_of_set(folder: Path, brain: Brain) -> tuple[Truth, ...]:
    """Read where each of a subject's pairs was changed, at the network's grid.

    Parameters
    ----------
    folder : Path
        What `simulate_lesions` wrote.
    brain : Brain
        As for `pairs_of_set`.

    Returns
    -------
    tuple of (h, Y, Z) bool
        In the manifest's order: changed in either half, the right one mirrored onto the left;
        nothing for the volume as it is.

    Raises
    ------
    UserError
        As `pairs_of_set` does.
    """
    return tuple(_truth_of(path, brain) for path, _ in _files(folder, brain))


def _files(folder: Path, brain: Brain) -> Iterator[tuple[Path, str]]:
    """Give each of a subject's volumes with its digest."""
    manifest = folder / MANIFEST
    if not manifest.is_file():
        msg = f"an evaluation set must hold {MANIFEST}, {folder} has none; 'hemitwin simulate'"
        raise UserError(msg)
    with reading(manifest, _AGAIN):
        table = pd.read_csv(manifest, sep="\t", dtype=str)
        rows = table[table["case"] == brain.case.name]
        made_from = set(rows["source_sha256"])
        files = [
            (folder / str(one), str(digest)) for one, digest in rows[["file", "sha256"]].values
        ]
        whole = items_in(folder)
        if whole is not None and 0 < len(rows) < whole:
            msg = f"it names {len(rows)} volumes of {brain.case.name}, of {whole}"
            raise ValueError(msg)
    if len(rows) == 0 or made_from != {content_digest(brain.case.scan)}:
        msg = (
            f"{folder} must be made from the prepared volumes at hand, but {brain.case.name} is "
            f"{'another volume' if len(rows) else 'not'} in its {MANIFEST}; {_AGAIN}"
        )
        raise UserError(msg)
    yield from files


def _pair_of(path: Path, digest: str, brain: Brain, resolution_mm: float) -> ScoredPair:
    content = read_product(path)
    if content is None or content["Digest"] != digest:
        msg = f"{path} must be the volume that the manifest names; simulate the set again"
        raise UserError(msg)
    changed = load_brain(replace(brain.case, scan=path), resolution_mm)
    pair = split_brain(brain, changed.volume)
    with reading(sidecar_of(path), _AGAIN):
        spec = specification_of(content)
    return ScoredPair(brain.subject, pair.left, pair.right, spec, _truth_of(path, brain))


def _truth_of(path: Path, brain: Brain) -> Truth:
    content = read_product(path)
    if content is None:
        msg = f"{path} must be as it was written; simulate the set again"
        raise UserError(msg)
    if content["Role"] == "healthy":
        whole = torch.zeros(1, *brain.mask.shape)
    else:
        mask = path.with_name(path.name.rpartition("_")[0] + "_mask.nii.gz")
        if not mask.is_file() or digest_file(mask) != content["MaskDigest"]:
            msg = f"{mask} must be the mask that was written; simulate the set again"
            raise UserError(msg)
        scan = load_mask(mask)
        whole, _ = coarsen(torch.from_numpy(scan.data)[None], scan.affine, factor=brain.factor)
    return in_either_half(whole[0] >= _INSIDE, brain.affine)
