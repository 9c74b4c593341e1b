"""Small places."""

import numpy as np
import pytest

from hemitwin.atlases import Parcellation, Region, hcpmmp_volume, template_grid


def make_regions():
    return (
        Region(3, "L_a", "L", "R_a", "Cortex A", "#ff0000"),
        Region(5, "R_a", "R", "L_a", "Cortex A", "#00ff00"),
        Region(6, "stem", "midline", None, None, "#0000ff"),
    )


def make_parcellation(shape=(8, 6, 4), spacing_mm=2.0):
    """Two lateral slabs and a middle block, centred on x = 0, with an unlabelled shell."""
    labels = np.zeros(shape, dtype=np.int32)
    labels[1:3, 1:-1, 1:-1] = 3
    labels[-3:-1, 1:-1, 1:-1] = 5
    labels[shape[0] // 2 - 1 : shape[0] // 2 + 1, 1:-1, 1] = 6
    affine = np.diag([spacing_mm] * 3 + [1.0])
    affine[:3, 3] = -(np.array(shape) - 1) / 2 * spacing_mm
    return Parcellation(labels, affine, make_regions(), "MNI152NLin2009aSym")


@pytest.fixture
def small_parcellation():
    return make_parcellation()


@pytest.fixture
def small_regions():
    return make_regions()


@pytest.fixture(scope="session")
def coarse_atlas():
    shape, affine = template_grid(4.0)
    return hcpmmp_volume(shape, affine, cache_dir=None)


@pytest.fixture(scope="session")
def atlas_2mm():
    shape, affine = template_grid(2.0)
    return hcpmmp_volume(shape, affine, cache_dir=None)
