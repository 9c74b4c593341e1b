"""The 91282 grayordinates: 59412 fsLR vertices and 31870 subcortical voxels."""

import functools
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Int32, Num
from nibabel.nifti1 import Nifti1Image

from hemitwin._shapes import Affine
from hemitwin.atlases.hcp_files import hcp_file, subcortex_file
from hemitwin.atlases.regions import hcpmmp_regions
from hemitwin.atlases.surfaces.meshes import load_fslr_surface, project_to_surface
from hemitwin.atlases.templates import TEMPLATE_SPACE
from hemitwin.atlases.world import sample_at

__all__ = [
    "FREESURFER_STRUCTURES",
    "Grayordinates",
    "grayordinate_labels",
    "grayordinates_from_volume",
    "load_grayordinates",
    "parcellate_dense",
    "subcortex_centres",
]

FREESURFER_STRUCTURES = {
    26: "accumbens_left",
    58: "accumbens_right",
    18: "amygdala_left",
    54: "amygdala_right",
    16: "brainStem",
    11: "caudate_left",
    50: "caudate_right",
    8: "cerebellum_left",
    47: "cerebellum_right",
    28: "diencephalon_left",
    60: "diencephalon_right",
    17: "hippocampus_left",
    53: "hippocampus_right",
    13: "pallidum_left",
    52: "pallidum_right",
    12: "putamen_left",
    51: "putamen_right",
    10: "thalamus_left",
    49: "thalamus_right",
}
"""FreeSurfer's numbers of the subcortical structures, in the order of the CIFTI files."""


@dataclass(frozen=True, eq=False)
class Grayordinates:
    """Where each grayordinate is; the order is left cortex, right cortex, subcortex.

    Attributes
    ----------
    left, right : (29696,), (29716,) int
        Vertex numbers of the cortex without the medial wall.
    n_vertices : int
        Vertices of each whole surface.
    voxels : (31870, 3) int
        Subcortical voxel indices, structure after structure.
    structures : tuple of (str, slice)
        Region name of each subcortical structure, and its rows of `voxels`.
    shape, affine
        The 2 mm MNI152NLin6Asym grid of the voxels; voxel index to RAS+ mm.
    """

    left: Int[np.ndarray, " l"]
    right: Int[np.ndarray, " r"]
    n_vertices: int
    voxels: Int[np.ndarray, " v 3"]
    structures: tuple[tuple[str, slice], ...]
    shape: tuple[int, int, int]
    affine: Affine

    def __len__(self) -> int:
        """Count all grayordinates."""
        return len(self.left) + len(self.right) + len(self.voxels)

    def vertices(self, hemisphere: str) -> Int[np.ndarray, " n"]:
        """Give the vertex numbers of one hemisphere's cortex."""
        if hemisphere not in {"L", "R"}:
            msg = f"hemisphere must be 'L' or 'R', got {hemisphere!r}; name the true side"
            raise ValueError(msg)
        return self.left if hemisphere == "L" else self.right

    def cortex(self, hemisphere: str) -> slice:
        """Give the rows of one hemisphere's cortex."""
        start = 0 if hemisphere == "L" else len(self.left)
        return slice(start, start + len(self.vertices(hemisphere)))

    @property
    def subcortex(self) -> slice:
        """The rows of the voxels."""
        return slice(len(self.left) + len(self.right), len(self))

    def subcortex_labels(self) -> Int32[np.ndarray, " v"]:
        """Give the region index of every subcortical voxel, in order."""
        index = {region.name: region.index for region in hcpmmp_regions()}
        labels = np.zeros(len(self.voxels), dtype=np.int32)
        for name, rows in self.structures:
            labels[rows] = index[name]
        return labels


@functools.cache
def load_grayordinates() -> Grayordinates:
    """Load the standard 91k grayordinates of the HCP pipelines.

    Returns
    -------
    Grayordinates
        Its arrays are read-only, since every caller is given the same ones.

    Examples
    --------
    >>> len(load_grayordinates())
    91282
    """
    with np.load(hcp_file("fMRI_vertex_info_32k.npz"), allow_pickle=False) as archive:
        left, right, n_vertices = (archive[key] for key in ("grayl", "grayr", "num_meshl"))
    image = Nifti1Image.from_filename(subcortex_file())
    affine: Affine = np.asarray(image.affine)
    codes = np.asarray(image.dataobj).astype(np.int32)
    # CIFTI lists voxels with the first axis fastest, structure after structure.
    parts = [np.argwhere(code == codes.T)[:, ::-1] for code in FREESURFER_STRUCTURES]
    ends = np.cumsum([0, *(len(part) for part in parts)]).tolist()
    structures = zip(FREESURFER_STRUCTURES.values(), map(slice, ends[:-1], ends[1:]), strict=True)
    voxels = np.concatenate(parts)
    for array in (left, right, voxels):
        array.flags.writeable = False
    return Grayordinates(
        left, right, int(n_vertices), voxels, tuple(structures), codes.shape, affine
    )


def grayordinate_labels() -> Int32[np.ndarray, " g"]:
    """Give the region index of every grayordinate.

    Returns
    -------
    (91282,) int32
        Indices of `hcpmmp_regions`; none is 0.
    """
    with np.load(hcp_file("mmp_1.0.npz"), allow_pickle=False) as archive:
        labels: np.ndarray = archive["map_all"].astype(np.int32)
    return labels


def grayordinates_from_volume(
    volume: Num[np.ndarray, " x y z"], affine: Affine, *, space: str = TEMPLATE_SPACE
) -> Float[np.ndarray, " g"]:
    """Read a volume at the 91282 grayordinates.

    Cortex is read at the S1200 midthickness vertices, subcortex at the voxel centres, both
    trilinearly in world space. Values are densities, as in `project_to_surface`.

    Parameters
    ----------
    volume : (x, y, z) array
        Values per voxel.
    affine : (4, 4) float
        Voxel index to RAS+ mm of `space`; for a native volume pass
        `template_from_native @ native_affine`.
    space : str
        `TEMPLATE_SPACE`, or MNI152NLin6Asym, as the HCP's own volumes.

    Returns
    -------
    (91282,) float32
        0 outside the field of view.

    Raises
    ------
    ValueError
        When the volume is not finite and 3D, the affine singular, or the space another one.
    """
    places = load_grayordinates()
    surfaces = {side: load_fslr_surface(side, space=space) for side in ("L", "R")}
    cortex = [
        project_to_surface(volume, affine, surface)[places.vertices(side)]
        for side, surface in surfaces.items()
    ]
    return np.concatenate([*cortex, sample_at(volume, affine, subcortex_centres())])


def subcortex_centres() -> Float[np.ndarray, "v 3"]:
    """Give the centres of the subcortical voxels.

    Returns
    -------
    (31870, 3) float64
        RAS+ mm of the template, in the order of the grayordinates.
    """
    places = load_grayordinates()
    centres: np.ndarray = places.voxels @ places.affine[:3, :3].T + places.affine[:3, 3]
    return centres


def parcellate_dense(values: Float[np.ndarray, "*maps g"]) -> Float[np.ndarray, "*maps regions"]:
    """Average over the grayordinates of each region, as `wb_command -cifti-parcellate` does.

    Parameters
    ----------
    values : (..., 91282) float
        One value per grayordinate, of one map or several.

    Returns
    -------
    (..., 379) float64
        Means in the order of `hcpmmp_regions`.

    Raises
    ------
    ValueError
        When there are not 91282 finite values.

    Examples
    --------
    >>> parcellate_dense(np.full(91282, 2.0))[:2]
    array([2., 2.])
    """
    labels = grayordinate_labels()
    if values.shape[-1:] != labels.shape or not np.isfinite(values).all():
        msg = f"values must be 91282 finite numbers, got shape {values.shape}; see \
grayordinates_from_volume"
        raise ValueError(msg)
    counts = np.bincount(labels)[1:]
    flat = values.reshape(-1, len(labels)).astype(np.float64)
    sums = np.stack([np.bincount(labels, weights=one)[1:] for one in flat])
    means: np.ndarray = (sums / counts).reshape(*values.shape[:-1], len(counts))
    return means
