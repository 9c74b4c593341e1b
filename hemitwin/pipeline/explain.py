"""Explain: the relevance of a pair's distance, as a volume with its audit."""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hemitwin.atlases import TEMPLATE_SPACE, relevance_palette, save_volume
from hemitwin.interpret import (
    PairExplanation,
    explain_pair,
    pointing_game,
    relevance_mass_accuracy,
    relevance_rank_accuracy,
)
from hemitwin.pipeline.bids import Case, sidecar_of
from hemitwin.pipeline.cohort import Brain, find_prepared, load_brain
from hemitwin.pipeline.errors import CaseError, UserError
from hemitwin.pipeline.outputs import (
    describe_dataset,
    digest_file,
    digest_json,
    provenance,
    read_matching_sidecar,
    write_json,
)
from hemitwin.pipeline.pairs import LesionSource, split_brain
from hemitwin.pipeline.pictures import picture_of_relevance
from hemitwin.pipeline.runner import Outcome, run_cases
from hemitwin.pipeline.runs import Run, config_digest, lesion_source
from hemitwin.transforms import (
    HemispherePair,
    LesionSpec,
    refine_sum,
    rejoin,
    split_hemispheres,
)

__all__ = ["Explained", "explain", "explain_case", "map_desc", "relevance_path"]


@dataclass(frozen=True)
class Explained:
    """One case's relevance and what was found about it.

    Parameters
    ----------
    case : Case
        Whose pair it is.
    relevance : Path
        The volume; its sidecar lies beside it.
    distance : float
        The explained score.
    asymmetric : bool
        Whether the distance lies above the run's threshold.
    ledger_ratio : float
        (input + bias + stabiliser) / score: 1 when the ledger closes.
    localisation : dict of str to float
        Against the injected lesion's mask; empty where none was injected.
    """

    case: Case
    relevance: Path
    distance: float
    asymmetric: bool
    ledger_ratio: float
    localisation: dict[str, float]


def relevance_path(case: Case, out: Path, desc: str) -> Path:
    """Return where a case's relevance volume lies, in template space."""
    return case.path(out, f"space-{TEMPLATE_SPACE}_desc-{desc}_relevance.nii.gz")


def map_desc(case: Case, desc: str) -> str:
    """Name a map after the modality that it explains, unless that is T1w.

    Examples
    --------
    >>> map_desc(Case("sub-01", "sub-01", Path("x.nii"), modality="T2w"), "lrp")
    'lrpT2w'
    """
    return desc if case.modality == "T1w" else f"{desc}{case.modality}"


def explain(
    run: Run,
    derivatives: Path,
    *,
    labels: tuple[str, ...] | None = None,
    lesion_seed: int | None = None,
) -> Outcome[Explained]:
    """Explain the distance between the hemispheres of prepared subjects.

    Parameters
    ----------
    run : Run
        A trained network.
    derivatives : Path
        The folder with the prepared volumes; the maps are written into it.
    labels : tuple of str, optional
        Subjects, with or without ``sub-``; all by default.
    lesion_seed : int, optional
        Inject a lesion that this seed draws before explaining, to see whether the relevance finds
        it. The map is then named ``desc-lrplesion``, and the mask is written beside it.

    Returns
    -------
    Outcome of Explained
        A case that fails, also because its ledger does not close, is a failure in it.

    Raises
    ------
    UserError
        A subject asked for has no prepared volume, or the run's score is not the Euclidean
        distance of the embeddings.
    """
    if run.config.pairs is not None:
        msg = f"explain must be given a run on hemispheres, but {run.folder} compares brains"
        raise UserError(msg)
    head = run.config.head
    if head.name not in {"distance", "joint"} or head.metric != "euclidean":
        msg = (
            f"explain must be given a run whose score is the Euclidean distance (head distance or "
            f"joint), got head {head.name} with metric {head.metric}; train one with head.name="
            f"distance"
        )
        raise UserError(msg)
    cases = find_prepared(derivatives, labels=labels, modality=run.config.data.modality)
    describe_dataset(derivatives)
    work = partial(explain_case, run=run, derivatives=derivatives, lesion_seed=lesion_seed)
    return run_cases(work, cases, stage="explain", log_folder=derivatives / "logs")


def explain_case(
    case: Case, run: Run, derivatives: Path, *, lesion_seed: int | None = None
) -> Explained:
    """Explain one prepared volume and write relevance, sidecar and picture.

    Raises
    ------
    CaseError
        The ledger does not close; nothing is written then.
    """
    desc = map_desc(case, "lrp" if lesion_seed is None else "lrplesion")
    path = relevance_path(case, derivatives, desc)
    key = _key(case, run, lesion_seed)
    if (done := _read_done(case, path, key)) is not None:
        return done
    brain = load_brain(case, run.config.data.resolution_mm)
    spec, mask = None, None
    if lesion_seed is not None:
        brain, spec, mask = _with_lesion(brain, lesion_source(run.config), lesion_seed)
    pair = split_brain(brain, brain.volume)
    found = explain_pair(run.network, pair.left[None], pair.right[None], run.config.lrp)
    if not found.ledger.closes(run.reference_score):
        reason = (
            f"the ledger must close to 1e-4, got a ratio of {found.ledger.ratio:.6f}; the map "
            f"is not trustworthy and was not written; try lrp.rule=epsilon"
        )
        raise CaseError(case.name, "explain", reason)
    localisation = _localise(found, brain, mask) if mask is not None else {}
    volume = rejoin(_as_pair(pair, found))
    _write(path, run, _Map(brain, volume, mask, spec, found, localisation), key)
    asymmetric = found.distance > run.threshold
    return Explained(case, path, found.distance, asymmetric, found.ledger.ratio, localisation)


@dataclass(frozen=True, eq=False)
class _Map:
    """What is written about one case."""

    brain: Brain
    relevance: Tensor
    mask: Tensor | None
    spec: LesionSpec | None
    found: PairExplanation
    localisation: dict[str, float]


def _with_lesion(
    brain: Brain, source: LesionSource, seed: int
) -> tuple[Brain, LesionSpec, Tensor]:
    rng = np.random.default_rng([seed, *brain.case.name.encode()])
    spec = source.sample(brain, rng, "L" if rng.integers(2) else "R")
    volume, mask = source.inject(brain, spec)
    return replace(brain, volume=volume), spec, mask


def _as_pair(pair: HemispherePair, found: PairExplanation) -> HemispherePair:
    midline = None if pair.midline is None else torch.zeros_like(pair.midline)
    left, right = found.relevance_left[0], found.relevance_right[0]
    return HemispherePair(left, right, midline, pair.left_affine, pair.right_affine)


def _localise(found: PairExplanation, brain: Brain, mask: Tensor) -> dict[str, float]:
    """Hold R_left + mirror(R_right) against the mask, mirrored to the left where it is right."""
    halves = split_hemispheres(mask[None].float(), brain.affine)
    truth = ((halves.left + halves.right)[0] > 0).numpy()
    relevance = (found.relevance_left + found.relevance_right)[0, 0].numpy()
    brain_half = split_hemispheres(torch.from_numpy(brain.mask)[None].float(), brain.affine)
    inside = ((brain_half.left + brain_half.right)[0] > 0).numpy()
    return {
        "relevance_mass_accuracy": float(relevance_mass_accuracy(relevance, truth)),
        "relevance_rank_accuracy": float(relevance_rank_accuracy(relevance, truth)),
        "pointing_game": float(pointing_game(relevance, truth)),
        "lesion_share_of_brain": float(truth[inside].mean()),
    }


def _key(case: Case, run: Run, lesion_seed: int | None) -> str:
    """Return what decides a map: volume, weights, rule, lesion, versions."""
    return digest_json(
        {
            "volume": digest_file(case.scan),
            "weights": run.weights_digest,
            "config": config_digest(run.config),
            "lesion_seed": lesion_seed,
            "versions": provenance()["packages"],
        }
    )


def _read_done(case: Case, path: Path, key: str) -> Explained | None:
    content = read_matching_sidecar(path, key=key)
    if content is None:
        return None
    return Explained(
        case,
        path,
        float(content["ExplainedScore"]["value"]),
        bool(content["Asymmetric"]),
        float(content["Ledger"]["ratio"]),
        content["Localisation"] or {},
    )


def _write(path: Path, run: Run, made: _Map, key: str) -> None:
    sidecar = sidecar_of(path)
    sidecar.unlink(missing_ok=True)
    brain = made.brain
    fine, affine = refine_sum(made.relevance, brain.affine, factor=brain.factor)
    values = fine[0].numpy()
    save_volume(path, values, affine, space=TEMPLATE_SPACE, palette=relevance_palette(values))
    if made.mask is not None:
        lesion = path.with_name(path.name.replace("_relevance.nii.gz", "_mask.nii.gz"))
        mask, _ = refine_sum(
            made.mask[None].float() * brain.factor**3, brain.affine, factor=brain.factor
        )
        save_volume(lesion, mask[0].numpy() > 0.5, affine, space=TEMPLATE_SPACE)
    picture_of_relevance(
        path.with_name(path.name.replace(".nii.gz", ".png")),
        brain.volume[0].numpy(),
        made.relevance[0].numpy(),
        brain.affine,
        title=f"{brain.case.name}: relevance of the distance {made.found.distance:.3f}",
        mask=None if made.mask is None else made.mask.numpy().astype(np.float32),
    )
    write_json(sidecar, {**_sidecar(run, made), "Key": key, "Digest": digest_file(path)})


def _sidecar(run: Run, made: _Map) -> dict[str, Any]:
    found = made.found
    return {
        "Description": "Relevance of the distance between the two hemispheres; signed; the sum "
        "over voxels, biases and stabilisers is the distance",
        "Sources": [f"bids::{made.brain.case.scan.name}"],
        "SpatialReference": f"{TEMPLATE_SPACE}, as bundled with nilearn",
        "ExplainedScore": {"name": "distance", "value": found.distance},
        "Threshold": run.threshold,
        "Asymmetric": found.distance > run.threshold,
        "Rule": run.config.lrp.model_dump(mode="json"),
        "Ledger": found.ledger.to_dict(),
        "LedgerLeft": found.ledger_left.to_dict(),
        "LedgerRight": found.ledger_right.to_dict(),
        "NetworkResolution_mm": run.config.data.resolution_mm,
        "InjectedLesion": made.spec.model_dump(mode="json") if made.spec else None,
        "Localisation": made.localisation or None,
        "ModelSHA256": run.weights_digest,
        "SplitsHash": run.split.hash,
        "Fold": run.split.folds.get(made.brain.subject, "none: not seen in training"),
        "GeneratedBy": provenance(),
    }
