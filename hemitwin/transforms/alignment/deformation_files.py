"""Deformations as displacement fields that ITK, ANTs and SimpleITK read."""
# mypy: disallow-untyped-calls=False
# SimpleITK is marked as typed, but its generated wrappers carry no annotations.

from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813  # the name its own documentation uses

from hemitwin._atomic import atomic_path
from hemitwin._error_text import error_text
from hemitwin.transforms.alignment.deformation import Deformation
from hemitwin.transforms.loading import load_vectors

__all__ = ["load_deformation", "save_deformation"]

_LPS = np.diag([-1.0, -1.0, 1.0])


def save_deformation(path: Path, deformation: Deformation) -> None:
    """Write a deformation as a NIfTI displacement field, whole or not at all.

    ``antsApplyTransforms -i TEMPLATE -r BRAIN -t FIELD`` brings an image of the template to the
    brain: a vector, in LPS mm as ITK has it, leads from a point of the brain to the template.

    Parameters
    ----------
    path : Path
        Ends in ``.nii.gz``.
    deformation : Deformation
        Its grid lies along the world's axes.
    """
    vectors = (deformation.shift_mm @ _LPS.astype(np.float32)).transpose(2, 1, 0, 3)
    field = sitk.GetImageFromArray(np.ascontiguousarray(vectors), isVector=True)
    affine = _LPS @ deformation.affine[:3]
    spacing = np.linalg.norm(affine[:, :3], axis=0)
    field.SetSpacing(spacing.tolist())
    field.SetOrigin(affine[:, 3].tolist())
    field.SetDirection((affine[:, :3] / spacing).ravel().tolist())
    with atomic_path(path) as temporary:
        sitk.WriteImage(field, str(temporary), useCompression=True)


def load_deformation(path: Path) -> Deformation:
    """Read a displacement field that `save_deformation` wrote.

    Raises
    ------
    FileNotFoundError, ValueError
        When the file is not there, cannot be read or holds no vectors.
    """
    try:
        vectors, affine = load_vectors(path)
    except ValueError as error:
        reason = error_text(error)
        msg = f"{path} must be a displacement field ({reason}); run 'hemitwin atlas' again"
        raise ValueError(msg) from error
    shift = np.ascontiguousarray(vectors @ _LPS.astype(np.float32))
    return Deformation(shift, np.round(affine, 6))
