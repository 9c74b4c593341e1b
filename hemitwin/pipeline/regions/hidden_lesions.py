"""Where a brain has no counterpart in the template: masks that are given, or that a run draws."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from hemitwin.atlases import TEMPLATE_SPACE, save_volume
from hemitwin.pipeline.explanation.score import region_of_map
from hemitwin.pipeline.explanation.two_brains import require_halves
from hemitwin.pipeline.preparation.lesion_files import (
    is_in_template_space,
    lesion_file_of,
    unclaimed_lesion_files,
)
from hemitwin.pipeline.preparation.native_space import NativeSpace
from hemitwin.pipeline.regions.registration import LesionMask
from hemitwin.pipeline.stage.bids import Case, sidecar_of
from hemitwin.pipeline.stage.errors import CaseError, UserError
from hemitwin.pipeline.stage.names import anomaly_path
from hemitwin.pipeline.stage.records import content_digest
from hemitwin.pipeline.training.compared import HALVES
from hemitwin.pipeline.training.runs import WEIGHTS, Run, load_run, result_record
from hemitwin.transforms import Scan, resample

__all__ = ["MaskSource", "check_extent", "find_lesion", "marked_region", "tell_of_unclaimed"]

logger = logging.getLogger(__name__)

_OF_PEAK = 0.25
_MOST_OF_BRAIN = 0.5


@dataclass(frozen=True)
class MaskSource:
    """Where masks come from.

    Parameters
    ----------
    folder : Path, optional
        Holds ``<subject>*_mask.nii[.gz]`` in the space of the scans, with or without ``sub-``.
    run : Path, optional
        A run whose head draws a map (``head.name: decoder``): where a brain scores above the run's
        threshold, the region about the map's peak is masked.
    """

    folder: Path | None = None
    run: Path | None = None

    def check(self) -> None:
        """Refuse what is not there.

        Raises
        ------
        UserError
            The folder or the run is missing, both are given, or the run draws no map.
        """
        if self.folder is not None and self.run is not None:
            msg = "lesions must come from one source; leave --lesion-masks or --anomaly-run out"
            raise UserError(msg)
        if self.folder is not None and not self.folder.is_dir():
            msg = f"the lesion masks must be in a folder, got {self.folder}; check the path"
            raise UserError(msg)
        if self.run is not None:
            _drawing_run(self.run)


def find_lesion(
    case: Case, derivatives: Path, native: NativeSpace, source: MaskSource
) -> LesionMask | None:
    """Find or draw one subject's mask.

    Parameters
    ----------
    case : Case
        Of a prepared volume.
    derivatives : Path
        A mask that a run draws is written there, as ``desc-anomaly_mask``.
    native : NativeSpace
        The scan's own space.
    source : MaskSource
        Where masks come from.

    Returns
    -------
    LesionMask or None
        None where there is none, or the brain's score is not above the threshold.

    Raises
    ------
    CaseError
        Several masks fit the scan.
    """
    if source.run is not None:
        return _drawn(case, derivatives, _drawing_run(source.run))
    if source.folder is None:
        return None
    found = lesion_file_of(source.folder, case, "atlas")
    if found is None:
        return None
    if is_in_template_space(found):
        return LesionMask(found, np.eye(4))
    return LesionMask(found, native.from_template, native.grid)


def tell_of_unclaimed(source: MaskSource, cases: Sequence[Case]) -> None:
    """Name the masks that fit no scan: a lesion that was to be kept out would be registered.

    Parameters
    ----------
    source : MaskSource
        Where masks come from.
    cases : sequence of Case
        All that are prepared.
    """
    if source.folder is None:
        return
    others = unclaimed_lesion_files(source.folder, cases)
    if others:
        logger.warning(
            "lesion masks must begin with a scan's name, with or without sub-, but %s fits none "
            "of %s%s",
            ", ".join(others[:8]),
            ", ".join(case.name for case in cases[:3]),
            " ..." if len(cases) > 3 else "",
        )


def check_extent(case: Case, mask: LesionMask, prepared: Scan) -> None:
    """Refuse a mask that leaves nothing to register, or masks nothing.

    Raises
    ------
    CaseError
        It does.
    """
    brain = prepared.data != 0
    there = resample(
        mask.scan, prepared.data.shape, prepared.affine, mask.scan_from_template, order=0
    )
    share = float((there > 0.5)[brain].mean())
    if not 0 < share <= _MOST_OF_BRAIN:
        reason = (
            f"a lesion mask must lie in the brain and leave half of it, {mask.path.name} covers "
            f"{share:.0%}; check its space, and that it is no mask of the brain"
        )
        raise CaseError(case.name, "atlas", reason)


def _drawing_run(folder: Path) -> Run:
    """Load the network; a run that was trained again since is another one."""
    weights = folder / WEIGHTS
    return _load_drawing_run(folder, content_digest(weights) if weights.is_file() else "")


@lru_cache(maxsize=1)
def _load_drawing_run(folder: Path, weights: str) -> Run:
    del weights  # it tells the cache that the network is another one
    run = load_run(folder)
    require_halves(run, "atlas --anomaly-run")
    if run.config.head.name != "decoder":
        msg = (
            f"{folder} must draw a map of what is anomalous (head.name: decoder), its head is "
            f"{run.config.head.name}; take another run, or give masks with --lesion-masks"
        )
        raise UserError(msg)
    return run


def marked_region(anomaly: Float[Tensor, "1 2 *half"]) -> Float[Tensor, "1 2 *half"]:
    """Mark what a decoder's map takes for the lesion.

    Parameters
    ----------
    anomaly : (1, 2, *half) float
        Logits of both sides.

    Returns
    -------
    (1, 2, *half) float
        1 in the voxels above a quarter of the peak's logit that are connected with it, on its
        side; 0 elsewhere. (Maps are trained to miss nothing: what is likelier than not is nearly
        twice the lesion.)
    """
    return (region_of_map(anomaly, of_peak=_OF_PEAK) > 0).to(anomaly)


def _drawn(case: Case, derivatives: Path, run: Run) -> LesionMask | None:
    path = anomaly_path(case, derivatives)
    record = result_record("atlas", run, (case,), computation=1, settings={"of_peak": _OF_PEAK})

    def make() -> tuple[dict[str, object], list[Path]]:
        path.unlink(missing_ok=True)  # of an earlier run, which may have seen what this does not
        found = _write_drawn(path, case, run)
        return found, [path] if found["Marked"] else []

    content = record.ensure(sidecar_of(path), make)
    return LesionMask(path, np.eye(4)) if content["Marked"] else None


@torch.inference_mode()
def _write_drawn(path: Path, case: Case, run: Run) -> dict[str, object]:
    """Draw what the decoder marks, if the brain is above the threshold."""
    brain = run.load_brain(case)
    left, right = HALVES.images(brain)
    device = run.network.device
    output = run.network(left[None].to(device), right[None].to(device))
    above = float(output.score) > run.threshold
    content = {
        "Description": f"Where the decoder's map is above {_OF_PEAK:g} of its peak, about it",
        "Sources": [f"bids::{case.scan.name}"],
        "ModelSHA256": run.weights_digest,
        "Score": float(output.score),
        "Threshold": run.threshold,
        "Marked": False,
    }
    if output.anomaly is None or not above or output.anomaly.max() <= 0:
        return content
    inside = marked_region(output.anomaly.cpu())
    mask = HALVES.join(brain, list(inside.movedim(1, 0)))[0].numpy() > 0.5
    save_volume(path, mask, brain.affine, space=TEMPLATE_SPACE)
    return {**content, "Marked": True}
