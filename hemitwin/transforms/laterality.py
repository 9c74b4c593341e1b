"""Guard a mirrored volume: its flag, its affine and its side must go on telling one story.

A mirrored volume keeps the affine to its true place, and so has a left-handed one. Any transform
that brings voxels into another order by their affine (reorienting, resampling onto another grid)
undoes the mirror without a word: the voxels are then what they were before, and two halves that
should lie on one side do no longer.
"""
# mypy: disallow-untyped-calls=False
# MONAI's transforms are not annotated.

from collections.abc import Hashable, Mapping
from typing import TypeVar, cast

import numpy as np
from monai.config.type_definitions import NdarrayOrTensor
from monai.data.meta_tensor import MetaTensor
from monai.transforms.compose import Compose
from monai.transforms.transform import MapTransform

from hemitwin.transforms.entries import volume_entry

__all__ = ["GuardedCompose", "RequireLateralityd", "require_laterality"]

_SIGN = {"L": -1.0, "R": 1.0}

T = TypeVar("T")


def require_laterality(volume: MetaTensor) -> None:
    """Refuse a volume whose mirrored flag, affine and side contradict one another.

    Parameters
    ----------
    volume : (C, X, *rest)
        `meta` may carry ``mirrored`` (bool; false where it is missing) and ``side`` ("L" or "R").
        Its affine leads from voxel index to RAS+ millimetres; pending operations of lazy
        transforms count as done.

    Raises
    ------
    ValueError
        If the affine is left-handed and the volume not marked as mirrored, or the other way
        round, or if its centre lies on another side than the one it names.

    Examples
    --------
    >>> import torch
    >>> half = MetaTensor(torch.zeros(1, 4, 2, 2), affine=torch.diag(torch.tensor([-1., 1, 1, 1])))
    >>> half.meta["mirrored"] = True
    >>> require_laterality(half)
    """
    affine = np.asarray(volume.peek_pending_affine(), dtype=np.float64)
    mirrored = bool(volume.meta.get("mirrored", False))
    left_handed = float(np.linalg.det(affine[:-1, :-1])) < 0
    if mirrored and not left_handed:
        msg = (
            "a volume marked as mirrored must have a left-handed affine, got a right-handed one: "
            "its mirror was undone; reorient and resample before mirroring"
        )
        raise ValueError(msg)
    if left_handed and not mirrored:
        msg = (
            "a volume with a left-handed affine must be marked as mirrored, got no mark; bring it "
            "into RAS order first, or mirror it by split_hemispheres"
        )
        raise ValueError(msg)
    _require_side(volume, affine)


def _require_side(volume: MetaTensor, affine: np.ndarray) -> None:
    side = volume.meta.get("side")
    if side not in _SIGN:
        return
    middle = (np.asarray(volume.peek_pending_shape(), dtype=np.float64) - 1) / 2
    x_mm = float(affine[0, :-1] @ middle + affine[0, -1])
    if x_mm * _SIGN[side] <= 0:
        msg = (
            f"a half of side {side} must lie there, got its centre at x = {x_mm:.1f} mm; "
            "resample halves onto their own grids only"
        )
        raise ValueError(msg)


class RequireLateralityd(MapTransform):
    """Refuse an item whose volumes contradict themselves about left and right.

    Parameters
    ----------
    keys : sequence of str
        Entries holding a `MetaTensor`; see `require_laterality`.
    """

    def __call__(self, data: Mapping[Hashable, T]) -> Mapping[Hashable, T]:
        """Return the item as it is.

        Raises
        ------
        TypeError
            If an entry has lost its affine and flag.
        ValueError
            If an entry contradicts itself; the message names its key.
        """
        for key in self.key_iterator(dict(data)):
            try:
                require_laterality(volume_entry(data, key))
            except ValueError as error:
                msg = f"{key!r}: {error}"
                raise ValueError(msg) from error
        return data


class GuardedCompose(Compose):
    """MONAI's `Compose`, which names the transform that undid a mirror.

    Every entry that carries the flag ``mirrored`` is checked before the first and after each
    transform: it must agree with its affine (`require_laterality`), and a transform must neither
    drop the flag nor turn it. Entries without the flag are let through: scans before their
    reorientation may well be left-handed. One transform is executed at a time, so that lazy ones
    are not joined.
    """

    def __call__(
        self,
        input_: Mapping[Hashable, object],
        start: int = 0,
        end: int | None = None,
        threading: bool = False,  # MONAI's signature
        lazy: bool | None = None,
    ) -> Mapping[Hashable, NdarrayOrTensor]:
        """Execute the transforms on one item.

        Raises
        ------
        ValueError
            If a transform undid a mirror or lost the flag.
        """
        flags = _flags(input_, "the input")
        for number in range(start, len(self.transforms) if end is None else end):
            name = f"transform {number}, {type(self.transforms[number]).__name__},"
            made = super().__call__(input_, number, number + 1, threading, lazy)
            input_ = cast("Mapping[Hashable, object]", made)
            after = _flags(input_, name)
            for key, mirrored in flags.items():
                if key in input_ and after.get(key) is not mirrored:
                    msg = (
                        f"{name} must leave {key!r} {'mirrored' if mirrored else 'unmirrored'} "
                        f"and marked so, but it took the mark away or turned it; leave the "
                        "volume out of it, or do it before mirroring"
                    )
                    raise ValueError(msg)
            flags = after
        return cast("Mapping[Hashable, NdarrayOrTensor]", input_)


def _flags(item: Mapping[Hashable, object], after: str) -> dict[Hashable, bool]:
    """Return the flags of the volumes that carry one, each held against its affine."""
    flags = {}
    for key, value in item.items():
        if isinstance(value, MetaTensor) and "mirrored" in value.meta:
            try:
                require_laterality(value)
            except ValueError as error:
                msg = f"{after} left {key!r} in contradiction with itself: {error}"
                raise ValueError(msg) from error
            flags[key] = bool(value.meta["mirrored"])
    return flags
