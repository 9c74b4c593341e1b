"""Affine transforms in the Insight Toolkit's text format, which ANTs and Slicer read."""

from pathlib import Path

import numpy as np

from hemitwin._shapes import Affine
from hemitwin.pipeline.outputs import write_text

__all__ = ["read_itk_affine", "write_itk_affine"]

# ITK's world is LPS+; its resampling transform maps the target's points to the source's.
_LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def write_itk_affine(path: Path, source_from_target: Affine) -> None:
    """Write an affine so that ``antsApplyTransforms -t`` brings the source onto the target.

    Parameters
    ----------
    path : Path
        ``*_from-<source>_to-<target>_mode-image_xfm.txt``.
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
    write_text(path, "\n".join(lines) + "\n")


def read_itk_affine(path: Path) -> Affine:
    """Read an ITK text affine: what `write_itk_affine` wrote, or ANTs with a centre of its own.

    Returns
    -------
    (4, 4)
        Target RAS+ millimetres to source RAS+ millimetres.

    Raises
    ------
    ValueError
        The file holds no affine of 12 parameters.

    Examples
    --------
    >>> import tempfile
    >>> matrix = np.diag([1.1, 1.1, 1.1, 1.0]); matrix[:3, 3] = 1.0, 2.0, 3.0
    >>> path = Path(tempfile.mkdtemp()) / "a.txt"
    >>> write_itk_affine(path, matrix)
    >>> bool(np.allclose(read_itk_affine(path), matrix))
    True
    """
    fields = dict(line.split(": ", 1) for line in path.read_text().splitlines() if ": " in line)
    numbers = np.array([float(word) for word in fields.get("Parameters", "").split()])
    centre = np.array([float(word) for word in fields.get("FixedParameters", "0 0 0").split()])
    if numbers.size != 12 or centre.size != 3:
        msg = f"{path} must hold one ITK affine of 12 parameters; write it again as text"
        raise ValueError(msg)
    lps = np.eye(4)
    lps[:3, :3] = numbers[:9].reshape(3, 3)
    # ITK turns about the centre: p becomes M (p - c) + c + t.
    lps[:3, 3] = numbers[9:] + centre - lps[:3, :3] @ centre
    return _LPS_FROM_RAS @ lps @ _LPS_FROM_RAS
