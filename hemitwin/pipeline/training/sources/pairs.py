"""Batches of images, and hemisphere pairs with and without injected lesions."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from torch import Tensor

from hemitwin._shapes import Affine, Batch, Volume
from hemitwin.models import Items, coarse_inside, pack
from hemitwin.pipeline.cohort.brains import Brain
from hemitwin.pipeline.stage.errors import UserError
from hemitwin.pipeline.training.compared import split_brain
from hemitwin.transforms import (
    SIDES,
    AsymmetrySpec,
    LesionConfig,
    LesionMaskLibrary,
    LesionSpec,
    Side,
    inject_lesion,
    sample_lesion,
    split_hemispheres,
)

__all__ = [
    "LesionSource",
    "ScoredPair",
    "TrainingBatch",
    "draw_lesions",
    "in_either_half",
    "join",
    "mirror_difference",
    "pairs_of",
]

_LEAST_SHARE = 0.5
"""Of a larger voxel that has to be changed."""


@dataclass(frozen=True, eq=False)
class LesionSource:
    """Where lesions come from: their ranges, and the real masks if there are any."""

    config: LesionConfig
    library: LesionMaskLibrary | None = None

    def sample(self, brain: Brain, rng: np.random.Generator, side: Side) -> LesionSpec:
        """Draw a lesion for one side of a brain; its size is in the subject's own mm3.

        Raises
        ------
        UserError
            The brain has no room for it, or a file of a real mask is damaged.
        """
        scale = {"native_mm3_per_mm3": brain.native_mm3_per_mm3}
        try:
            return sample_lesion(
                rng,
                self.config.model_copy(update=scale),
                brain.mask,
                brain.affine,
                side=side,
                mask_library=self.library,
            )
        except ValueError as error:
            msg = f"{brain.case.name}: {error}"
            raise UserError(msg) from error

    def inject(self, brain: Brain, spec: LesionSpec) -> tuple[Volume, Bool[Tensor, " x y z"]]:
        """Put a lesion into a brain; return the volume and the exact mask."""
        volume, mask = inject_lesion(
            brain.volume.numpy(),
            brain.affine,
            spec,
            brain.mask,
            mask_library=self.library,
        )
        return torch.from_numpy(volume), torch.from_numpy(mask)


@dataclass(frozen=True, eq=False)
class TrainingBatch:
    """Images to be embedded once, and who they are.

    Parameters
    ----------
    images : (B, 1, *spatial)
        Hemispheres, all lying on the left (right ones mirrored), or brains.
    items : Items
        Whose they are.
    lesions : (B, *spatial) uint8, optional
        Which of its lesions was injected at a voxel, counted from 1; 0 for none.
    paired : bool
        Whether the first half of the rows are left halves and the second half those that each is
        seen beside, in order; else every image may be held against every other.
    """

    images: Batch
    items: Items
    lesions: UInt8[Tensor, " batch *spatial"] | None = None
    paired: bool = False

    def to(self, device: torch.device) -> "TrainingBatch":
        """Return the batch on another device."""
        items = Items.unpack(self.items.pack().to(device))
        lesions = None if self.lesions is None else self.lesions.to(device)
        return TrainingBatch(self.images.to(device), items, lesions, self.paired)


@dataclass(frozen=True, eq=False)
class ScoredPair:
    """One pair to be scored: both halves and what is known about them.

    Parameters
    ----------
    subject : str
        Whose they are.
    left, right : (1, h, Y, Z)
        The right one mirrored onto the left.
    spec : LesionSpec or AsymmetrySpec, optional
        What was changed.
    changed : (h, Y, Z) bool, optional
        Where, in either half.
    """

    subject: str
    left: Volume
    right: Volume
    spec: LesionSpec | AsymmetrySpec | None
    changed: Bool[Tensor, " h y z"] | None = None

    @property
    def lesioned(self) -> bool:
        """The label: whether one half was changed and the other was not."""
        return self.spec is not None and self.spec.is_abnormal

    def coarse(self, factor: int) -> "ScoredPair":
        """Return the pair on a grid of larger voxels, as `coarse_inside` makes it."""
        if factor == 1:
            return self
        left, right = (coarse_inside(half[None], factor)[0] for half in (self.left, self.right))
        share = None if self.changed is None else pack(self.changed[None, None].float(), factor)
        changed = None if share is None else share[0].mean(dim=0) >= _LEAST_SHARE
        return replace(self, left=left, right=right, changed=changed)

    @property
    def role(self) -> str:
        """``healthy``, ``lesion``, ``control``, ``sham`` or ``asymmetry``."""
        if self.spec is None:
            return "healthy"
        return self.spec.role if isinstance(self.spec, LesionSpec) else "asymmetry"


def join(parts: Sequence[TrainingBatch]) -> TrainingBatch:
    """Put the images of several subjects into one batch; of pairs, all left halves come first."""
    lesions = [part.lesions for part in parts if part.lesions is not None]
    joined = TrainingBatch(
        torch.cat([part.images for part in parts]),
        Items.join([part.items for part in parts]),
        torch.cat(lesions) if len(lesions) == len(parts) else None,
    )
    if not all(part.paired for part in parts):
        return joined
    order = torch.argsort(joined.items.item, stable=True)
    return TrainingBatch(
        joined.images[order],
        Items.unpack(joined.items.pack()[order]),
        None if joined.lesions is None else joined.lesions[order],
        paired=True,
    )


def draw_lesions(
    brains: Sequence[Brain], source: LesionSource, *, per_subject: int, seed: int
) -> dict[str, tuple[LesionSpec, ...]]:
    """Draw the lesions of an evaluation set, sides in turn; no controls or shams.

    Parameters
    ----------
    brains : sequence of Brain
        One per case.
    source : LesionSource
        Ranges and masks.
    per_subject : int
        Lesions for each brain.
    seed : int
        With the case's name it decides the draw: adding a subject changes no other's lesions.

    Returns
    -------
    dict of str to tuple of LesionSpec
        By case.
    """
    drawn = {}
    # What a run is judged by is lesions and whole brains, whatever else it learns from.
    lesions = source.config.model_copy(update={"roles": {"lesion": 1.0}})
    source = replace(source, config=lesions)
    for brain in brains:
        rng = np.random.default_rng([seed, *brain.case.name.encode()])
        first = int(rng.integers(2))
        drawn[brain.case.name] = tuple(
            source.sample(brain, rng, SIDES[(first + number) % 2]) for number in range(per_subject)
        )
    return drawn


def pairs_of(
    brain: Brain, specs: Sequence[LesionSpec], source: LesionSource
) -> tuple[ScoredPair, ...]:
    """Make a brain's healthy pair and one pair for each lesion."""
    healthy = split_brain(brain, brain.volume)
    pairs = [ScoredPair(brain.subject, healthy.left, healthy.right, None)]
    for spec in specs:
        volume, mask = source.inject(brain, spec)
        pair = split_brain(brain, volume)
        changed = in_either_half(mask, brain.affine)
        pairs.append(ScoredPair(brain.subject, pair.left, pair.right, spec, changed))
    return tuple(pairs)


def in_either_half(mask: Bool[Tensor, " x y z"], affine: Affine) -> Bool[Tensor, " h y z"]:
    """Lay both halves of a mask onto one another, the right one mirrored onto the left."""
    halves = split_hemispheres(mask[None].float(), affine)
    return (halves.left + halves.right)[0] > 0


def mirror_difference(left: Volume, right: Volume) -> dict[str, float]:
    """Score a pair without a network: the voxel-wise mirror difference.

    Parameters
    ----------
    left, right : (C, h, Y, Z)
        The right half mirrored onto the left.

    Returns
    -------
    dict of str to float
        ``mean``: mean absolute difference where either half has brain; ``peak``: the largest
        absolute difference after a mean over 3 x 3 x 3 voxels.
    """
    brain = (left != 0) | (right != 0)
    difference = (left - right).abs()
    smooth = torch.nn.functional.avg_pool3d((left - right)[None], 3, 1, 1)[0].abs()
    return {"mean": float(difference[brain].mean()), "peak": float(smooth.max())}
