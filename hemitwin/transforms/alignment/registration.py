"""Register a scan to a template by a similarity: rotation, shift and one scale."""
# mypy: disallow-untyped-calls=False
# SimpleITK is marked as typed, but its generated wrappers carry no annotations.

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk  # noqa: N813  # the name its own documentation uses
from jaxtyping import Bool, Float

from hemitwin._shapes import Affine, Grid
from hemitwin.transforms.alignment.masking import brain_mask
from hemitwin.transforms.alignment.resampling import resample_array
from hemitwin.transforms.intensity import above_darkest
from hemitwin.transforms.loading import Scan

__all__ = ["mutual_information", "register_similarity", "similarity_quality"]

_WORKING_MM = 3.0
_MARGIN_MM = 6.0
_START_PITCHES_DEG = (0.0, 35.0, -35.0)  # nodding is what differs most between scanners' tables
_SCALE_RANGE = (0.6, 1.6)
_GOOD_QUALITY, _LEAST_QUALITY = 0.85, 0.75
_BRAIN_LEVEL = 0.05
_FLOOR = 0.2  # the template's own darkest voxels, measured like a scan from 0 to 1, have 0.28
_THREADS = 1  # sums in one order: the same bytes on every run


@dataclass(frozen=True, eq=False)
class _Brain:
    """A brain on a 3 mm grid along the world's axes, with what starts a registration."""

    image: sitk.Image
    centre_mm: Float[np.ndarray, "3"]
    voxels: int


def register_similarity(
    moving: Scan,
    fixed_data: Grid,
    fixed_affine: Affine,
    *,
    moving_mask: Bool[np.ndarray, " mx my mz"] | None = None,
) -> Affine:
    """Find the similarity (7 degrees of freedom) that leads from the template to a scan.

    The brains' centres and the cube root of their volumes' ratio start it; it is optimised at 6
    and 3 mm on Mattes mutual information, so that contrast may differ. Where the result is poor,
    or the optimiser gives up, it is tried again with the head pitched by 35 degrees. Every voxel
    is used and one thread adds them up: the same input gives the same matrix.

    Parameters
    ----------
    moving : Scan
        The native scan. Left and right are taken from its affine; a wrong one is not noticed.
    fixed_data : (x, y, z) float
        Skull-stripped template, background 0.
    fixed_affine : (4, 4)
        Its voxel index to template RAS+ millimetres.
    moving_mask : (mx, my, mz) bool, optional
        The scan's brain; found by `brain_mask` where not given.

    Returns
    -------
    moving_from_fixed : (4, 4)
        Template RAS+ millimetres to native RAS+ millimetres.

    Raises
    ------
    ValueError
        If no start leads to a fit, or none is plausible: scale beyond 0.6 to 1.6, or cosine
        similarity below 0.75.
    """
    mask = brain_mask(moving) if moving_mask is None else moving_mask
    fixed = _brain_on_working_grid(fixed_data, fixed_data != 0, fixed_affine)
    native = _brain_on_working_grid(above_darkest(moving.data, mask), mask, moving.affine)
    fits: list[tuple[float, sitk.Similarity3DTransform]] = []
    refusals: list[str] = []
    for pitch_deg in _START_PITCHES_DEG:
        transform = _start(fixed, native, pitch_deg)
        if refusal := _optimise(transform, fixed.image, native.image):
            refusals.append(f"pitched by {pitch_deg:g} degrees: {refusal}")
            continue
        fits.append((_quality(transform, fixed.image, native.image), transform))
        if fits[-1][0] >= _GOOD_QUALITY:
            break
    if not fits:
        msg = (
            "scan and template must overlap to be registered, but no start led to a fit "
            f"({'; '.join(refusals)}); check the brain mask"
        )
        raise ValueError(msg)
    quality, best = max(fits, key=lambda fit: fit[0])
    return _checked_matrix(best, quality)


def similarity_quality(aligned: Grid, template: Grid) -> float:
    """Return the cosine similarity of two brains on one grid, 1 for proportional images.

    Examples
    --------
    >>> brain = np.ones((2, 2, 2))
    >>> round(similarity_quality(2 * brain, brain), 6)
    1.0
    """
    norm = float(np.linalg.norm(aligned)) * float(np.linalg.norm(template))
    return float(np.vdot(aligned, template)) / norm if norm > 0 else 0.0


def _brain_on_working_grid(data: Grid, mask: Bool[np.ndarray, " x y z"], affine: Affine) -> _Brain:
    """Resample the masked brain onto a grid along the world's axes, since ITK knows no shear."""
    low, high = _bounds_mm(mask, affine)
    x, y, z = (int(n) for n in np.ceil((high - low) / _WORKING_MM) + 1)
    working = np.diag([_WORKING_MM] * 3 + [1.0])
    working[:3, 3] = low
    brain = resample_array(np.where(mask, data, 0), np.linalg.inv(affine) @ working, (x, y, z))
    values = brain[brain > 0]
    if values.size == 0:
        msg = "a brain must vary in its mask, but all of it is as dark; check the brain mask"
        raise ValueError(msg)
    brain = np.clip(brain / np.percentile(values, 99), 0, 1.2)
    inside = np.argwhere(brain > _BRAIN_LEVEL)
    image = sitk.GetImageFromArray(np.ascontiguousarray(brain.transpose(2, 1, 0)))
    image.SetSpacing([_WORKING_MM] * 3)
    image.SetOrigin(low.tolist())  # RAS+ throughout: ITK's LPS is a name it never checks
    return _Brain(image, low + _WORKING_MM * inside.mean(axis=0), len(inside))


def _bounds_mm(
    mask: Bool[np.ndarray, " x y z"], affine: Affine
) -> tuple[Float[np.ndarray, "3"], Float[np.ndarray, "3"]]:
    if not mask.any():
        msg = "the brain mask must hold at least one voxel, got none; check the masking"
        raise ValueError(msg)
    spans = [
        np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis})))[[0, -1]] for axis in range(3)
    ]
    corners = np.stack(np.meshgrid(*spans, indexing="ij"), axis=-1).reshape(-1, 3)
    world = corners @ affine[:3, :3].T + affine[:3, 3]
    return world.min(axis=0) - _MARGIN_MM, world.max(axis=0) + _MARGIN_MM


def _start(fixed: _Brain, native: _Brain, pitch_deg: float) -> sitk.Similarity3DTransform:
    rotation = sitk.Euler3DTransform()
    rotation.SetRotation(np.deg2rad(pitch_deg), 0.0, 0.0)
    scale = np.cbrt(native.voxels / fixed.voxels)
    transform = sitk.Similarity3DTransform()
    transform.SetCenter(fixed.centre_mm.tolist())
    transform.SetMatrix((scale * np.asarray(rotation.GetMatrix())).tolist())
    transform.SetTranslation((native.centre_mm - fixed.centre_mm).tolist())
    return transform


def mutual_information() -> sitk.ImageRegistrationMethod:
    """Return a method that compares all voxels by Mattes mutual information, on one thread."""
    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfThreads(_THREADS)
    method.SetNumberOfWorkUnits(_THREADS)
    method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricSamplingStrategy(method.NONE)
    method.SetInterpolator(sitk.sitkLinear)
    return method


def _optimise(transform: sitk.Transform, fixed: sitk.Image, native: sitk.Image) -> str | None:
    """Improve a start; where ITK refuses to go on from it, return why.

    ITK's "all samples map outside" is a start without a fit: another one may have one.
    """
    method = mutual_information()
    method.SetOptimizerAsRegularStepGradientDescent(2.0, 0.005, 100, relaxationFactor=0.5)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([2, 1])
    method.SetSmoothingSigmasPerLevel([3.0, 1.0])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    method.SetInitialTransform(transform, True)
    try:
        method.Execute(fixed, native)
    except RuntimeError as error:
        return str(error).strip().splitlines()[-1].strip()
    return None


def _quality(transform: sitk.Transform, fixed: sitk.Image, native: sitk.Image) -> float:
    aligned = sitk.GetArrayFromImage(sitk.Resample(native, fixed, transform))
    # Above the background by as much as the template is: else a T2w brain, whose large dark part
    # is white matter, would seem to be missing there.
    aligned[aligned > _BRAIN_LEVEL] += _FLOOR
    return similarity_quality(aligned, sitk.GetArrayFromImage(fixed))


def _checked_matrix(transform: sitk.Similarity3DTransform, quality: float) -> Affine:
    scale = transform.GetScale()
    if not _SCALE_RANGE[0] <= scale <= _SCALE_RANGE[1] or quality < _LEAST_QUALITY:
        msg = (
            f"the scan must fit the template by a similarity of scale {_SCALE_RANGE[0]} to "
            f"{_SCALE_RANGE[1]} and quality {_LEAST_QUALITY} or more; got scale {scale:.2f} and "
            f"quality {quality:.2f}; check the brain mask and that this is an adult brain"
        )
        raise ValueError(msg)
    linear = np.asarray(transform.GetMatrix()).reshape(3, 3)
    centre = np.asarray(transform.GetCenter())
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    matrix[:3, 3] = centre + np.asarray(transform.GetTranslation()) - linear @ centre
    return matrix
