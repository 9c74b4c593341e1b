"""Where a brain has no counterpart in the template: masks that are given, or that a run draws."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from hemitwin.atlases import TEMPLATE_SPACE, save_volume
from hemitwin.pipeline.bids import Case
from hemitwin.pipeline.cohort import load_brain
from hemitwin.pipeline.errors import CaseError, UserError
from hemitwin.pipeline.explained_score import region_of_map
from hemitwin.pipeline.native_space import NativeSpace
from hemitwin.pipeline.outputs import digest_file, digest_json
from hemitwin.pipeline.pair_maps import join_maps
from hemitwin.pipeline.pairs import split_brain
from hemitwin.pipeline.runs import Run, load_run
from hemitwin.pipeline.subject_places import LesionMask
from hemitwin.pipeline.two_brains import require_halves
from hemitwin.transforms import Scan, load_scan

__all__ = ["MaskSource", "find_lesion"]


@dataclass(frozen=True)
class MaskSource:
    """Where masks come from.

    Parameters
    ----------
    folder : Path, optional
        Holds ``<subject>*_mask.nii[.gz]`` in the space of the scans.
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
    found = sorted(
        path
        for where in ("", "sub-*/anat/", "sub-*/ses-*/anat/")
        for path in source.folder.glob(f"{where}{case.name}_*mask.nii*")
    )
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        reason = (
            f"one lesion mask must fit the scan, got {names}; keep the right one in "
            f"{source.folder}"
        )
        raise CaseError(case.name, "atlas", reason)
    if not found:
        return None
    scan = load_scan(found[0])
    return LesionMask(found[0].name, scan, native.from_template, digest_file(found[0]))


@cache
def _drawing_run(folder: Path) -> Run:
    run = load_run(folder)
    require_halves(run, "atlas --anomaly-run")
    if run.config.head.name != "decoder":
        msg = (
            f"{folder} must draw a map of what is anomalous (head.name: decoder), its head is "
            f"{run.config.head.name}; take another run, or give masks with --lesion-masks"
        )
        raise UserError(msg)
    return run


@torch.inference_mode()
def _drawn(case: Case, derivatives: Path, run: Run) -> LesionMask | None:
    brain = load_brain(case, run.config.data.resolution_mm)
    pair = split_brain(brain, brain.volume)
    output = run.network(pair.left[None], pair.right[None])
    if output.anomaly is None or float(output.score) <= run.threshold:
        return None
    weight = (region_of_map(output.anomaly) > 0).float()
    drawn = join_maps(pair, weight[:, :1], weight[:, 1:])[0].numpy() > 0.5
    # The map's edge is where anomalous is as likely as not: one voxel more keeps it all out.
    mask = ndimage.binary_dilation(drawn)
    path = case.path(derivatives, f"space-{TEMPLATE_SPACE}_desc-anomaly_mask.nii.gz")
    save_volume(path, mask, brain.affine, space=TEMPLATE_SPACE)
    key = {"weights": run.weights_digest, "prepared": digest_file(case.scan)}
    scan = Scan(mask.astype(np.float32), brain.affine, path)
    return LesionMask(path.name, scan, np.eye(4), digest_json(key))
