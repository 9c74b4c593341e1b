"""What a NIfTI header says twice or in the wrong unit: checked, settled and noted."""
# mypy: disallow-untyped-calls=False
# nibabel is typed in part only.

from pathlib import Path

import numpy as np
from jaxtyping import Float
from nibabel.nifti1 import Nifti1Header
from nibabel.spatialimages import HeaderDataError

from hemitwin._shapes import Affine

__all__ = ["SIDE_IS_A_GUESS", "compare_forms", "millimetres_per_unit"]

SIDE_IS_A_GUESS = "which side is left is a guess"
"""How the note on a header ends that leaves the side open: sidecars are searched for it."""

_UNIT_MM = {1: ("metres", 1e3), 3: ("micrometres", 1e-3)}
_PLAUSIBLE_VOXEL_MM = (0.1, 20.0)
_FORM_TOLERANCE_MM = 1.0


def millimetres_per_unit(
    affine: Affine, header: Nifti1Header | None, path: Path
) -> tuple[float, str | None]:
    """Tell in which unit an affine is.

    A header that says metres or micrometres is believed where that makes the voxels 0.1 to 20 mm.
    Where only the bare numbers do, the unit is a wrong entry (some programs fill it so) and the
    numbers are millimetres. Both cannot be: the range is narrower than the factor.

    Parameters
    ----------
    affine : (4, 4)
        As stored.
    header : Nifti1Header, optional
        Without one, the numbers are millimetres.
    path : Path
        For messages.

    Returns
    -------
    mm_per_unit : float
        1, 1000 or 0.001.
    note : str or None
        What was done, if it was not the usual.

    Raises
    ------
    ValueError
        If the voxels are not 0.1 to 20 mm either way.
    """
    code = 2 if header is None else int(header["xyzt_units"]) % 8
    name, factor = _UNIT_MM.get(code, ("millimetres", 1.0))
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    if _are_plausible(steps * factor):
        note = None if factor == 1 else f"header in {name}: converted to millimetres"
        return factor, note
    if _are_plausible(steps):
        return 1.0, f"header says {name}, but its numbers are a head's in millimetres: so read"
    sizes = " x ".join(f"{step:.4g}" for step in steps)
    low, high = _PLAUSIBLE_VOXEL_MM
    msg = (
        f"a head's voxels must be {low:g} to {high:g} mm; {path} has {sizes} {name}; "
        "correct the unit or the voxel sizes in its header"
    )
    raise ValueError(msg)


def compare_forms(
    header: Nifti1Header, shape: tuple[int, ...], path: Path, *, mm_per_unit: float = 1.0
) -> tuple[str, ...]:
    """Hold the two affines that a NIfTI header may carry against each other.

    The sform is used where its code is set, else the qform. They may differ for good reason (an
    alignment written into the sform), or because one program forgot the other; but they must agree
    on which side is left.

    Parameters
    ----------
    header : Nifti1Header
        Codes above 0 say that a form is set.
    shape : (3,) int
        The grid whose corners are compared.
    path : Path
        For messages.
    mm_per_unit : float
        What one of the header's units is.

    Returns
    -------
    tuple of str
        A note where the corners differ by more than 1 mm, or where neither form is set.

    Raises
    ------
    ValueError
        If one form is right-handed and the other left-handed.
    """
    sform, qform = header.get_sform(coded=True)[0], _qform(header)
    if sform is None and int(header["qform_code"]) == 0:
        return (f"header sets neither sform nor qform: {SIDE_IS_A_GUESS}",)
    if sform is None or qform is None:
        return ()
    handed = [float(np.linalg.det(form[:3, :3])) for form in (sform, qform)]
    if handed[0] * handed[1] < 0:
        msg = (
            f"sform and qform must agree on which side is left; in {path} one is left-handed and "
            "the other right-handed; find out which is true and correct the header"
        )
        raise ValueError(msg)
    corners = np.array(list(np.ndindex(2, 2, 2))) * (np.array(shape[:3]) - 1)
    apart = corners @ (sform - qform)[:3, :3].T + (sform - qform)[:3, 3]
    most_mm = mm_per_unit * float(np.linalg.norm(apart, axis=1).max())
    if most_mm <= _FORM_TOLERANCE_MM:
        return ()
    return (f"sform and qform differ by up to {most_mm:.1f} mm in this volume: sform used",)


def _qform(header: Nifti1Header) -> Affine | None:
    if int(header["qform_code"]) == 0:
        return None
    try:
        return np.asarray(header.get_qform(), dtype=np.float64)
    except (ValueError, HeaderDataError):  # no unit quaternion; the sform alone is left
        return None


def _are_plausible(sizes_mm: Float[np.ndarray, "3"]) -> bool:
    low, high = _PLAUSIBLE_VOXEL_MM
    return bool((sizes_mm >= low * (1 - 1e-6)).all() and (sizes_mm <= high * (1 + 1e-6)).all())
