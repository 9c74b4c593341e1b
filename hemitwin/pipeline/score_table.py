"""Tables of scored pairs: the one place that knows their columns."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from hemitwin.pipeline.bootstrap import Clusters

__all__ = ["KEYS", "ScoreTable"]

KEYS = (
    "subject",
    "partner",
    "lesioned",
    "label",
    "role",
    "side",
    "volume_mm3",
    "contrast",
    "contrast_from",
)
"""What a pair is, as far as its table has it; every other column of numbers is a score."""

_NETWORK = ("score", "distance")


@dataclass(frozen=True, eq=False)
class ScoreTable:
    """Scored pairs and who is related to whom among them.

    Parameters
    ----------
    rows : DataFrame
        One row a pair: `subject`, and `partner` for two brains; the label in `lesioned` or
        `label`; with lesions `role`, `volume_mm3` (native) and `contrast`; one column a score,
        high for a difference.
    families : mapping of str to str
        Groups of subjects; who is not in it has no relatives.
    """

    rows: pd.DataFrame
    families: Mapping[str, str] = field(default_factory=dict)

    @property
    def labels(self) -> Bool[np.ndarray, " n"]:
        """The positive class: a lesion, or two who are no twins."""
        column = "lesioned" if "lesioned" in self.rows else "label"
        return self.rows[column].to_numpy(bool)

    @property
    def score_names(self) -> tuple[str, ...]:
        """The columns that hold scores, as they stand in the table."""
        numbers = self.rows.select_dtypes("number").columns
        return tuple(str(name) for name in numbers if name not in KEYS)

    @property
    def network_score(self) -> str:
        """The network's column: `score`, or `distance` where the head's distance is its score."""
        return next(name for name in _NETWORK if name in self.rows)

    def scores(self, name: str) -> Float[np.ndarray, " n"]:
        """Return one column of scores."""
        return self.rows[name].to_numpy(float)

    @property
    def clusters(self) -> Clusters:
        """Families of the pairs, for the bootstrap."""
        return Clusters.of(
            self._families("subject"),
            self._families("partner") if "partner" in self.rows else None,
        )

    @property
    def keys(self) -> pd.DataFrame:
        """What tells the pairs apart: two tables with the same keys hold the same pairs."""
        return self.rows[[name for name in KEYS if name in self.rows]].reset_index(drop=True)

    @property
    def roles(self) -> "pd.Series[str]":
        """What was done to each pair, for example ``lesion``; empty where there are no roles."""
        if "role" in self.rows:
            return self.rows["role"].astype(str)
        return pd.Series("", index=self.rows.index)

    def where(self, chosen: Bool[np.ndarray, " n"]) -> "ScoreTable":
        """Return some of the pairs."""
        return ScoreTable(self.rows[chosen], self.families)

    def _families(self, column: str) -> list[str]:
        return [self.families.get(name, name) for name in self.rows[column].astype(str)]
