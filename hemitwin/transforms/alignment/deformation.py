"""Register a template to a brain by a smooth deformation, so that labels can be carried over."""
# mypy: disallow-untyped-calls=False
# SimpleITK is marked as typed, but its generated wrappers carry no annotations.

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import SimpleITK as sitk  # noqa: N813  # the name its own documentation uses
import torch
from jaxtyping import Bool, Float, Float32
from scipy import ndimage

from hemitwin._shapes import Affine, Grid
from hemitwin.transforms.alignment.registration import mutual_information

__all__ = ["Deformation", "register_deformation"]

_THREADS = 1  # where sums are taken: in one order, for the same bytes on every run
_SHADING_MM, _SHADING_ROUNDS = 4.0, [30, 30, 20]
_LEVELS = ((2, 4), (1, 3))  # shrink factor, rounds
_ROUND = 15  # iterations, after which the contrast is taken anew
_BINS = 32
_FIELD_SIGMA = 1.75  # voxels, as the next
_UPDATE_SIGMA = 1.0
_LONGEST_STEP = 1.0
_INVERSE_ROUNDS = 40
_LEAST_OVERLAP = 0.8

Points = Float[np.ndarray, " n 3"]


@dataclass(frozen=True, eq=False)
class Deformation:
    """Where each point of a brain lies in the template.

    Attributes
    ----------
    shift_mm : (x, y, z, 3) float32
        What is added to a point of the brain, in mm, to find it in the template; on a grid that
        covers the brain.
    affine : (4, 4) float
        Voxel index of that grid to RAS+ mm of the brain's space.
    """

    shift_mm: Float32[np.ndarray, " x y z 3"]
    affine: Affine

    def to_template(self, points_mm: Points) -> Points:
        """Find points of the brain in the template.

        Parameters
        ----------
        points_mm : (n, 3) float
            RAS+ mm of the brain's space.

        Returns
        -------
        (n, 3) float64
            RAS+ mm of the template's space. Beyond the grid the nearest shift holds.
        """
        moved: np.ndarray = points_mm + self._shift_at(points_mm)
        return moved

    def from_template(self, points_mm: Points) -> Points:
        """Find points of the template in the brain: the inverse, by iteration.

        Parameters
        ----------
        points_mm : (n, 3) float
            RAS+ mm of the template's space.

        Returns
        -------
        (n, 3) float64
            RAS+ mm of the brain's space.
        """
        found = points_mm.astype(np.float64)
        for _ in range(_INVERSE_ROUNDS):
            found = points_mm - self._shift_at(found)
        return found

    def jacobian(self) -> Grid:
        """Return the local change of volume, brain to template; 0 or less would be a fold."""
        steps = np.linalg.inv(self.affine[:3, :3])
        along = [np.gradient(self.shift_mm, axis=axis) for axis in range(3)]
        slopes = np.stack(along, axis=-1) @ steps
        determinants: np.ndarray = np.linalg.det(slopes + np.eye(3)).astype(np.float32)
        return determinants

    def _shift_at(self, points_mm: Points) -> Points:
        inverse = np.linalg.inv(self.affine)
        voxels = inverse[:3, :3] @ points_mm.T.astype(np.float64) + inverse[:3, 3:]
        found = np.empty(points_mm.shape)
        for axis in range(3):
            found[:, axis] = ndimage.map_coordinates(
                self.shift_mm[..., axis], voxels, order=1, mode="nearest"
            )
        return found


def register_deformation(
    brain: Grid,
    template: Float[np.ndarray, " a b c"],
    affine: Affine,
    *,
    lesion: Bool[np.ndarray, " l m n"] | None = None,
) -> Deformation:
    """Find the affine map and the smooth deformation that lead from a brain to the template.

    Slow shading is taken out of both (N4, Tustison et al. 2010, doi:10.1109/TMI.2010.2046908). The
    affine map (12 degrees of freedom, Mattes mutual information) starts diffeomorphic Demons
    (Vercauteren et al. 2009, doi:10.1016/j.neuroimage.2008.10.040) at half and at full resolution.
    Before each round of it the template is given the brain's contrast: to each of its brightnesses
    belongs the median of the brain where it lies at the time, whatever the modality. The same
    input gives the same field, on any number of threads. It is meant to carry labels: asymmetry
    scored on warped images would be warped away.

    Parameters
    ----------
    brain : (x, y, z) float
        Skull-stripped, background 0, laid on the template by a similarity: as `prepare` gives it.
    template : (x, y, z) float
        Skull-stripped, on the same grid.
    affine : (4, 4) float
        Voxel index to RAS+ mm; cubic voxels along the world's axes, of 1 to 4 mm.
    lesion : (x, y, z) bool, optional
        Where the brain has no counterpart in the template: nothing there pulls, the surroundings
        are carried on smoothly (cost-function masking, Brett et al. 2001,
        doi:10.1006/nimg.2001.0845).

    Returns
    -------
    Deformation
        Brain to template, on the same grid.

    Raises
    ------
    ValueError
        When the grids differ, are not cubic along the axes, or the brains do not lie on each
        other: by their masks, or by what ITK says.
    """
    _check(brain, template, affine, lesion)
    healthy = (brain != 0) if lesion is None else (brain != 0) & ~lesion
    known_brain = _image(healthy.astype(np.float32), affine)
    fixed = _even(_image(brain, affine), known_brain)
    values = template.astype(np.float32, copy=False).tobytes()
    moving = _even_template(values, template.shape, affine.astype(np.float64).tobytes())
    known = _image(ndimage.binary_erosion(healthy).astype(np.float32), affine)
    start = _affine_transform(fixed, moving, known_brain)
    field = sitk.TransformToDisplacementField(
        start,
        sitk.sitkVectorFloat64,
        fixed.GetSize(),
        fixed.GetOrigin(),
        fixed.GetSpacing(),
        fixed.GetDirection(),
    )
    hidden = None if lesion is None else _image(lesion.astype(np.float32), affine)
    for shrink, rounds in _LEVELS:
        field = _demons(_Images(fixed, moving, known, hidden), field, shrink, rounds)
    shift = sitk.GetArrayFromImage(field).transpose(2, 1, 0, 3).astype(np.float32)
    return Deformation(np.ascontiguousarray(shift), affine)


@dataclass(frozen=True, eq=False)
class _Images:
    """What is registered, on one grid: `known` is healthy brain, `hidden` the lesion."""

    fixed: sitk.Image
    moving: sitk.Image
    known: sitk.Image
    hidden: sitk.Image | None

    def shrunk(self, factor: int) -> "_Images":
        if factor == 1:
            return self
        width = factor * self.fixed.GetSpacing()[0] / 2
        fixed, moving = (
            sitk.Shrink(sitk.SmoothingRecursiveGaussian(one, width), [factor] * 3)
            for one in (self.fixed, self.moving)
        )
        known = _nearest(self.known, fixed)
        hidden = None if self.hidden is None else _nearest(self.hidden, fixed)
        return replace(self, fixed=fixed, moving=moving, known=known, hidden=hidden)


def _nearest(image: sitk.Image, grid: sitk.Image) -> sitk.Image:
    found: sitk.Image = sitk.Resample(image, grid, sitk.Transform(), sitk.sitkNearestNeighbor)
    return found


def _check(
    brain: np.ndarray, template: np.ndarray, affine: Affine, lesion: np.ndarray | None
) -> None:
    shapes = {brain.shape, template.shape, brain.shape if lesion is None else lesion.shape}
    if len(shapes) > 1:
        msg = f"brain, template and lesion must lie on one grid, got {sorted(shapes)}; resample"
        raise ValueError(msg)
    sizes = np.diag(affine)[:3]
    if not np.allclose(affine[:3, :3], np.diag(sizes)) or not np.allclose(sizes, sizes[0]):
        msg = f"voxels must be cubes along the axes, got {affine[:3, :3].tolist()}; resample"
        raise ValueError(msg)
    if not 1 <= sizes[0] <= 4:
        msg = f"voxels must have 1 to 4 mm, got {sizes[0]:g}; resample the brain"
        raise ValueError(msg)
    one, other = brain != 0, template != 0
    overlap = 2 * (one & other).sum() / max(1, one.sum() + other.sum())
    if overlap < _LEAST_OVERLAP:
        msg = (
            f"brain and template must lie on each other (Dice of the masks at least "
            f"{_LEAST_OVERLAP}), got {overlap:.2f}; prepare the scan first"
        )
        raise ValueError(msg)


def _image(values: Grid, affine: Affine) -> sitk.Image:
    image = sitk.GetImageFromArray(np.ascontiguousarray(values.transpose(2, 1, 0), np.float32))
    image.SetSpacing([float(affine[0, 0])] * 3)
    image.SetOrigin(affine[:3, 3].tolist())  # RAS+ throughout: ITK's LPS is a name
    return image


def _even(image: sitk.Image, healthy: sitk.Image) -> sitk.Image:
    """Divide by the shading, estimated on voxels of 4 mm or more."""
    factor = max(1, round(_SHADING_MM / image.GetSpacing()[0]))
    small, mask = (sitk.Shrink(one, [factor] * 3) for one in (image, healthy))
    method = sitk.N4BiasFieldCorrectionImageFilter()
    method.SetNumberOfThreads(_THREADS)
    method.SetNumberOfWorkUnits(_THREADS)
    method.SetMaximumNumberOfIterations(_SHADING_ROUNDS)
    method.Execute(small, sitk.Cast(mask > 0, sitk.sitkUInt8))
    shading = sitk.Exp(method.GetLogBiasFieldAsImage(image))
    even: sitk.Image = sitk.Cast(image / sitk.Cast(shading, sitk.sitkFloat32), sitk.sitkFloat32)
    return even


@lru_cache(maxsize=1)  # the subjects of a cohort have one template: its shading is found once
def _even_template(values: bytes, shape: tuple[int, ...], affine: bytes) -> sitk.Image:
    template = np.frombuffer(values, np.float32).reshape(shape)
    matrix = np.frombuffer(affine).reshape(4, 4)
    inside = (template != 0).astype(np.float32)
    return _even(_image(template, matrix), _image(inside, matrix))


def _affine_transform(fixed: sitk.Image, moving: sitk.Image, weight: sitk.Image) -> sitk.Transform:
    centre = fixed.TransformContinuousIndexToPhysicalPoint(
        [(size - 1) / 2 for size in fixed.GetSize()]
    )
    transform = sitk.AffineTransform(3)
    transform.SetCenter(centre)
    method = mutual_information()
    method.SetMetricFixedMask(sitk.Cast(weight > 0, sitk.sitkUInt8))
    method.SetOptimizerAsRegularStepGradientDescent(1.0, 0.01, 60, relaxationFactor=0.5)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([4, 2])
    method.SetSmoothingSigmasPerLevel([4.0, 2.0])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    method.SetInitialTransform(transform, True)
    try:
        method.Execute(fixed, moving)
    except RuntimeError as error:  # ITK's "all samples map outside", say
        reason = str(error).strip().splitlines()[-1].strip()
        msg = f"brain and template must lie on each other ({reason}); prepare the scan first"
        raise ValueError(msg) from error
    return transform


def _demons(images: _Images, field: sitk.Image, shrink: int, rounds: int) -> sitk.Image:
    whole = images.fixed
    images = images.shrunk(shrink)
    field = _onto(images.fixed, field)
    method = sitk.DiffeomorphicDemonsRegistrationFilter()
    # Each voxel's shift is computed by itself: as many threads as there are give the same bytes.
    method.SetNumberOfThreads(torch.get_num_threads())
    method.SetNumberOfWorkUnits(torch.get_num_threads())
    method.SetNumberOfIterations(_ROUND)
    method.SetStandardDeviations(_FIELD_SIGMA)
    method.SmoothUpdateFieldOn()
    method.SetUpdateFieldStandardDeviations(_UPDATE_SIGMA)
    method.SetMaximumUpdateStepLength(_LONGEST_STEP)
    for _ in range(rounds):
        warp = sitk.DisplacementFieldTransform(sitk.Image(field))
        warped = sitk.Resample(images.moving, images.fixed, warp)
        curve = _contrast(images, warped)
        fixed = images.fixed
        if images.hidden is not None:
            # What the template has there, in the brain's contrast: equal images pull nowhere.
            fixed = fixed * (1 - images.hidden) + _recoloured(warped, curve) * images.hidden
        field = method.Execute(fixed, _recoloured(images.moving, curve), field)
    return _onto(whole, field)


def _contrast(images: _Images, warped: sitk.Image) -> tuple[np.ndarray, np.ndarray]:
    """Return brightnesses of the template, and the brain's median where each of them lies."""
    there = sitk.GetArrayViewFromImage(warped)
    core = (sitk.GetArrayViewFromImage(images.known) > 0.5) & ndimage.binary_erosion(there != 0)
    x, y = there[core], sitk.GetArrayViewFromImage(images.fixed)[core]
    edges = np.unique(np.quantile(x, np.linspace(0, 1, _BINS + 1)))
    bins = np.clip(np.searchsorted(edges, x, side="right") - 1, 0, max(0, len(edges) - 2))
    full = np.unique(bins)
    return (
        np.array([np.median(x[bins == i]) for i in full]),
        np.array([np.median(y[bins == i]) for i in full]),
    )


def _recoloured(image: sitk.Image, curve: tuple[np.ndarray, np.ndarray]) -> sitk.Image:
    values = sitk.GetArrayFromImage(image)
    changed = np.where(values != 0, np.interp(values, *curve), 0).astype(np.float32)
    found = sitk.GetImageFromArray(changed)
    found.CopyInformation(image)
    return found


def _onto(grid: sitk.Image, field: sitk.Image) -> sitk.Image:
    """Resample a field; beyond its grid the nearest shift holds, not none."""
    method = sitk.ResampleImageFilter()
    method.SetReferenceImage(grid)
    method.UseNearestNeighborExtrapolatorOn()
    found: sitk.Image = method.Execute(field)
    return found
