"""Draw what tells pathologies apart: layers, lost pattern, patches and mass effect."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hemitwin.transforms.lesions.config import LesionConfig
from hemitwin.transforms.lesions.contrasts import Range
from hemitwin.transforms.lesions.mass_effect import push_shift_mm
from hemitwin.transforms.lesions.spec import LesionLayer, Pathology

__all__ = ["sample_appearance"]


@dataclass(frozen=True)
class _Build:
    """How a pathology is built; shares of the lesion's volume, and how far patterns are lost."""

    core: float
    shell_share: Range = (0.0, 0.0)
    shell: float = 0.0
    oedema: bool = False
    centre_share: Range = (0.0, 0.0)
    centre: float = 0.0


# Stated choices, by eye on T1w scans: oedema leaves the anatomy visible, a mass does not.
_BUILDS: Mapping[Pathology, _Build] = {
    "tumour": _Build(0.8, (0.4, 0.65), 0.2, oedema=True, centre_share=(0.1, 0.25), centre=0.95),
    "infarct": _Build(0.6, (0.15, 0.3), 0.2),
    "cavity": _Build(0.95, (0.15, 0.3), 0.1),
    "haemorrhage": _Build(
        0.85, (0.25, 0.4), 0.2, oedema=True, centre_share=(0.2, 0.4), centre=0.85
    ),
    "white_matter": _Build(0.3),
}


_SUBTLE_LOSS = 0.5


def sample_appearance(
    rng: np.random.Generator, config: LesionConfig, pathology: Pathology, volume_mm3: float
) -> dict[str, object]:
    """Draw the fields of `LesionSpec` that a generic lesion leaves at their defaults.

    Parameters
    ----------
    rng : numpy.random.Generator
        All randomness comes from it; generic lesions draw nothing, unless `contrast_sd` is set.
    config : LesionConfig
        Ranges.
    pathology : str
        What to draw for.
    volume_mm3 : float
        The lesion's native volume: pushes reach as far as it is large.

    Returns
    -------
    dict
        Field names and values.
    """
    if pathology == "generic":
        size, share = config.contrast_sd, config.contrast_share
        # Without a share no number is drawn for it: sets drawn before there was one stay.
        if size is None or (share > 0 and rng.random() < share):
            return {}
        return _subtle(rng, config, size)
    build, contrasts = _BUILDS[pathology], config.contrasts_of(pathology)
    drawn: dict[str, object] = {
        "texture_from": "surroundings",
        "replacement": build.core,
        "shell": _layer(rng, contrasts.shell, build.shell_share, build.shell, oedema=build.oedema),
        "centre": _layer(rng, contrasts.centre, build.centre_share, build.centre),
    }
    if pathology == "white_matter":
        drawn |= {
            "in_white_matter": True,
            "foci": int(rng.integers(config.foci[0], config.foci[1] + 1)),
            "spread_mm": float(rng.uniform(*config.spread_mm)),
            "roughness": 0.0,
        }
    if config.pushes(pathology):
        radius_mm = (3 * volume_mm3 / config.native_mm3_per_mm3 / (4 * np.pi)) ** (1 / 3)
        reach_mm = float(rng.uniform(*config.push_reach)) * radius_mm
        shift_mm = push_shift_mm(float(rng.uniform(*config.push)), reach_mm)
        drawn |= {"mass_effect_mm": shift_mm, "mass_reach_mm": reach_mm}
    return drawn


def _subtle(rng: np.random.Generator, config: LesionConfig, size: Range) -> dict[str, object]:
    """Draw a change that is measured by the tissue around it, up or down."""
    sign = 1.0 if rng.integers(2) else -1.0
    return {
        "contrast": sign * float(rng.uniform(*size)),
        "contrast_from": "surroundings",
        "texture": float(rng.uniform(*config.matched_texture)),
        "texture_from": "surroundings",
        "replacement": _SUBTLE_LOSS,
    }


def _layer(
    rng: np.random.Generator,
    contrast: Range | None,
    share: Range,
    replacement: float,
    *,
    oedema: bool = False,
) -> LesionLayer | None:
    if contrast is None or share[1] == 0:
        return None
    return LesionLayer(
        share=float(rng.uniform(*share)),
        contrast=float(rng.uniform(*contrast)),
        replacement=replacement,
        follows_white_matter=oedema,
    )
