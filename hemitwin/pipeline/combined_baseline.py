"""Baselines taken together: a logistic regression, fitted on training pairs only."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float
from sklearn.linear_model import LogisticRegression

from hemitwin.pipeline.cohort.split import Split
from hemitwin.pipeline.stage.errors import UserError
from hemitwin.pipeline.training.baselines import BRAIN_BASELINES

__all__ = ["CombinedBaseline", "fit_combined"]


@dataclass(frozen=True)
class CombinedBaseline:
    """A logistic regression on baselines: standardised, weighted, summed.

    Parameters
    ----------
    columns : tuple of str
        Which baselines enter.
    centres, scales, weights : tuple of float
        Of each column: mean and standard deviation over the training pairs, and coefficient.
    intercept : float
        Log odds of an average training pair, classes weighted to equal shares.
    """

    columns: tuple[str, ...]
    centres: tuple[float, ...]
    scales: tuple[float, ...]
    weights: tuple[float, ...]
    intercept: float

    def score(self, baselines: pd.DataFrame) -> Float[np.ndarray, " pairs"]:
        """Return the log odds that two brains are different.

        Raises
        ------
        UserError
            A column that entered is missing, or not known of every pair.
        """
        held = baselines.reindex(columns=list(self.columns))
        if missing := [str(name) for name in held.columns[held.isna().any()]]:
            msg = (
                f"the combined baseline needs {', '.join(missing)} of every pair, but some have "
                f"none; complete the table of age and sex, or fit it without"
            )
            raise UserError(msg)
        standard = (held.to_numpy(dtype=float) - np.array(self.centres)) / np.array(self.scales)
        return np.asarray(standard @ np.array(self.weights) + self.intercept)


def fit_combined(
    pairs: pd.DataFrame,
    baselines: pd.DataFrame,
    *,
    split: Split,
    columns: Sequence[str] = BRAIN_BASELINES,
) -> CombinedBaseline:
    """Fit the combination of baselines on training pairs.

    Parameters
    ----------
    pairs : DataFrame
        Training pairs, with subject, partner and label.
    baselines : DataFrame
        Their scores.
    split : Split
        The folds.
    columns : sequence of str
        Candidates; one that is not known of every pair, or that has one value only (the sex of
        pairs that are matched on it), is left out.

    Raises
    ------
    UserError
        A subject does not lie in the training fold, one label is missing, or no column is left.
    """
    split.require(sorted({*pairs["subject"], *pairs["partner"]}), "train")
    different = (pairs["label"] == "different").to_numpy()
    used = [
        name for name in columns if baselines[name].notna().all() and baselines[name].nunique() > 1
    ]
    if different.all() or not different.any() or not used:
        msg = (
            f"the combined baseline needs training pairs of both labels and a baseline that "
            f"varies, got {int((~different).sum())} same and {int(different.sum())} different "
            f"pairs and {len(used)} baselines; add pairs"
        )
        raise UserError(msg)
    values = baselines[used].to_numpy(dtype=float)
    centres, scales = values.mean(axis=0), values.std(axis=0)
    model = LogisticRegression(class_weight="balanced").fit((values - centres) / scales, different)
    return CombinedBaseline(
        tuple(used),
        tuple(centres.tolist()),
        tuple(scales.tolist()),
        tuple(model.coef_[0].tolist()),
        float(model.intercept_[0]),
    )
