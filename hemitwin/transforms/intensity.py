"""Bring the intensities of a brain, or of an image, onto a common scale."""

from collections.abc import Hashable, Mapping

import numpy as np
import torch
from jaxtyping import Float, UInt8
from monai.config.type_definitions import KeysCollection
from monai.transforms.transform import MapTransform
from torch import Tensor

from hemitwin._shapes import Grid, Mask, Volume
from hemitwin.transforms.entries import mask_entry, volume_entry, with_values

__all__ = [
    "StandardiseBraind",
    "above_darkest",
    "robust_scale",
    "standardise",
    "standardise_images",
    "standardise_pixels",
]

_DARKEST_PERCENT = 0.1
_HEADROOM = 0.25
_LARGEST_DEVIATION = 4.0
_LEAST_SPREAD = 1 / 512
"""Half a step of 8 bits, where white is 1: an image of one grey is not blown up."""


def above_darkest(data: Grid, mask: Mask, *, background: float | None = None) -> Grid:
    """Measure a brain's brightness from its darkest voxels; 0 outside it.

    What is compared with 0 or multiplied (a background of 0, half a median, a voxel's share of
    brain) needs a brightness that does not depend on where a scan's unit has its zero: z-scores
    and intensities from -1 to 1 are negative in half of the brain.

    Parameters
    ----------
    data : (x, y, z) float
        Intensities in any unit.
    mask : (x, y, z) bool
        The brain; may be empty.
    background : float, optional
        A value that stands for no value at all (see `background_value`): voxels of the brain that
        have exactly this, the filled holes of a stripped scan, are as dark as its darkest.

    Returns
    -------
    (x, y, z) float32
        The brain's values less their 0.1th percentile, where that is positive; else 0. One dead
        voxel is no darkest one.

    Examples
    --------
    >>> data = np.array([[[-1000.0, -1.0, 0.0, 2.0]]])
    >>> above_darkest(data, data > -10).tolist()
    [[[0.0, 0.0, 1.0, 3.0]]]
    """
    known = mask if background is None else mask & (data != background)
    bright = np.zeros(data.shape, dtype=np.float32)
    values = data[known]
    if values.size:
        darkest = np.percentile(values, _DARKEST_PERCENT, method="lower")
        bright[known] = np.maximum(values - darkest, 0)
    return bright


def robust_scale(data: Grid, mask: Mask, *, low: float = 1.0, high: float = 99.0) -> Grid:
    """Map two percentiles of the brain to 0 and 1, and the background to 0.

    Values outside the percentiles are compressed smoothly (tanh) into a headroom of 0.25, so that
    order is kept and nothing exceeds 1.25. Brain values never fall below the smallest positive
    step 1e-3: a background of exactly 0 stays recognisable.

    Parameters
    ----------
    data : (x, y, z) float
        Intensities in any unit.
    mask : (x, y, z) bool
        The brain.
    low, high : float
        Percentiles within the mask, in percent.

    Returns
    -------
    (x, y, z) float32
        About 0 to 1 in the brain, 0 outside.

    Raises
    ------
    ValueError
        If the mask is empty, the percentiles are out of order, or the brain has one value only.

    Examples
    --------
    >>> data = np.arange(27.0).reshape(3, 3, 3)
    >>> scaled = robust_scale(data, data > 0, low=0.0, high=100.0)
    >>> float(scaled.max()), float(scaled[0, 0, 0])
    (1.0, 0.0)
    """
    if not 0 <= low < high <= 100:
        msg = f"percentiles must rise within 0 to 100, got {low} and {high}; try 1 and 99"
        raise ValueError(msg)
    values = data[mask]
    if values.size == 0:
        msg = "the brain mask must hold at least one voxel, got none; check the masking"
        raise ValueError(msg)
    bottom, top = np.percentile(values, [low, high])
    if not top > bottom:
        msg = f"brain intensities must vary, both percentiles are {bottom:g}; check the scan"
        raise ValueError(msg)
    scaled = np.zeros(data.shape, dtype=np.float32)
    scaled[mask] = _soft_clip((values - bottom) / (top - bottom))
    return scaled


def standardise(volume: Volume, mask: Mask) -> Volume:
    """Measure intensities from the brain's median, in robust standard deviations; background 0.

    A network sees the background as average tissue then, so that the brain's outline is no edge
    that outshines every lesion, and input times gradient starts from average tissue, not from
    black: a dark lesion can earn relevance.

    Parameters
    ----------
    volume : (C, X, Y, Z) float
        Not changed.
    mask : (X, Y, Z) bool
        The brain.

    Returns
    -------
    (C, X, Y, Z) float32
        (value - median) / half the width from the 16th to the 84th percentile, each channel by
        its own, within -4 to 4; 0 outside the mask.

    Raises
    ------
    ValueError
        If the mask is empty or the brain has one value only.

    Examples
    --------
    >>> volume = torch.arange(8.0).reshape(1, 2, 2, 2)
    >>> round(standardise(volume, np.ones((2, 2, 2), dtype=bool)).amax().item(), 2)
    1.47
    """
    inside = volume.numpy()[:, mask]
    if inside.shape[1] == 0:
        msg = "the brain mask must hold at least one voxel, got none; check the masking"
        raise ValueError(msg)
    low, middle, high = np.percentile(inside, [16, 50, 84], axis=1)
    if not (high > low).all():
        msg = f"brain intensities must vary, the percentiles are {low} and {high}; check the scan"
        raise ValueError(msg)
    deviation = (inside - middle[:, None]) / ((high - low) / 2)[:, None]
    standard = np.zeros(volume.shape, dtype=np.float32)
    standard[:, mask] = np.clip(deviation, -_LARGEST_DEVIATION, _LARGEST_DEVIATION)
    return torch.from_numpy(standard)


class StandardiseBraind(MapTransform):
    """Bring volumes to what a network sees: `standardise` in a MONAI dictionary.

    Parameters
    ----------
    keys : collection of hashable
        Entries holding a `MetaTensor` (C, X, Y, Z).
    mask_key : hashable
        Entry of the brain, (1, X, Y, Z) bool.

    Examples
    --------
    >>> from monai.data.meta_tensor import MetaTensor
    >>> brain = {"image": MetaTensor(torch.rand(1, 4, 4, 4)), "mask": torch.ones(1, 4, 4, 4) > 0}
    >>> bool(StandardiseBraind("image")(brain)["image"].median().abs() < 0.2)
    True
    """

    def __init__(self, keys: KeysCollection, *, mask_key: Hashable = "mask") -> None:
        super().__init__(keys)
        self.mask_key = mask_key

    def __call__(self, data: Mapping[Hashable, object]) -> dict[Hashable, object]:
        """Standardise each volume; the given dictionary is left as it is.

        Raises
        ------
        KeyError, TypeError, ValueError
            As `volume_entry`, `mask_entry` and `standardise` say.
        """
        result = dict(data)
        for key in self.key_iterator(result):
            volume = volume_entry(data, key)
            mask = mask_entry(data, self.mask_key, volume).numpy()
            result[key] = with_values(volume, standardise(volume.as_tensor(), mask))
        return result


def _soft_clip(values: np.ndarray) -> np.ndarray:
    soft = np.clip(values, 0.0, 1.0)
    beyond = soft != values
    excess = values[beyond] - soft[beyond]
    soft[beyond] = values[beyond] - excess + _HEADROOM * np.tanh(excess / _HEADROOM)
    return np.asarray(np.maximum(soft, 1e-3))


def standardise_images(
    images: Float[Tensor, "batch channels rows columns"],
) -> Float[Tensor, "batch channels rows columns"]:
    """Measure each 2D image's pixels from their mean, in their standard deviations; black stays 0.

    Parameters
    ----------
    images : (B, C, rows, columns) float
        Black, which an image is padded with, is 0. Not changed.

    Returns
    -------
    (B, C, rows, columns) float
        Of one colour image all channels have one mean and spread, so that colours stay colours;
        0 where all channels were black. An image of one grey is 0 everywhere.

    Examples
    --------
    >>> standardise_images(torch.tensor([[[[0.0, 1.0, 3.0]]]]))
    tensor([[[[ 0., -1.,  1.]]]])
    """
    seen = images.amax(dim=1, keepdim=True) > 0
    count = (seen.sum(dim=(1, 2, 3), keepdim=True) * images.shape[1]).clamp(min=1)
    mean = (images * seen).sum(dim=(1, 2, 3), keepdim=True) / count
    deviation = torch.where(seen, images - mean, 0.0)
    spread = (deviation.square().sum(dim=(1, 2, 3), keepdim=True) / count).sqrt()
    standard: Tensor = deviation / spread.clamp(min=_LEAST_SPREAD)
    return standard


def standardise_pixels(
    pixels: UInt8[np.ndarray, "batch channels rows columns"],
) -> Float[Tensor, "batch channels rows columns"]:
    """Bring 8-bit pictures to what a network sees; see `standardise_images`.

    Examples
    --------
    >>> standardise_pixels(np.array([[[[0, 85, 255]]]], dtype=np.uint8)).round()
    tensor([[[[ 0., -1.,  1.]]]])
    """
    return standardise_images(torch.from_numpy(pixels).float() / 255)
