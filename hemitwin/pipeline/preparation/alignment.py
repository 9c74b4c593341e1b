"""How a scan already lies, whether hemispheres may be compared so, and the way to the grid."""

from collections.abc import Mapping

import numpy as np

from hemitwin._shapes import Affine, Grid, Mask
from hemitwin.atlases import TEMPLATE_SPACE, TemplateImage
from hemitwin.pipeline.stage.bids import Alignment, Case, Pairing
from hemitwin.transforms import (
    Scan,
    read_itk_affine,
    refine_midplane,
    register_similarity,
    resample,
)

__all__ = [
    "SYMMETRIC_SPACES",
    "alignment_of_matrix",
    "output_space",
    "reason_against",
    "scan_from_template",
]


SYMMETRIC_SPACES: Mapping[str, bool] = {
    "MNI152NLin2009aSym": True,
    "MNI152NLin2009bSym": True,
    "MNI152NLin2009cSym": True,
    "MNI152NLin6Sym": True,
    "dhcpSym": True,
    "MNI152NLin2009aAsym": False,
    "MNI152NLin2009bAsym": False,
    "MNI152NLin2009cAsym": False,
    "MNI152NLin6Asym": False,
    "MNI152Lin": False,
    "MNI305": False,
    "MNIColin27": False,
    "MNIInfant": False,
    "MNIPediatricAsym": False,
    "OASIS30ANTs": False,
    "NKI": False,
    "PNC": False,
    "UNCInfant": False,
    "dhcpAsym": False,
    "dhcpVol": False,
}
"""TemplateFlow's names of volume templates, and whether they equal their own mirror image."""

_SAME_WORLD = {name for name, yes in SYMMETRIC_SPACES.items() if yes and name[:6] == "MNI152"}
_MOST_SHEAR = 1e-3


def reason_against(case: Case, pairing: Pairing) -> str | None:
    """Say why a scan cannot be taken as it is aligned; `None` if it can.

    Native scans are registered. Scans that lie on their AC-PC line, or on a symmetric template by
    at most nine degrees of freedom, are taken. A normalisation with more, and a template that is
    itself lopsided, take away or add the very asymmetry that is looked for; for pairs of whole
    brains both are the same for either brain and are taken.
    """
    if pairing == "brains" or case.alignment in {"native", "acpc"}:
        return None
    if case.space is not None and not SYMMETRIC_SPACES.get(case.space, False):
        known = "an asymmetric template" if case.space in SYMMETRIC_SPACES else "unknown"
        return (
            f"hemispheres must be compared in a symmetric space, got {case.space} ({known}): its "
            "own asymmetry would be found, not the brain's; give the scan in native or ACPC "
            "space, or compare whole brains with --pairing brains"
        )
    if case.alignment == "similarity":
        return None
    kind = {"affine": "a 12-parameter affine shears", "nonlinear": "a non-linear one removes"}
    return (
        f"hemispheres must be aligned by at most nine degrees of freedom, got "
        f"'{case.alignment}'{f' in {case.space}' if case.space else ''}: "
        f"{kind[case.alignment]} the asymmetry that is to be found; give the scan in native or "
        "ACPC space, say --alignment similarity if it was no more than that, or compare whole "
        "brains with --pairing brains"
    )


def alignment_of_matrix(matrix: Affine) -> Alignment:
    """Tell an affine of at most nine degrees of freedom from one that shears.

    Examples
    --------
    >>> alignment_of_matrix(np.diag([1.1, 0.9, 1.0, 1.0]))
    'similarity'
    >>> sheared = np.eye(4); sheared[0, 1] = 0.1
    >>> alignment_of_matrix(sheared)
    'affine'
    """
    linear = matrix[:3, :3]
    shears = []
    for axes in (linear, linear.T):  # scaled along the template's or along the scan's axes
        unit = axes / np.linalg.norm(axes, axis=0)
        shears.append(float(np.abs(unit.T @ unit - np.eye(3)).max()))
    return "similarity" if min(shears) <= _MOST_SHEAR else "affine"


def output_space(case: Case) -> str:
    """Return the name of the space that a case's prepared volume lies in.

    Examples
    --------
    >>> from pathlib import Path
    >>> output_space(Case("sub-01", "sub-01", Path("x.nii"), space="MNI152NLin6Asym"))
    'MNI152NLin6Asym'
    """
    return TEMPLATE_SPACE if case.space is None or case.space in _SAME_WORLD else case.space


def scan_from_template(
    case: Case, brain: Scan, mask: Mask, template: TemplateImage, *, pairing: Pairing
) -> Affine:
    """Find the way from the template's grid to a scan.

    A native scan is registered by a similarity. A scan that is aligned already is not: where a
    transform came with it, that is taken; a scan on a template lies where it should (identity); a
    scan on its AC-PC line keeps its axes and its origin, which is at or near the anterior
    commissure as the template's is, and is scaled by one factor, the cube root of the ratio of the
    two brains' volumes (what is brighter than half their median). Hemispheres then have their
    mid-plane refined; whole brains have none.

    Parameters
    ----------
    case : Case
        Says how the scan lies.
    brain : Scan
        Outside the brain 0.
    mask : (x, y, z) bool
        The brain, on the scan's grid.
    template : TemplateImage
        What the mid-plane is refined on.
    pairing : str
        What will be compared.

    Returns
    -------
    (4, 4)
        Template RAS+ millimetres to the scan's.

    Raises
    ------
    ValueError
        If the scan cannot be registered, or its transform shears, mirrors or cannot be read.
    """
    matrix = _first_matrix(case, brain, mask, template)
    if pairing == "brains":
        return matrix
    coarse = resample(brain, template.data.shape, template.affine, matrix)
    return np.asarray(matrix @ refine_midplane(coarse, template.affine))


def _first_matrix(case: Case, brain: Scan, mask: Mask, template: TemplateImage) -> Affine:
    if case.transform is not None:
        return _given_matrix(case)
    if case.alignment == "native":
        return register_similarity(brain, template.data, template.affine, moving_mask=mask)
    if case.alignment == "acpc":
        scan_mm3 = _volume_mm3(brain.data, mask, brain.affine)
        template_mm3 = _volume_mm3(template.data, template.data > 0, template.affine)
        scale = float(np.cbrt(scan_mm3 / template_mm3))
        return np.diag([scale, scale, scale, 1.0])
    return np.eye(4)


def _volume_mm3(data: Grid, mask: Mask, affine: Affine) -> float:
    """Measure a brain, but for what is darker than half its median.

    Masks differ in how much fluid and how many half-filled voxels they take in at the edge.
    """
    bright = mask & (data > 0.5 * float(np.median(data[mask])))
    return float(bright.sum()) * abs(float(np.linalg.det(affine[:3, :3])))


def _given_matrix(case: Case) -> Affine:
    path = case.transform
    if path is None or not path.is_file():
        msg = f"a scan's transform must be a file, {path} is not there; check the list"
        raise FileNotFoundError(msg)
    matrix = read_itk_affine(path)
    if not float(np.linalg.det(matrix[:3, :3])) > 0:
        msg = f"a transform must keep left and right, {path} mirrors or flattens; make it again"
        raise ValueError(msg)
    if case.alignment != "affine" and alignment_of_matrix(matrix) == "affine":
        msg = (
            f"a transform must have at most nine degrees of freedom, {path} shears: that takes "
            "real torque away; register by a similarity, or say alignment affine for whole brains"
        )
        raise ValueError(msg)
    return matrix
