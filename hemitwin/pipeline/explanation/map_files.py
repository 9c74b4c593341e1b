"""A relevance map's files: volume, sidecar, picture, and how finished ones are known."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from hemitwin.atlases import TEMPLATE_SPACE, hcpmmp_atlas, relevance_palette, save_volume
from hemitwin.interpret import Ledger, PairExplanation
from hemitwin.pipeline.cohort.brains import Brain, find_prepared
from hemitwin.pipeline.explanation.request import METHOD_NAMES, MapRequest
from hemitwin.pipeline.explanation.score import choose_score
from hemitwin.pipeline.stage.bids import Case, Modality, sidecar_of
from hemitwin.pipeline.stage.errors import CaseError, UserError
from hemitwin.pipeline.stage.names import map_desc, relevance_path
from hemitwin.pipeline.stage.pictures import picture_of_relevance
from hemitwin.pipeline.stage.records import Record, read_product
from hemitwin.pipeline.stage.sides import side_is_guess
from hemitwin.pipeline.training.runs import Run, masks_digest, result_record
from hemitwin.transforms import LesionSpec, Scan, load_volume, refine_sum

__all__ = [
    "Explained",
    "MapContent",
    "find_explained",
    "map_record",
    "read_audit",
    "read_done",
    "read_relevance",
    "write_map",
]


@dataclass(frozen=True)
class Explained:
    """One case's relevance and what was found about it.

    Parameters
    ----------
    case : Case
        Whose map it is.
    relevance : Path
        The volume; its sidecar lies beside it.
    target : str
        Which score is explained: ``distance``, ``logit`` or ``map``.
    score : float
        Its value.
    flagged : bool
        Whether the pair's own score lies above the run's threshold.
    ledger_ratio : float
        (input + bias + stabiliser + constant) / score: 1 when the ledger closes.
    localisation : dict of str to float
        Against the injected lesion's mask; empty where none was injected.
    checks : dict
        What `check_map` found; empty where it was not asked for.
    """

    case: Case
    relevance: Path
    target: str
    score: float
    flagged: bool
    ledger_ratio: float
    localisation: dict[str, float]
    checks: dict[str, Any]


@dataclass(frozen=True, eq=False)
class MapContent:
    """What is written about one volume."""

    brain: Brain
    relevance: Tensor
    found: PairExplanation
    flagged: bool
    mask: Tensor | None = None
    spec: LesionSpec | None = None
    localisation: dict[str, float] = field(default_factory=dict)
    checks: dict[str, Any] | None = None
    compared_with: str | None = None
    side_ledger: Ledger | None = None

    @property
    def ledger(self) -> Ledger:
        """Of the side that the map shows where it is known by itself, else of the pair."""
        return self.side_ledger or self.found.ledger


def map_record(run: Run, request: MapRequest, *cases: Case) -> Record:
    """Return what decides a map: volumes, network, rule, request."""
    settings = request.to_dict()
    if request.method == "ablation":
        settings["atlas"] = hcpmmp_atlas().digest
    if request.lesion_seed is not None:
        settings["lesion_masks"] = masks_digest(run.config)
    return result_record("explain", run, cases, computation=1, settings=settings)


def read_done(case: Case, path: Path, record: Record, *, checked: bool) -> Explained | None:
    """Return what was found when this very map was written, if it was, with checks if wanted."""
    content = record.find(sidecar_of(path))
    if content is None or (checked and _checks_of(content).get("Atlas") != hcpmmp_atlas().digest):
        return None
    return _explained(case, path, content)


def write_map(
    path: Path, run: Run, made: MapContent, request: MapRequest, record: Record
) -> Explained:
    """Write volume, lesion mask and picture, and the sidecar last."""
    record.begin(sidecar_of(path))
    brain, space = made.brain, run.config.volumes.space
    target = choose_score(run.config.head, request.target)
    fine, affine = refine_sum(made.relevance, brain.affine, factor=brain.factor)
    values = fine[0].numpy()
    save_volume(path, values, affine, space=space, palette=relevance_palette(values))
    files = [path]
    if made.mask is not None:
        files.append(path.with_name(path.name.replace("_relevance.nii.gz", "_mask.nii.gz")))
        mask, _ = refine_sum(
            made.mask[None].float() * brain.factor**3, brain.affine, factor=brain.factor
        )
        save_volume(files[-1], mask[0].numpy() > 0.5, affine, space=space)
    against = "" if made.compared_with is None else f" against {made.compared_with}"
    files.append(path.with_name(path.name.replace(".nii.gz", ".png")))
    picture_of_relevance(
        files[-1],
        brain.volume[0].numpy(),
        made.relevance[0].numpy(),
        brain.affine,
        title=f"{brain.case.name}{against}: {METHOD_NAMES[request.method]}, "
        f"{target} {made.found.score:.3f}",
        mask=None if made.mask is None else made.mask.numpy().astype(np.float32),
    )
    content = record.write(sidecar_of(path), _sidecar(run, made, request, target), files)
    return _explained(brain.case, path, content)


def _explained(case: Case, path: Path, content: dict[str, Any]) -> Explained:
    ratio = content["Ledger"]["ratio"]
    return Explained(
        case,
        path,
        str(content["ExplainedScore"]["name"]),
        float(content["ExplainedScore"]["value"]),
        bool(content["Flagged"]),
        float("nan") if ratio is None else float(ratio),
        content["Localisation"] or {},
        _checks_of(content),
    )


def _checks_of(content: dict[str, Any]) -> dict[str, Any]:
    return content["Checks"] or {}


def _sidecar(run: Run, made: MapContent, request: MapRequest, target: str) -> dict[str, Any]:
    found, space = made.found, run.config.volumes.space
    compared = "the two hemispheres" if made.compared_with is None else "two brains"
    sides = {"LedgerLeft": found.ledger_left, "LedgerRight": found.ledger_right}
    return {
        "Description": f"Share of each voxel in the {target} of {compared}, by "
        f"{METHOD_NAMES[request.method]}; signed; {_balance(made, request)}",
        "Sources": [f"bids::{made.brain.case.scan.name}"],
        "ComparedWith": made.compared_with,
        "SideIsGuess": side_is_guess(made.brain.case),
        "SpatialReference": f"{space}, as bundled with nilearn"
        if space == TEMPLATE_SPACE
        else space,
        "Method": request.method,
        "ExplainedScore": {"name": target, "value": found.score},
        "Threshold": run.threshold,
        "Flagged": made.flagged,
        "Rule": run.config.lrp.model_dump(mode="json") if request.method == "lrp" else None,
        "Ledger": made.ledger.to_dict(),
        "LedgerOfPair": found.ledger.to_dict(),
        "ChannelShares": found.channels or None,
        "LedgerCloses": found.ledger.closes(run.reference_of(target)),
        **{name: side.to_dict() for name, side in sides.items() if side is not None},
        "Checks": None if made.checks is None else {**made.checks, "Atlas": hcpmmp_atlas().digest},
        "NetworkResolution_mm": run.config.volumes.resolution_mm,
        "InjectedLesion": made.spec.model_dump(mode="json") if made.spec else None,
        "Localisation": made.localisation or None,
        "ModelSHA256": run.weights_digest,
        "SplitsHash": run.split.hash,
        "Fold": run.split.folds.get(made.brain.subject, "none: not seen in training"),
    }


def _balance(made: MapContent, request: MapRequest) -> str:
    """Say what the map's sum is completed to, and by what."""
    if request.method != "lrp":
        words = "this method does not conserve the score, the rest is booked as a constant"
    elif made.ledger is made.found.ledger:
        words = "the sum over voxels, biases, stabilisers and constants is the score"
    else:
        words = (
            "the sum over voxels, biases, stabilisers and constants is what the ledger calls "
            "explained: this image's part of the score, or all of it, with the other image's "
            "relevance among the constants"
        )
    return words


def find_explained(
    derivatives: Path,
    desc: str,
    *,
    labels: tuple[str, ...] | None = None,
    modality: Modality = "T1w",
) -> tuple[Case, ...]:
    """Find the prepared cases that have a relevance map.

    Raises
    ------
    UserError
        No case has one, or one that was asked for has none.
    """
    cases = find_prepared(derivatives, labels=labels, modality=modality)
    done = tuple(
        case for case in cases if relevance_path(case, derivatives, map_desc(case, desc)).is_file()
    )
    if not done or (labels and len(done) < len(cases)):
        missing = ", ".join(case.name for case in cases if case not in done)
        msg = (
            f"{missing} must have a map desc-{desc}_relevance below {derivatives}, found none; "
            f"run 'hemitwin explain RUN {derivatives}' with the options that make it"
        )
        raise UserError(msg)
    return done


def read_relevance(case: Case, derivatives: Path, desc: str) -> Scan:
    """Read a relevance map; refuse a map without its audit.

    Raises
    ------
    CaseError
        The sidecar is missing, or the map is not the one that was audited.
    """
    read_audit(case, derivatives, desc)
    return load_volume(relevance_path(case, derivatives, map_desc(case, desc)))


def read_audit(case: Case, derivatives: Path, desc: str) -> dict[str, Any]:
    """Read a relevance map's sidecar, if it is that of the map which is there.

    Raises
    ------
    CaseError
        It is missing, or of another map.
    """
    path = relevance_path(case, derivatives, map_desc(case, desc))
    content = read_product(path)
    if content is None:
        reason = (
            f"{path.name} must be the map that was audited, but its sidecar does not match; "
            f"run 'hemitwin explain' again"
        )
        raise CaseError(case.name, "parcellate", reason)
    return content
