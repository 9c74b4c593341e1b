"""The result of an evaluation: all figures of a run's test fold."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from hemitwin.pipeline.evaluation.breakdown import BinRow, DetectionBySize, RoleRow
from hemitwin.pipeline.evaluation.score_table import ScoreTable
from hemitwin.pipeline.statistics.bootstrap import Estimate
from hemitwin.pipeline.statistics.metrics import plain_name

__all__ = ["EVALUATION", "NEW_IMAGES", "SIMULATED", "Evaluation", "pairs_path"]


EVALUATION = "evaluation"
"""How the names of results on the test fold begin."""

NEW_IMAGES = "evaluation-images"
"""How the names of results on other images, or slices, than the run's own begin."""

SIMULATED = "evaluation-simulated"
"""How the names of results on a simulated set begin."""

_PLACES = {
    "known_place": "AUC at the known place, arithmetic",
    "peak_inside": "peak inside the lesion, arithmetic",
    "right_side": "right side, arithmetic",
    "map_inside": "peak inside the lesion, network",
    "map_right_side": "right side, network",
}


def pairs_path(run: Path, stem: str, *, private: bool = False) -> Path:
    """Name the table of scored pairs; of brains there is a private one, too, with names."""
    return run / f"{stem}_pairs{'.private' if private else ''}.tsv"


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What the test fold says.

    Parameters
    ----------
    rates : dict of str to float
        Sensitivity, specificity and balanced accuracy at the threshold from validation.
    stem : str
        How the names of what is written begin: `EVALUATION`, or `SIMULATED` of a simulated set.
    pairs : DataFrame
        One row a pair.
    thresholds : dict of str to float
        By score, each from validation; the network's is the run's.
    figures : dict of str to dict of str to Estimate
        By score, the network's `distance` (or `score`) and what needs no network: every figure,
        with intervals over families.
    by_size, by_contrast : tuple of BinRow
        AUC of every score by native volume and by contrast.
    roles : tuple of RoleRow
        Shares called asymmetric.
    places : dict of str to Estimate
        What `found_places` says of the lesions.
    detection : DetectionBySize or None
        Psychometric curves; `None` where the pairs do not suffice, with the reason in the log.
    """

    rates: dict[str, float]
    stem: str
    pairs: pd.DataFrame
    thresholds: dict[str, float]
    figures: dict[str, dict[str, Estimate]]
    by_size: tuple[BinRow, ...]
    by_contrast: tuple[BinRow, ...]
    roles: tuple[RoleRow, ...]
    places: dict[str, Estimate]
    detection: DetectionBySize | None

    @property
    def auc(self) -> dict[str, Estimate]:
        """The area under the ROC curve, by score."""
        return {name: figures["auc"] for name, figures in self.figures.items()}

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON."""
        lesions = self.pairs.loc[self.pairs["lesioned"], "volume_mm3"]
        return {
            "auc": {name: estimate.to_dict() for name, estimate in self.auc.items()},
            **self.rates,
            "subjects": int(self.pairs["subject"].nunique()),
            "healthy_pairs": int((~self.pairs["lesioned"]).sum()),
            "lesioned_pairs": int(self.pairs["lesioned"].sum()),
            "lesion_volume_mm3": {
                "smallest": float(lesions.min()),
                "median": float(lesions.median()),
                "largest": float(lesions.max()),
            },
            "thresholds": self.thresholds,
            "figures": {
                score: {name: one.to_dict() for name, one in figures.items()}
                for score, figures in self.figures.items()
            },
            "by_size": [row.to_dict() for row in self.by_size],
            "by_contrast": [row.to_dict() for row in self.by_contrast],
            "roles": [row.to_dict() for row in self.roles],
            "places": {name: one.to_dict() for name, one in self.places.items()},
            "detection": self.detection.to_dict() if self.detection else None,
        }

    def files(self, run: Path) -> dict[str, Path]:
        """Name what is written into a run folder, by kind."""
        return {
            "written": run / f"{self.stem}.json",
            "picture": run / f"{self.stem}.png",
        }

    def to_rows(self) -> dict[str, str]:
        """Return the figures as the lines of a short table."""
        own = ScoreTable(self.pairs).network_score
        rows = {f"AUC, {name}": str(estimate) for name, estimate in self.auc.items()}
        others = {name: one for name, one in self.figures[own].items() if name != "auc"}
        rows |= {plain_name(name): str(one) for name, one in others.items()}
        rows |= {f"AUC, {row.name} ({row.lesions})": str(row.auc[own]) for row in self.by_size}
        rows |= {
            f"AUC, contrast {row.name} ({row.lesions})": str(row.auc[own])
            for row in self.by_contrast
        }
        rows |= {f"called, {row.role} ({row.pairs})": str(row.called) for row in self.roles}
        rows |= {_PLACES[name]: str(one) for name, one in self.places.items()}
        if self.detection:
            curve = self.detection.overall
            rows |= {"d50, native mm3": str(curve.d50), "d90, native mm3": str(curve.d90)}
            rows["at false positives of"] = f"{curve.guess:.3f} ({self.detection.threshold.rule})"
        return rows
