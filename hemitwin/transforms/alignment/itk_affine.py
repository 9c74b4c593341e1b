"""Affine transforms in the Insight Toolkit's files, which ANTs and Slicer write and read."""
# mypy: disallow-untyped-calls=False
# SimpleITK is marked as typed, but its generated wrappers carry no annotations.

from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813  # the name its own documentation uses
from scipy.io import loadmat, whosmat
from scipy.io.matlab import MatReadError

from hemitwin._atomic import atomic_path
from hemitwin._shapes import Affine

__all__ = ["read_itk_affine", "write_itk_affine"]

# ITK's world is LPS+; its resampling transform maps the target's points to the source's.
_LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_TEXT, _MATLAB = (".txt", ".tfm"), ".mat"


def write_itk_affine(path: Path, source_from_target: Affine) -> None:
    """Write an affine so that ``antsApplyTransforms -t`` brings the source onto the target.

    Parameters
    ----------
    path : Path
        ``*_from-<source>_to-<target>_mode-image_xfm.txt``; written whole or not at all.
    source_from_target : (4, 4)
        Target RAS+ millimetres to source RAS+ millimetres.
    """
    lps = _LPS_FROM_RAS @ source_from_target @ _LPS_FROM_RAS
    numbers = [*lps[:3, :3].ravel(), *lps[:3, 3]]
    parameters = " ".join(f"{value:.17g}" for value in numbers)
    lines = (
        "#Insight Transform File V1.0",
        "#Transform 0",
        "Transform: AffineTransform_double_3_3",
        f"Parameters: {parameters}",
        "FixedParameters: 0 0 0",
    )
    with atomic_path(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_itk_affine(path: Path) -> Affine:
    """Read a linear transform: ITK's text (``.txt``, ``.tfm``) or ANTs' binary ``.mat``.

    Translations, rigid transforms, similarities, scales and affines are taken, with a centre of
    their own, and text that composes several of them.

    Parameters
    ----------
    path : Path
        The suffix tells the format, as it does to ITK.

    Returns
    -------
    (4, 4)
        Target RAS+ millimetres to source RAS+ millimetres.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        The file is of another format, damaged, or holds no linear transform of space, or several
        that are not composed.

    Examples
    --------
    >>> import tempfile
    >>> matrix = np.diag([1.1, 1.1, 1.1, 1.0]); matrix[:3, 3] = 1.0, 2.0, 3.0
    >>> path = Path(tempfile.mkdtemp()) / "a.txt"
    >>> write_itk_affine(path, matrix)
    >>> bool(np.allclose(read_itk_affine(path), matrix))
    True
    """
    if not path.is_file():
        msg = f"a transform must be a file, {path} is not there; check the path"
        raise FileNotFoundError(msg)
    suffix = path.suffix.lower()
    if suffix not in {*_TEXT, _MATLAB}:
        raise ValueError(_refusal(path, f"a file that ends in {suffix or 'nothing'}"))
    # ITK reads the first of several, and takes zeros for what was cut off.
    if not (_is_whole_matlab(path) if suffix == _MATLAB else _is_whole_text(path)):
        raise ValueError(_refusal(path, "none that is whole, or several that are not composed"))
    try:
        transform = sitk.ReadTransform(str(path))
    except RuntimeError as error:
        raise ValueError(_refusal(path, "what ITK cannot read")) from error
    if transform.GetDimension() != 3 or not transform.IsLinear():
        kind = f"a {transform.GetDimension()}-dimensional {transform.GetName()}"
        raise ValueError(_refusal(path, kind))
    *axes, origin = (np.array(transform.TransformPoint(p)) for p in np.eye(4)[:, :3].tolist())
    lps = np.eye(4)
    lps[:3, :3] = np.column_stack(axes) - origin[:, None]
    lps[:3, 3] = origin
    return _LPS_FROM_RAS @ lps @ _LPS_FROM_RAS


def _is_whole_text(path: Path) -> bool:
    """Tell whether there is one transform with both its lines of numbers, or one composed."""
    pairs = [line.split(":") for line in path.read_text("utf-8", errors="replace").splitlines()]
    tags = [tag.strip() for tag, *_ in pairs]
    count = tags.count("Parameters")
    composed = any("CompositeTransform" in word for pair in pairs for word in pair[1:])
    return tags.count("FixedParameters") == count and (count == 1 or (composed and count > 1))


def _is_whole_matlab(path: Path) -> bool:
    """Tell whether there are two matrices of MATLAB's level 4: one transform and its centre."""
    try:
        loadmat(path)  # all of it: whosmat reads no numbers
        names = [name for name, *_ in whosmat(path)]
    except (MatReadError, NotImplementedError, TypeError, ValueError, IndexError):
        return False
    return len(names) == 2 and names[1] == "fixed"


def _refusal(path: Path, what: str) -> str:
    return (
        f"{path} must hold one linear transform of ITK as .txt, .tfm or .mat, got {what}; write "
        f"it again with ANTs or Slicer, FSL's with c3d_affine_tool -oitk"
    )
