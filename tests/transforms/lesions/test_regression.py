"""Today's default lesions, pinned before pathologies were added: draws and voxels must stay."""

import hashlib

import numpy as np
import pytest

from hemitwin.transforms import LesionConfig, inject_lesion, sample_lesion

_FIELDS = (
    "kind", "side", "seed", "centre_mm", "volume_mm3", "radii_ratio", "rotation_deg", "roughness",
    "edge_mm", "contrast", "texture", "texture_mm", "mask_name",
)  # fmt: skip


def rounded(value: object) -> object:
    # The last bits of a logarithm or a product may differ between processors.
    if isinstance(value, tuple):
        return tuple(rounded(item) for item in value)
    return f"{value:.6g}" if isinstance(value, float) else value


@pytest.mark.parametrize(
    ("config", "drawn", "voxels"),
    [
        (LesionConfig(), "58c8514e416e78ba", "94a4bee48cd14a97"),
        (
            LesionConfig(volume_mm3=(12000.0, 50000.0), contrast=(-0.6, -0.35)),
            "27adb8b58c6929c7",
            "91928495d4bac748",
        ),
    ],
    ids=["defaults", "demo"],
)
def test_default_lesions_are_what_they_were(brain, config, drawn, voxels):
    data, affine = brain
    rng = np.random.default_rng(11)
    specs, masks = hashlib.sha256(), hashlib.sha256()
    for side in (None, "L", "R"):
        spec = sample_lesion(rng, config, data > 0, affine, side=side)
        lesioned, mask = inject_lesion(data, affine, spec, data > 0)
        specs.update(repr([rounded(getattr(spec, name)) for name in _FIELDS]).encode())
        masks.update(mask.tobytes() + np.round(lesioned, 3).tobytes())
    assert (specs.hexdigest()[:16], masks.hexdigest()[:16]) == (drawn, voxels)
