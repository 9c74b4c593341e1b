"""The HCP-MMP 1.0 parcellation as a volume and on the fsLR surface."""

import functools
import hashlib
import zipfile
import zlib
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import numpy as np
from jaxtyping import Int32

from hemitwin._atomic import atomic_path
from hemitwin._names import HCPMMP
from hemitwin._shapes import Affine
from hemitwin.atlases.atlas import Atlas
from hemitwin.atlases.grayordinates import grayordinate_labels, load_grayordinates
from hemitwin.atlases.hcp_files import data_versions
from hemitwin.atlases.parcellation import Parcellation
from hemitwin.atlases.regions import hcpmmp_regions
from hemitwin.atlases.surfaces.meshes import FSLR_VOLUME_SPACE
from hemitwin.atlases.templates import TEMPLATE_SPACE
from hemitwin.atlases.world import check_affine

__all__ = ["HCPMMP", "hcpmmp_atlas", "hcpmmp_surface_labels", "hcpmmp_volume"]

# Raise it whenever the labels of a grid change: it is part of every cache's name.
_ALGORITHM = 2


@functools.cache
def hcpmmp_atlas() -> Atlas:
    """Return the HCP-MMP 1.0 areas on the fsLR mesh, and the 19 structures in their voxels.

    The structures are those of the 2 mm volume of the 91k grayordinates. Their voxels are taken as
    they lie: the shift between the spaces (`template_from_fslr`) is known for the cortex only.

    Returns
    -------
    Atlas
        The same one for every caller.
    """
    places = load_grayordinates()
    labels = np.zeros(places.shape, dtype=np.int32)
    labels[tuple(places.voxels.T)] = places.subcortex_labels()
    regions = hcpmmp_regions()
    voxels = Parcellation(labels, places.affine, regions, FSLR_VOLUME_SPACE)
    cortex = {side: hcpmmp_surface_labels(side) for side in ("L", "R")}
    return Atlas(HCPMMP, regions, cortex, voxels, smooth=True)


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

    Grey matter (nilearn's map above 0.5) is labelled by `Atlas.label_points`, kept between runs.

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
        labels = hcpmmp_atlas().volume(shape, affine, symmetric=symmetric).labels
        if path is not None:
            _write_cache(path, labels)
    return Parcellation(labels, affine, hcpmmp_regions(), space)


def _key(shape: tuple[int, int, int], affine: Affine, *, symmetric: bool) -> str:
    parts = [repr(shape), np.round(affine, 6).tolist(), _ALGORITHM, symmetric]
    versions = data_versions() | {"nilearn": version("nilearn")}
    parts += [f"{name}={value}" for name, value in versions.items()]
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _read_cache(path: Path, shape: tuple[int, int, int]) -> Int32[np.ndarray, " x y z"] | None:
    """Read a cached volume; anything unreadable is simply built again."""
    try:
        # Opened here: np.load leaves the file open when it is not an archive.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            labels = archive["labels"]
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error):
        return None
    return labels if labels.shape == shape and labels.dtype == np.int32 else None


def _write_cache(path: Path, labels: Int32[np.ndarray, " x y z"]) -> None:
    # Where it cannot be kept, it is made again the next time.
    with suppress(OSError), atomic_path(path) as temporary:
        np.savez_compressed(temporary, labels=labels)
