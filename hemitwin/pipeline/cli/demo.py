"""Demo: the whole way on synthetic people, offline, in minutes."""

import logging
import resource
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hemitwin.interpret import relevance_mass_accuracy, relevance_rank_accuracy
from hemitwin.models import EncoderConfig
from hemitwin.pipeline.cohort.config import DataConfig, SplitConfig
from hemitwin.pipeline.evaluation.halves_evaluation import evaluate_halves
from hemitwin.pipeline.evaluation.results import Evaluation
from hemitwin.pipeline.explanation.explain import Explained, explain
from hemitwin.pipeline.exports.export import Exported, export
from hemitwin.pipeline.preparation.prepare import prepare
from hemitwin.pipeline.regions.parcellate import RegionTable, parcellate
from hemitwin.pipeline.simulation.people import CohortConfig, write_cohort
from hemitwin.pipeline.stage.bids import sidecar_of
from hemitwin.pipeline.stage.errors import CaseError
from hemitwin.pipeline.stage.json_files import read_json, write_json
from hemitwin.pipeline.stage.pictures import picture_of_relevance
from hemitwin.pipeline.stage.runner import Outcome, epoch_progress
from hemitwin.pipeline.statistics.metrics import Estimate
from hemitwin.pipeline.training.config import EvaluationConfig, RunConfig, TrainingConfig
from hemitwin.pipeline.training.train import train
from hemitwin.transforms import LesionConfig, load_mask, load_volume, resample

__all__ = ["DemoSummary", "run_demo"]

logger = logging.getLogger(__name__)

_LESIONS = LesionConfig(volume_mm3=(12000.0, 50000.0), contrast=(-0.6, -0.35))
_PROCESSES = 2


@dataclass(frozen=True)
class DemoSummary:
    """What the demo prints.

    Parameters
    ----------
    rows : dict of str to str
        Name and value of each line.
    metrics : dict of str to Any
        As in `metrics.json`.
    """

    rows: dict[str, str]
    metrics: dict[str, Any]


@dataclass(frozen=True)
class _Patient:
    """Relevance of a lesion that was in the scan, held against its mask."""

    explained: Explained
    regions: RegionTable
    exported: Exported
    localisation: dict[str, float]
    picture: Path


def _demo_config(prepared: Path, participants: Path, *, seed: int) -> RunConfig:
    """Return the demo's configuration: a narrow ResNet of basic blocks at 4 mm.

    Parameters
    ----------
    prepared, participants : Path
        Volumes and table of the synthetic cohort; patients are left out of every fold.
    seed : int
        Of the run.
    """
    patients = tuple(f"p{number + 1:02d}" for number in range(CohortConfig().patients))
    return RunConfig(
        seed=seed,
        data=DataConfig(
            prepared=prepared, resolution_mm=4.0, participants=participants, exclude=patients
        ),
        split=SplitConfig(validation=5, test=8),
        encoder=EncoderConfig(
            name="resnet18", width=32, blocks=(1, 1), stem_stride=4, pooling="max"
        ),
        lesions=_LESIONS,
        training=TrainingConfig(epochs=30),
        evaluation=EvaluationConfig(lesions_per_subject=4),
    )


def run_demo(out: Path, *, cache: Path, seed: int = 0) -> DemoSummary:
    """Make a cohort, prepare, train, evaluate, explain, parcellate, export.

    Parameters
    ----------
    out : Path
        Gets ``bids/``, ``derivatives/``, ``run/`` and `metrics.json`. Steps that are done are
        recognised and skipped.
    cache : Path
        Where the atlas is kept between runs.
    seed : int
        Same seed, same demo.

    Returns
    -------
    DemoSummary
        The figures, and where everything lies.
    """
    started = time.monotonic()
    bids, derivatives = out / "bids", out / "derivatives"
    logger.info("1/6 making synthetic people")
    # In this process: another one takes longer to start than all people take to make.
    write_cohort(bids, CohortConfig(seed=seed, lesions=_LESIONS))
    logger.info("2/6 preparing their scans")
    _all(prepare(bids, derivatives, nprocs=_PROCESSES))
    logger.info("3/6 training a Siamese ResNet with triplet loss")
    config = _demo_config(derivatives, bids / "participants.tsv", seed=seed)
    with epoch_progress() as report:
        run = train(config, out / "run", progress=report)
    logger.info("4/6 scoring subjects it never saw")
    scores = evaluate_halves(run)
    logger.info("5/6 explaining a patient")
    patients = ("p01",)
    explained = _all(explain(run, derivatives, labels=patients))[0]
    regions = _all(parcellate(derivatives, cache=cache, labels=patients))[0]
    logger.info("6/6 exporting for Connectome Workbench")
    exported = _all(export(derivatives, cache=cache, labels=patients))[0]
    localisation, picture = _compare_with_truth(bids, explained)
    patient = _Patient(explained, regions, exported, localisation, picture)
    metrics = _metrics(out, scores, patient, time.monotonic() - started)
    write_json(out / "metrics.json", metrics)
    return DemoSummary(_rows(out, scores, patient, metrics), metrics)


def _all(outcome: Outcome[Any]) -> tuple[Any, ...]:
    if outcome.failures:
        first = outcome.failures[0]
        reason = f"{first.reason}; run the demo again: what is done is kept"
        raise CaseError(first.case, first.stage, reason)
    return outcome.results


def _compare_with_truth(bids: Path, explained: Explained) -> tuple[dict[str, float], Path]:
    """Bring the lesion's mask from the scan to the template and hold the relevance against it."""
    case = explained.case
    name = f"{case.name}_space-T1w_label-L_mask.nii.gz"
    mask = load_mask(bids / "derivatives" / "lesions" / case.name / "anat" / name)
    sidecar = sidecar_of(case.scan)
    native_from_template = np.array(read_json(sidecar)["NativeFromTemplate"], dtype=float)
    relevance = load_volume(explained.relevance)
    truth = resample(mask, relevance.data.shape, relevance.affine, native_from_template) >= 0.5
    either = truth | truth[::-1]
    both = relevance.data + relevance.data[::-1]
    half = both.shape[0] // 2
    prepared = load_volume(case.scan)
    picture = explained.relevance.with_name(f"{case.name}_desc-lrptruth_relevance.png")
    picture_of_relevance(
        picture,
        prepared.data,
        relevance.data,
        relevance.affine,
        title=f"{case.name}: relevance; green: the lesion that was put in",
        mask=truth.astype(np.float32),
    )
    return {
        "relevance_mass_accuracy": float(relevance_mass_accuracy(both[:half], either[:half])),
        "relevance_rank_accuracy": float(relevance_rank_accuracy(both[:half], either[:half])),
        "lesion_share_of_brain": float(either[:half].sum() / (prepared.data[:half] > 0).sum()),
        "lesion_ml_template": float(truth.sum() * abs(np.linalg.det(relevance.affine)) / 1000),
    }, picture


def _metrics(out: Path, scores: Evaluation, patient: _Patient, seconds: float) -> dict[str, Any]:
    auc = scores.auc["distance"]
    files = {
        "run": out / "run",
        "evaluation": out / "run" / "evaluation.json",
        "relevance": patient.explained.relevance,
        "picture": patient.picture,
        "regions": patient.regions.path,
        "spec": patient.exported.spec,
        "scene": patient.exported.scene,
    }
    return {
        "auc": auc.value,
        "auc_low": auc.low,
        "auc_high": auc.high,
        "auc_mirror_mean": scores.auc["mirror_mean"].value,
        "auc_mirror_peak": scores.auc["mirror_peak"].value,
        "auc_mirror_deviation": scores.auc["mirror_deviation"].value,
        "auc_normative_asymmetry": scores.auc["normative_asymmetry"].value,
        "seconds": round(seconds, 1),
        "peak_memory_mb": round(_peak_memory_mb(), 1),
        "ledger_ratio": patient.explained.ledger_ratio,
        **patient.localisation,
        "lesion_volume_mm3": list(_LESIONS.volume_mm3),
        "files": {name: path.relative_to(out).as_posix() for name, path in files.items()},
        "exported": [path.relative_to(out).as_posix() for path in patient.exported.files],
    }


def _rows(
    out: Path, scores: Evaluation, patient: _Patient, metrics: dict[str, Any]
) -> dict[str, str]:
    auc = scores.auc
    figures = scores.to_dict()
    low, high = (volume / 1000 for volume in _LESIONS.volume_mm3)
    top = patient.regions.table.head(-3).nlargest(3, "sum")["name"]
    return {
        f"AUC on {figures['subjects']} unseen subjects": _interval(auc["distance"]),
        "AUC, mean mirror difference": _interval(auc["mirror_mean"]),
        "AUC, peak mirror difference": _interval(auc["mirror_peak"]),
        "AUC, difference of the deviations": _interval(auc["mirror_deviation"]),
        "AUC, normative asymmetry": _interval(auc["normative_asymmetry"]),
        "lesions": f"{low:g} to {high:g} ml, {figures['lesioned_pairs']} pairs",
        f"{patient.explained.case.name}: distance": f"{patient.explained.score:.4f}",
        "ledger (input + bias + stabiliser) / score": f"{metrics['ledger_ratio']:.6f}",
        "relevance inside the lesion": f"{metrics['relevance_mass_accuracy']:.1%} in "
        f"{metrics['lesion_share_of_brain']:.1%} of the half",
        "regions with most relevance": ", ".join(top),
        "time, peak memory": f"{metrics['seconds']:.0f} s, {metrics['peak_memory_mb']:.0f} MB",
        "picture": str(out / metrics["files"]["picture"]),
        "region table": str(out / metrics["files"]["regions"]),
        "open in Workbench": f"wb_view {out / metrics['files']['scene']}",
    }


def _interval(estimate: Estimate) -> str:
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


def _peak_memory_mb() -> float:
    """Upper bound: this process's peak, and the largest child's for each process."""
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return (own + _PROCESSES * child) / 1024
