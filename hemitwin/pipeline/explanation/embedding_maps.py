"""Explain the embedding itself, direction by direction."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from hemitwin.atlases import save_volumes
from hemitwin.interpret import explain_embeddings
from hemitwin.pipeline.cohort.brains import Brain, find_prepared
from hemitwin.pipeline.explanation.directions import Directions
from hemitwin.pipeline.stage.bids import Case, sidecar_of
from hemitwin.pipeline.stage.dataset import describe_dataset
from hemitwin.pipeline.stage.errors import CaseError
from hemitwin.pipeline.stage.names import map_desc, relevance_path
from hemitwin.pipeline.stage.runner import Outcome, run_cases
from hemitwin.pipeline.stage.sides import side_is_guess
from hemitwin.pipeline.training.runs import Run, result_record

__all__ = ["EmbeddingMaps", "explain_embedding_of"]

_TOLERANCE = 1e-4


@dataclass(frozen=True)
class EmbeddingMaps:
    """One case's maps of directions of its embedding.

    Parameters
    ----------
    case : Case
        Whose they are.
    relevance : Path
        The 4D volume, one direction after the other; its sidecar lies beside it.
    directions : int
        How many.
    ledger_error : float
        Largest |residual| of a ledger, of the largest |score|.
    """

    case: Case
    relevance: Path
    directions: int
    ledger_error: float


def explain_embedding_of(
    run: Run,
    derivatives: Path,
    *,
    labels: tuple[str, ...] | None = None,
    components: int | None = None,
) -> Outcome[EmbeddingMaps]:
    """Explain directions of the embedding of prepared subjects, each image by itself.

    Parameters
    ----------
    run : Run
        A trained network, on hemispheres (both are explained, in one volume) or on brains.
    derivatives : Path
        The folder with the prepared volumes; the maps are written into it.
    labels : tuple of str, optional
        Subjects; all by default.
    components : int, optional
        How many principal directions of the training fold's embeddings; by default each
        dimension of the embedding.

    Returns
    -------
    Outcome of EmbeddingMaps

    Raises
    ------
    UserError
        A subject has no prepared volume, or there are fewer dimensions, or embeddings of the
        training fold below `derivatives`, than components.
    """
    data = run.config.volumes
    cases = find_prepared(derivatives, labels=labels, modality=data.modality, space=data.space)
    directions = Directions.of(run, derivatives, components)
    describe_dataset(derivatives)
    work = partial(_explain_case, run=run, derivatives=derivatives, directions=directions)
    return run_cases(work, cases, stage="explain", out=derivatives)


def _explain_case(
    case: Case, run: Run, derivatives: Path, directions: Directions
) -> EmbeddingMaps:
    desc = map_desc(case, "lrpdimensions" if directions.count is None else "lrpcomponents")
    path = relevance_path(case, derivatives, desc, space=run.config.volumes.space)
    record = result_record(
        "explain", run, (case,), computation=1, settings={"directions": directions.sources}
    )
    if (done := record.find(sidecar_of(path))) is not None:
        return _read(case, path, done)
    brain = run.load_brain(case)
    maps, rows, error = _compute(run, brain, directions.vectors)
    if error > _TOLERANCE:
        reason = f"every ledger must close to {_TOLERANCE:g}, the worst is open by {error:.1e}"
        raise CaseError(case.name, "explain", reason)
    record.begin(sidecar_of(path))
    # On the network's grid: finer voxels would hold nothing new, of 128 maps.
    data = np.moveaxis(maps.numpy(), 0, -1)
    save_volumes(path, data, brain.affine, space=run.config.volumes.space)
    content: dict[str, Any] = {
        "Description": "Relevance of each image for directions of its own embedding, one volume "
        "a direction; signed",
        "Sources": [f"bids::{case.scan.name}"],
        "SideIsGuess": side_is_guess(case),
        "Directions": directions.words,
        "Ledgers": rows,
        "LedgerError": error,
        "NetworkResolution_mm": run.config.volumes.resolution_mm,
        "SplitsHash": run.split.hash,
        "Fold": run.split.folds.get(brain.subject, "none: not seen in training"),
        "Rule": run.config.lrp.model_dump(mode="json"),
        "ModelSHA256": run.weights_digest,
    }
    return _read(case, path, record.write(sidecar_of(path), content, [path]))


def _read(case: Case, path: Path, content: dict[str, Any]) -> EmbeddingMaps:
    return EmbeddingMaps(case, path, len(content["Ledgers"]), float(content["LedgerError"]))


def _compute(
    run: Run, brain: Brain, directions: Float[Tensor, "targets dim"]
) -> tuple[Tensor, list[list[dict[str, float | None]]], float]:
    """Give maps (K, X, Y, Z), the ledgers of each direction's images, and the worst error."""
    volumes, rows, residual, largest = [], [], 0.0, 1e-30
    compared = run.config.compared
    seen = torch.stack(compared.images(brain)).to(run.network.device)
    for found in explain_embeddings(run.network, seen, directions, run.config.lrp):
        maps = found.relevance[0].cpu()
        volumes.append(compared.join(brain, list(maps)))
        rows.append([ledger.to_dict() for ledger in found.ledgers])
        largest = max(largest, *(abs(ledger.explained) for ledger in found.ledgers))
        residual = max(residual, *(abs(ledger.residual) for ledger in found.ledgers))
    return torch.cat(volumes), rows, residual / largest
