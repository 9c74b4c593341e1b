"""Split a volume at its mid-plane, mirror the right half onto the left, and rejoin."""
# mypy: disallow-untyped-calls=False
# MONAI's transform trace is not annotated.

from collections.abc import Hashable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Shaped
from monai.data.meta_tensor import MetaTensor
from monai.transforms.inverse import InvertibleTransform
from monai.transforms.transform import MapTransform
from torch import Tensor

from hemitwin._shapes import Affine
from hemitwin.transforms.entries import volume_entry
from hemitwin.transforms.laterality import require_laterality

__all__ = [
    "HemispherePair",
    "SplitHemispheresd",
    "mirror_affine",
    "rejoin",
    "require_centred",
    "split_hemispheres",
]

_TOLERANCE_VOXELS = 1e-3


@dataclass(frozen=True, eq=False)
class HemispherePair:
    """Two halves of one brain, both lying on the left.

    Attributes
    ----------
    left : (C, h, *rest)
        Index 0 on the x axis is the most lateral left.
    right : (C, h, *rest)
        Mirrored along x where `right_mirrored`, so that index 0 is the most lateral right.
    midline : (C, 1, *rest) or None
        The middle column of a volume of odd width.
    left_affine, right_affine : (4, 4)
        Voxel index to the half's true place in RAS+ millimetres (right: negative first column).
    right_mirrored : bool
        Whether `right` is stored mirrored.
    """

    left: Tensor
    right: Tensor
    midline: Tensor | None
    left_affine: Affine
    right_affine: Affine
    right_mirrored: bool = True


def mirror_affine(affine: Affine, width: int) -> Affine:
    """Return the affine of a volume after its x axis of `width` voxels was reversed.

    Examples
    --------
    >>> mirror_affine(np.eye(4), 5)[0].tolist()
    [-1.0, 0.0, 0.0, 4.0]
    """
    flip = np.diag([-1.0, 1.0, 1.0, 1.0])
    flip[0, 3] = width - 1
    return np.asarray(affine @ flip)


def split_hemispheres(
    volume: Shaped[Tensor, " channels *spatial"], affine: Affine
) -> HemispherePair:
    """Split a volume whose mid-plane x = 0 lies at the centre of its grid.

    Parameters
    ----------
    volume : (C, X, *rest)
        First spatial axis from left to right. Of any type, which the halves keep: labels too.
    affine : (4, 4)
        Voxel index to RAS+ template millimetres.

    Returns
    -------
    HemispherePair
        Copies; `rejoin` gives `volume` back exactly.

    Raises
    ------
    ValueError
        If the first axis is not the left-right axis or x = 0 is not its centre.

    Examples
    --------
    >>> affine = np.diag([2.0, 2.0, 2.0, 1.0])
    >>> affine[0, 3] = -3.0
    >>> pair = split_hemispheres(torch.arange(4.0).reshape(1, 4, 1, 1), affine)
    >>> pair.left.flatten().tolist(), pair.right.flatten().tolist()
    ([0.0, 1.0], [3.0, 2.0])
    """
    width = volume.shape[1]
    require_centred(width, affine)
    half = width // 2
    mirrored = volume.flip(1)
    return HemispherePair(
        left=volume[:, :half].clone(),
        right=mirrored[:, :half].clone(),
        midline=volume[:, half : half + 1].clone() if width % 2 else None,
        left_affine=affine.copy(),
        right_affine=mirror_affine(affine, width),
    )


def rejoin(pair: HemispherePair) -> Tensor:
    """Put two halves (or maps over them) together again.

    Parameters
    ----------
    pair : HemispherePair
        Halves of equal shape.

    Returns
    -------
    (C, X, *rest)
        From left to right, with the left half's affine.

    Raises
    ------
    ValueError
        If the halves differ in shape.
    """
    if pair.left.shape != pair.right.shape:
        shapes = tuple(pair.left.shape), tuple(pair.right.shape)
        msg = f"halves must have one shape, got {shapes[0]} and {shapes[1]}; split one volume"
        raise ValueError(msg)
    right = pair.right.flip(1) if pair.right_mirrored else pair.right
    middle = () if pair.midline is None else (pair.midline,)
    return torch.cat((pair.left, *middle, right), dim=1)


def require_centred(width: int, affine: Affine) -> None:
    """Refuse a grid whose first axis is not centred on the mid-plane.

    Parameters
    ----------
    width : int
        Voxels along the first axis.
    affine : (4, 4)
        Voxel index to RAS+ template millimetres.

    Raises
    ------
    ValueError
        The first axis is not the left-right axis, or x = 0 is not its centre.

    Examples
    --------
    >>> require_centred(2, np.array([[2.0, 0, 0, -1], [0, 2, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1]]))
    """
    step = affine[0, 0]
    off_axis = max(np.abs(affine[0, 1:3]).max(), np.abs(affine[1:3, 0]).max())
    tolerance = _TOLERANCE_VOXELS * abs(step)
    if width < 2 or step <= 0 or off_axis > tolerance:
        msg = (
            "the first axis must run from left to right through 2 or more voxels; got width "
            f"{width} and affine {affine[:3].tolist()}; prepare the scan first"
        )
        raise ValueError(msg)
    centre = step * (width - 1) / 2 + affine[0, 3]
    if abs(centre) > tolerance:
        msg = (
            f"the mid-plane x = 0 must be the grid's centre; it is {-centre:.3f} mm beside it; "
            "resample onto a symmetric grid first"
        )
        raise ValueError(msg)


class SplitHemispheresd(MapTransform, InvertibleTransform):
    """Replace each volume `key` by `key_left`, `key_right` and, if odd, `key_midline`.

    Parameters
    ----------
    keys : sequence of str
        Entries holding a `MetaTensor` (C, X, *rest) with its RAS+ affine.

    Notes
    -----
    The halves' `meta` carries `side` and `mirrored`. Do not reorient them: MONAI's `Orientation`
    would read the mirrored half's affine and undo the mirror; `GuardedCompose` refuses that.
    `inverse` rejoins, after `require_laterality`.
    """

    def __call__(self, data: Mapping[Hashable, object]) -> dict[Hashable, object]:
        """Split every key; the given dictionary is left as it is."""
        result = dict(data)
        for key in self.key_iterator(result):
            volume = volume_entry(result, key)
            del result[key]
            pair = split_hemispheres(
                volume.as_tensor(), np.asarray(volume.affine, dtype=np.float64)
            )
            result[f"{key}_left"] = _half(pair.left, pair.left_affine, volume, side="L")
            result[f"{key}_right"] = _half(pair.right, pair.right_affine, volume, side="R")
            self.push_transform(result[f"{key}_left"])
            if pair.midline is not None:
                result[f"{key}_midline"] = pair.midline
        return result

    def inverse(self, data: Mapping[Hashable, object]) -> dict[Hashable, object]:
        """Rejoin every key."""
        result = dict(data)
        for key in self.keys:
            left, right = (volume_entry(result, name) for name in _names(key))
            require_laterality(left)
            require_laterality(right)
            self.pop_transform(left)
            for name in _names(key):
                del result[name]
            midline = result.pop(f"{key}_midline", None)
            pair = HemispherePair(
                left.as_tensor(),
                right.as_tensor(),
                midline if isinstance(midline, Tensor) else None,
                np.asarray(left.affine, dtype=np.float64),
                np.asarray(right.affine, dtype=np.float64),
                bool(right.meta["mirrored"]),
            )
            meta = {name: v for name, v in left.meta.items() if name not in {"side", "mirrored"}}
            result[key] = MetaTensor(rejoin(pair), meta=meta)
        return result


def _names(key: Hashable) -> tuple[str, str]:
    return f"{key}_left", f"{key}_right"


def _half(half: Tensor, affine: Affine, source: MetaTensor, *, side: str) -> MetaTensor:
    place = torch.as_tensor(affine, dtype=torch.float64)
    meta = {**source.meta, "affine": place, "side": side, "mirrored": side == "R"}
    return MetaTensor(half, meta=meta, applied_operations=source.applied_operations)
