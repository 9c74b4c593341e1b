"""Tables of scored pairs: labels, scores, families and roles, of halves and of brains."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from hemitwin.pipeline.stage.errors import UserError
from hemitwin.pipeline.statistics.bootstrap import Clusters

__all__ = ["FOUND", "KEYS", "ScoreTable"]

KEYS = (
    "case",
    "partner_case",
    "subject",
    "partner",
    "group",
    "partner_group",
    "relation",
    "lesioned",
    "label",
    "role",
    "side",
    "volume_mm3",
    "contrast",
    "contrast_from",
    "slice",
    "shape",
    "area_mm2",
)
"""What a pair is, as far as its table has it; every other column of numbers is a score."""

FOUND = ("known_place", "peak_inside", "side_found", "map_inside", "map_side")
"""What was found at a lesion's place (`places_of`): neither a score, nor what a pair is."""

_NETWORK = ("score", "distance")
_LABELS = {
    "true": True,
    "different": True,
    "1": True,
    "false": False,
    "same": False,
    "0": False,
}


@dataclass(frozen=True, eq=False)
class ScoreTable:
    """Scored pairs and who is related to whom among them.

    Parameters
    ----------
    rows : DataFrame
        One row a pair: `subject`, and `partner` for two brains; the label in `lesioned` (true or
        false) or `label` (different or same); with lesions `role`, `volume_mm3` (native) and
        `contrast`; one column a score, high for a difference.
    families : mapping of str to str
        Groups of subjects; who is not in it has no relatives. Pairs of brains have theirs in
        `group` and `partner_group`.
    """

    rows: pd.DataFrame
    families: Mapping[str, str] = field(default_factory=dict)

    @property
    def labels(self) -> Bool[np.ndarray, " n"]:
        """Where a difference is: a lesion, or two who do not belong together.

        Raises
        ------
        UserError
            A label is none of the words.
        """
        column = self.rows["lesioned" if "lesioned" in self.rows else "label"]
        if column.dtype == bool:
            return column.to_numpy()
        words = column.map(str).str.strip().str.lower().str.removesuffix(".0")
        if unknown := sorted(set(words) - set(_LABELS)):
            msg = (
                f"the column {column.name} must have true and false, or different and same, got "
                f"{', '.join(unknown[:8])}; score the pairs again"
            )
            raise UserError(msg)
        return words.map(_LABELS).to_numpy(bool)

    @property
    def score_names(self) -> tuple[str, ...]:
        """The columns that hold scores, as they stand in the table."""
        numbers = self.rows.select_dtypes("number").columns
        return tuple(str(name) for name in numbers if name not in (*KEYS, *FOUND))

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
        if "group" in self.rows:
            sides = (self.rows[name].astype(str) for name in ("group", "partner_group"))
            return Clusters.of(*map(list, sides))
        return Clusters.of(
            self._families("subject"),
            self._families("partner") if "partner" in self.rows else None,
        )

    @property
    def subjects(self) -> frozenset[str]:
        """Whose pairs they are."""
        sides = [name for name in ("subject", "partner") if name in self.rows]
        return frozenset(str(one) for name in sides for one in self.rows[name])

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
