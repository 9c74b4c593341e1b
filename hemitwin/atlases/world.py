"""Look up values of one grid at places of another, in RAS+ millimetres."""

import numpy as np
from jaxtyping import Float, Int32, Num
from scipy import ndimage

from hemitwin._shapes import Affine

__all__ = [
    "check_affine",
    "check_volume",
    "label_at",
    "regrid_labels",
    "regrid_values",
    "sample_at",
]


def check_affine(affine: np.ndarray) -> None:
    """Refuse anything but an invertible 4x4 voxel-to-millimetre matrix.

    Raises
    ------
    ValueError
        When the shape, the last row or the determinant is wrong.
    """
    if affine.shape != (4, 4) or not np.allclose(affine[3], (0, 0, 0, 1)):
        msg = f"affine must be 4x4 with last row 0 0 0 1, got {affine.tolist()}; pass image.affine"
        raise ValueError(msg)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
        msg = f"affine must be finite and invertible, got {affine.tolist()}; repair the header"
        raise ValueError(msg)


def check_volume(volume: np.ndarray) -> None:
    """Refuse anything but a finite three-dimensional array.

    Raises
    ------
    ValueError
        When there are not three axes, or a value is NaN or infinite.
    """
    if volume.ndim != 3:
        msg = f"volume must have three axes (x, y, z), got shape {volume.shape}; take one channel"
        raise ValueError(msg)
    if not np.isfinite(volume).all():
        msg = "volume must be finite, got NaN or infinity; replace them before exporting"
        raise ValueError(msg)


def sample_at(
    volume: Num[np.ndarray, " x y z"],
    affine: Affine,
    points_mm: Float[np.ndarray, " n 3"],
) -> Float[np.ndarray, " n"]:
    """Interpolate a volume trilinearly at points of its world.

    Parameters
    ----------
    volume : (x, y, z) array
        Values per voxel.
    affine : (4, 4) float
        Voxel index to RAS+ mm, of the space the points are in.
    points_mm : (n, 3) float
        RAS+ millimetres.

    Returns
    -------
    (n,) float32
        Up to half a voxel beyond the outermost centres their value holds; farther out: 0.

    Examples
    --------
    >>> volume = np.arange(8.0).reshape(2, 2, 2)
    >>> sample_at(volume, np.eye(4), np.array([[0.0, 0.0, 0.5], [9.0, 0.0, 0.0]]))
    array([0.5, 0. ], dtype=float32)
    """
    voxel_from_world = np.linalg.inv(affine)
    voxels = voxel_from_world[:3, :3] @ points_mm.T.astype(np.float64) + voxel_from_world[:3, 3:]
    values = volume.astype(np.float32, copy=False)
    sampled: np.ndarray = ndimage.map_coordinates(values, voxels, order=1, mode="nearest")
    # Clamped and then cut: rounding must not drop a point on the outermost centres.
    half = np.array(volume.shape)[:, None] - 0.5
    sampled[((voxels < -0.5) | (voxels > half)).any(axis=0)] = 0
    return sampled


def label_at(
    labels: Num[np.ndarray, " x y z"],
    affine: Affine,
    points_mm: Float[np.ndarray, " n 3"],
) -> Int32[np.ndarray, " n"]:
    """Take the label of the voxel that contains each point (outside: 0).

    Examples
    --------
    >>> labels = np.arange(8).reshape(2, 2, 2)
    >>> label_at(labels, np.eye(4), np.array([[0.4, 1.4, 0.6], [9.0, 0.0, 0.0]]))
    array([3, 0], dtype=int32)
    """
    inverse = np.linalg.inv(affine)
    voxels = np.floor(points_mm @ inverse[:3, :3].T + inverse[:3, 3] + 0.5).astype(np.int64)
    inside = ((voxels >= 0) & (voxels < labels.shape)).all(axis=1)
    found = np.zeros(len(points_mm), dtype=np.int32)
    found[inside] = labels[tuple(voxels[inside].T)]
    return found


def regrid_values(
    volume: Num[np.ndarray, " x y z"],
    affine: Affine,
    target_shape: tuple[int, int, int],
    target_affine: Affine,
) -> Float[np.ndarray, " a b c"]:
    """Interpolate a volume trilinearly on another grid of the same world (outside: 0)."""
    matrix = np.linalg.inv(affine) @ target_affine
    regridded: np.ndarray = ndimage.affine_transform(
        volume.astype(np.float32, copy=False),
        matrix[:3, :3],
        matrix[:3, 3],
        output_shape=target_shape,
        order=1,
        mode="nearest",
    )
    inside = regrid_labels(np.ones(volume.shape, np.uint8), affine, target_shape, target_affine)
    return np.where(inside, regridded, np.float32(0))


def regrid_labels(
    labels: Num[np.ndarray, " x y z"],
    affine: Affine,
    target_shape: tuple[int, int, int],
    target_affine: Affine,
) -> Num[np.ndarray, " a b c"]:
    """Take the label of the voxel that contains each target voxel's centre (outside: 0).

    A centre that lies exactly on a voxel border takes the voxel of the higher index.
    """
    if labels.shape == target_shape and np.allclose(affine, target_affine, atol=1e-6):
        return labels
    matrix = np.linalg.inv(affine) @ target_affine
    # A half-voxel rim belongs to the outermost voxels: "grid-constant" keeps it, "constant" not.
    regridded: np.ndarray = ndimage.affine_transform(
        labels,
        matrix[:3, :3],
        matrix[:3, 3],
        output_shape=target_shape,
        order=0,
        mode="grid-constant",
        prefilter=False,
    )
    return regridded
