"""Tables of pairs of brains on disk: the private one names relatives, the other names nobody."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from hemitwin.atlases import save_table
from hemitwin.pipeline.families import write_private
from hemitwin.pipeline.stage.errors import UserError, reading

__all__ = ["read_brain_pairs", "shareable_pairs", "write_brain_pairs", "write_shareable_pairs"]

_NAMES = ("case", "partner_case", "subject", "partner")
_KEPT = ("group", "partner_group", "relation", "label")


def write_brain_pairs(path: Path, pairs: pd.DataFrame) -> Path:
    """Write a table of pairs, with or without scores, for its owner alone (mode 0600).

    Parameters
    ----------
    path : Path
        Outside every folder that is shared; its name must say that it is private.
    pairs : DataFrame
        What `brain_pairs` gives, and columns of scores.

    Raises
    ------
    UserError
        The name has no ``private`` in it.
    """
    if "private" not in path.name:
        msg = f"a table of relatives must be named private, got {path.name}; add '.private'"
        raise UserError(msg)
    text = io.StringIO()
    pairs.to_csv(text, sep="\t", index=False, na_rep="n/a", lineterminator="\n")
    return write_private(path, text.getvalue())


def read_brain_pairs(path: Path) -> pd.DataFrame:
    """Read what `write_brain_pairs` wrote.

    Raises
    ------
    UserError
        The file is not there, is no table of pairs of brains, or has another label than same and
        different.
    """
    if not path.is_file():
        msg = f"{path} must be a table of pairs, but it is not there; score the pairs again"
        raise UserError(msg)
    with reading(path, "score the pairs again"):
        if not path.read_bytes().endswith(b"\n"):
            msg = "its end is missing"
            raise ValueError(msg)
        table = pd.read_csv(path, sep="\t", dtype=dict.fromkeys(_NAMES, str))
    if missing := [name for name in (*_NAMES, *_KEPT) if name not in table.columns]:
        msg = f"{path} must have the columns of pairs, it lacks {', '.join(missing)}"
        raise UserError(msg)
    if unknown := sorted(set(map(str, table["label"])) - {"same", "different"}):
        msg = f"{path} must have the labels same and different, got {', '.join(unknown[:8])}"
        raise UserError(msg)
    if "matched" in table.columns:
        table["matched"] = table["matched"].fillna("n/a")
    return table


def shareable_pairs(pairs: pd.DataFrame, scores: Sequence[str]) -> pd.DataFrame:
    """Return scored pairs without names, in an order that says nothing about names.

    Parameters
    ----------
    pairs : DataFrame
        What `brain_pairs` gives, and columns of scores.
    scores : sequence of str
        The columns of scores to keep; all others that are not of the pair itself stay private.
        A difference of age is no score to be shared under the Connectome Project's terms.

    Returns
    -------
    DataFrame
        group, partner_group, relation, label and the scores, sorted by them.
    """
    columns = [*_KEPT, *scores]
    kept = pairs[columns].copy()
    # Which of the two came first went by the names.
    kept[["group", "partner_group"]] = np.sort(kept[["group", "partner_group"]].to_numpy(), axis=1)
    return kept.sort_values(columns, ignore_index=True)


def write_shareable_pairs(path: Path, pairs: pd.DataFrame, scores: Sequence[str]) -> Path:
    """Write what `shareable_pairs` gives as a table that may be shared."""
    save_table(path, shareable_pairs(pairs, scores))
    return path
