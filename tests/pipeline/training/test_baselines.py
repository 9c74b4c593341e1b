from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from hemitwin.pipeline.cohort.brains import Brain
from hemitwin.pipeline.cohort.demographics import Demographics
from hemitwin.pipeline.cohort.split import Split
from hemitwin.pipeline.evaluation.brain_evaluation import fit_combined
from hemitwin.pipeline.stage.bids import Case
from hemitwin.pipeline.stage.errors import UserError
from hemitwin.pipeline.training.baselines import (
    BrainVolumes,
    brain_baselines,
    brain_volumes,
    hemisphere_baselines,
)
from hemitwin.pipeline.training.sources.pairs import ScoredPair

TISSUES = ((0.2, 0.03), (0.5, 0.04), (0.8, 0.03))


def _brain(counts, *, native=1.0, seed=0, gain=1.0):
    """A cube whose voxels are drawn from three tissues, so many of each."""
    rng = np.random.default_rng(seed)
    parts = [rng.normal(*tissue, count) for tissue, count in zip(TISSUES, counts, strict=True)]
    volume = np.zeros(40**3, np.float32)
    values = np.concatenate(parts)
    volume[: values.size] = gain * values
    grid = volume.reshape(40, 40, 40)
    case = Case("sub-1", "sub-1", Path("sub-1.nii.gz"))
    affine = np.diag([2.0, 2, 2, 1])
    return Brain(torch.from_numpy(grid)[None], grid != 0, affine, 1, native, case)


def _halves(left, right):
    first, second = (torch.from_numpy(np.asarray(one, np.float32))[None] for one in (left, right))
    return ScoredPair("sub-1", first, second, None)


def test_tissues_are_measured_in_native_mm3_whatever_their_scale():
    counts = np.array([6000, 20000, 14000])
    for gain in (1.0, 100.0):
        found = brain_volumes(_brain(counts, native=0.8, gain=gain))
        assert found.brain_mm3 == pytest.approx(40000 * 8 * 0.8, rel=1e-3)
        assert sum(found.tissue_mm3) == pytest.approx(found.brain_mm3)
        np.testing.assert_allclose(found.tissue_mm3, counts * 8 * 0.8, rtol=0.05)
    assert brain_volumes(_brain(counts)) == brain_volumes(_brain(counts))


def test_scores_of_brains_are_what_their_formulas_say_and_do_not_know_who_came_first():
    volumes = {
        "a": BrainVolumes(1000.0, (100.0, 500.0, 400.0)),
        "b": BrainVolumes(1200.0, (200.0, 500.0, 300.0)),
        "c": BrainVolumes(1000.0, (100.0, 500.0, 400.0)),
    }
    people = Demographics({"sub-a": 30.0, "sub-b": 33.5}, {"sub-a": "F", "sub-b": "M"})
    rows = [("a", "b"), ("b", "a"), ("a", "c")]
    pairs = pd.DataFrame(rows, columns=["case", "partner_case"], index=[5, 7, 9])
    pairs["subject"], pairs["partner"] = "sub-" + pairs["case"], "sub-" + pairs["partner_case"]
    scores = brain_baselines(pairs, volumes, people)
    assert list(scores.index) == [5, 7, 9]
    tissue = np.sqrt(np.log(2) ** 2 + np.log(4 / 3) ** 2)
    np.testing.assert_allclose(scores.loc[5], [np.log(1.2), tissue, 3.5, 1.0])
    np.testing.assert_allclose(scores.loc[5], scores.loc[7])
    np.testing.assert_allclose(scores.loc[9], [0.0, 0.0, np.nan, np.nan])
    with pytest.raises(UserError, match="but c was not"):
        brain_baselines(pairs, {name: volumes[name] for name in "ab"}, people)


def test_equal_halves_score_nothing_and_swapping_them_changes_nothing():
    rng = np.random.default_rng(0)
    left = rng.normal(rng.choice([-1.5, 0.0, 1.5], (24, 24, 24)), 0.2)
    assert set(hemisphere_baselines(_halves(left, left)).values()) == {0.0}
    right = left.copy()
    right[:4] = 0
    right[8:16] -= 1.5
    scores = hemisphere_baselines(_halves(left, right))
    swapped = hemisphere_baselines(_halves(right, left))
    assert scores == pytest.approx(swapped, rel=1e-3)
    assert scores["half_volume"] == pytest.approx(np.log(24 / 20))
    assert scores["half_tissue_volumes"] > 0.5
    with pytest.raises(ValueError, match="none on one side"):
        hemisphere_baselines(_halves(left, np.zeros_like(left)))


def test_one_flat_or_tiny_volume_still_has_a_figure():
    flat = hemisphere_baselines(_halves(np.ones((4, 4, 4)), np.ones((4, 4, 4))))
    assert flat == {"half_volume": 0.0, "half_tissue_volumes": 0.0}
    with pytest.raises(ValueError, match="at least 3 voxels, got 2"):
        brain_volumes(_brain([1, 1, 0]))


def _training(count=60, seed=0):
    rng = np.random.default_rng(seed)
    label = np.where(np.arange(count) % 4 == 0, "same", "different")
    gap = (label == "different") * 1.0
    baselines = pd.DataFrame(
        {
            "brain_volume": gap + rng.normal(size=count),
            "tissue_volumes": 100 * (gap + rng.normal(size=count)),
            "age_difference": np.nan,
            "sex_mismatch": 0.0,
        }
    )
    names = [f"sub-{k}" for k in range(2 * count)]
    pairs = pd.DataFrame({"subject": names[:count], "partner": names[count:], "label": label})
    return pairs, baselines, Split(dict.fromkeys(names, "train"), 0)


def test_the_combination_is_a_logistic_regression_on_the_baselines_that_are_known():
    pairs, baselines, split = _training()
    combined = fit_combined(pairs, baselines, split=split)
    assert combined.columns == ("brain_volume", "tissue_volumes")
    held = baselines[list(combined.columns)].to_numpy()
    oracle = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced"))
    oracle.fit(held, pairs["label"] == "different")
    _, new, _ = _training(seed=1)
    expected = oracle.decision_function(new[list(combined.columns)].to_numpy())
    np.testing.assert_allclose(combined.score(new), expected, rtol=1e-6)
    with pytest.raises(UserError, match="needs tissue_volumes of every pair"):
        combined.score(new.drop(columns="tissue_volumes"))


def test_the_combination_learns_from_training_pairs_only():
    pairs, baselines, split = _training()
    leaking = Split({**split.folds, "sub-7": "test"}, 0)
    with pytest.raises(UserError, match=r"sub-7 \(test\)"):
        fit_combined(pairs, baselines, split=leaking)
    with pytest.raises(UserError, match="both labels and a baseline that varies, got 0 same"):
        fit_combined(pairs.assign(label="different"), baselines, split=split)
