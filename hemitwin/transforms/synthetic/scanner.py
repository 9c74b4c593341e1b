"""What a scanner adds to a brain: its contrast, shading, sharpness and noise."""

import numpy as np
from pydantic import Field
from scipy import ndimage

from hemitwin._frozen import Frozen
from hemitwin._shapes import Affine, Grid
from hemitwin.transforms.synthetic.anatomy import smooth_field

__all__ = ["ScannerConfig", "ScannerSpec", "apply_scanner", "sample_scanner"]

_FWHM_PER_SD = 2.355
_BIAS_KNOTS_MM = 60.0
_FAINTEST = 1e-3


class ScannerSpec(Frozen):
    """One scanner, completely; every scan of it is shaded in the same way."""

    seed: int = Field(ge=0, description="Of its shading.")
    gamma: float = Field(gt=0, description="Exponent of the intensities.")
    bias: float = Field(ge=0, description="SD of the logarithm of the multiplicative shading.")
    noise: float = Field(ge=0, description="SD of the noise, relative to white matter's 1.")
    smoothing_mm: float = Field(ge=0, description="Full width at half maximum of its blur.")


class ScannerConfig(Frozen):
    """Ranges that scanners are drawn from, uniformly."""

    gamma: tuple[float, float] = Field(default=(0.8, 1.25), description="Intensity exponent.")
    bias: tuple[float, float] = Field(default=(0.02, 0.1), description="Shading, log SD.")
    noise: tuple[float, float] = Field(default=(0.005, 0.03), description="Noise SD.")
    smoothing_mm: tuple[float, float] = Field(default=(0.0, 3.0), description="Blur, FWHM in mm.")


def sample_scanner(rng: np.random.Generator, config: ScannerConfig) -> ScannerSpec:
    """Draw one scanner.

    Parameters
    ----------
    rng : numpy.random.Generator
        All randomness comes from it.
    config : ScannerConfig
        Ranges.

    Returns
    -------
    ScannerSpec

    Examples
    --------
    >>> 0.8 <= sample_scanner(np.random.default_rng(0), ScannerConfig()).gamma <= 1.25
    True
    """
    drawn = {name: float(rng.uniform(*limits)) for name, limits in config}
    return ScannerSpec(seed=int(rng.integers(2**32)), **drawn)


def apply_scanner(data: Grid, affine: Affine, spec: ScannerSpec, rng: np.random.Generator) -> Grid:
    """Scan a brain: blur it within itself, then change contrast, shading and noise.

    Parameters
    ----------
    data : (x, y, z) float
        Background 0, brain about 0 to 1.
    affine : (4, 4)
        Voxel index to RAS+ millimetres, axes along the world's.
    spec : ScannerSpec
        The scanner.
    rng : numpy.random.Generator
        Of this scan's noise.

    Returns
    -------
    (x, y, z) float32
        The background is exactly 0 where it was, and nowhere else.
    """
    brain = data > 0
    voxels = spec.smoothing_mm / _FWHM_PER_SD / np.abs(np.diag(affine)[:3])
    weight = ndimage.gaussian_filter(brain.astype(np.float32), voxels)
    blurred = ndimage.gaussian_filter(data, voxels) / np.maximum(weight, _FAINTEST)
    field = smooth_field(
        np.random.default_rng(spec.seed), data.shape, affine, knots_mm=_BIAS_KNOTS_MM
    )[0]
    noise = spec.noise * rng.standard_normal(data.shape, dtype=np.float32)
    seen = np.maximum(blurred, 0) ** spec.gamma * np.exp(spec.bias * field) + noise
    return np.where(brain, np.maximum(seen, _FAINTEST), 0).astype(np.float32)
