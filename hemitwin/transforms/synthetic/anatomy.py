"""Make synthetic healthy people from a template: smooth shapes and intensities of their own."""

import numpy as np
from jaxtyping import Float
from pydantic import Field
from scipy import ndimage

from hemitwin._frozen import Frozen
from hemitwin._shapes import Affine, Grid

__all__ = [
    "AnatomyConfig",
    "AnatomySpec",
    "anatomy_displacement",
    "deform_anatomy",
    "render_anatomy",
    "sample_anatomy",
    "smooth_field",
]

_FIELD_OF_VIEW_MM = 120.0
_STREAMS = {"shape": 0, "asymmetry": 1, "bias": 2, "noise": 3}


class AnatomySpec(Frozen):
    """One synthetic person, completely."""

    seed: int = Field(ge=0, description="Seed of the displacement, bias and noise fields.")
    amplitude_mm: float = Field(ge=0, description="SD of the mirror-symmetric displacement.")
    asymmetry_mm: float = Field(
        ge=0, description="SD of the displacement that is independent on the left and the right."
    )
    smoothness_mm: float = Field(gt=0, description="Distance of the displacement's knots.")
    gamma: float = Field(gt=0, description="Exponent of the intensities.")
    bias: float = Field(ge=0, description="SD of the logarithm of the multiplicative bias field.")
    noise: float = Field(ge=0, description="SD of the noise, relative to white matter's 1.")


class AnatomyConfig(Frozen):
    """Ranges that people are drawn from, uniformly."""

    amplitude_mm: tuple[float, float] = Field(
        default=(2.0, 4.0), description="Symmetric displacement, SD in mm."
    )
    asymmetry_mm: tuple[float, float] = Field(
        default=(0.5, 1.5), description="Left-right independent displacement, SD in mm."
    )
    smoothness_mm: tuple[float, float] = Field(
        default=(20.0, 30.0), description="Distance of the displacement's knots in mm."
    )
    gamma: tuple[float, float] = Field(default=(0.8, 1.25), description="Intensity exponent.")
    bias: tuple[float, float] = Field(default=(0.0, 0.08), description="Bias field, log SD.")
    noise: tuple[float, float] = Field(default=(0.005, 0.02), description="Noise SD.")


def sample_anatomy(rng: np.random.Generator, config: AnatomyConfig) -> AnatomySpec:
    """Draw one person.

    Parameters
    ----------
    rng : numpy.random.Generator
        All randomness comes from it.
    config : AnatomyConfig
        Ranges.

    Returns
    -------
    AnatomySpec

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> 0.8 <= sample_anatomy(rng, AnatomyConfig()).gamma <= 1.25
    True
    """
    drawn = {name: float(rng.uniform(*limits)) for name, limits in config}
    return AnatomySpec(seed=int(rng.integers(2**32)), **drawn)


def deform_anatomy(data: Grid, affine: Affine, spec: AnatomySpec) -> Grid:
    """Turn a template into the person a spec describes.

    The displacement is a sum of two smooth random fields (cubic B-splines): one mirror-symmetric
    about x = 0, as people differ, and one that is independent left and right, as halves differ.
    The same spec gives the same person on every grid, but for the noise.

    Parameters
    ----------
    data : (x, y, z) float
        Template, background 0, brain about 0 to 1.
    affine : (4, 4)
        Voxel index to template RAS+ millimetres, axes along the world's.

    Returns
    -------
    (x, y, z) float32
        Background exactly 0.

    Raises
    ------
    ValueError
        If the affine is rotated or sheared.
    """
    return render_anatomy(data, affine, spec, anatomy_displacement(data.shape, affine, spec))


def anatomy_displacement(
    shape: tuple[int, ...], affine: Affine, spec: AnatomySpec
) -> Float[np.ndarray, "3 x y z"]:
    """Return where a person's voxels come from in the template.

    Parameters
    ----------
    shape : tuple of int
        Voxels per axis.
    affine : (4, 4)
        Voxel index to template RAS+ millimetres, axes along the world's.
    spec : AnatomySpec
        The person.

    Returns
    -------
    (3, x, y, z) float
        Millimetres, RAS order: the person at p shows the template at p + displacement(p).

    Raises
    ------
    ValueError
        If the affine is rotated or sheared.
    """
    linear = affine[:3, :3]
    if not np.allclose(linear, np.diag(np.diag(linear)), atol=1e-6):
        msg = f"the affine must be diagonal, got {linear.tolist()}; resample to a template grid"
        raise ValueError(msg)

    def field(stream: str) -> Float[np.ndarray, "3 x y z"]:
        rng = _generator(spec, stream)
        return smooth_field(rng, shape, affine, knots_mm=spec.smoothness_mm, components=3)

    symmetric_mm = _symmetric(spec.amplitude_mm * field("shape"))
    return symmetric_mm + spec.asymmetry_mm * field("asymmetry")


def render_anatomy(
    data: Grid, affine: Affine, spec: AnatomySpec, displacement_mm: Float[np.ndarray, "3 x y z"]
) -> Grid:
    """Show a template displaced, in a person's own contrast, shading and noise.

    Parameters
    ----------
    data : (x, y, z) float
        Template, background 0, brain about 0 to 1.
    affine : (4, 4)
        Voxel index to template RAS+ millimetres, axes along the world's.
    spec : AnatomySpec
        Gamma, bias field and noise are taken from it.
    displacement_mm : (3, x, y, z) float
        RAS order, as `anatomy_displacement` gives it.

    Returns
    -------
    (x, y, z) float32
        Background exactly 0.
    """
    template = np.asarray(data, dtype=np.float32)
    steps = displacement_mm / np.diag(affine)[:3].reshape(3, 1, 1, 1)
    at = np.indices(data.shape, dtype=np.float32) + steps
    warped = np.asarray(ndimage.map_coordinates(template, at, order=1, output=np.float32))
    brain = warped > 1e-3
    bias = smooth_field(_generator(spec, "bias"), data.shape, affine, knots_mm=50.0)[0]
    noise = _generator(spec, "noise").standard_normal(data.shape, dtype=np.float32)
    shaded = np.maximum(warped, 0) ** spec.gamma * np.exp(spec.bias * bias)
    person = np.maximum(shaded + spec.noise * noise, 1e-3)
    return np.where(brain, person, 0).astype(np.float32)


def _symmetric(field: Float[np.ndarray, "3 x y z"]) -> Float[np.ndarray, "3 x y z"]:
    """Average a vector field with its mirror image, keeping its standard deviation."""
    mirrored = field[:, ::-1] * np.array([-1.0, 1.0, 1.0]).reshape(3, 1, 1, 1)
    return np.asarray((field + mirrored) / np.sqrt(2))


def smooth_field(
    rng: np.random.Generator,
    shape: tuple[int, ...],
    affine: Affine,
    *,
    knots_mm: float,
    components: int = 1,
) -> Float[np.ndarray, "c x y z"]:
    """Draw random cubic B-splines of unit variance and evaluate them at the voxels.

    Parameters
    ----------
    rng : numpy.random.Generator
        All randomness comes from it; the same state gives the same field on every grid.
    shape : tuple of int
        Voxels per axis.
    affine : (4, 4)
        Voxel index to RAS+ millimetres, axes along the world's.
    knots_mm : float
        Distance of the splines' knots.
    components : int
        Independent fields.

    Returns
    -------
    (c, x, y, z) float
        Mean 0 and variance 1 over draws, at every voxel.
    """
    knots = 2 * int(np.ceil(_FIELD_OF_VIEW_MM / knots_mm)) + 5
    field = rng.standard_normal((components, knots, knots, knots))
    for axis in range(3):
        place_mm = affine[axis, axis] * np.arange(shape[axis]) + affine[axis, 3]
        weights = _spline_weights(place_mm / knots_mm + (knots - 1) / 2, knots)
        field = np.moveaxis(np.tensordot(weights, field, axes=(1, axis + 1)), 0, axis + 1)
    return np.asarray(field)


def _spline_weights(place: Float[np.ndarray, " n"], knots: int) -> Float[np.ndarray, "n k"]:
    far = np.abs(np.clip(place, 1, knots - 2)[:, None] - np.arange(knots))
    near = 2 / 3 - far**2 + far**3 / 2
    weights = np.where(far < 1, near, np.where(far < 2, (2 - far) ** 3 / 6, 0))
    return np.asarray(weights / np.linalg.norm(weights, axis=1, keepdims=True))


def _generator(spec: AnatomySpec, stream: str) -> np.random.Generator:
    return np.random.default_rng([spec.seed, _STREAMS[stream]])
