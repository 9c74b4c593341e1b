"""Find the plane that best mirrors a brain onto itself, and turn it into x = 0."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import ndimage, optimize

from hemitwin._shapes import Affine, Grid
from hemitwin.transforms.alignment.resampling import FWHM_PER_SIGMA
from hemitwin.transforms.loading import voxel_sizes

__all__ = ["midplane_motion", "mirror_asymmetry", "refine_midplane"]

_MIRROR = np.diag([-1.0, 1.0, 1.0, 1.0])
_LEVELS_MM = ((10.0, 7.3), (5.0, 3.7))
"""Smoothing (full width at half maximum) and distance of the points compared.

The distances are no multiple of usual voxel sizes: points that all fall onto voxels, or all
between them, are blurred alike by interpolation, which then moves the plane by up to 1 degree.
"""

_STEP = 0.25  # degrees or mm: linear interpolation is no smoother than this
_LINEAR_BEYOND = 0.2  # in standard deviations of the volume
_IGNORED_BEYOND = 0.3  # likewise: there a quarter of the weight is left
_BRAIN_LEVEL = 0.05  # in standard deviations of the volume
_ITERATIONS = 20
_REFINEMENTS = 30
_SMALL_STEP = 1e-3  # degrees or mm
_LARGEST = (15.0, 15.0, 15.0)  # degrees, degrees, millimetres


def refine_midplane(data: Grid, affine: Affine) -> Affine:
    """Find the small rigid motion after which a brain is most like its own mirror image.

    Three degrees of freedom move the plane x = 0: rotation about y (roll), about z (yaw) and a
    shift along x. They minimise the difference between the two halves by Gauss-Newton: with wide
    smoothing, where large differences count linearly only (soft L1), so that the plane is found
    from afar; then with narrow smoothing, where large differences fade out (Geman and McClure
    1985, weights 1 / (1 + (d / s)^2)^2), so that a lesion, which has no like on the other side,
    does not tilt the plane. Registering a volume onto its mirror and going half the way is the
    same.

    Parameters
    ----------
    data : (x, y, z) float
        A brain roughly in template space, background 0.
    affine : (4, 4)
        Voxel index to template RAS+ millimetres.

    Returns
    -------
    old_from_new : (4, 4)
        Refined template millimetres to the given template millimetres: resample through it, or
        compose as `moving_from_fixed @ old_from_new`.

    Raises
    ------
    ValueError
        If the volume is constant or the plane would move by more than 15 degrees or 15 mm.
    """
    spread = float(np.std(data))
    if not spread > 0:
        msg = "a brain must vary to have a mid-plane, got a constant volume; check the scan"
        raise ValueError(msg)
    motion = np.zeros(3)
    for (fwhm_mm, spacing_mm), fit in zip(_LEVELS_MM, (_fit_from_afar, _fit_nearby), strict=True):
        points = _left_points(data, affine, spacing_mm)
        sigma = fwhm_mm / FWHM_PER_SIGMA / np.asarray(voxel_sizes(affine))
        smooth = ndimage.gaussian_filter(np.asarray(data, dtype=np.float32) / spread, sigma)
        halves = _Halves(smooth, affine, _brain_points(points, smooth, affine))
        motion = fit(motion, halves)
    if (np.abs(motion) > _LARGEST).any():
        msg = (
            "the mid-plane must lie within 15 degrees and 15 mm of x = 0; found roll "
            f"{motion[0]:.1f}, yaw {motion[1]:.1f} degrees, shift {motion[2]:.1f} mm; "
            "register the scan first"
        )
        raise ValueError(msg)
    return midplane_motion(*motion.tolist())


def midplane_motion(roll_deg: float, yaw_deg: float, shift_mm: float) -> Affine:
    """Return the rigid matrix that turns about y, then z, then shifts along x.

    Examples
    --------
    >>> midplane_motion(0.0, 0.0, 2.0)[0].tolist()
    [1.0, 0.0, 0.0, 2.0]
    """
    roll, yaw = np.deg2rad(roll_deg), np.deg2rad(yaw_deg)
    about_y, about_z = np.eye(4), np.eye(4)
    about_y[0, 0] = about_y[2, 2] = np.cos(roll)
    about_y[0, 2], about_y[2, 0] = np.sin(roll), -np.sin(roll)
    about_z[0, 0] = about_z[1, 1] = np.cos(yaw)
    about_z[0, 1], about_z[1, 0] = -np.sin(yaw), np.sin(yaw)
    motion = about_z @ about_y
    motion[0, 3] = shift_mm
    return np.asarray(motion)


def mirror_asymmetry(data: Grid) -> float:
    """Return the mean absolute difference to the mirrored volume, relative to the mean.

    Examples
    --------
    >>> mirror_asymmetry(np.ones((2, 2, 2)))
    0.0
    """
    return float(np.abs(data - data[::-1]).mean() / np.abs(data).mean())


def _left_points(data: Grid, affine: Affine, spacing_mm: float) -> Float[np.ndarray, "4 n"]:
    """Return world points on a regular grid over the left half of the brain's box."""
    inside = np.argwhere(data != 0)
    corners = np.array(list(np.ndindex(2, 2, 2)))
    box = np.where(corners, inside.max(axis=0), inside.min(axis=0))
    world = box @ affine[:3, :3].T + affine[:3, 3]
    low, high = world.min(axis=0), world.max(axis=0)
    reach = max(abs(low[0]), abs(high[0]))
    starts, stops = (-reach, low[1], low[2]), (-spacing_mm / 4, high[1], high[2])
    axes = [np.arange(a, b, spacing_mm) for a, b in zip(starts, stops, strict=True)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij")).reshape(3, -1)
    return np.concatenate([grid, np.ones((1, grid.shape[1]))])


def _brain_points(
    points: Float[np.ndarray, "4 n"], smooth: Grid, affine: Affine
) -> Float[np.ndarray, "4 m"]:
    """Keep the points that lie in or near the brain or its mirror image."""
    voxel_from_world = np.linalg.inv(affine)
    sides = [voxel_from_world @ points, voxel_from_world @ _MIRROR @ points]
    values = [ndimage.map_coordinates(smooth, side[:3], order=1) for side in sides]
    return points[:, np.maximum(*np.abs(values)) > _BRAIN_LEVEL]


@dataclass(frozen=True, eq=False)
class _Halves:
    """A smooth brain and the points of its left half that are compared with their mirrors."""

    smooth: Grid
    affine: Affine
    points: Float[np.ndarray, "4 n"]

    def difference(self, parameters: Float[np.ndarray, "3"]) -> Float[np.ndarray, " n"]:
        """Return left minus right after a motion (roll, yaw, shift)."""
        voxels = np.linalg.inv(self.affine) @ midplane_motion(*parameters.tolist())
        sides = (voxels @ self.points, voxels @ _MIRROR @ self.points)
        left, right = (
            ndimage.map_coordinates(self.smooth, side[:3], order=1, output=np.float32)
            for side in sides
        )
        return np.asarray(left - right)

    def slopes(self, parameters: Float[np.ndarray, "3"]) -> Float[np.ndarray, "n 3"]:
        """Return how the differences change with roll, yaw and shift."""
        steps = _STEP * np.eye(3)
        both = [self.difference(parameters + s) - self.difference(parameters - s) for s in steps]
        return np.asarray(np.stack(both, axis=1) / (2 * _STEP))


def _fit_from_afar(start: Float[np.ndarray, "3"], halves: _Halves) -> Float[np.ndarray, "3"]:
    fit = optimize.least_squares(
        halves.difference,
        start,
        halves.slopes,
        loss="soft_l1",
        f_scale=_LINEAR_BEYOND,
        xtol=1e-3,
        max_nfev=_ITERATIONS,
    )
    return np.asarray(fit.x)


def _fit_nearby(start: Float[np.ndarray, "3"], halves: _Halves) -> Float[np.ndarray, "3"]:
    motion = start
    for _ in range(_REFINEMENTS):
        difference = halves.difference(motion).astype(np.float64)
        slopes = halves.slopes(motion).astype(np.float64)
        weighted = slopes / (1 + (difference / _IGNORED_BEYOND) ** 2)[:, None] ** 2
        # lstsq: a ball has no plane of its own, and is left as it lies
        step = np.linalg.lstsq(weighted.T @ slopes, -weighted.T @ difference)[0]
        motion = motion + step
        if np.abs(step).max() < _SMALL_STEP:
            break
    return np.asarray(motion)
