"""Prepared volumes as a cohort: loaded once, at the network's grid, one brain a case."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from hemitwin.atlases import TEMPLATE_SPACE
from hemitwin.pipeline.cohort.config import DataConfig
from hemitwin.pipeline.cohort.volume_store import GridVolume, VolumeStore
from hemitwin.pipeline.preparation.quality import flagged_cases
from hemitwin.pipeline.stage.bids import (
    Case,
    Modality,
    Pairing,
    find_scans,
    nearest_subjects,
    sidecar_of,
    subjects_in,
)
from hemitwin.pipeline.stage.dataset import provenance
from hemitwin.pipeline.stage.errors import UserError, reading
from hemitwin.pipeline.stage.json_files import read_json
from hemitwin.pipeline.stage.names import prepared_tail
from hemitwin.pipeline.stage.records import content_digest
from hemitwin.pipeline.stage.sides import warn_of_guessed_sides
from hemitwin.pipeline.stage.tables import subject_name
from hemitwin.transforms import coarsen, load_volume

__all__ = [
    "COMPUTATION",
    "Brain",
    "find_cases",
    "find_prepared",
    "load_brain",
    "load_brains",
    "native_mm3_of",
    "require_excluded",
]

logger = logging.getLogger(__name__)

COMPUTATION = 1
"""Raise it when what a volume at the network's grid holds is computed in another way."""

_COMPUTED_BY = ("hemitwin", "torch", "numpy", "nibabel")
_LEAST_SHARE = 0.5
_STORE = Path(".cache", "volumes")  # a name with a dot: tools for BIDS pass over it


@dataclass(frozen=True, eq=False)
class Brain(GridVolume):
    """One prepared volume at the network's grid, background 0, and whose it is.

    Parameters
    ----------
    volume, mask, affine, factor, native_mm3_per_mm3
        As of `GridVolume`. The mask is of the brain before anything was injected; along x there
        is an even number of columns about the mid-plane.
    case : Case
        Whose volume it is.
    """

    case: Case

    @property
    def subject(self) -> str:
        """The subject, ``sub-01``: what folds are drawn over."""
        return self.case.subject


def find_prepared(
    folder: Path,
    *,
    labels: Sequence[str] | None = None,
    modality: Modality = "T1w",
    space: str = TEMPLATE_SPACE,
    quiet: bool = False,
) -> tuple[Case, ...]:
    """Find one modality's prepared volumes below a derivatives' folder.

    Those whose left and right are a guess are named in a warning, unless `quiet`: for callers that
    look for others, or that tell it together with other flags.

    Raises
    ------
    UserError
        The folder holds none, or a subject asked for has none.
    """
    tail = prepared_tail(modality, space)
    found = find_scans(folder, labels=labels, tail=tail)
    cases = [replace(case, modality=modality) for case in found]
    missing = [case.name for case in cases if not case.scan.is_file()]
    if missing and (labels or len(missing) == len(cases)):
        msg = (
            f"{', '.join(missing[:8])} must have a prepared {modality} below {folder}, got none; "
            f"run 'hemitwin prepare BIDS_DIR {folder} participant --modality {modality}'"
        )
        raise UserError(msg)
    there = tuple(case for case in cases if case.scan.is_file())
    if not quiet:
        warn_of_guessed_sides(there)
    return there


def load_brain(
    case: Case,
    resolution_mm: float,
    *,
    store: VolumeStore | None = None,
    pairing: Pairing = "hemispheres",
) -> Brain:
    """Load one prepared volume and bring it to the network's grid by means of each block's brain.

    Parameters
    ----------
    case : Case
        Of a prepared volume with its sidecar.
    resolution_mm : float
        The network's voxel size.
    store : VolumeStore, optional
        Where the result is kept, keyed by the volume's bytes, these settings and the versions of
        what computes it; without one it is computed each time.
    pairing : {'hemispheres', 'brains'}
        What will be compared: volumes prepared for brains have no mid-plane.

    Raises
    ------
    UserError
        `resolution_mm` is no whole multiple of the prepared voxel size, or the sidecar is missing,
        or a file is damaged.
    """
    native_mm3 = native_mm3_of(case, pairing=pairing)

    def make() -> GridVolume:
        return _at_resolution(case, resolution_mm, native_mm3)

    if store is None:
        made = make()
    else:
        specification = {
            "computation": COMPUTATION,
            "resolution_mm": resolution_mm,
            "least_share": _LEAST_SHARE,
            "native_mm3_per_mm3": native_mm3,
            "scan": content_digest(case.scan),
            "versions": {name: provenance()["packages"][name] for name in _COMPUTED_BY},
        }
        made = store.get(specification, make)
    return Brain(**vars(made), case=case)


def _at_resolution(case: Case, resolution_mm: float, native_mm3_per_mm3: float) -> GridVolume:
    with reading(case.scan, "prepare it again"):
        scan = load_volume(case.scan)
    prepared_mm = abs(float(scan.affine[0, 0]))
    factor = round(resolution_mm / prepared_mm)
    if factor < 1 or not np.isclose(factor * prepared_mm, resolution_mm):
        msg = (
            f"data.resolution_mm must be a whole multiple of the prepared {prepared_mm:g} mm, "
            f"got {resolution_mm:g}; set it so, or prepare with --resolution-mm"
        )
        raise UserError(msg)
    fine = torch.from_numpy(scan.data)[None]
    volume, affine = coarsen(fine, scan.affine, factor=factor)
    share, _ = coarsen((fine > 0).float(), scan.affine, factor=factor)
    # The mean over the block's brain alone: background would darken the brain's edge.
    volume = torch.where(share >= _LEAST_SHARE, volume / share.clamp(min=_LEAST_SHARE), 0.0)
    return GridVolume(volume, volume[0].numpy() > 0, affine, factor, native_mm3_per_mm3)


def native_mm3_of(case: Case, *, pairing: Pairing = "hemispheres") -> float:
    """Read how many native cubic millimetres one of template space is, from the sidecar.

    Raises
    ------
    UserError
        The prepared volume has no sidecar, or was prepared for pairs of whole brains and is to be
        split.
    """
    sidecar = sidecar_of(case.scan)
    if not sidecar.is_file():
        msg = f"{case.scan} must have its sidecar, {sidecar.name} is not there; prepare it again"
        raise UserError(msg)
    with reading(sidecar, "prepare it again") as remedy:
        content = read_json(sidecar, remedy=remedy)
        if pairing == "hemispheres" and content.get("Alignment", {}).get("Pairing") == "brains":
            msg = (
                f"{case.scan} must be prepared for hemispheres, but it was for pairs of whole "
                f"brains; prepare it with --pairing hemispheres"
            )
            raise UserError(msg)
        return float(content["Quality"]["native_from_template_determinant"])


def find_cases(config: DataConfig) -> tuple[Case, ...]:
    """Find every prepared volume that the configuration does not exclude.

    Raises
    ------
    UserError
        No volume is left.
    """
    excluded = _excluded(config)
    found = find_prepared(
        config.prepared, modality=config.modality, space=config.space, quiet=True
    )
    cases = tuple(case for case in found if not {case.subject, case.name} & excluded)
    if not cases:
        msg = f"data.exclude must leave some subjects, but it leaves none of {config.prepared}"
        raise UserError(msg)
    return cases


def load_brains(config: DataConfig, *, pairing: Pairing = "hemispheres") -> tuple[Brain, ...]:
    """Load every prepared volume that the configuration does not exclude.

    They are memory maps of a `VolumeStore` in ``.cache`` below the prepared volumes. A scan that
    `prepare` flagged takes part; a warning names it.

    Raises
    ------
    UserError
        No volume is left.
    """
    cases = find_cases(config)
    flagged = flagged_cases(
        config.prepared,
        [case.name for case in cases],
        modality=config.modality,
        space=config.space,
    )
    for name, reasons in flagged.items():
        logger.warning(
            "%s takes part although prepare flagged it (%s): look at it, and put it into "
            "data.exclude if it is bad",
            name,
            "; ".join(reasons),
        )
    store = VolumeStore(config.prepared / _STORE)
    return tuple(
        load_brain(case, config.resolution_mm, store=store, pairing=pairing) for case in cases
    )


def require_excluded(config: DataConfig) -> None:
    """Refuse names to be left out that nobody bears: the patient who was meant would be learnt.

    Before training only: a finished run may be scored where those whom it left out are not.

    Raises
    ------
    UserError
        No prepared subject or scan has such a name.
    """
    scans = find_prepared(
        config.prepared, modality=config.modality, space=config.space, quiet=True
    )
    known = {*subjects_in(config.prepared), *(case.name for case in scans)}
    unknown = sorted(_excluded(config) - known)
    if unknown:
        listed = ", ".join(
            f"{name} (nearest: {', '.join(near)})" if near else name
            for name in unknown
            for near in [nearest_subjects(name, known)]
        )
        msg = (
            f"data.exclude must name subjects or scans of {config.prepared}, but {listed} is "
            f"none; correct the name, or take it out"
        )
        raise UserError(msg)


def _excluded(config: DataConfig) -> set[str]:
    return {subject_name(label) for label in config.exclude}
