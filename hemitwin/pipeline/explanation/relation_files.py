"""The files of a matrix of matched regions: table, CIFTI, sidecar; and how done ones are known."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hemitwin.atlases import (
    hcpmmp_regions,
    relevance_palette,
    save_parcel_connectivity,
    save_table,
)
from hemitwin.interpret import RESIDUES, RegionMatches
from hemitwin.pipeline.explanation.paired_regions import PairedRegions
from hemitwin.pipeline.stage.bids import Case
from hemitwin.pipeline.stage.records import Record
from hemitwin.pipeline.stage.sides import side_is_guess
from hemitwin.pipeline.training.compared import HALVES
from hemitwin.pipeline.training.runs import Run

__all__ = [
    "Related",
    "RelationContent",
    "read_related",
    "write_related",
]

_NOTE = (
    "HCP-MMP 1.0 areas were drawn from multimodal data; on a single scan they are a projected "
    "group parcellation. Rows and columns unassigned and bias complete the sum."
)
_HALVES = (
    "Rows are the regions of the left hemisphere, columns their homotopic partners in the right "
    "one; the brain stem has a half in each"
)
_BRAINS = "Rows are the regions of this brain, columns those of the brain it is compared with"


@dataclass(frozen=True, eq=False)
class Related:
    """One case's matrix of matched regions.

    Parameters
    ----------
    case : Case
        Whose it is.
    path : Path
        The table; sidecar and `.pconn.nii` lie beside it.
    similarity : float
        Cosine of the two embeddings.
    neglected : float
        Share of it that the directions leave out.
    diagonal : float
        Share of the matrix's sum that regions have with their counterparts.
    table : DataFrame
        `region`, then a column a region of the other image, `unassigned` and `bias`; as many rows.
    """

    case: Case
    path: Path
    similarity: float
    neglected: float
    diagonal: float
    table: pd.DataFrame

    def top_pairs(self, count: int = 3) -> tuple[tuple[str, str, float], ...]:
        """Return the pairs of regions that speak most for the match: row, column, summand."""
        rows, columns = list(self.table["region"]), list(self.table.columns[1:])
        last = -len(RESIDUES)
        block = self.table.to_numpy()[:last, 1:last].astype(float)
        order = np.argsort(-block, axis=None, kind="stable")[:count].tolist()
        places = [divmod(place, block.shape[1]) for place in order]
        return tuple((str(rows[i]), str(columns[j]), float(block[i, j])) for i, j in places)


@dataclass(frozen=True, eq=False)
class RelationContent:
    """What is written about one case.

    Parameters
    ----------
    cases : tuple of Case
        The one brain whose halves are compared, or two brains.
    found : RegionMatches
        The matrix.
    regions : PairedRegions
        Of its rows and columns.
    directions : str
        Which were explained, in words.
    """

    cases: tuple[Case, ...]
    found: RegionMatches
    regions: PairedRegions
    directions: str

    @property
    def diagonal(self) -> float:
        """What regions have with their counterparts, as a share of the sum of the matrix."""
        on_it = float(np.trace(self.block))
        return on_it / float(self.found.matrix.sum())

    @property
    def block(self) -> np.ndarray:
        """The matrix without its residues."""
        count = len(self.regions.rows)
        return self.found.matrix[:count, :count]

    def to_table(self) -> pd.DataFrame:
        """Name rows and columns."""
        rows, columns = (
            [*(region.name for region in regions), *RESIDUES]
            for regions in (self.regions.rows, self.regions.columns)
        )
        table = pd.DataFrame(self.found.matrix, columns=columns)
        table.insert(0, "region", rows)
        return table


def read_related(case: Case, path: Path, record: Record) -> Related | None:
    """Return what was found when these very files were written, if they were."""
    content = record.find(path.with_suffix(".json"))
    if content is None:
        return None
    return _related(case, path, content, pd.read_csv(path, sep="\t"))


def write_related(path: Path, run: Run, made: RelationContent, record: Record) -> Related:
    """Write table and `.pconn.nii`, and the sidecar last."""
    sidecar, connectivity = path.with_suffix(".json"), path.with_suffix(".pconn.nii")
    record.begin(sidecar)
    table = made.to_table()
    save_table(path, table)
    whole = made.regions.spread(made.block, len(hcpmmp_regions()))
    save_parcel_connectivity(connectivity, whole, palette=relevance_palette(whole))
    content = record.write(sidecar, _sidecar(run, made), [path, connectivity])
    return _related(made.cases[0], path, content, table)


def _related(case: Case, path: Path, content: dict[str, Any], table: pd.DataFrame) -> Related:
    similarity, neglected, diagonal = (
        float(content[name]) for name in ("Similarity", "Neglected", "Diagonal")
    )
    return Related(case, path, similarity, neglected, diagonal, table)


def _sidecar(run: Run, made: RelationContent) -> dict[str, Any]:
    found, halves = made.found, run.config.compared is HALVES
    compared = "two hemispheres" if halves else "two brains"
    return {
        "Description": f"How much each pair of regions adds to the cosine similarity of the "
        f"embeddings of {compared} (BiLRP); signed. {_HALVES if halves else _BRAINS}",
        "Note": _NOTE,
        "Sources": [f"bids::{case.scan.name}" for case in made.cases],
        "ComparedWith": None if halves else made.cases[1].name,
        "SideIsGuess": side_is_guess(*made.cases),
        "Connectivity": "The same in all 379 regions as .pconn.nii, without unassigned and bias"
        + ("; zeros within a hemisphere, and right rows transposed" if halves else ""),
        "Similarity": found.similarity,
        "Sum": float(found.matrix.sum()),
        "Directions": found.directions,
        "DirectionsFrom": made.directions,
        "Neglected": found.neglected,
        "LedgerError": found.ledger_error,
        "Diagonal": made.diagonal,
        "Regions": float(made.block.sum()) / float(found.matrix.sum()),
        "Rule": run.config.lrp.model_dump(mode="json"),
        "NetworkResolution_mm": run.config.volumes.resolution_mm,
        "ModelSHA256": run.weights_digest,
        "SplitsHash": run.split.hash,
        "Folds": {
            case.name: run.split.folds.get(case.subject, "none: not seen in training")
            for case in made.cases
        },
    }
