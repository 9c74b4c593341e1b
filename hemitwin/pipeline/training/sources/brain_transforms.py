"""What training does with a brain: MONAI transforms that a run's configuration sets."""
# mypy: disallow-untyped-calls=False
# MONAI's transforms are not annotated throughout.

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from monai.transforms.compose import Compose
from torch import Tensor

from hemitwin.pipeline.cohort.brains import Brain
from hemitwin.pipeline.stage.errors import UserError
from hemitwin.pipeline.training.config import RunConfig
from hemitwin.pipeline.training.sources.pairs import LesionSource
from hemitwin.transforms import (
    SIDES,
    Comparison,
    GuardedCompose,
    RandAugmentBraind,
    RandLesionsd,
    Side,
    SplitHemispheresd,
    StandardiseBraind,
)

__all__ = [
    "IMAGE",
    "LESIONS",
    "MASK",
    "Entries",
    "HalvesTransforms",
    "brains_transforms",
    "entries_of",
    "halves_transforms",
    "seeds_of",
    "tensor_of",
    "transformed",
]

IMAGE, MASK = "image", "mask"
LESIONS = f"{IMAGE}_lesions"

Entries = Mapping[Hashable, object]
"""A brain as MONAI's dictionary transforms take it."""


@dataclass(frozen=True, eq=False)
class HalvesTransforms:
    """What training on halves does with a brain, in the order in which it is done.

    Each is a MONAI `Compose` over what `entries_of` gives of a brain; their transforms can be put
    into another one, with more behind them.

    Attributes
    ----------
    augmentation : Compose
        Changes the brain at random. It is applied once for all pairs of one draw: whether there
        are lesions is the only thing that these differ by.
    healthy : Compose
        Makes ``image_left`` and ``image_right`` of a changed brain, in standard units, the right
        one mirrored onto the left.
    lesioned : mapping from 'L' or 'R' to Compose
        Does the same after it has put lesions in, the first of them on that side; adds their
        labels, ``image_lesions_left`` and ``image_lesions_right``, and ``image_lesion_specs``.
    """

    augmentation: Compose
    healthy: Compose
    lesioned: Mapping[Side, Compose]


def halves_transforms(config: RunConfig, source: LesionSource) -> HalvesTransforms:
    """Build what training on halves does with a brain.

    Parameters
    ----------
    config : RunConfig
        The run's settings.
    source : LesionSource
        Where lesions come from.

    Raises
    ------
    ValueError
        As `RandLesionsd` says.
    """
    standardise = StandardiseBraind(IMAGE, mask_key=MASK)
    lesioned: dict[Side, Compose] = {
        side: GuardedCompose(
            [
                RandLesionsd(
                    IMAGE,
                    source.config,
                    most=config.training.lesions_per_pair,
                    side=side,
                    mask_key=MASK,
                    mask_library=source.library,
                ),
                standardise,
                SplitHemispheresd((IMAGE, LESIONS)),
            ]
        )
        for side in SIDES
    }
    augmentation = Compose([_augmentation(config, "hemispheres")])
    healthy = GuardedCompose([standardise, SplitHemispheresd(IMAGE)])
    return HalvesTransforms(augmentation, healthy, lesioned)


def brains_transforms(config: RunConfig) -> Compose:
    """Build what training on pairs of brains does with each: ``image`` is what a network sees.

    Parameters
    ----------
    config : RunConfig
        The run's settings.

    Raises
    ------
    ValueError
        As `RandAugmentBraind` says.
    """
    return Compose([_augmentation(config, "brains"), StandardiseBraind(IMAGE, mask_key=MASK)])


def _augmentation(config: RunConfig, comparison: Comparison) -> RandAugmentBraind:
    return RandAugmentBraind(
        IMAGE,
        config.training.augmentation,
        mask_key=MASK,
        voxel_mm=config.volumes.resolution_mm,
        comparison=comparison,
        gamma_sd=config.training.intensity_jitter,
    )


def entries_of(brain: Brain) -> Entries:
    """Return a brain as MONAI's dictionary transforms take it.

    Returns
    -------
    mapping
        ``image``, a `MetaTensor` (1, X, Y, Z) float32; ``mask``, one of bool; and
        ``native_mm3_per_mm3``. They share their memory with the brain.
    """
    affine = torch.from_numpy(brain.affine)
    mask = torch.from_numpy(brain.mask)[None]
    return {
        IMAGE: MetaTensor(brain.volume, affine=affine),
        MASK: MetaTensor(mask, affine=affine),
        "native_mm3_per_mm3": brain.native_mm3_per_mm3,
    }


def transformed(
    chain: Compose, entries: Entries, *, case: str, seed: int | None = None
) -> Entries:
    """Apply transforms to a brain.

    Parameters
    ----------
    chain : Compose
        Its random state is set.
    entries : mapping
        Left as they are.
    case : str
        Whose they are, for errors.
    seed : int, optional
        Below 2**32: decides the result alone; needed where anything is drawn.

    Raises
    ------
    UserError
        A transform does not take this brain; the message names it.
    """
    if seed is not None:
        chain.set_random_state(seed=seed)
    try:
        return cast("Entries", chain(entries))
    except (RuntimeError, ValueError) as error:
        # MONAI wraps what a transform raises, unless it is told to debug.
        cause = error if isinstance(error, ValueError) else error.__cause__
        if not isinstance(cause, ValueError):
            raise
        msg = f"{case}: {cause}"
        raise UserError(msg) from error


def tensor_of(entries: Entries, key: str) -> Tensor:
    """Return an entry without MONAI's metadata."""
    return cast("MetaTensor", entries[key]).as_tensor()


def seeds_of(*numbers: int, count: int) -> list[int]:
    """Return seeds that these numbers decide, below 2**32."""
    # Numbers are filled up with zeros: without the key (0, 3) and (0, 3, 0) would be one.
    sequence = np.random.SeedSequence(numbers, spawn_key=(len(numbers),))
    return [int(seed) for seed in sequence.generate_state(count)]
