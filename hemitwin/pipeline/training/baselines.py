"""What a network must beat: brain volume, tissue volumes, age and sex, without any learning."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float
from sklearn.mixture import GaussianMixture

from hemitwin._shapes import Volume
from hemitwin.pipeline.cohort.brains import Brain
from hemitwin.pipeline.cohort.demographics import Demographics
from hemitwin.pipeline.stage.bids import session_of
from hemitwin.pipeline.stage.errors import UserError
from hemitwin.pipeline.training.sources.pairs import ScoredPair

__all__ = [
    "BRAIN_BASELINES",
    "BrainVolumes",
    "brain_baselines",
    "brain_volumes",
    "hemisphere_baselines",
]

BRAIN_BASELINES = ("brain_volume", "tissue_volumes", "age_difference", "sex_mismatch")
"""The columns that `brain_baselines` gives; each is larger for brains that differ more."""

_TISSUES = 3
_SAMPLES = 10_000

_Values = Float[np.ndarray, " n"]
_Shares = Float[np.ndarray, " 3"]


@dataclass(frozen=True)
class BrainVolumes:
    """Volumes of one brain in its own (native) cubic millimetres.

    Parameters
    ----------
    brain_mm3 : float
        Of the brain mask.
    tissue_mm3 : tuple of float
        Of three classes of intensity, from dark to bright: on a T1w image roughly cerebrospinal
        fluid, grey and white matter.
    """

    brain_mm3: float
    tissue_mm3: tuple[float, float, float]


def brain_volumes(brain: Brain, *, seed: int = 0) -> BrainVolumes:
    """Measure a brain: its mask, and a mixture of three Gaussians of the intensities inside.

    A tissue's volume is the sum of its posterior probabilities, estimated on at most 10,000
    voxels.

    Parameters
    ----------
    brain : Brain
        At the network's grid.
    seed : int
        Decides which voxels are taken.

    Raises
    ------
    ValueError
        The mask holds fewer than three voxels.
    """
    voxel_mm3 = abs(float(np.linalg.det(brain.affine[:3, :3]))) * brain.native_mm3_per_mm3
    values = _sampled(brain.volume[0].numpy()[brain.mask], seed)
    brain_mm3 = float(brain.mask.sum()) * voxel_mm3
    dark, middle, bright = (
        float(share) * brain_mm3 for share in _shares(_mixture(values), values)
    )
    return BrainVolumes(brain_mm3, (dark, middle, bright))


def brain_baselines(
    pairs: pd.DataFrame, volumes: Mapping[str, BrainVolumes], demographics: Demographics
) -> pd.DataFrame:
    """Score pairs of brains without a network.

    Parameters
    ----------
    pairs : DataFrame
        With the columns case, partner_case, subject and partner, one row a pair.
    volumes : mapping of str to BrainVolumes
        Of every case.
    demographics : Demographics
        Age and sex, where known.

    Returns
    -------
    DataFrame
        With the index of `pairs`. ``brain_volume``: absolute logarithm of the ratio of the brains'
        volumes; ``tissue_volumes``: Euclidean norm of the logarithms of the three tissues'
        ratios; ``age_difference``: in years; ``sex_mismatch``: 1 where the sexes differ, else 0.
        The last two are NaN where one of the two is not known.

    Raises
    ------
    UserError
        A case has no volumes.
    """
    cases = sorted({*pairs["case"], *pairs["partner_case"]} - set(volumes))
    if cases:
        msg = f"every case must have been measured, but {', '.join(cases[:8])} was not"
        raise UserError(msg)
    ends = ("case", "partner_case")
    brains = [np.array([volumes[name].brain_mm3 for name in pairs[end]]) for end in ends]
    tissues = [
        np.array([volumes[name].tissue_mm3 for name in pairs[end]]).reshape(-1, 3) for end in ends
    ]
    people = ("subject", "partner")
    ages = [
        np.array([_age(demographics, *one) for one in zip(pairs[who], pairs[end], strict=True)])
        for who, end in zip(people, ends, strict=True)
    ]
    sexes = [pairs[end].map(demographics.sex) for end in people]
    known = sexes[0].notna() & sexes[1].notna()
    scores = {
        "brain_volume": np.abs(np.log(brains[0] / brains[1])),
        "tissue_volumes": np.linalg.norm(np.log(tissues[0] / tissues[1]), axis=1),
        "age_difference": np.abs(ages[0] - ages[1]),
        "sex_mismatch": (sexes[0] != sexes[1]).astype(float).where(known),
    }
    return pd.DataFrame(scores, index=pairs.index)


def _age(demographics: Demographics, subject: str, case: str) -> float:
    age = demographics.age_of(subject, session_of(case))
    return float("nan") if age is None else age


def hemisphere_baselines(pair: ScoredPair, *, seed: int = 0) -> dict[str, float]:
    """Score a pair of halves without a network, as `brain_baselines` does it for brains.

    One mixture is fitted to both halves together, so that a class means the same on both sides.
    `mirror_difference` gives the voxel-wise baselines.

    Parameters
    ----------
    pair : ScoredPair
        Halves in standard units, background 0.
    seed : int
        Decides which voxels are taken.

    Returns
    -------
    dict of str to float
        ``half_volume``: absolute logarithm of the ratio of the halves' numbers of voxels;
        ``half_tissue_volumes``: Euclidean norm of the logarithms of the three classes' ratios.

    Raises
    ------
    ValueError
        A half has no brain.
    """
    left, right = (_inside(half) for half in (pair.left, pair.right))
    if not (left.size and right.size):
        msg = (
            f"both halves of {pair.subject} must hold brain, got none on one side; check the mask"
        )
        raise ValueError(msg)
    samples = [_sampled(half, seed) for half in (left, right)]
    mixture = _mixture(np.concatenate(samples))
    volumes = [
        half.size * _shares(mixture, sample)
        for half, sample in zip((left, right), samples, strict=True)
    ]
    return {
        "half_volume": float(abs(np.log(left.size / right.size))),
        "half_tissue_volumes": float(np.linalg.norm(np.log(volumes[0] / volumes[1]))),
    }


def _inside(half: Volume) -> _Values:
    image = half[0].numpy()
    return np.asarray(image[image != 0], dtype=np.float64)


def _sampled(values: _Values, seed: int) -> Float[np.ndarray, " samples"]:
    if values.size <= _SAMPLES:
        return values.astype(np.float64)
    chosen = np.random.default_rng(seed).choice(values.size, _SAMPLES, replace=False)
    return values[chosen].astype(np.float64)


def _mixture(values: _Values) -> GaussianMixture:
    """Fit three Gaussians, from thirds of the intensities: no random start."""
    if values.size < _TISSUES:
        msg = f"a mixture of three tissues needs at least 3 voxels, got {values.size}"
        raise ValueError(msg)
    thirds = np.array_split(np.sort(values), _TISSUES)
    least = 1e-6 * max(float(values.var()), 1e-12)
    variances = np.array([max(float(part.var()), least) for part in thirds])
    mixture = GaussianMixture(
        _TISSUES,
        covariance_type="diag",
        reg_covar=least,
        max_iter=500,
        means_init=np.array([[part.mean()] for part in thirds]),
        weights_init=np.full(_TISSUES, 1 / _TISSUES),
        precisions_init=1 / variances[:, None],
    )
    return mixture.fit(values[:, None])


def _shares(mixture: GaussianMixture, values: _Values) -> _Shares:
    """Return the classes' shares from dark to bright, never 0: half a voxel is added to each."""
    order = np.argsort(np.asarray(mixture.means_, dtype=float)[:, 0])
    counts = mixture.predict_proba(values[:, None]).sum(axis=0)[order] + 0.5
    return np.asarray(counts / counts.sum())
