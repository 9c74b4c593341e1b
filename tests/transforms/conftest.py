"""Small brains for the tests of transforms: a generated one and nilearn's template."""

import os
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nilearn.datasets import load_mni152_template

from hemitwin.transforms import Scan, resample


def symmetric_affine(shape: tuple[int, int, int], spacing_mm: float) -> np.ndarray:
    affine = np.diag([spacing_mm] * 3 + [1.0])
    affine[:3, 3] = -spacing_mm * (np.array(shape) - 1) / 2
    return affine


def make_brain(shape: tuple[int, int, int], spacing_mm: float, seed: int = 0) -> np.ndarray:
    """An ellipsoid of 65 x 80 x 60 mm radii with a darker core and a bright spot on one side."""
    affine = symmetric_affine(shape, spacing_mm)
    index = np.indices(shape).reshape(3, -1)
    x, y, z = (affine[:3, :3] @ index + affine[:3, 3:]).reshape(3, *shape)
    inside = (x / 65) ** 2 + (y / 80) ** 2 + (z / 60) ** 2 <= 1
    brain = 1 - 0.4 * np.exp(-(x**2 + y**2 + z**2) / 30**2)
    brain = brain + 0.3 * np.exp(-((x - 30) ** 2 + (y - 20) ** 2 + z**2) / 10**2)
    noise = 0.02 * np.random.default_rng(seed).standard_normal(shape)
    return np.where(inside, brain + noise, 0).astype(np.float32)


@pytest.fixture(scope="session")
def template_scan() -> Scan:
    image = load_mni152_template(resolution=3)
    return Scan(np.asarray(image.dataobj, dtype=np.float32), np.asarray(image.affine, dtype=float))


@pytest.fixture(scope="session")
def template(template_scan: Scan) -> tuple[np.ndarray, np.ndarray]:
    """Nilearn's template on the even symmetric 4 mm grid, and its affine."""
    shape = (40, 48, 40)
    affine = symmetric_affine(shape, 4.0)
    affine[:3, 3] += (0.0, -18.0, 8.0)
    data = resample(template_scan, shape, affine, np.eye(4))
    return np.where(data > 0.1, data, 0).astype(np.float32), affine


@pytest.fixture
def brain() -> tuple[np.ndarray, np.ndarray]:
    shape = (40, 48, 40)
    return make_brain(shape, 4.0), symmetric_affine(shape, 4.0)


@pytest.fixture
def write_nifti(tmp_path: Path) -> Callable[..., Path]:
    def write(data: np.ndarray, affine: np.ndarray, name: str = "scan.nii.gz") -> Path:
        path = tmp_path / name
        nib.save(nib.Nifti1Image(data, affine), path)
        return path

    return write


@pytest.fixture(scope="session")
def data_folder() -> Path:
    folder = os.environ.get("HEMITWIN_DATA")
    if not folder:
        pytest.skip("HEMITWIN_DATA is not set")
    return Path(folder)
